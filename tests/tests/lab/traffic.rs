//! Traffic through a lab: it arrives, it is seen by the right address, and providers count it.

use std::time::{Duration, Instant};

use failover::family::Family;
use failover_tests::capture::SeenFlow;
use failover_tests::{Lab, Protocol, Tally, Traffic, addressing};

use super::{LabTest, MASQUERADE, TestResult};

pub(super) fn trials() -> Vec<LabTest> {
    vec![
        LabTest::new("every_protocol_and_family_is_answered", every_protocol),
        LabTest::new("flows_without_translation_are_not_answered", untranslated),
        LabTest::new("thousands_of_new_flows_are_answered", thousands),
        LabTest::new("clients_behind_several_downlinks_are_answered", downlinks),
        LabTest::new("a_host_without_downlinks_is_answered", host_only),
        LabTest::new("an_uplink_may_lack_a_family", one_family),
        LabTest::new(
            "providers_tell_new_flows_from_old_ones_and_probes",
            captures,
        ),
        LabTest::new("packets_are_stamped_when_they_come", stamps),
        LabTest::new("the_first_answer_by_another_uplink_is_caught", first_answer),
        LabTest::new("two_labs_know_nothing_of_each_other", two_labs),
    ]
}

async fn every_protocol() -> TestResult {
    let lab = Lab::builder().uplinks(3).build().await?;
    lab.gateway().node().nft(MASQUERADE).await?;
    for protocol in Protocol::ALL {
        for family in Family::ALL {
            let flows = lab
                .client(1)?
                .open(Traffic::new(protocol, family, 8))
                .await?;
            let first = flows.ask(Duration::from_secs(2)).await?;
            let again = flows.ask(Duration::from_secs(2)).await?;
            // The default route with the best metric leads to provider 1.
            let expected = lab.uplink(1)?.gateway_address(family);
            for (first, again) in first.into_iter().zip(again) {
                let (first, again) = (first?, again?);
                assert_eq!(Some(first.seen.ip()), expected, "{protocol} {family}");
                assert_eq!(first.seen, again.seen, "{protocol} {family}");
                assert_eq!(first.uplink(), Some(1));
            }
        }
    }
    Ok(())
}

async fn untranslated() -> TestResult {
    let lab = Lab::builder().build().await?;
    for family in Family::ALL {
        let traffic = Traffic::new(Protocol::Udp, family, 2).within(Duration::from_millis(300));
        let asked = lab.client(1)?.burst(traffic).await?;
        assert_eq!(Tally::of(&asked).unanswered, 2, "{family}");
    }
    Ok(())
}

async fn thousands() -> TestResult {
    let lab = Lab::builder().build().await?;
    lab.gateway().node().nft(MASQUERADE).await?;
    for protocol in Protocol::ALL {
        for family in Family::ALL {
            let traffic = Traffic::new(protocol, family, 1500);
            let tally = Tally::of(&lab.client(1)?.burst(traffic).await?);
            assert_eq!(tally.on(1), 1500, "{protocol} {family}: {tally}");
        }
    }
    Ok(())
}

async fn downlinks() -> TestResult {
    let lab = Lab::builder().downlinks([2, 1]).build().await?;
    lab.gateway().node().nft(MASQUERADE).await?;
    assert_eq!(lab.downlinks(), ["lan0", "lan1"]);
    for (family, address) in [
        (Family::Ipv4, "198.18.1.10"),
        (Family::Ipv6, "fd00:18:1::10"),
    ] {
        assert_eq!(lab.client(3)?.address(family), Some(address.parse()?));
    }
    assert_eq!(lab.clients().len(), 3);
    for client in lab.clients() {
        for family in Family::ALL {
            let asked = client.burst(Traffic::new(Protocol::Tcp, family, 2)).await?;
            let tally = Tally::of(&asked);
            assert_eq!(tally.on(1), 2, "{} {family}: {tally}", client.node().name());
        }
    }
    Ok(())
}

async fn host_only() -> TestResult {
    let lab = Lab::builder().host_only().build().await?;
    assert!(lab.downlinks().is_empty() && lab.clients().is_empty());
    for protocol in Protocol::ALL {
        for family in Family::ALL {
            let asked = lab
                .gateway()
                .burst(Traffic::new(protocol, family, 2))
                .await?;
            let tally = Tally::of(&asked);
            assert_eq!(tally.on(1), 2, "{protocol} {family}: {tally}");
        }
    }
    Ok(())
}

async fn one_family() -> TestResult {
    let lab = Lab::builder()
        .uplink_without(1, Family::Ipv6)
        .host_only()
        .build()
        .await?;
    assert_eq!(lab.uplink(1)?.gateway_address(Family::Ipv6), None);
    for (family, uplink) in [(Family::Ipv4, 1), (Family::Ipv6, 2)] {
        let asked = lab
            .gateway()
            .burst(Traffic::new(Protocol::Udp, family, 2))
            .await?;
        let tally = Tally::of(&asked);
        assert_eq!(tally.on(uplink), 2, "{family}: {tally}");
    }
    Ok(())
}

async fn captures() -> TestResult {
    let lab = Lab::builder().build().await?;
    lab.gateway().node().nft(MASQUERADE).await?;
    let capture = lab.uplink(1)?.capture()?;
    let mut open = Vec::new();
    for protocol in Protocol::ALL {
        for family in Family::ALL {
            let flows = lab
                .client(1)?
                .open(Traffic::new(protocol, family, 3))
                .await?;
            flows.ask(Duration::from_secs(2)).await?;
            open.push(flows);
        }
    }
    let opened = capture.flows()?;
    assert_eq!(opened.len(), 18, "{opened:?}");
    assert!(opened.iter().all(|flow| flow.opening));

    let start = Instant::now();
    for flows in &open {
        flows.ask(Duration::from_secs(2)).await?;
    }
    assert_eq!(capture.new_flows_since(start)?, [], "old flows are not new");
    assert_eq!(capture.active_since(start)?.len(), 18);

    let target = addressing::probe_targets(Family::Ipv4);
    let target = target.first().ok_or("no probe target")?;
    let ping = format!("ping -n -c 2 -i 0.01 {target}");
    let spec = failover_tests::ProgramSpec::line(&ping);
    lab.gateway().node().must(spec).await?;
    assert_eq!(capture.probe_packets()?, 2);
    // Users' own packets may still be on their way, such as delayed acknowledgements.
    let to_target = |flow: &SeenFlow| flow.key.destination.ip() == *target;
    assert!(
        !capture.flows()?.iter().any(to_target),
        "probes are no users' packets"
    );

    let asked = lab
        .client(1)?
        .burst(Traffic::new(Protocol::Tcp, Family::Ipv6, 5))
        .await?;
    assert_eq!(Tally::of(&asked).on(1), 5);
    assert_eq!(capture.new_flows_since(start)?.len(), 5);
    assert_eq!(lab.uplink(2)?.capture()?.flows()?, []);
    Ok(())
}

async fn two_labs() -> TestResult {
    let (one, other) = (Lab::builder().build().await?, Lab::builder().build().await?);
    one.gateway().node().nft(MASQUERADE).await?;
    other.gateway().node().nft(MASQUERADE).await?;
    assert_ne!(one.files(), other.files());
    one.uplink(1)?.black_hole().await?;
    let traffic = Traffic::new(Protocol::Udp, Family::Ipv4, 4).within(Duration::from_millis(300));
    assert_eq!(
        Tally::of(&one.client(1)?.burst(traffic).await?).unanswered,
        4
    );
    assert_eq!(Tally::of(&other.client(1)?.burst(traffic).await?).on(1), 4);
    Ok(())
}

/// Also when the capture has no time to read: a test asks what came after a fault.
async fn stamps() -> TestResult {
    let lab = Lab::builder().host_only().build().await?;
    let uplink = lab.uplink(1)?;
    let (resume, stalled) = std::sync::mpsc::channel::<()>();
    uplink.provider().start_task(move || async move {
        stalled.recv().ok();
    })?;
    let traffic = Traffic::new(Protocol::Udp, Family::Ipv4, 50).at_once(1);
    let answers: Result<Vec<_>, _> = lab.gateway().burst(traffic).await?.into_iter().collect();
    let flows = uplink.capture()?.flows()?;
    resume.send(())?;
    assert_eq!(flows.len(), 50);
    for (flow, answer) in flows.iter().zip(answers?) {
        // The two clocks of kernel and test are compared to within some microseconds.
        let tolerance = Duration::from_millis(1);
        assert!(answer.asked < flow.first + tolerance);
        assert!(flow.first < answer.answered + tolerance);
    }
    Ok(())
}

async fn first_answer() -> TestResult {
    let lab = Lab::builder().build().await?;
    lab.gateway().node().nft(MASQUERADE).await?;
    let traffic = Traffic::new(Protocol::Udp, Family::Ipv4, 1);
    let (every, limit) = (Duration::from_millis(5), Duration::from_secs(5));
    let by_wan2 = |answer: &failover_tests::Answer| answer.uplink() == Some(2);
    let host = lab.client(1)?;
    let none = host.first_answer(traffic, every, Duration::from_millis(200), by_wan2);
    assert!(none.await.is_err(), "all flows go by wan1");
    // The kernel itself changes over to the next default route when the interface is gone.
    let (answer, gone) = tokio::join!(host.first_answer(traffic, every, limit, by_wan2), async {
        lab.uplink(1)?.remove_interface().await
    });
    gone?;
    assert_eq!(answer?.uplink(), Some(2));
    Ok(())
}

/// Traffic runs in the background of scenarios, on runtimes with several threads too.
#[expect(dead_code, reason = "that it compiles is the test")]
fn everything_may_be_sent_to_other_threads(lab: &Lab, traffic: Traffic) {
    fn sendable(_: impl Send) {}
    sendable(lab);
    sendable(Lab::builder().build());
    sendable(lab.gateway().open(traffic));
    sendable(lab.gateway().burst(traffic));
    for uplink in lab.uplinks() {
        sendable(uplink.black_hole());
        sendable(uplink.remake_interface());
    }
    sendable(failover_tests::KernelState::of(lab.gateway().node()));
    sendable(failover_tests::Daemon::start(lab, ""));
}
