//! Targets as texts outside of the configuration file, written as they would stand there.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Target;
use crate::config;

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        target(&text).ok_or_else(|| de::Error::custom(format!("`{text}` is no target")))
    }
}

/// Reads a target as the file's first.
fn target(text: &str) -> Option<Target> {
    // What has more to it than an address is a map in the file.
    let written = if text.starts_with('{') {
        text.to_owned()
    } else {
        serde_json::to_string(text).ok()?
    };
    // The gateway is never the only one.
    first(&written).or_else(|| first(&format!("{written}, icmp://192.0.2.1")))
}

fn first(targets: &str) -> Option<Target> {
    let file = format!("uplinks: {{a: {{interface: a}}}}\nprobe: {{targets: [{targets}]}}\n");
    let config = config::parse(&file).ok()?;
    let uplink = config.uplinks.into_values().next()?;
    uplink.probe.targets.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_read_back_as_it_was() {
        for text in [
            "icmp://192.0.2.1",
            "icmp://fd00:203::1",
            "tcp://[fd00:203::1]:443",
            "https://www.example.org/a?b=c",
            "{url: \"http://192.0.2.1/\", status: [204], body: \"it's: [well], so\"}",
            "{url: \"dns://192.0.2.1/example.org\", record: AAAA}",
            "arp://gateway",
            "exec:/bin/true",
        ] {
            let quoted = serde_json::to_string(text).unwrap();
            let target: Target = serde_json::from_str(&quoted).unwrap();
            assert_eq!(target.to_string(), text);
            assert_eq!(serde_json::to_string(&target).unwrap(), quoted);
        }
    }

    #[test]
    fn what_is_no_target_is_none() {
        for text in ["", "x", "icmp://", "}", "{", "icmp://192.0.2.1]"] {
            let quoted = serde_json::to_string(text).unwrap();
            assert!(serde_json::from_str::<Target>(&quoted).is_err(), "{text}");
        }
    }
}
