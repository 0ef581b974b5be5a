//! One planted fault at a time: doctor finds it, and nothing else.

use failover::family::Family;
use failover_tests::{Failover, Lab, Node, ProgramSpec, Refusal, without_nft};
use nix::errno::Errno;

use crate::{CONFIG, SystemTest, TestResult, doctor};

/// How a fault is planted.
enum Plant {
    /// By commands in the gateway.
    Commands(&'static [&'static str]),
    /// By an nftables table in it.
    Table(&'static str),
    /// By another configuration.
    Config(&'static str),
    /// By commands, and another configuration.
    Both(&'static [&'static str], &'static str),
}

/// A fault, by the id of its finding, and whether it is a problem.
struct Fault {
    name: &'static str,
    id: &'static str,
    problem: bool,
    plant: Plant,
}

const fn problem(name: &'static str, id: &'static str, plant: Plant) -> Fault {
    Fault {
        name,
        id,
        problem: true,
        plant,
    }
}

const fn notice(name: &'static str, id: &'static str, plant: Plant) -> Fault {
    Fault {
        problem: false,
        ..problem(name, id, plant)
    }
}

const FAULTS: &[Fault] = &[
    problem(
        "ipv4_is_not_forwarded",
        "forwarding-ipv4",
        Plant::Commands(&["sysctl -q -w net.ipv4.ip_forward=0"]),
    ),
    problem(
        "ipv6_is_not_forwarded",
        "forwarding-ipv6",
        Plant::Commands(&["sysctl -q -w net.ipv6.conf.all.forwarding=0"]),
    ),
    problem(
        "a_router_hears_no_advertisements",
        "accept-ra",
        Plant::Commands(&[
            "sysctl -q -w net.ipv6.conf.wan1.accept_ra=1",
            "ip -6 route del default dev wan1",
        ]),
    ),
    notice(
        "a_strict_filter",
        "rp-filter",
        Plant::Commands(&["sysctl -q -w net.ipv4.conf.wan2.rp_filter=1"]),
    ),
    problem(
        "a_firewall_that_sets_our_bits",
        "marks-overlap",
        Plant::Table(
            "chain c { type filter hook output priority 0; udp dport 9 meta mark set 0x01000000; }",
        ),
    ),
    problem(
        "a_firewall_that_looks_at_our_bits",
        "marks-overlap",
        Plant::Table(
            "chain c { type filter hook output priority 0; udp dport 9 ct mark & 0xf0000000 == 0x10000000 accept; }",
        ),
    ),
    problem(
        "a_rule_that_looks_at_our_bits",
        "marks-overlap",
        Plant::Commands(&["ip rule add pref 500 fwmark 0x1000000/0xff000000 lookup main"]),
    ),
    notice(
        "a_firewall_that_writes_the_whole_mark",
        "marks-cleared",
        Plant::Table(
            "chain c { type filter hook output priority 0; udp dport 9 meta mark set 0x40; }",
        ),
    ),
    problem(
        "a_rule_with_a_preference_of_ours",
        "rules-overlap",
        Plant::Commands(&["ip -6 rule add pref 1003 from fd00:18::99 lookup main"]),
    ),
    problem(
        "a_route_in_a_table_of_ours",
        "tables-overlap",
        Plant::Commands(&["ip route add 192.0.2.0/24 dev lan0 table 305"]),
    ),
    problem(
        "a_rule_that_sends_all_by_one_uplink",
        "default-elsewhere",
        Plant::Commands(&[
            "ip route add default via 198.18.11.1 dev wan1 table 77",
            "ip rule add pref 400 lookup 77",
        ]),
    ),
    problem(
        "an_uplink_without_a_gateway",
        "gateway-missing",
        Plant::Commands(&[
            "ip route del default dev wan2",
            "ip -6 route del default dev wan2",
            "sysctl -q -w net.ipv6.conf.wan2.accept_ra=0",
        ]),
    ),
    notice(
        "default_routes_of_one_metric",
        "metric-equal",
        Plant::Commands(&[
            "ip route del default dev wan2",
            "ip route append default via 198.18.12.1 dev wan2 metric 100",
        ]),
    ),
    problem(
        "a_source_that_is_no_address_of_the_host",
        "source-missing",
        Plant::Config(
            r#"
uplinks:
  one: {interface: wan1, id: 1, source: 198.18.11.77}
  two: {interface: wan2, id: 2}
downlinks: [lan0]
probe:
  targets: [icmp://203.0.113.1, icmp://198.19.11.1, "icmp://fd00:203::1", "icmp://fd00:19:11::1"]
"#,
        ),
    ),
    problem(
        "a_downlink_that_does_not_exist",
        "downlink-missing",
        Plant::Config(
            r#"
uplinks:
  one: {interface: wan1, id: 1}
  two: {interface: wan2, id: 2}
downlinks: [lan0, lan7]
probe:
  targets: [icmp://203.0.113.1, icmp://198.19.11.1, "icmp://fd00:203::1", "icmp://fd00:19:11::1"]
"#,
        ),
    ),
    problem(
        "an_uplink_that_is_a_port_of_a_bridge",
        "bridge-port",
        Plant::Commands(&["ip link add br7 type bridge", "ip link set wan2 master br7"]),
    ),
    notice(
        "an_uplink_that_is_down",
        "link-down",
        Plant::Commands(&["ip link set wan2 down"]),
    ),
    problem(
        "a_firewall_with_a_strict_filter",
        "rp-filter-firewall",
        Plant::Table(
            "chain c { type filter hook prerouting priority 0; udp dport 9 fib saddr . iif oif missing drop; }",
        ),
    ),
    notice(
        "a_firewall_that_forwards_nothing",
        "forward-dropped",
        Plant::Table("chain c { type filter hook forward priority 0; policy drop; counter; }"),
    ),
    notice(
        "connection_tracking_that_is_smaller_than_the_flow_table",
        "conntrack-small",
        Plant::Both(&[], "flows: {capacity: 16777216}"),
    ),
    notice(
        "segments_that_are_too_large",
        "mss-off",
        Plant::Both(&["ip link set wan2 mtu 1400"], "flows: {mss: off}"),
    ),
    notice(
        "targets_in_an_uplinks_own_network",
        "targets-near",
        Plant::Config(
            r#"
uplinks:
  one: {interface: wan1, id: 1, probe: {targets: [icmp://198.18.11.1, "icmp://fd00:203::1", "icmp://fd00:19:11::1"]}}
  two: {interface: wan2, id: 2}
downlinks: [lan0]
probe:
  targets: [icmp://203.0.113.1, icmp://198.19.11.1, "icmp://fd00:203::1", "icmp://fd00:19:11::1"]
"#,
        ),
    ),
    notice(
        "targets_that_fall_silent_together",
        "targets-together",
        Plant::Config(
            r#"
uplinks:
  one: {interface: wan1, id: 1}
  two: {interface: wan2, id: 2}
downlinks: [lan0]
probe:
  targets: [icmp://203.0.113.1, icmp://203.0.113.2, "icmp://fd00:203::1", "icmp://fd00:19:11::1"]
"#,
        ),
    ),
    notice(
        "a_target_that_is_silent",
        "target-silent",
        Plant::Config(
            r#"
uplinks:
  one: {interface: wan1, id: 1}
  two: {interface: wan2, id: 2}
downlinks: [lan0]
probe:
  targets: [icmp://203.0.113.1, icmp://198.19.11.1, icmp://203.0.113.99, "icmp://fd00:203::1", "icmp://fd00:19:11::1"]
"#,
        ),
    ),
];

pub(crate) fn tests() -> Vec<SystemTest> {
    let planted = FAULTS
        .iter()
        .map(|fault| SystemTest::new(format!("doctor/{}", fault.name), move || found(fault)));
    planted
        .chain([
            SystemTest::new("doctor/targets_that_nobody_reaches", unreachable),
            SystemTest::new("doctor/a_vpn_for_everything", vpn),
            SystemTest::new("doctor/rules_of_the_older_iptables", legacy),
            SystemTest::new("doctor/rules_of_the_newer_iptables", newer),
            SystemTest::new("doctor/an_nft_that_is_missing", no_nft),
            SystemTest::new("doctor/another_program", another_program),
            SystemTest::new("doctor/ebpf_that_is_asked_for_and_refused", no_ebpf),
        ])
        .collect()
}

async fn run(gateway: &Node, commands: &[&str]) -> TestResult {
    for command in commands {
        gateway.must(ProgramSpec::line(command)).await?;
    }
    Ok(())
}

async fn found(fault: &Fault) -> TestResult {
    let lab = Lab::builder().build().await?;
    let gateway = lab.gateway().node();
    let mut config = CONFIG.to_owned();
    match &fault.plant {
        Plant::Commands(commands) => run(gateway, commands).await?,
        Plant::Table(chains) => {
            gateway
                .nft(format!("table inet planted {{\n{chains}\n}}"))
                .await?;
        }
        Plant::Config(other) => config = (*other).to_owned(),
        Plant::Both(commands, more) => {
            run(gateway, commands).await?;
            config = format!("{config}\n{more}\n");
        }
    }
    alone(
        &lab,
        &Failover::new(&lab, &config)?,
        fault.id,
        fault.problem,
    )
    .await
}

/// That doctor finds this and nothing else.
async fn alone(lab: &Lab, failover: &Failover, id: &str, problem: bool) -> TestResult {
    let said = doctor(lab, failover, &[]).await?;
    assert_eq!(said.ids(), [id], "{said:?}");
    assert_eq!(
        said.output.status.code(),
        Some(i32::from(problem)),
        "{said:?}"
    );
    for finding in &said.report.findings {
        let severity = if problem { "problem" } else { "notice" };
        assert_eq!(finding.severity, severity);
        assert!(!finding.remedy.is_empty());
    }
    Ok(())
}

async fn unreachable() -> TestResult {
    let lab = Lab::builder().build().await?;
    lab.uplink(2)?.black_hole().await?;
    let failover = Failover::new(&lab, CONFIG)?;
    alone(&lab, &failover, "targets-unreachable", true).await?;
    let said = doctor(&lab, &failover, &[]).await?;
    let findings = &said.report.findings;
    let of_two = findings
        .iter()
        .filter(|finding| finding.found.contains("by two"));
    assert_eq!(of_two.count(), Family::ALL.len(), "{said:?}");
    Ok(())
}

/// It is told, and is no problem.
async fn vpn() -> TestResult {
    let lab = Lab::builder().build().await?;
    let gateway = lab.gateway().node();
    let _tun = gateway.add_tun("tun0").await?;
    let commands = [
        "ip route add default dev tun0 table 51820",
        "ip rule add pref 32000 not fwmark 0xca6c lookup 51820",
        "ip rule add pref 31000 lookup main suppress_prefixlength 0",
    ];
    run(gateway, &commands).await?;
    alone(
        &lab,
        &Failover::new(&lab, CONFIG)?,
        "default-elsewhere",
        false,
    )
    .await
}

async fn legacy() -> TestResult {
    let lab = Lab::builder().build().await?;
    let command = "iptables-legacy -t mangle -A OUTPUT -p udp --dport 9 -j MARK --set-xmark 0x2000000/0xff000000";
    run(lab.gateway().node(), &[command]).await?;
    alone(&lab, &Failover::new(&lab, CONFIG)?, "marks-overlap", true).await
}

/// They are in nftables, in words of their own.
async fn newer() -> TestResult {
    let lab = Lab::builder().build().await?;
    let command = "iptables-nft -t mangle -A OUTPUT -p udp --dport 9 -j CONNMARK --set-xmark 0x2000000/0xff000000";
    run(lab.gateway().node(), &[command]).await?;
    alone(&lab, &Failover::new(&lab, CONFIG)?, "marks-overlap", true).await
}

async fn no_nft() -> TestResult {
    let lab = Lab::builder().build().await?;
    let failover = Failover::new(&lab, CONFIG)?;
    let spec = ProgramSpec::new(failover.binary())
        .arguments(["doctor", "--json", "--config"])
        .arguments([failover.config()]);
    let said = crate::said(&lab, without_nft(spec)).await?;
    assert_eq!(said.ids(), ["nft-missing"], "{said:?}");
    assert_eq!(said.output.status.code(), Some(1), "{said:?}");
    Ok(())
}

async fn another_program() -> TestResult {
    let lab = Lab::builder().build().await?;
    let script = lab.files().join("haip");
    std::fs::write(&script, "sleep 60\n")?;
    let _running = lab
        .gateway()
        .node()
        .start(ProgramSpec::new("sh").arguments([&script]))
        .await?;
    alone(&lab, &Failover::new(&lab, CONFIG)?, "other-program", true).await
}

async fn no_ebpf() -> TestResult {
    let lab = Lab::builder().build().await?;
    let failover = Failover::new(&lab, &format!("{CONFIG}mode: ebpf\n"))?;
    let spec = ProgramSpec::new(failover.binary())
        .arguments(["doctor", "--json", "--config"])
        .arguments([failover.config()])
        .refuse(Refusal::bpf(Errno::ENOSYS));
    let said = crate::said(&lab, spec).await?;
    assert_eq!(said.ids(), ["ebpf-unsupported"], "{said:?}");
    assert_eq!(said.output.status.code(), Some(1), "{said:?}");
    Ok(())
}
