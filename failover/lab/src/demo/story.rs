//! The demo's course of events: each step says what happens, waits for it and measures it.

use std::time::{Duration, Instant};

use failover_common::family::Family;

use super::death::{both, die, seen_at_provider};
use super::figures::{Burst, Figures, KeptFigures, NewFlows, Refugees, SeenAtProvider};
use super::population::{
    has_gone_on, is_connection_of_dead, is_of_dead, refugees, survivors, survivors_so_far,
};
use super::{CONFIG, DEAD, UPLINKS};
use crate::daemon::{Daemon, State, Status};
use crate::error::LabError;
use crate::eventually::eventually;
use crate::lab::Lab;
use crate::terminal::{Short, Style, Terminal};
use crate::traffic::{Host, Keep, KeptFlow, KeptFlows, Protocol, Tally, Traffic};

/// The kept flows: of each protocol and family so many, each asked ten times a second.
const KEEP: Keep = Keep {
    each: 20,
    every: Duration::from_millis(100),
};
/// New flows of each protocol and family in each phase.
const NEW_FLOWS: usize = 300;
/// How many new flows are on their way at once: the lab shares the machine's processors with
/// everything else.
const AT_ONCE: usize = 32;
/// How long a new flow is waited for.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// How long the daemon may take to see that all is well, that an uplink is dead, and that it is
/// back. What is demanded of it is said among the expectations; here only the demo's patience ends.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// How long the demo looks on between two events, so that the flows' answers count for something.
const LOOK_ON: Duration = Duration::from_secs(8);
/// The same for who has seen it before.
const LOOK_ON_BRIEFLY: Duration = Duration::from_secs(1);

pub(super) fn introduce(terminal: &Terminal) {
    terminal.line(terminal.styled(Style::Strong, "failover: one network, three uplinks"));
    terminal.line(
        "
                        ┌── fiber  wan1, weight 3 ──┐
    client ── gateway ──┼── cable  wan2, weight 2 ──┼── internet
                        └── lte    wan3, weight 1 ──┘

All of this is made of network namespaces that belong to this program alone. The
traffic is real; nothing on this machine is changed, nothing stays behind.",
    );
}

pub(super) fn show_start(terminal: &Terminal) {
    terminal.heading("1. The gateway starts failover");
    terminal.line("");
    terminal.quote(CONFIG);
    terminal.line(format!(
        "    {}",
        terminal.styled(Style::Faint, "$ failover run --config failover.yaml")
    ));
}

/// Tells the whole story.
pub(super) async fn tell(
    terminal: &Terminal,
    lab: &Lab,
    daemon: &Daemon,
    brief: bool,
) -> Result<Figures, LabError> {
    let begin = Instant::now();
    let look = if brief { LOOK_ON_BRIEFLY } else { LOOK_ON };
    let client = lab.client(1)?;
    all_up(terminal, daemon).await?;
    show_status(terminal, daemon).await?;

    terminal.heading("2. A client opens flows and asks each ten times a second from now on");
    let kept = client.keep(KEEP, &[DEAD]).await?;
    tell_kept(terminal, &kept.so_far());

    let before = new_flows(
        terminal,
        client,
        "3. Meanwhile it opens new flows, each answered once",
    )
    .await?;

    look_on(terminal, &kept, look).await;

    terminal.heading("4. fiber goes silently dead: the link stays up, its provider swallows all");
    let dead = die(terminal, lab, daemon, &kept).await?;
    show_status(terminal, daemon).await?;

    let during = new_flows(terminal, client, "5. New flows now").await?;
    tell_refugees(terminal, &kept, dead.detected).await?;
    look_on(terminal, &kept, look).await;
    let seen = SeenBefore {
        refugees: refugees(&kept.so_far())
            .filter(|flow| has_gone_on(flow, dead.detected))
            .count(),
        provider: seen_at_provider(lab, &dead)?,
    };

    terminal.heading("6. fiber returns");
    let healed = lab.uplink(DEAD)?.heal().await?;
    let up = wait_for(terminal, daemon, &kept, "fiber is up", |status| {
        both(status, State::Up)
    });
    up.await?;
    let recognised = healed.elapsed();
    terminal.line(format!(
        "  After {} failover trusts it again: five good rounds of probes.",
        Short(recognised)
    ));
    show_status(terminal, daemon).await?;

    let after = new_flows(terminal, client, "7. New flows after its return").await?;
    look_on(terminal, &kept, look).await;
    let flows = kept.finish().await;
    Ok(Figures {
        uplinks: UPLINKS.to_vec(),
        dead: DEAD,
        before,
        during,
        after,
        detection: dead.detection,
        recognised,
        newcomers: dead.newcomers,
        provider: seen.provider,
        survivors: KeptFigures::of(flows.iter().filter(|flow| !is_of_dead(flow))),
        refugees: Refugees {
            flows: refugees(&flows).count(),
            went_on: seen.refugees,
            moved_once: refugees(&flows).filter(|flow| flow.moves == 1).count(),
        },
        connections: KeptFigures::of(flows.iter().filter(|flow| is_connection_of_dead(flow))),
        took: begin.elapsed(),
    })
}

/// What was measured while the uplink was dead.
struct SeenBefore {
    refugees: usize,
    provider: SeenAtProvider,
}

async fn all_up(terminal: &Terminal, daemon: &Daemon) -> Result<(), LabError> {
    let start = Instant::now();
    let up = daemon.wait_until("all uplinks are up", PATIENCE, |status| {
        status
            .uplinks
            .iter()
            .all(|uplink| uplink.ipv4.state == State::Up && uplink.ipv6.state == State::Up)
    });
    terminal
        .while_waiting(up, |passed| {
            format!(
                "  waiting for the first round of probes: {} s",
                passed.as_secs()
            )
        })
        .await?;
    terminal.line(format!(
        "  After {} all three uplinks are up over IPv4 and IPv6.",
        Short(start.elapsed())
    ));
    Ok(())
}

/// The daemon's own table.
async fn show_status(terminal: &Terminal, daemon: &Daemon) -> Result<(), LabError> {
    let output = daemon.failover().command("status").await?;
    terminal.line(format!(
        "\n    {}",
        terminal.styled(Style::Faint, "$ failover status")
    ));
    terminal.quote(&output.stdout);
    Ok(())
}

fn tell_kept(terminal: &Terminal, kept: &[KeptFlow]) {
    let on = |number| {
        let here = kept.iter().filter(|flow| flow.uplink() == Some(number));
        here.count()
    };
    let counts: Vec<String> = UPLINKS
        .iter()
        .map(|plan| format!("{} on {}", on(plan.number), plan.name))
        .collect();
    terminal.line(format!(
        "  {} flows, a third each over UDP, TCP and ICMP, half over IPv6: {}.",
        kept.len(),
        counts.join(", ")
    ));
}

async fn new_flows(terminal: &Terminal, client: &Host, title: &str) -> Result<NewFlows, LabError> {
    terminal.heading(title);
    let start = Instant::now();
    let mut flows = NewFlows::default();
    for family in Family::ALL {
        for protocol in Protocol::ALL {
            let traffic = Traffic::new(protocol, family, NEW_FLOWS)
                .at_once(AT_ONCE)
                .within(ANSWERS_WITHIN);
            let answered = flows.answered(None);
            let asked = terminal
                .while_waiting(client.burst(traffic), |_| {
                    format!("  {answered} answered, now {traffic}")
                })
                .await?;
            flows.0.push(Burst {
                protocol,
                family,
                tally: Tally::of(&asked),
            });
        }
    }
    let shares: Vec<String> = UPLINKS
        .iter()
        .map(|plan| format!("{} {:.0} %", plan.name, flows.share(plan.number) * 100.0))
        .collect();
    terminal.line(format!(
        "  {} new flows in {}, over UDP, TCP and ICMP, half over IPv6: {}; {} not answered.",
        flows.answered(None) + flows.unanswered(),
        Short(start.elapsed()),
        shares.join(", "),
        flows.unanswered()
    ));
    Ok(flows)
}

async fn wait_for(
    terminal: &Terminal,
    daemon: &Daemon,
    kept: &KeptFlows,
    what: &str,
    wanted: impl Fn(&Status) -> bool,
) -> Result<Status, LabError> {
    terminal
        .while_waiting(daemon.wait_until(what, PATIENCE, wanted), |passed| {
            format!(
                "  {:.1} s; {}",
                passed.as_secs_f64(),
                survivors_so_far(kept)
            )
        })
        .await
}

/// The dead uplink's UDP and ICMP flows find their way by themselves.
async fn tell_refugees(
    terminal: &Terminal,
    kept: &KeptFlows,
    detected: Instant,
) -> Result<(), LabError> {
    let all = refugees(&kept.so_far()).count();
    let going_on = || {
        let flows = kept.so_far();
        refugees(&flows)
            .filter(|flow| has_gone_on(flow, detected))
            .count()
    };
    let wait = eventually(
        "every UDP and ICMP flow of fiber goes on",
        PATIENCE,
        || async { Ok((going_on() == all).then_some(())) },
    );
    match terminal
        .while_waiting(wait, |_| {
            format!("  {} of {all} flows of fiber go on", going_on())
        })
        .await
    {
        // How many it were is among the expectations.
        Ok(()) | Err(LabError::NotInTime { .. }) => {}
        Err(error) => return Err(error),
    }
    terminal.line(format!(
        "  Of the {all} UDP and ICMP flows that were on fiber {} go on over the others.",
        going_on()
    ));
    Ok(())
}

async fn look_on(terminal: &Terminal, kept: &KeptFlows, time: Duration) {
    terminal
        .while_waiting(tokio::time::sleep(time), |_| {
            format!("  {}", survivors_so_far(kept))
        })
        .await;
    let survivors = survivors(kept);
    terminal.line(format!(
        "  The {} flows of cable and lte so far: {} answers, {} lost, {} flows moved.",
        survivors.flows,
        survivors.questions - survivors.lost,
        survivors.lost,
        survivors.moved
    ));
}
