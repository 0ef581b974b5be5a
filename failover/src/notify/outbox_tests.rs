use proptest::prelude::*;

use super::*;
use crate::notify::settings::Per;

fn told(on: &[Happening]) -> Told {
    Told {
        on: on.iter().copied().collect(),
        uplinks: None,
    }
}

fn outbox(bundling: Bundling) -> Outbox {
    let rate = Rate {
        count: 6,
        per: Per::Hour,
    };
    Outbox::new(told(&Happening::USUAL), rate, bundling)
}

fn notice(uplink: &str, family: Family, from: State, to: State) -> Notice {
    Notice {
        happening: match to {
            State::Up => Happening::Up,
            State::Degraded => Happening::Degraded,
            _ => Happening::Down,
        },
        uplink: Some(uplink.parse().unwrap()),
        family: Some(family),
        from: Some(from),
        state: Some(to),
        reason: "because".to_owned(),
        time: Timestamp::UNIX_EPOCH,
    }
}

fn down(uplink: &str) -> Notice {
    notice(uplink, Family::Ipv4, State::Up, State::Down)
}

fn up(uplink: &str) -> Notice {
    notice(uplink, Family::Ipv4, State::Down, State::Up)
}

fn sent(act: Act) -> Batch {
    match act {
        Act::Send(batch) => batch,
        Act::Wait(until) => panic!("waits until {until:?}"),
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn both_families_of_an_uplink_are_one_message() {
    let now = Instant::now();
    let mut outbox = outbox(Bundling::All);
    outbox.take(down("fiber"), now);
    assert_eq!(outbox.act(now), Act::Wait(Some(now + GATHER)));
    let six = notice("fiber", Family::Ipv6, State::Up, State::Down);
    outbox.take(six, now + GATHER / 2);
    let batch = sent(outbox.act(now + GATHER));
    assert_eq!(batch.pending.len(), 2);
    assert_eq!(outbox.waiting(), 2, "until it is delivered");
    outbox.delivered(now + GATHER);
    assert_eq!(
        (outbox.waiting(), outbox.act(now + MINUTE)),
        (0, Act::Wait(None))
    );
}

#[test]
fn a_storm_is_a_handful_of_messages_and_the_last_tells_the_end_of_it() {
    let begin = Instant::now();
    let mut outbox = outbox(Bundling::All);
    let mut messages = Vec::new();
    for change in 0..10_000_u32 {
        let now = begin + MINUTE * change / 10_000;
        let name = ["fiber", "cable", "lte"][change as usize / 2 % 3];
        outbox.take(
            if change % 2 == 0 {
                down(name)
            } else {
                up(name)
            },
            now,
        );
        assert!(outbox.pending.len() <= 3);
        if let Act::Send(batch) = outbox.act(now) {
            messages.push(batch);
            outbox.delivered(now);
        }
    }
    assert!((2..=6).contains(&messages.len()), "{}", messages.len());
    // What is left comes when the rate allows it, as one digest.
    let Act::Wait(Some(due)) = outbox.act(begin + MINUTE) else {
        panic!("something is left");
    };
    assert!(due <= begin + MINUTE * 11, "one in ten minutes");
    messages.push(sent(outbox.act(due)));
    outbox.delivered(due);
    assert_eq!(outbox.waiting(), 0);
    let all = messages.iter().flat_map(|batch| &batch.pending);
    assert_eq!(all.map(|pending| pending.count).sum::<u64>(), 10_000);
    let last = messages.last().unwrap();
    for pending in &last.pending {
        assert_eq!(pending.newest.state, Some(State::Up), "{pending:?}");
    }
}

#[test]
fn what_failed_is_told_later_with_what_happened_since() {
    let now = Instant::now();
    let mut outbox = outbox(Bundling::All);
    outbox.take(down("fiber"), now);
    sent(outbox.act(now + GATHER));
    outbox.take(up("fiber"), now + GATHER);
    outbox.take(down("lte"), now + GATHER);
    assert_eq!(outbox.failed(false, 0.5, now + GATHER), 0);
    let again = now + GATHER + RETRY.0;
    assert_eq!(outbox.act(now + GATHER * 2), Act::Wait(Some(again)));
    let batch = sent(outbox.act(again));
    let told: Vec<_> = batch
        .pending
        .iter()
        .map(|one| (one.newest.state, one.count))
        .collect();
    assert!(told.contains(&(Some(State::Up), 2)), "{told:?}");
    assert!(told.contains(&(Some(State::Down), 1)), "{told:?}");
}

#[test]
fn waits_grow_and_a_refusal_is_not_repeated_soon() {
    let mut now = Instant::now();
    let mut outbox = outbox(Bundling::All);
    outbox.take(down("fiber"), now);
    now += GATHER;
    let mut waits = Vec::new();
    for _ in 0..8 {
        sent(outbox.act(now));
        outbox.failed(false, 0.5, now);
        let Act::Wait(Some(next)) = outbox.act(now) else {
            panic!("it waits");
        };
        waits.push((next - now).as_secs());
        now = next;
    }
    assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300]);
    outbox.selection_changed();
    sent(outbox.act(now));
    outbox.failed(true, 0.5, now);
    outbox.selection_changed();
    assert_eq!(outbox.act(now), Act::Wait(Some(now + REFUSED.0)));
}

#[test]
fn another_selection_is_a_reason_to_try_at_once_and_to_begin_anew() {
    let now = Instant::now();
    let mut outbox = outbox(Bundling::All);
    outbox.take(down("fiber"), now);
    let now = now + GATHER;
    sent(outbox.act(now));
    outbox.failed(false, 0.5, now);
    outbox.selection_changed();
    assert_eq!(outbox.act(now), Act::Wait(Some(now + SPACING)));
    let now = now + SPACING;
    sent(outbox.act(now));
    outbox.selection_changed();
    assert!(!outbox.is_outdated(now), "it may be about to end");
    assert_eq!(outbox.act(now), Act::Wait(Some(now + OUTDATED.0)));
    assert!(outbox.is_outdated(now + OUTDATED.0));
    outbox.broken_off();
    let now = now + OUTDATED.0;
    sent(outbox.act(now));
    // One that is slow gets more time each time, whatever goes on.
    outbox.selection_changed();
    assert!(!outbox.is_outdated(now + OUTDATED.0));
    assert!(outbox.is_outdated(now + OUTDATED.0 * 2));
}

#[test]
fn who_was_not_told_that_it_is_bad_is_not_told_that_it_is_good() {
    let now = Instant::now();
    let mut outbox = outbox(Bundling::All);
    let v4 = |from, to| notice("fiber", Family::Ipv4, from, to);
    outbox.take(v4(State::Unknown, State::Up), now);
    outbox.take(v4(State::Up, State::Degraded), now);
    outbox.take(v4(State::Degraded, State::Up), now);
    assert_eq!(outbox.waiting(), 0);
    // Held back after it was down: good again is told when it is.
    outbox.take(v4(State::Up, State::Down), now);
    outbox.take(v4(State::Down, State::Degraded), now);
    assert_eq!(outbox.waiting(), 1);
    outbox.take(v4(State::Degraded, State::Up), now);
    assert_eq!(outbox.waiting(), 2);
}

#[test]
fn old_news_is_given_up() {
    let now = Instant::now();
    let mut outbox = outbox(Bundling::All);
    outbox.take(down("fiber"), now);
    sent(outbox.act(now + GATHER));
    let late = now + MAX_AGE + GATHER;
    outbox.take(down("lte"), late);
    assert_eq!(outbox.failed(false, 0.5, late), 1);
    assert_eq!(outbox.waiting(), 1, "the other one is new");
}

#[test]
fn a_program_is_told_of_one_subject_at_a_time_and_no_failure_keeps_another_waiting() {
    let now = Instant::now();
    let mut outbox = outbox(Bundling::Each);
    outbox.take(down("fiber"), now);
    let now = now + GATHER;
    assert_eq!(sent(outbox.act(now)).pending.len(), 1);
    outbox.failed(false, 0.5, now);
    outbox.take(down("lte"), now);
    let batch = sent(outbox.act(now + GATHER));
    let told = batch.pending.first().unwrap();
    assert_eq!(told.newest.uplink.as_ref().unwrap().as_str(), "lte");
    outbox.delivered(now + GATHER);
    let batch = sent(outbox.act(now + GATHER));
    let told = batch.pending.first().unwrap();
    assert_eq!(told.newest.uplink.as_ref().unwrap().as_str(), "fiber");
}

#[test]
fn the_end_waits_for_nobody_to_gather() {
    let now = Instant::now();
    let mut outbox = outbox(Bundling::All);
    outbox.take(down("fiber"), now);
    outbox.close();
    assert_eq!(sent(outbox.act(now)).pending.len(), 1);
}

/// What may happen to an outbox.
#[derive(Clone, Debug)]
enum Step {
    Take(u8, bool),
    Pass(u64),
    Deliver,
    Fail(bool),
    Stir,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..5_u8, any::<bool>()).prop_map(|(uplink, bad)| Step::Take(uplink, bad)),
        3 => (0..900_u64).prop_map(Step::Pass),
        2 => Just(Step::Deliver),
        1 => any::<bool>().prop_map(Step::Fail),
        1 => Just(Step::Stir),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    /// Nothing is lost or told twice but for what was not delivered, nothing is told more often than
    /// the rate allows, and what is told last of an uplink is how it stands.
    #[test]
    fn whatever_happens_the_last_word_is_true(steps in steps(), each in any::<bool>()) {
        let begin = Instant::now();
        let mut now = begin;
        let bundling = if each { Bundling::Each } else { Bundling::All };
        let mut outbox = outbox(bundling);
        let mut stands = BTreeMap::new();
        let mut last_told = BTreeMap::new();
        let mut running: Option<Batch> = None;
        let mut taken = 0_u64;
        let mut told = 0_u64;
        let mut deliveries: Vec<Instant> = Vec::new();
        for step in &steps {
            match step {
                Step::Take(uplink, bad) => {
                    let name = format!("u{uplink}");
                    outbox.take(if *bad { down(&name) } else { up(&name) }, now);
                    stands.insert(name, *bad);
                    taken += 1;
                }
                Step::Pass(seconds) => now += Duration::from_secs(*seconds),
                Step::Deliver => if let Some(batch) = running.take() {
                    outbox.delivered(now);
                    deliveries.push(now);
                    for pending in batch.pending {
                        told += pending.count;
                        let name = pending.newest.uplink.unwrap().to_string();
                        last_told.insert(name, pending.newest.state == Some(State::Down));
                    }
                },
                Step::Fail(refused) => if running.take().is_some() {
                    told += outbox.failed(*refused, 0.5, now);
                },
                Step::Stir => {
                    outbox.selection_changed();
                    if outbox.is_outdated(now) {
                        outbox.broken_off();
                        running = None;
                    }
                }
            }
            if let Act::Send(batch) = outbox.act(now) {
                prop_assert!(running.is_none());
                prop_assert!(!batch.pending.is_empty());
                running = Some(batch);
            }
            prop_assert_eq!(outbox.waiting() + told, taken);
            prop_assert!(outbox.pending.len() <= 5);
        }
        for window in deliveries.windows(8) {
            // Six at once, and one in ten minutes.
            prop_assert!(window[7] - window[0] >= Duration::from_secs(600));
        }
        // In the end all is told.
        for _ in 0..30 {
            now += Duration::from_secs(3600);
            if running.is_none() && let Act::Send(batch) = outbox.act(now) {
                running = Some(batch);
            }
            if let Some(batch) = running.take() {
                outbox.delivered(now);
                for pending in batch.pending {
                    let name = pending.newest.uplink.unwrap().to_string();
                    last_told.insert(name, pending.newest.state == Some(State::Down));
                }
            }
        }
        prop_assert_eq!(outbox.waiting(), 0);
        for (name, bad) in &last_told {
            prop_assert_eq!(stands.get(name), Some(bad));
        }
    }
}
