//! The configuration: the file's text becomes a [`Config`], or a list of all that is wrong with it.
//!
//! Text → tree of values with their places (`tree`) → settings, each read by itself (`section`,
//! `value`, `target`, `probe`, `uplinks`, `settings`) → checks of settings against each other (`relations`).

mod affinity;
mod load;
mod log;
mod matching;
mod model;
mod notify;
mod on_up;
mod probe;
mod problem;
mod quality;
mod relations;
mod rule;
mod rules;
mod section;
mod settings;
mod strategy;
mod syntax;
mod target;
mod tree;
mod uplinks;
mod value;
mod written;

pub use load::{MAX_FILE_BYTES, load};
pub use model::{
    Affinity, Band, Budget, Config, FastPathSetting, LogFile, LogTo, ModeSetting, Mss, Nat, OnDown,
    OnUp, Passive, Percent, ProbeConfig, QualityLimits, UplinkConfig,
};
pub use problem::{ConfigError, Problem, Rejected};
pub use rule::{Addresses, MatchConfig, RuleConfig};
pub(crate) use settings::FLOW_CAPACITY;
pub(crate) use target::text::web_page;
pub use target::{
    DnsTarget, DomainName, Endpoint, ExecTarget, Host, HttpTarget, Identity, RecordType, Security,
    Statuses, Target,
};
pub use tree::Place;
pub(crate) use tree::{Content, Node};
pub use written::written;

/// Reads a configuration from its text (YAML 1.2).
///
/// # Errors
/// When the text is no configuration. What the parser refuses is reported alone; everything else
/// that is wrong is reported together.
pub fn parse(text: &str) -> Result<Config, ConfigError> {
    let root = read_yaml(text)?;
    settings::config(&section::Value::root(&root, text))
        .map_err(|problems| ConfigError::rejected(problems.0, text))
}

/// Reads YAML that is somebody else's: values with their places.
///
/// # Errors
/// When the text is no YAML.
pub(crate) fn read_yaml(text: &str) -> Result<Node, ConfigError> {
    tree::read(text)
        .map_err(|error| ConfigError::rejected(vec![syntax::problem(text, &error)], text))
}
