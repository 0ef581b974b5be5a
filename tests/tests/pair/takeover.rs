//! The first router loses all of its lines, and has them back.

use std::time::{Duration, Instant};

use failover::family::Family;
use failover_tests::daemon::Mode;
use failover_tests::{Keep, KeptFlow, KeptFlows, Protocol, eventually};

use crate::TestResult;
use crate::office::Office;

/// Connections of each protocol and family.
const KEEP: Keep = Keep {
    each: 5,
    every: Duration::from_millis(50),
};
const PROTOCOLS: [Protocol; 2] = [Protocol::Udp, Protocol::Tcp];
/// How long connections may take to go on: TCP waits longer and longer before it sends again.
const GO_ON_WITHIN: Duration = Duration::from_secs(20);
/// Both providers: users of either are expected to miss answers.
const LINES: [u8; 2] = [1, 2];

/// Connections, of both lines, go on over the second router, and over the first one again, seen by the
/// servers from the same addresses and ports all the time.
pub(crate) async fn there_and_back(mode: Mode) -> TestResult {
    let office = Office::open(mode).await?;
    let done = play(&office, mode).await;
    done.map_err(|error| format!("{error}\n{}", office.told()).into())
}

#[expect(
    clippy::print_stderr,
    reason = "how long it took is for who wants to know, and decides nothing"
)]
async fn play(office: &Office, mode: Mode) -> TestResult {
    assert_eq!(office.first.track()?, "0");
    assert_eq!(office.second.track()?, "0");
    let client = office.lab.client(1)?;
    let kept = client
        .keep_of(&Family::ALL, &PROTOCOLS, KEEP, &LINES)
        .await?;
    let connections = kept.so_far();
    for line in LINES {
        assert!(connections.iter().any(|flow| flow.uplink() == Some(line)));
    }
    office.known_to(&office.second, connections.len()).await?;

    office.lab.cut_gateway_off().await?;
    let cut = Instant::now();
    office.served_by(&office.second).await?;
    let taken_over = cut.elapsed();
    go_on(&kept).await?;
    let went_on = cut.elapsed();
    assert_ne!(office.first.track()?, "0");
    assert_eq!(office.second.track()?, "0");

    office.lab.let_gateway_in().await?;
    let healed = Instant::now();
    office.served_by(&office.first).await?;
    let taken_back = healed.elapsed();
    go_on(&kept).await?;
    let flows = kept.finish().await;
    for flow in &flows {
        if flow.ended.is_some() || flow.moves > 0 {
            return Err(format!("a connection did not go on as it was: {flow:?}").into());
        }
    }
    let seconds = |time: Duration| time.as_secs_f64();
    eprintln!(
        "{mode}: the second router took over after {:.2} s, all {} connections went on after {:.2} s; \
         the first took back {:.2} s after its lines returned",
        seconds(taken_over),
        flows.len(),
        seconds(went_on),
        seconds(taken_back)
    );
    Ok(())
}

/// Waits until each connection is answered a question that was asked from now on.
async fn go_on(kept: &KeptFlows) -> TestResult {
    let now = Instant::now();
    let silent = || -> Vec<KeptFlow> {
        let flows = kept.so_far().into_iter();
        flows.filter(|flow| flow.last_answered < now).collect()
    };
    let gone_on = eventually("every connection goes on", GO_ON_WITHIN, || async {
        Ok(silent().is_empty().then_some(()))
    });
    match gone_on.await {
        Ok(()) => Ok(()),
        Err(error) => Err(format!("{error}: {:#?}", silent()).into()),
    }
}
