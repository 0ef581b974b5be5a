//! Files in the style of each program, and what becomes of them.

use super::*;
use crate::config::{self, OnDown};

const FAULT_TOLERANT_ROUTER: &str = "\
uplinks:
- interface: wan1
  type: static
  ip: 198.18.11.2
  gateway: 198.18.11.1
  description: First Provider
  weight: 1
  default_route: true
- interface: ppp0
  type: ppp
  description: Second Provider
  weight: 2
  priority_group: 2
- interface: wan3
  type: static
  ip: 198.18.13.2
  gateway: 198.18.13.1
  description: For servers
  default_route: false

downlinks:
  lan: lan0
  dmz:

tests:
  ips:
  - 203.0.113.1
  - 203.0.113.2
  - 203.0.113.3
  required_successful: 2
  ping_retries: 1
  interval: 60

log:
  file: /var/log/ftr.log
email:
  send: true
  sender: router@example.org
  smtp_parameters:
    authentication: :login
base_table: 1
base_priority: 40000
base_fwmark: 1
";

const MWAN3: &str = "\
config globals 'globals'
\toption mmx_mask '0x3F00'

config interface 'wan'
\toption enabled '1'
\tlist track_ip '203.0.113.1'
\tlist track_ip '203.0.113.2'
\toption reliability '2'
\toption family 'ipv4'
\toption interval '5'
\toption timeout '2'
\toption down '3'
\toption up '8'
\toption check_quality '1'
\toption failure_latency '500'
\toption recovery_latency '250'
\tlist flush_conntrack 'ifdown'

config interface 'wan6'
\toption enabled '1'
\tlist track_ip 'fd00:203::1'
\toption family 'ipv6'

config interface 'wanb'
\toption enabled '1'
\tlist track_ip '203.0.113.3'

config interface 'old'
\toption enabled '0'

config member 'wan_m1_w3'
\toption interface 'wan'
\toption metric '1'
\toption weight '3'

config member 'wan6_m1_w3'
\toption interface 'wan6'
\toption metric '1'
\toption weight '3'

config member 'wanb_m2_w1'
\toption interface 'wanb'
\toption metric '2'
\toption weight '1'

config member 'wanb_m1_w1'
\toption interface 'wanb'
\toption metric '1'

config policy 'failover'
\tlist use_member 'wan_m1_w3'
\tlist use_member 'wan6_m1_w3'
\tlist use_member 'wanb_m2_w1'
\toption last_resort 'unreachable'

config policy 'balanced'
\tlist use_member 'wan_m1_w3'
\tlist use_member 'wanb_m1_w1'
\toption last_resort 'default'

config rule 'https'
\toption sticky '1'
\toption dest_port '443,8000:8080'
\toption proto 'tcp'
\toption use_policy 'balanced'

config rule 'listed'
\toption ipset 'blocked'
\toption use_policy 'balanced'

config rule 'impossible'
\toption proto 'icmp'
\toption dest_port '99999'
\toption use_policy 'balanced'

config rule 'office'
\toption src_iface 'lan'
\toption dest_ip '198.51.100.0/24,203.0.113.9'
\toption use_policy 'balanced'

config rule 'default_rule'
\toption dest_ip '0.0.0.0/0'
\toption use_policy 'failover'
";

const NETWORK: &str = "\
config interface 'loopback'
\toption device 'lo'
\toption proto 'static'
\toption ipaddr '127.0.0.1'

config interface 'lan'
\toption device 'br-lan'
\toption proto 'static'
\toption ipaddr '192.168.1.1'

config interface 'wan'
\toption device 'eth1'
\toption proto 'dhcp'

config interface 'wan6'
\toption device '@wan'
\toption proto 'dhcpv6'

config interface 'wanb'
\toption proto 'pppoe'
\toption device 'eth2'
";

const HAIP: &str = "\
# What the router does
[Service]
ExecStart=/usr/local/bin/haip -vv --wait=2 --fail 2 \\
  --route 1/203.0.113.1/wan1:198.18.11.1 \\
  --route 2/203.0.113.1/ppp0 --toggle /usr/local/sbin/changed
";

fn remarks(imported: &Imported) -> Vec<(u64, &str)> {
    imported
        .remarks
        .iter()
        .map(|remark| (remark.line.unwrap_or(0), remark.text.as_str()))
        .collect()
}

#[test]
fn fault_tolerant_router_becomes_a_configuration() {
    let imported = import(Program::FaultTolerantRouter, FAULT_TOLERANT_ROUTER, None).unwrap();
    let config = config::parse(&imported.configuration).unwrap();
    let first = &config.uplinks[&"first-provider".parse().unwrap()];
    assert_eq!(first.interface.as_str(), "wan1");
    assert_eq!(first.source, Some("198.18.11.2".parse().unwrap()));
    assert_eq!(first.gateway, Some("198.18.11.1".parse().unwrap()));
    assert_eq!(first.probe.targets.len(), 3);
    assert_eq!((first.probe.required, first.probe.down_after), (2, 2));
    assert_eq!(first.probe.interval.as_secs(), 60);
    let second = &config.uplinks[&"second-provider".parse().unwrap()];
    assert_eq!((second.weight, second.priority), (2, 2));
    assert_eq!(second.gateway, None);
    assert!(!config.uplinks[&"for-servers".parse().unwrap()].new_flows);
    assert_eq!(config.downlinks.len(), 1);
    let remarks = remarks(&imported);
    for (line, word) in [
        (34, "log"),
        (36, "email"),
        (41, "base_table"),
        (0, "iptables"),
    ] {
        assert!(
            remarks
                .iter()
                .any(|(l, text)| *l == line && text.contains(word)),
            "{line} {word}: {remarks:?}"
        );
    }
}

#[test]
fn mwan3_becomes_a_configuration() {
    let imported = import(Program::Mwan3, MWAN3, Some(NETWORK)).unwrap();
    let config = config::parse(&imported.configuration).unwrap();
    let names: Vec<&str> = config.uplinks.keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["wan", "wanb"], "{}", imported.configuration);
    let wan = &config.uplinks[&"wan".parse().unwrap()];
    assert_eq!(wan.interface.as_str(), "eth1");
    assert_eq!((wan.priority, wan.weight), (1, 3));
    assert_eq!(wan.probe.targets.len(), 3);
    assert_eq!(wan.probe.required, 2);
    assert!(wan.probe.quality.max_latency.is_some());
    assert_eq!(wan.on_down, OnDown::Reset);
    let wanb = &config.uplinks[&"wanb".parse().unwrap()];
    assert_eq!(wanb.interface.as_str(), "pppoe-wanb");
    assert_eq!(wanb.priority, 2);
    assert_eq!(
        config
            .downlinks
            .iter()
            .map(|name| name.as_str())
            .collect::<Vec<_>>(),
        ["br-lan"]
    );
    assert_eq!(config.rules.len(), 2, "{}", imported.configuration);
    assert!(
        imported
            .configuration
            .contains("via: [{\"wan\": 3, \"wanb\": 1}]"),
        "{}",
        imported.configuration
    );
    let remarks = remarks(&imported);
    for (line, word) in [
        (2, "mmx_mask"),
        (17, "flush_conntrack"),
        (19, "part of the uplink"),
        (29, "not enabled"),
        (68, "ipset"),
        (50, "last_resort"),
        (71, "impossible"),
    ] {
        assert!(
            remarks
                .iter()
                .any(|(l, text)| *l == line && text.contains(word)),
            "{line} {word}: {remarks:#?}"
        );
    }
}

#[test]
fn without_the_network_file_a_person_is_told_where_to_look() {
    let imported = import(Program::Mwan3, MWAN3, None).unwrap();
    assert!(
        imported
            .configuration
            .contains("# The device is not in mwan3's file")
    );
    assert!(
        remarks(&imported)
            .iter()
            .any(|(_, text)| text.contains("--network")),
        "{:?}",
        imported.remarks
    );
    let both = import(Program::Mwan3, NETWORK, None).unwrap_err();
    assert!(both.to_string().contains("--network"), "{both}");
}

#[test]
fn a_command_line_of_haip_becomes_a_configuration() {
    let imported = import(Program::Haip, HAIP, None).unwrap();
    let config = config::parse(&imported.configuration).unwrap();
    let first = &config.uplinks[&"wan1".parse().unwrap()];
    assert_eq!(first.gateway, Some("198.18.11.1".parse().unwrap()));
    assert_eq!(
        (first.probe.interval.as_secs(), first.probe.down_after),
        (2, 2)
    );
    assert_eq!(config.uplinks[&"ppp0".parse().unwrap()].priority, 2);
    let remarks = remarks(&imported);
    assert!(
        remarks
            .iter()
            .any(|(line, text)| *line == 5 && text.contains("--toggle")),
        "{remarks:?}"
    );
}

#[test]
fn the_defaults_file_of_haip_is_read_too() {
    let text = "WAIT=30\nROUTES=\"--route 1/203.0.113.1/wlan0:198.18.11.1\"\n\
                ROUTES=\"$ROUTES --route 2/203.0.113.1/ppp0\"\nSTATUS=/run/haip\nOPTS=\"-vv\"\n";
    let imported = import(Program::Haip, text, None).unwrap();
    let config = config::parse(&imported.configuration).unwrap();
    assert_eq!(config.uplinks.len(), 2);
    assert!(imported.configuration.contains("interval: 30s"));
}

#[test]
fn a_file_of_another_program_is_told_with_its_place() {
    for (program, text, words) in [
        (
            Program::Mwan3,
            FAULT_TOLERANT_ROUTER,
            "1:1: this is no configuration of mwan3",
        ),
        (
            Program::Mwan3,
            FAULT_TOLERANT_ROUTER,
            "--from fault-tolerant-router",
        ),
        (Program::FaultTolerantRouter, MWAN3, "--from mwan3"),
        (Program::FaultTolerantRouter, HAIP, "--from haip"),
        (Program::Haip, MWAN3, "--from mwan3"),
        (Program::Haip, "", "no configuration of haip"),
        (Program::Mwan3, "", "no `config interface`"),
        (Program::FaultTolerantRouter, "", "1:1"),
        (Program::FaultTolerantRouter, "uplinks: []\n", "empty"),
        (
            Program::FaultTolerantRouter,
            "uplinks:\n- interface: wan1\n  ip: nowhere\n",
            "3:7: `nowhere` is no IPv4 address",
        ),
        (
            Program::Haip,
            "haip --route 1/here/wan1\n",
            "`here` is no IPv4 address",
        ),
        (
            Program::Mwan3,
            "config interface 'wan'\n\toption enabled '1'\n\toption down 'often'\n",
            "3:1: `down often` is no number",
        ),
    ] {
        let error = import(program, text, None).unwrap_err().to_string();
        assert!(error.contains(words), "{words}: {error}");
    }
}
