//! x
fn main() {
    failover_tests::isolate().unwrap();
    let rt = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    rt.block_on(async {
        use failover_tests::programs::*;
        let stand = Stand::new(3).await.unwrap();
        let object = std::fs::read(std::env::args().nth(1).unwrap()).unwrap();
        stand
            .with(
                object,
                Settings::default(),
                |loaded, wiring| -> Result<(), ProgramsError> {
                    for n in loaded.names() {
                        println!("{n} {}", loaded.verified_instructions(n)?);
                    }
                    let mk = |sport: u16, dst: [u8; 4]| {
                        let b = etherparse::PacketBuilder::ethernet2(
                            [2, 0, 0, 0, 0, 9],
                            wiring.lan_mac,
                        )
                        .ipv4([198, 18, 0, 10], dst, 64)
                        .udp(sport, 53);
                        let mut v = vec![];
                        b.write(&mut v, &[0u8; 32]).unwrap();
                        v
                    };
                    let mk6 = |sport: u16| {
                        let b = etherparse::PacketBuilder::ethernet2(
                            [2, 0, 0, 0, 0, 9],
                            wiring.lan_mac,
                        )
                        .ipv6(
                            "fd00:18::10"
                                .parse::<std::net::Ipv6Addr>()
                                .unwrap()
                                .octets(),
                            "fd00:203::11"
                                .parse::<std::net::Ipv6Addr>()
                                .unwrap()
                                .octets(),
                            64,
                        )
                        .udp(sport, 53);
                        let mut v = vec![];
                        b.write(&mut v, &[0u8; 32]).unwrap();
                        v
                    };
                    let ctx = Context {
                        ifindex: wiring.lan,
                        ..Default::default()
                    };
                    let f = mk(1000, [203, 0, 113, 11]);
                    for name in ["fo_lan_in", "fo_wan_in"] {
                        for (what, f) in [
                            ("hit4", mk(1000, [203, 0, 113, 11])),
                            ("hit6", mk6(1000)),
                            ("pass lan", mk(7, [198, 18, 0, 1])),
                        ] {
                            let r = loaded.run(name, &f, ctx, 1)?;
                            let mut v: Vec<_> = (0..5)
                                .map(|_| {
                                    loaded
                                        .run(name, &f, ctx, 1_000_000)
                                        .unwrap()
                                        .took
                                        .as_nanos()
                                })
                                .collect();
                            v.sort();
                            println!("{name} {what} {:?} {:x} {:?}", r.returned, r.mark, v);
                        }
                    }
                    for fam in [4, 6] {
                        let mut t = vec![];
                        for i in 0..20000u16 {
                            let f = if fam == 4 {
                                mk(2000 + i, [203, 0, 113, 11])
                            } else {
                                mk6(2000 + i)
                            };
                            t.push(loaded.run("fo_lan_in", &f, ctx, 1)?.took.as_nanos());
                        }
                        t.sort();
                        println!(
                            "miss{fam} median {} mean {}",
                            t[10000],
                            t.iter().sum::<u128>() / 20000
                        );
                        let mut t = vec![];
                        for i in 0..20000u16 {
                            let f = if fam == 4 {
                                mk(2000 + i, [203, 0, 113, 11])
                            } else {
                                mk6(2000 + i)
                            };
                            t.push(loaded.run("fo_lan_in", &f, ctx, 1)?.took.as_nanos());
                        }
                        t.sort();
                        println!(
                            "single hit{fam} median {} mean {}",
                            t[10000],
                            t.iter().sum::<u128>() / 20000
                        );
                    }
                    // back
                    let b =
                        etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], wiring.lan_mac)
                            .ipv4([203, 0, 113, 11], [198, 18, 0, 10], 64)
                            .udp(53, 1000);
                    let mut back = vec![];
                    b.write(&mut back, &[0u8; 32]).unwrap();
                    let k = loaded
                        .flows()?
                        .into_iter()
                        .find(|k| {
                            k.inside_port == 1000 && k.family == failover_common::Family::Ipv4
                        })
                        .unwrap();
                    let fl = loaded.flow(&k)?.unwrap();
                    println!("{k:?} {fl:?}");
                    let c2 = Context {
                        ifindex: wiring.lan,
                        ingress_ifindex: wiring.wans[usize::from(fl.uplink) - 1],
                        ..Default::default()
                    };
                    println!(
                        "{:?}",
                        (0..5)
                            .map(|_| loaded
                                .run("fo_lan_out", &back, c2, 1000000)
                                .unwrap()
                                .took
                                .as_nanos())
                            .collect::<Vec<_>>()
                    );
                    println!("{:?}", loaded.flow(&k)?.unwrap());
                    println!("{:?}", loaded.totals()?);
                    let r = loaded.run("fo_lan_in", &f, ctx, 1000000)?;
                    println!("{:x} {:?}", r.mark, r.took);
                    Ok(())
                },
            )
            .await
            .unwrap();
    });
}
