//! Many random rules and packets: every packet leaves by an uplink that the rules let it leave by.

use serde_json::{Value, json};

use super::{Options, Outcome};
use crate::chance::Chance;
use crate::daemon::Mode;
use crate::error::LabError;
use crate::rules::{Agreement, Compared, Size};
use crate::terminal::Terminal;

/// Packets of each set of rules, before and after an uplink fails.
const BEFORE: usize = 35_000;
const AFTER: usize = 15_000;
/// For so many of users, the router itself sends one more.
const OWN: usize = 5;

/// Plays so many sets of rules in each mode, one of four as large as they may be.
///
/// # Errors
/// When something could not be done or did not happen in time.
pub async fn rules(
    terminal: &Terminal,
    times: usize,
    options: &Options,
) -> Result<Outcome, LabError> {
    let seed = options.seed.unwrap_or_else(Chance::any_seed);
    terminal.line(format!(
        "soak: {times} sets of random rules in each mode, --seed {seed}"
    ));
    let mut chance = Chance::from_seed(seed);
    let mut runs = Vec::new();
    let mut held = true;
    for round in 0..times {
        let size = size(round, &mut chance);
        let seed = chance.number();
        for mode in Mode::ALL {
            let (before, after) = terminal
                .while_waiting(play(size, mode, seed, options), |passed| {
                    format!("  {mode}, {} rules: {} s", size.rules, passed.as_secs())
                })
                .await?;
            let good = before.wrong.is_empty() && after.wrong.is_empty();
            held &= good;
            terminal.verdict(
                good,
                format!(
                    "{mode}, {} rules, {} prefixes: {before}; after a failover {after}",
                    size.rules, size.prefixes
                ),
            );
            runs.push(told(mode, size, &before, &after));
        }
    }
    Ok(Outcome {
        held,
        json: json!({ "soak": "rules", "ok": held, "seed": seed, "runs": runs }),
    })
}

fn size(round: usize, chance: &mut Chance) -> Size {
    if round % 4 == 3 {
        return Size::MOST;
    }
    let below = |chance: &mut Chance, limit| usize::try_from(chance.below(limit)).unwrap_or(0);
    Size {
        rules: 1 + below(chance, 600),
        prefixes: 100 + below(chance, 10_000),
        sets: 2 + below(chance, 25),
    }
}

async fn play(
    size: Size,
    mode: Mode,
    seed: u64,
    options: &Options,
) -> Result<(Compared, Compared), LabError> {
    let mut agreement = Agreement::begin(size, mode, seed, options.binary.as_deref()).await?;
    let rules = agreement.rules();
    let mut packets = Agreement::packets(&rules, seed);
    let mut before = agreement.compare(&mut packets, BEFORE).await?;
    before.and(agreement.compare_own(BEFORE / OWN, seed).await?);
    agreement.fail(1).await?;
    let mut after = agreement.compare(&mut packets, AFTER).await?;
    after.and(agreement.compare_own(AFTER / OWN, seed + 1).await?);
    agreement.end().await?;
    Ok((before, after))
}

fn told(mode: Mode, size: Size, before: &Compared, after: &Compared) -> Value {
    let packets = |compared: &Compared| {
        json!({
            "packets": compared.sent,
            "rules_deciding": compared.rules,
            "dropped": compared.dropped,
            "wrong": compared.wrong,
        })
    };
    json!({
        "mode": mode.to_string(),
        "rules": size.rules,
        "prefixes": size.prefixes,
        "before": packets(before),
        "after": packets(after),
    })
}
