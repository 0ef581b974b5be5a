//! What `failover explain` says, and what it refuses.

use failover_tests::daemon::{Mode, State};
use failover_tests::{Daemon, Failover, Lab};
use serde_json::Value;

use crate::{CONFIG, SystemTest, TestResult, VERDICT, one_line};

pub(crate) fn tests() -> Vec<SystemTest> {
    let in_modes = |name: &str, test: fn(Mode) -> Played| {
        Mode::ALL.map(|mode| SystemTest::new(format!("{mode}/{name}"), move || test(mode)))
    };
    let mut tests = vec![SystemTest::new(
        "explain_refuses_flows_that_cannot_be",
        refusals,
    )];
    tests.extend(in_modes("explain_names_rule_pool_and_fate", |mode| {
        Box::pin(names(mode))
    }));
    tests
}

type Played = std::pin::Pin<Box<dyn Future<Output = TestResult>>>;
type Error = Box<dyn std::error::Error>;

const RULES: &str = "rules:
  - {name: mail, match: {protocol: tcp, ports: [25]}, via: [two], otherwise: drop}
  - {name: web, match: {protocol: tcp, ports: [80, 443]}, via: [one, two]}
";

async fn running(lab: &Lab, mode: Mode) -> Result<Daemon, Error> {
    let daemon = Daemon::start(lab, &format!("{CONFIG}mode: {mode}\n{RULES}")).await?;
    daemon
        .wait_until("all are up", VERDICT, |status| status.all(State::Up))
        .await?;
    Ok(daemon)
}

async fn asked(failover: &Failover, flow: &str) -> Result<Value, Error> {
    let output = failover.command(&format!("explain {flow} --json")).await?;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    Ok(serde_json::from_str(&output.stdout)?)
}

fn at<'v>(explained: &'v Value, pointer: &str) -> Result<&'v Value, Error> {
    let found = explained.pointer(pointer);
    Ok(found.ok_or_else(|| format!("no {pointer} in {explained}"))?)
}

async fn names(mode: Mode) -> TestResult {
    let lab = Lab::builder().build().await?;
    let daemon = running(&lab, mode).await?;
    let failover = daemon.failover();
    let mail = "--from 198.18.0.10:4000 --to 203.0.113.11:25";
    let explained = asked(failover, mail).await?;
    assert_eq!(at(&explained, "/mode")?, &mode.to_string());
    assert_eq!(at(&explained, "/fate/uplink")?, "two");
    assert_eq!(at(&explained, "/decided_by")?, "rule");
    assert_eq!(at(&explained, "/question/interface")?, "lan0");
    assert_eq!(at(&explained, "/new_flow/rule/name")?, "mail");
    assert_eq!(at(&explained, "/new_flow/rule/position")?, 1);
    assert_eq!(at(&explained, "/route/is_uplink")?, true);
    assert_eq!(at(&explained, "/without/one/uplink")?, "two");
    assert_eq!(at(&explained, "/without/two")?, "dropped");

    let web = asked(
        failover,
        "--from [fd00:18::10]:4000 --to [fd00:203::11]:443",
    )
    .await?;
    assert_eq!(at(&web, "/fate/uplink")?, "one");
    assert_eq!(at(&web, "/without/one/uplink")?, "two");

    let open = asked(
        failover,
        "--from 198.18.0.10 --to 203.0.113.11:53 --proto udp",
    )
    .await?;
    assert_eq!(at(&open, "/decided_by")?, "pool");
    assert_eq!(
        at(&open, "/fate/one_of/one")?.as_f64().map(f64::round),
        Some(1.0)
    );
    assert!(at(&open, "/new_flow/rule")?.is_null());

    let inside = asked(failover, "--from 198.18.0.10:4000 --to 198.18.0.1:22").await?;
    assert_eq!(at(&inside, "/fate")?, "routed");

    let table = failover.command(&format!("explain {mail}")).await?;
    assert_eq!(table.status.code(), Some(0), "{table:?}");
    let mut lines = table.stdout.lines();
    assert_eq!(
        lines.next(),
        Some("tcp from 198.18.0.10:4000 to 203.0.113.11:25 by lan0")
    );
    assert_eq!(
        lines.next(),
        Some("goes by two: a new flow, rule mail decides")
    );
    assert!(
        table.stdout.contains("  without two  nowhere\n"),
        "{}",
        table.stdout
    );

    // The host's own: by the rule, unless its socket is bound to an uplink's address.
    let own = asked(failover, "--own --to 203.0.113.11:25").await?;
    assert_eq!(at(&own, "/fate/uplink")?, "two");
    assert_eq!(at(&own, "/decided_by")?, "rule");
    assert!(at(&own, "/question/interface")?.is_null());
    let bound = asked(failover, "--own --from 198.18.11.2 --to 203.0.113.11:25").await?;
    assert_eq!(at(&bound, "/fate/uplink")?, "one");
    assert_eq!(at(&bound, "/decided_by")?, "bound");
    let table = failover
        .command("explain --own --to [fd00:203::11]:25")
        .await?;
    let words = "tcp to [fd00:203::11]:25, of this host itself
goes by two: a new flow, rule mail decides
";
    assert!(table.stdout.starts_with(words), "{}", table.stdout);

    lab.uplink(2)?.carrier_loss().await?;
    daemon
        .wait_until("two is down", VERDICT, |status| {
            status
                .uplink("two")
                .is_some_and(|two| two.state == State::Down)
        })
        .await?;
    let explained = asked(failover, mail).await?;
    assert_eq!(at(&explained, "/fate")?, "dropped");
    assert_eq!(at(&explained, "/new_flow/rule/usable")?, false);
    let own = asked(failover, "--own --to [fd00:203::11]:25").await?;
    assert_eq!(at(&own, "/fate")?, "dropped");
    daemon.terminate().await?;
    Ok(())
}

async fn refusals() -> TestResult {
    let lab = Lab::builder().downlinks([1, 1]).build().await?;
    let config = CONFIG.replace("[lan0]", "[lan0, lan1]");
    let failover = Failover::new(&lab, &config)?;
    let flow = "explain --from 198.18.0.10:4000 --to 203.0.113.11:25";
    one_line(&failover.command(flow).await?, 3, &["no daemon answers"])?;
    let daemon = failover.run().await?;
    for (line, status, words) in [
        (
            "explain --from 198.18.0.10 --to fd00:203::11",
            2,
            "--from and --to are of different families",
        ),
        (
            "explain --from 198.18.0.10 --to 203.0.113.11 --proto udp",
            2,
            "udp has ports: --to needs one",
        ),
        (
            "explain --from 198.18.0.10 --to 203.0.113.11:7 --proto icmp",
            2,
            "icmp has no ports",
        ),
        (
            "explain --from 198.18.0.10 --to 203.0.113.11 --iface wan1",
            1,
            "wan1 is none of the downlinks, which are lan0, lan1",
        ),
        (
            "explain --from 192.0.2.77 --to 203.0.113.11",
            1,
            "name the downlink by --iface, one of lan0, lan1",
        ),
    ] {
        one_line(&failover.command(line).await?, status, &[words])?;
    }
    daemon.terminate().await?;
    Ok(())
}
