//! x
use std::os::fd::AsFd;
use failover_tests::programs::*;
fn main() {
    failover_tests::isolate().unwrap();
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    rt.block_on(async {
        let a: Vec<String> = std::env::args().collect();
        let stand = Stand::new(3).await.unwrap();
        let object = std::fs::read(&a[1]).unwrap();
        let v6 = a[2] == "6";
        if a[3] == "rules" {
            let c = r#"mode: classic
uplinks:
  one:   {interface: wan1}
  two:   {interface: wan2}
  three: {interface: wan3}
downlinks: [lan0]
probe:
  targets: [icmp://203.0.113.1, icmp://203.0.113.2, "icmp://fd00:203::1", "icmp://fd00:203::2"]
"#;
            let f = failover_tests::Failover::new(stand.lab(), c).unwrap();
            let d = f.run().await.unwrap();
            d.wait_until("up", std::time::Duration::from_secs(20), |s| s.all(failover_tests::daemon::State::Up)).await.unwrap();
            d.kill().await.unwrap();
            println!("{}", stand.lab().gateway().node().must(failover_tests::ProgramSpec::line("ip rule")).await.unwrap());
            println!("{}", stand.lab().gateway().node().must(failover_tests::ProgramSpec::line("ip route show table 300")).await.unwrap());
            println!("{}", stand.lab().gateway().node().must(failover_tests::ProgramSpec::line("ip -6 rule")).await.unwrap());
            println!("{}", stand.lab().gateway().node().must(failover_tests::ProgramSpec::line("ip -6 route show table 300")).await.unwrap());
        }
        let cap: u32 = a[4].parse().unwrap();
        let rounds: u16 = a[5].parse().unwrap();
        let n: u32 = a[6].parse().unwrap();
        let bpffs = stand.lab().bpffs();
        stand.with(object, Settings { capacity: cap, ..Default::default() }, move |loaded, wiring| -> Result<(), ProgramsError> {
            let prog = loaded.program("fo_lan_in")?;
            let off = if v6 { 54 } else { 34 };
            let c = Assembled::counting_up(&bpffs, off, prog.fd().unwrap().as_fd())?;
            let mut t = vec![];
            for r in 0..rounds {
                let b = etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], wiring.lan_mac);
                let mut f = vec![];
                if v6 {
                    b.ipv6("fd00:18::10".parse::<std::net::Ipv6Addr>().unwrap().octets(), "fd00:203::11".parse::<std::net::Ipv6Addr>().unwrap().octets(), 64)
                } else {
                    b.ipv4([198, 18, 0, 10], [203, 0, 113, 11], 64)
                }.udp(0, 1000 + r).write(&mut f, &[0; 18]).unwrap();
                let ctx = Context { ifindex: wiring.lan, ..Default::default() };
                t.push(run(c.program(), &f, ctx, n).unwrap().took.as_nanos());
            }
            println!("{:?}", &t[..t.len().min(12)]);
            t.sort();
            println!("median {} min {} max {}  {:?}", t[t.len() / 2], t[0], t[t.len() - 1], loaded.totals()?);
            Ok(())
        }).await.unwrap();
    });
}
