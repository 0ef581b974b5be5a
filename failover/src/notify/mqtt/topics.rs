//! What a broker is to hold.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::notify::settings::{MqttConfig, Told};
use crate::status::{FamilyStatus, StatusDocument, UplinkStatus};

/// The topics of one channel.
#[derive(Debug)]
pub(super) struct Topics {
    base: String,
    discovery: Option<String>,
    told: Told,
    /// What this gateway is called among devices: letters, digits, `_` and `-`.
    node: String,
    host: String,
}

/// What is measured of an uplink, for discovery: its key, name, unit, icon and how it is read.
const MEASURED: [(&str, &str, Option<&str>, &str, &str); 5] = [
    ("state", "state", None, "mdi:wan", "{{ value_json.state }}"),
    (
        "share4",
        "share of new flows (IPv4)",
        Some("%"),
        "mdi:chart-pie",
        "{{ (value_json.ipv4.share * 100) | round(0) }}",
    ),
    (
        "share6",
        "share of new flows (IPv6)",
        Some("%"),
        "mdi:chart-pie",
        "{{ (value_json.ipv6.share * 100) | round(0) }}",
    ),
    (
        "rtt4",
        "latency (IPv4)",
        Some("ms"),
        "mdi:timer-outline",
        "{{ value_json.ipv4.rtt_ms }}",
    ),
    (
        "reason",
        "reason",
        None,
        "mdi:information-outline",
        "{{ value_json.reason[:255] }}",
    ),
];

impl Topics {
    pub(super) fn new(config: &MqttConfig, told: Told, host: &str) -> Self {
        Self {
            base: config.topic.clone(),
            discovery: config.discovery.clone(),
            told,
            node: format!("failover_{}_{}", plain(host), plain(&config.topic)),
            host: host.to_owned(),
        }
    }

    /// Whether the gateway's daemon is there: `online` or `offline`.
    pub(super) fn availability(&self) -> String {
        format!("{}/availability", self.base)
    }

    pub(super) fn test(&self) -> String {
        format!("{}/test", self.base)
    }

    /// Where there may be states of uplinks that are no more.
    pub(super) fn own(&self) -> Vec<String> {
        let mut own = vec![format!("{}/uplink/+/state", self.base)];
        own.extend(
            self.discovery
                .iter()
                .map(|prefix| format!("{prefix}/+/{}/+/config", self.node)),
        );
        own
    }

    /// Whether a topic is one of those.
    pub(super) fn is_own(&self, topic: &str) -> bool {
        let state = topic
            .strip_prefix(&self.base)
            .and_then(|rest| rest.strip_prefix("/uplink/"))
            .and_then(|rest| rest.strip_suffix("/state"))
            .is_some_and(|name| !name.contains('/'));
        let discovery = self.discovery.as_ref().is_some_and(|prefix| {
            let rest = topic.strip_prefix(prefix.as_str()).unwrap_or_default();
            rest.contains(&format!("/{}/", self.node)) && rest.ends_with("/config")
        });
        state || discovery
    }

    /// Everything that is to be retained, but for the availability.
    pub(super) fn wanted(&self, status: &StatusDocument) -> BTreeMap<String, String> {
        let mut wanted = BTreeMap::new();
        let uplinks = status.uplinks.iter();
        for uplink in uplinks.filter(|uplink| self.told.concerns(&uplink.name)) {
            wanted.insert(self.state(uplink), state(uplink).to_string());
            if let Some(prefix) = &self.discovery {
                wanted.extend(self.discovered(prefix, uplink));
            }
        }
        wanted
    }

    fn state(&self, uplink: &UplinkStatus) -> String {
        format!("{}/uplink/{}/state", self.base, uplink.name)
    }

    fn discovered(&self, prefix: &str, uplink: &UplinkStatus) -> Vec<(String, String)> {
        // Ids outlive renamings and restarts, and have no characters that Home Assistant forbids.
        let id = uplink.id;
        let title = uplink
            .description
            .clone()
            .unwrap_or_else(|| uplink.name.to_string());
        let common = |key: &str, name: &str| {
            json!({
                "name": format!("{title} {name}"),
                "unique_id": format!("{}_{id}_{key}", self.node),
                "state_topic": self.state(uplink),
                "availability_topic": self.availability(),
                "device": {
                    "identifiers": [&self.node],
                    "name": format!("failover on {}", self.host),
                    "manufacturer": "failover",
                    "sw_version": env!("CARGO_PKG_VERSION"),
                },
            })
        };
        let topic =
            |kind: &str, key: &str| format!("{prefix}/{kind}/{}/{id}_{key}/config", self.node);
        let mut online = common("online", "online");
        merge(
            &mut online,
            json!({
                "device_class": "connectivity",
                "value_template":
                    "{{ 'ON' if value_json.state in ['up', 'degraded'] else 'OFF' }}",
                "json_attributes_topic": self.state(uplink),
            }),
        );
        let mut all = vec![(topic("binary_sensor", "online"), online.to_string())];
        for (key, name, unit, icon, template) in MEASURED {
            let mut sensor = common(key, name);
            merge(
                &mut sensor,
                json!({"icon": icon, "value_template": template}),
            );
            if let Some(unit) = unit {
                let more = json!({"unit_of_measurement": unit, "state_class": "measurement"});
                merge(&mut sensor, more);
            }
            all.push((topic("sensor", key), sensor.to_string()));
        }
        all
    }
}

fn merge(value: &mut Value, more: Value) {
    if let (Value::Object(value), Value::Object(more)) = (value, more) {
        value.extend(more);
    }
}

/// As an identifier of Home Assistant.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect()
}

/// The state of an uplink, in the words of `failover status --json`.
fn state(uplink: &UplinkStatus) -> Value {
    let family = |family: &FamilyStatus| {
        json!({
            "state": family.state,
            "share": family.share,
            "gateway": family.gateway,
            "source": family.source,
            "rtt_ms": family.rtt_ms,
            "loss": family.loss,
            "reason": family.reason,
        })
    };
    json!({
        "name": uplink.name,
        "interface": uplink.interface,
        "priority": uplink.priority,
        "weight": uplink.weight,
        "state": uplink.state,
        "draining": uplink.draining,
        "since": uplink.since,
        "reason": uplink.reason,
        "ipv4": family(&uplink.ipv4),
        "ipv6": family(&uplink.ipv6),
    })
}
