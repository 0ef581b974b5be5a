//! What `failover flows` lists is what is there.
//!
//! Each test is played in each mode. What the modes do not share is said where it matters: in eBPF
//! mode bytes include the Ethernet header, and the router's own flows are not listed.

mod inbound;
mod many;
mod truth;

use failover::family::Family;
use failover_tests::daemon::{Mode, State};
use failover_tests::{Daemon, Lab, Node, Output};
use serde::Deserialize;

use crate::{CONFIG, SystemTest, TestResult, VERDICT};

/// Bytes per packet that are counted beside those from the IP header on.
const fn link_layer(mode: Mode) -> u64 {
    match mode {
        Mode::Classic => 0,
        Mode::Ebpf => 14,
    }
}

type Played = fn(Mode) -> std::pin::Pin<Box<dyn Future<Output = TestResult>>>;

pub(crate) fn tests() -> Vec<SystemTest> {
    let tests: [(&str, Played); 8] = [
        ("flows_are_listed_with_their_exact_counts", |mode| {
            Box::pin(truth::exact_counts(mode))
        }),
        ("flows_are_those_of_one_uplink_if_asked", |mode| {
            Box::pin(truth::of_one_uplink(mode))
        }),
        ("flows_are_a_table_with_the_largest_first", |mode| {
            Box::pin(truth::table(mode))
        }),
        ("flows_that_nobody_counts_have_no_counts", |mode| {
            Box::pin(truth::uncounted(mode))
        }),
        ("flows_fill_the_table_that_status_tells_of", |mode| {
            Box::pin(truth::table_in_status(mode))
        }),
        ("flows_that_came_in_are_inbound", |mode| {
            Box::pin(inbound::to_a_client(mode))
        }),
        (
            "flows_of_the_router_are_told_in_classic_mode_only",
            |mode| Box::pin(inbound::of_the_router(mode)),
        ),
        ("flows_by_the_ten_thousands_are_all_listed", |mode| {
            Box::pin(many::all_listed(mode))
        }),
    ];
    let played = |mode: Mode| {
        tests
            .into_iter()
            .map(move |(name, test)| SystemTest::new(format!("{mode}/{name}"), move || test(mode)))
    };
    Mode::ALL.into_iter().flat_map(played).collect()
}

/// An element of the list, as it is documented. It is read with types of its own: what scripts rely
/// on must not change with the program.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Entry {
    protocol: String,
    family: String,
    inside: String,
    inside_port: Option<u16>,
    outside: String,
    outside_port: Option<u16>,
    uplink: String,
    uplink_id: u8,
    why: String,
    phase: String,
    confirmed: bool,
    age_ms: Option<u64>,
    idle_ms: Option<u64>,
    out_packets: Option<u64>,
    out_bytes: Option<u64>,
    in_packets: Option<u64>,
    in_bytes: Option<u64>,
    offloaded: bool,
    fastpath: Option<String>,
}

/// A daemon in this mode, with both uplinks up, in a lab whose kernel counts and notes times.
async fn start(lab: &Lab, mode: Mode) -> Result<Daemon, Box<dyn std::error::Error>> {
    let gateway = lab.gateway().node();
    for key in ["acct", "timestamp"] {
        let key = format!("net/netfilter/nf_conntrack_{key}");
        gateway.set_sysctl(&key, "1").await?;
    }
    run(lab, mode).await
}

/// A daemon in this mode, with both uplinks up.
async fn run(lab: &Lab, mode: Mode) -> Result<Daemon, Box<dyn std::error::Error>> {
    let config = format!("{CONFIG}mode: {mode}\n");
    let daemon = Daemon::start(lab, &config).await?;
    let status = daemon
        .wait_until("all uplinks are up", VERDICT, |status| {
            status.uplinks.iter().all(|uplink| {
                let families = [&uplink.ipv4, &uplink.ipv6];
                families.iter().all(|family| family.state == State::Up)
            })
        })
        .await?;
    assert_eq!(status.mode, mode.to_string());
    Ok(daemon)
}

/// What a command prints that succeeds and says nothing else.
async fn printed(daemon: &Daemon, line: &str) -> Result<String, Box<dyn std::error::Error>> {
    let output = daemon.failover().command(line).await?;
    good(output)
}

fn good(output: Output) -> Result<String, Box<dyn std::error::Error>> {
    if output.status.success() && output.stderr.is_empty() {
        Ok(output.stdout)
    } else {
        Err(format!("{}: {}", output.status, output.stderr).into())
    }
}

/// The flows, as scripts read them.
async fn list(daemon: &Daemon, options: &str) -> Result<Vec<Entry>, Box<dyn std::error::Error>> {
    let text = printed(daemon, &format!("flows --json {options}")).await?;
    Ok(serde_json::from_str(&text)?)
}

/// The name of an uplink of the lab.
fn name(number: Option<u8>) -> &'static str {
    match number {
        Some(1) => "one",
        Some(2) => "two",
        _ => "none",
    }
}

/// As the documents write it.
const fn written(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "ipv4",
        Family::Ipv6 => "ipv6",
    }
}

/// What another program says of the gateway's tracked flows of a family and protocol.
async fn conntrack(
    gateway: &Node,
    family: Family,
    protocol: &str,
) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let line = format!("conntrack -L -f {} -p {protocol}", written(family));
    let text = gateway
        .must(failover_tests::ProgramSpec::line(&line))
        .await?;
    Ok(text.lines().map(str::to_owned).collect())
}
