//! Every fault shows its effect at the client, and its end does too.

use std::time::{Duration, Instant};

use failover::family::Family;
use failover_tests::{
    Answer, Flows, Host, Lab, LabError, Percent, Protocol, Tally, Traffic, eventually,
};

use super::{LabTest, MASQUERADE, TestResult};

pub(super) fn trials() -> Vec<LabTest> {
    vec![
        LabTest::new("black_hole_is_silent_and_heals", black_hole),
        LabTest::new(
            "carrier_loss_is_seen_by_the_gateway_and_heals",
            carrier_loss,
        ),
        LabTest::new("an_interface_vanishes_and_returns", interface),
        LabTest::new("loss_takes_a_part_of_the_packets", loss),
        LabTest::new("the_address_changes", address),
        LabTest::new("latency_makes_answers_late_and_ends", latency),
        LabTest::new("faults_tell_when_they_were_in_place", moments),
    ]
}

/// Long for a lab, in which an answer takes less than a millisecond.
const SOON: Duration = Duration::from_millis(500);

/// Longer than a TCP sender waits before it tries again after some seconds without an answer.
const RETRANSMITTED: Duration = Duration::from_secs(5);

async fn lab() -> Result<Lab, LabError> {
    let lab = Lab::builder().build().await?;
    lab.gateway().node().nft(MASQUERADE).await?;
    Ok(lab)
}

/// Flows of all protocols and families, ten each.
async fn flows(host: &Host) -> Result<Vec<Flows>, LabError> {
    let mut all = Vec::new();
    for protocol in Protocol::ALL {
        for family in Family::ALL {
            all.push(host.open(Traffic::new(protocol, family, 10)).await?);
        }
    }
    Ok(all)
}

async fn ask(all: &[Flows], limit: Duration) -> Result<Tally, LabError> {
    let mut asked = Vec::new();
    for flows in all {
        asked.extend(flows.ask(limit).await?);
    }
    Ok(Tally::of(&asked))
}

/// Waits until flows of both families that are opened now arrive by uplink 1 again.
async fn until_answered(host: &Host) -> Result<(), LabError> {
    eventually(
        "new flows are answered",
        Duration::from_secs(10),
        || async {
            for family in Family::ALL {
                let traffic = Traffic::new(Protocol::Udp, family, 4).within(SOON);
                if Tally::of(&host.burst(traffic).await?).on(1) != 4 {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        },
    )
    .await
}

async fn operstate(lab: &Lab) -> Result<String, LabError> {
    let spec = failover_tests::ProgramSpec::line("ip -oneline link show dev wan1");
    lab.gateway().node().must(spec).await
}

async fn black_hole() -> TestResult {
    let lab = lab().await?;
    let flows = flows(lab.client(1)?).await?;
    assert_eq!(ask(&flows, RETRANSMITTED).await?.on(1), 60);
    let link = operstate(&lab).await?;

    let since = lab.uplink(1)?.black_hole().await?;
    let tally = ask(&flows, SOON).await?;
    assert_eq!(tally.unanswered, 60, "{tally}");
    assert_eq!(operstate(&lab).await?, link, "the gateway is told nothing");
    let still_sent = lab.uplink(1)?.capture()?.active_since(since)?;
    assert_eq!(still_sent.len(), 60, "the capture sees what is swallowed");

    lab.uplink(1)?.heal().await?;
    let tally = ask(&flows, RETRANSMITTED).await?;
    assert_eq!(tally.on(1), 60, "{tally}");
    Ok(())
}

async fn carrier_loss() -> TestResult {
    let lab = lab().await?;
    let flows = flows(lab.client(1)?).await?;
    assert_eq!(ask(&flows, RETRANSMITTED).await?.on(1), 60);

    lab.uplink(1)?.carrier_loss().await?;
    assert!(operstate(&lab).await?.contains("NO-CARRIER"));
    assert_eq!(ask(&flows, SOON).await?.on(1), 0);

    lab.uplink(1)?.heal().await?;
    until_answered(lab.client(1)?).await?;
    Ok(())
}

async fn interface() -> TestResult {
    let lab = lab().await?;
    let (uplink, client) = (lab.uplink(1)?, lab.client(1)?);
    let routes = failover_tests::ProgramSpec::line("ip route show default");
    let before = lab.gateway().node().must(routes.clone()).await?;
    let index = lab.gateway().node().interface_index("wan1").await?;

    let start = uplink.remove_interface().await?;
    assert!(lab.gateway().node().interface_index("wan1").await.is_err());
    let traffic = Traffic::new(Protocol::Tcp, Family::Ipv4, 4);
    assert_eq!(Tally::of(&client.burst(traffic).await?).on(2), 4);

    // Healing is for other faults: it does not fail and brings nothing back.
    uplink.heal().await?;
    assert!(lab.gateway().node().interface_index("wan1").await.is_err());
    uplink.remake_interface().await?;
    assert_ne!(lab.gateway().node().interface_index("wan1").await?, index);
    assert_eq!(lab.gateway().node().must(routes).await?, before);
    until_answered(client).await?;
    let seen = uplink.capture()?.new_flows_since(start)?;
    assert!(!seen.is_empty(), "the capture follows the new interface");
    Ok(())
}

async fn loss() -> TestResult {
    let lab = lab().await?;
    let part = Percent::new(30).ok_or("30 is a percentage")?;
    lab.uplink(1)?.loss(part).await?;
    let traffic = Traffic::new(Protocol::Udp, Family::Ipv4, 400).within(SOON);
    let tally = Tally::of(&lab.client(1)?.burst(traffic).await?);
    // Question and answer each get through with 70 %: of 400, 196 with a deviation of 10.
    assert!((140..=250).contains(&tally.on(1)), "{tally}");
    lab.uplink(1)?.heal().await?;
    let traffic = traffic.within(RETRANSMITTED);
    let tally = Tally::of(&lab.client(1)?.burst(traffic).await?);
    assert_eq!(tally.on(1), 400, "{tally}");
    Ok(())
}

async fn latency() -> TestResult {
    let lab = lab().await?;
    let flows = flows(lab.client(1)?).await?;
    let late = Duration::from_millis(60);
    let uplink = lab.uplink(1)?;
    uplink.latency(late, Duration::from_millis(5)).await?;
    for answer in ask_each(&flows).await? {
        assert_eq!(answer.uplink(), Some(1));
        let took = answer.answered - answer.asked;
        assert!(took >= late, "an answer after {took:?}");
    }
    uplink.latency(Duration::ZERO, Duration::ZERO).await?;
    let soonest = || async {
        let answers = ask_each(&flows).await?;
        let took = answers.iter().map(|answer| answer.answered - answer.asked);
        Ok(took.min().filter(|took| *took < late / 2))
    };
    eventually("answers come at once", Duration::from_secs(10), soonest).await?;
    Ok(())
}

/// The answers of all flows: none is lost.
async fn ask_each(all: &[Flows]) -> Result<Vec<Answer>, LabError> {
    let (mut answers, mut asked) = (Vec::new(), 0);
    for flows in all {
        asked += flows.len();
        answers.extend(flows.ask(RETRANSMITTED).await?.into_iter().flatten());
    }
    assert_eq!(answers.len(), asked);
    Ok(answers)
}

async fn address() -> TestResult {
    let lab = lab().await?;
    let uplink = lab.uplink(1)?;
    let old = Family::ALL.map(|family| uplink.gateway_address(family));
    uplink.change_address().await?;
    until_answered(lab.client(1)?).await?;
    for (family, old) in Family::ALL.into_iter().zip(old) {
        let traffic = Traffic::new(Protocol::Tcp, family, 1);
        for asked in lab.client(1)?.burst(traffic).await? {
            let seen = Some(asked?.seen.ip());
            assert_eq!(seen, uplink.gateway_address(family));
            assert_ne!(seen, old);
        }
    }
    Ok(())
}

/// The benchmark reckons in milliseconds from the moment that a fault tells.
async fn moments() -> TestResult {
    let lab = lab().await?;
    let uplink = lab.uplink(1)?;
    let start = Instant::now();
    let black_hole = uplink.black_hole().await?;
    let between = Instant::now();
    uplink.heal().await?;
    let carrier_loss = uplink.carrier_loss().await?;
    let end = Instant::now();
    assert!((start..between).contains(&black_hole));
    assert!((between..end).contains(&carrier_loss));
    Ok(())
}
