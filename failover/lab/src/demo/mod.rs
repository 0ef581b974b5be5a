//! The demo: the product at work on real traffic, told step by step, and measured.

mod death;
mod expectations;
mod figures;
mod newcomers;
mod population;
mod report;
mod story;

use std::path::PathBuf;

use serde_json::Value;

use crate::daemon::{Daemon, Failover};
use crate::error::LabError;
use crate::lab::Lab;
use crate::node::search;
use crate::terminal::Terminal;

pub use expectations::{Expectation, expectations};
pub use figures::{
    Burst, Figures, KeptFigures, LostNewcomers, NewFlows, Refugees, SeenAtProvider, UplinkPlan,
};

/// The demo's uplinks.
const UPLINKS: [UplinkPlan; 3] = [
    UplinkPlan {
        number: 1,
        name: "fiber",
        weight: 3,
    },
    UplinkPlan {
        number: 2,
        name: "cable",
        weight: 2,
    },
    UplinkPlan {
        number: 3,
        name: "lte",
        weight: 1,
    },
];

/// The number of the uplink that dies.
const DEAD: u8 = 1;

/// Everything by default, but for the targets: the lab has an internet of its own.
pub const CONFIG: &str = r#"uplinks:
  fiber: {interface: wan1, weight: 3}
  cable: {interface: wan2, weight: 2}
  lte:   {interface: wan3, weight: 1}
downlinks: [lan0]
probe:
  targets: [icmp://203.0.113.1, icmp://203.0.113.2, "icmp://fd00:203::1", "icmp://fd00:203::2"]
"#;

/// What the demo shows, and how long.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The binary to show, by default the one that was built together with this program.
    pub binary: Option<PathBuf>,
    /// Looks on for one second instead of eight between two events.
    pub brief: bool,
}

/// How the demo ended.
#[derive(Debug)]
pub struct Outcome {
    /// Whether all that was promised holds.
    pub held: bool,
    /// The result for scripts.
    pub json: Value,
}

/// Runs the demo.
///
/// # Errors
/// When `nft` is not installed, or something could not be done or seen at all; then the daemon's log
/// has been shown.
pub async fn run(terminal: &Terminal, options: &Options) -> Result<Outcome, LabError> {
    search::need("nft", "nftables")?;
    story::introduce(terminal);
    let lab = Lab::builder().uplinks(3).clients(1).build().await?;
    let failover = Failover::chosen(&lab, options.binary.as_deref(), CONFIG)?;
    story::show_start(terminal);
    let daemon = failover.run().await?;
    let told = story::tell(terminal, &lab, &daemon, options.brief).await;
    let figures = match told {
        Ok(figures) => figures,
        Err(error) => {
            show_log(terminal, &daemon);
            return Err(error);
        }
    };
    let held = show_result(terminal, &figures);
    if !held {
        show_log(terminal, &daemon);
    }
    Ok(Outcome {
        held,
        json: report::json(&figures),
    })
}

fn show_result(terminal: &Terminal, figures: &Figures) -> bool {
    terminal.heading("Result");
    terminal.line(format!("\n{}", report::new_flows(figures)));
    terminal.line(report::measures(figures));
    let promises = expectations(figures);
    for promise in &promises {
        terminal.verdict(promise.met, &promise.text);
    }
    let held = promises.iter().all(|promise| promise.met);
    let took = figures.took.as_secs();
    if held {
        terminal.line(format!("\nAll expectations hold. The demo took {took} s."));
    } else {
        terminal.line("\nNot all expectations hold.");
    }
    held
}

fn show_log(terminal: &Terminal, daemon: &Daemon) {
    terminal.heading("The daemon's log");
    terminal.line(daemon.log());
}
