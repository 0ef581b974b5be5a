//! Random rules, and random packets for them, repeatable by their seed.
//!
//! [`RandomRules`] are a configuration's `sets` and `rules`, and the files of its sets. [`Packets`] are
//! the first packets of flows, most of them at the edges of what the rules are for. What
//! [`failover::policy::first_match`] says of them is what the TC programs and the own nftables table
//! must do: [`Agreement`] has a real daemon do it and compares. [`space`] says which addresses occur.

mod agreement;
mod conditions;
mod expected;
mod explained;
pub mod frames;
mod own;
mod packets;
mod sets;
pub mod space;
mod surroundings;
mod watch;

use std::fmt::{self, Write as _};
use std::path::Path;

use failover::config::Config;
use failover::policy::{Rule, Sets};

use crate::chance::Chance;
use conditions::Conditions;
use sets::NamedSet;

pub use agreement::{Agreement, Compared, Size};
pub use packets::Packets;

/// What rules are to be made.
#[derive(Clone, Debug)]
pub struct Parameters {
    /// How many.
    pub rules: usize,
    /// How many addresses, prefixes and ranges in named sets.
    pub prefixes: usize,
    /// In how many named sets.
    pub sets: usize,
    /// The uplinks that they name.
    pub uplinks: Vec<String>,
    /// The downlinks that they name, and by which packets come.
    pub downlinks: Vec<String>,
}

/// Rules as users write them, and the sets that they name.
#[derive(Clone, Debug)]
pub struct RandomRules {
    sets: Vec<NamedSet>,
    rules: String,
}

impl RandomRules {
    /// The rules of a seed.
    #[must_use]
    pub fn draw(parameters: &Parameters, seed: u64) -> Self {
        let mut chance = Chance::from_seed(seed);
        let sets = sets::draw(parameters.prefixes, parameters.sets, &mut chance);
        let vias = vias(&parameters.uplinks, &mut chance);
        let mut rules = String::new();
        for number in 1..=parameters.rules {
            let conditions = Conditions::draw(&parameters.downlinks, &sets, &mut chance);
            let via = chance.pick(&vias).map_or("[]", String::as_str);
            let otherwise = match chance.below(10) {
                0..=2 => ", otherwise: drop",
                3 => ", otherwise: any",
                _ => "",
            };
            // Writing to a string does not fail.
            writeln!(
                rules,
                "  - {{name: r{number}, match: {conditions}, via: {via}{otherwise}}}"
            )
            .ok();
        }
        Self { sets, rules }
    }

    /// The keys `sets` and `rules` of a configuration whose sets are in files in this folder, or in the
    /// configuration itself: that may have 50,000 values at most.
    #[must_use]
    pub fn yaml(&self, folder: Option<&Path>) -> String {
        let mut text = "sets:\n".to_owned();
        for set in &self.sets {
            // Writing to a string does not fail.
            match folder {
                Some(folder) => {
                    let path = folder.join(set.file_name());
                    writeln!(text, "  {}: {}", set.name, path.display()).ok();
                }
                None => {
                    writeln!(text, "  {}: [{}]", set.name, set.quoted()).ok();
                }
            }
        }
        writeln!(text, "rules:\n{}", self.rules).ok();
        text
    }

    /// The files of the sets, each with its name and its text.
    pub fn files(&self) -> impl Iterator<Item = (String, String)> {
        self.sets.iter().map(|set| (set.file_name(), set.text()))
    }

    /// The rules of a configuration that has the text of [`Self::yaml`], with the addresses of their
    /// sets.
    #[must_use]
    pub fn resolve(&self, config: &Config) -> Vec<Rule> {
        let sets: Sets = self.sets.iter().filter_map(NamedSet::addresses).collect();
        let rules = config.rules.iter();
        rules.map(|rule| rule.resolve(&sets)).collect()
    }
}

/// Ways to name uplinks, as in the configuration.
fn vias(uplinks: &[String], chance: &mut Chance) -> Vec<String> {
    let mut vias: Vec<String> = uplinks.iter().map(|name| format!("[{name}]")).collect();
    for _ in 0..8 {
        let mut left = uplinks.to_vec();
        let mut next = |chance: &mut Chance| {
            let name = chance.pick(&left).cloned().unwrap_or_default();
            left.retain(|other| *other != name);
            name
        };
        let (one, two) = (next(chance), next(chance));
        let (heavy, light) = (1 + chance.below(5), 1 + chance.below(3));
        if one.is_empty() || two.is_empty() {
            continue;
        }
        let pool = format!("{{{one}: {heavy}, {two}: {light}}}");
        let third = next(chance);
        let via = match chance.below(4) {
            0 => format!("[{one}, {two}]"),
            1 => format!("{pool}, affinity: source"),
            2 if !third.is_empty() => format!("[{pool}, {third}]"),
            _ => pool,
        };
        vias.push(via);
    }
    vias
}

/// A list as YAML has it in one line; an only element at times without brackets.
fn list(items: &[String], chance: &mut Chance) -> String {
    match items {
        [only] if chance.percent(50) => only.clone(),
        _ => format!("[{}]", items.join(", ")),
    }
}

/// A text that YAML would take for something else without quotes: one with colons.
fn quoted(text: impl fmt::Display) -> String {
    let text = text.to_string();
    if text.contains(':') {
        format!("\"{text}\"")
    } else {
        text
    }
}

#[cfg(test)]
mod tests;
