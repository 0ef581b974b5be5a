//! What is told: facts for templates and programs, and a text for people.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;

use crate::family::Family;
use crate::notify::happening::Happening;
use crate::notify::outbox::{Batch, Pending};
use crate::notify::wording::{Group, description, text, title};
use crate::status::{FamilyStatus, State, StatusDocument, UplinkStatus};

/// A message.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Message {
    /// The happening's word; `digest` where there are several; `test`.
    pub event: String,
    /// `info`, `warning` or `critical`.
    pub severity: Severity,
    /// This host.
    pub host: String,
    /// When the newest of it happened.
    pub time: Timestamp,
    /// It in a line.
    pub title: String,
    /// It in some lines, with how all uplinks stand.
    pub text: String,
    /// The uplinks that it is about.
    pub uplink: String,
    /// What they are called in the configuration; their names where it does not say.
    pub description: String,
    /// Their interfaces.
    pub interface: String,
    /// Their next hops in the families that it is about.
    pub gateway: String,
    /// The families that it is about, `ipv4`, `ipv6` or both; empty where it is about none.
    pub family: String,
    /// The state that the uplink left; empty where it is about several.
    pub from: String,
    /// The state of the uplink; of several their states in the order of their names.
    pub state: String,
    /// Why.
    pub reason: String,
    /// For how many happenings it stands.
    pub count: u64,
    /// What happened, the newest of each subject.
    pub changes: Vec<Change>,
    /// How all uplinks stand.
    pub uplinks: Vec<Present>,
}

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// To know.
    Info,
    /// Something does not work.
    Warning,
    /// Nothing does.
    Critical,
}

impl Severity {
    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// What happened to one subject.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The happening's word.
    pub event: &'static str,
    /// The uplink.
    pub uplink: Option<String>,
    /// The family.
    pub family: Option<&'static str>,
    /// The state that it left.
    pub from: Option<State>,
    /// The state that it is in since.
    pub state: Option<State>,
    /// Why.
    pub reason: String,
    /// When.
    pub time: Timestamp,
    /// How many happenings it stands for.
    pub count: u64,
}

/// How an uplink stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Present {
    /// Its name.
    pub name: String,
    /// Its interface.
    pub interface: String,
    /// Its state.
    pub state: State,
    /// In IPv4.
    pub ipv4: PresentFamily,
    /// In IPv6.
    pub ipv6: PresentFamily,
}

/// How an uplink stands in a family.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PresentFamily {
    /// Its state.
    pub state: State,
    /// Its next hop.
    pub gateway: Option<IpAddr>,
    /// Its source address.
    pub source: Option<IpAddr>,
    /// Its share of new flows, 0 to 1.
    pub share: f64,
}

impl Message {
    /// The names of all facts that templates may ask for.
    pub const FACTS: [&'static str; 15] = [
        "event",
        "severity",
        "host",
        "time",
        "title",
        "text",
        "uplink",
        "description",
        "interface",
        "gateway",
        "family",
        "from",
        "state",
        "reason",
        "count",
    ];

    /// A fact by its name.
    #[must_use]
    pub fn fact(&self, name: &str) -> String {
        match name {
            "event" => self.event.clone(),
            "severity" => self.severity.as_str().to_owned(),
            "host" => self.host.clone(),
            "time" => self.time.to_string(),
            "title" => self.title.clone(),
            "text" => self.text.clone(),
            "uplink" => self.uplink.clone(),
            "description" => self.description.clone(),
            "interface" => self.interface.clone(),
            "gateway" => self.gateway.clone(),
            "family" => self.family.clone(),
            "from" => self.from.clone(),
            "state" => self.state.clone(),
            "reason" => self.reason.clone(),
            "count" => self.count.to_string(),
            _ => String::new(),
        }
    }

    /// What `failover notify test` sends.
    #[must_use]
    pub fn test(host: &str) -> Self {
        Self {
            event: "test".to_owned(),
            severity: Severity::Info,
            host: host.to_owned(),
            time: Timestamp::now(),
            title: "a test".to_owned(),
            text: "This is a test by `failover notify test`: the channel works.\n".to_owned(),
            uplink: String::new(),
            description: String::new(),
            interface: String::new(),
            gateway: String::new(),
            family: String::new(),
            from: String::new(),
            state: String::new(),
            reason: "somebody tests the notifications".to_owned(),
            count: 1,
            changes: Vec::new(),
            uplinks: Vec::new(),
        }
    }

    /// Tells a batch, and how things stand now.
    #[must_use]
    pub fn of(batch: &Batch, now: &StatusDocument, host: &str) -> Self {
        let groups = groups(&batch.pending);
        let newest = batch.pending.iter().map(|pending| &pending.newest);
        let newest = newest.max_by_key(|notice| notice.time);
        let count = batch
            .pending
            .iter()
            .map(|pending| pending.count)
            .sum::<u64>()
            + batch.missed;
        let plain = groups.len() == 1 && batch.missed == 0;
        let only = groups.first().filter(|_| plain);
        let mut names: Vec<String> = Vec::new();
        let mut families: Vec<Family> = Vec::new();
        for group in &groups {
            let name = group.newest.uplink.as_ref().map(ToString::to_string);
            names.extend(name.filter(|name| !names.contains(name)));
            families.extend(
                group
                    .families
                    .iter()
                    .filter(|family| !families.contains(family))
                    .copied()
                    .collect::<Vec<_>>(),
            );
        }
        let about: Vec<&UplinkStatus> = names.iter().filter_map(|name| now.uplink(name)).collect();
        let states = joined(about.iter().map(|uplink| uplink.state.as_str()));
        let gateways = about.iter().flat_map(|uplink| {
            families
                .iter()
                .filter_map(|family| uplink.family(*family).gateway)
        });
        let title = title(&groups, batch.missed, now);
        let event = only.map_or("digest", |group| group.newest.happening.as_str());
        Self {
            event: event.to_owned(),
            severity: severity(&groups),
            host: host.to_owned(),
            time: newest.map_or_else(Timestamp::now, |notice| notice.time),
            text: text(&title, batch, now),
            title,
            description: joined(
                names
                    .iter()
                    .map(|name| description(name, now).unwrap_or(name)),
            ),
            interface: joined(about.iter().map(|uplink| &uplink.interface)),
            gateway: joined(gateways),
            uplink: names.join(", "),
            family: joined(families.iter().map(|family| word(*family))),
            from: only
                .and_then(|group| group.newest.from)
                .map_or("", State::as_str)
                .to_owned(),
            state: only
                .and_then(|group| group.newest.state)
                .map_or_else(|| states, |state| state.as_str().to_owned()),
            reason: only.map_or_else(
                || format!("{count} happenings"),
                |group| group.newest.reason.clone(),
            ),
            count,
            changes: batch.pending.iter().map(change).collect(),
            uplinks: now.uplinks.iter().map(present).collect(),
        }
    }
}

/// Several things in one text.
fn joined(things: impl Iterator<Item = impl ToString>) -> String {
    let things: Vec<String> = things.map(|thing| thing.to_string()).collect();
    things.join(", ")
}

/// The word of a family in facts.
#[must_use]
pub const fn word(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "ipv4",
        Family::Ipv6 => "ipv6",
    }
}

fn change(pending: &Pending) -> Change {
    let notice = &pending.newest;
    Change {
        event: notice.happening.as_str(),
        uplink: notice.uplink.as_ref().map(ToString::to_string),
        family: notice.family.map(word),
        from: notice.from,
        state: notice.state,
        reason: notice.reason.clone(),
        time: notice.time,
        count: pending.count,
    }
}

fn present(uplink: &UplinkStatus) -> Present {
    let family = |family: &FamilyStatus| PresentFamily {
        state: family.state,
        gateway: family.gateway,
        source: family.source,
        share: family.share,
    };
    Present {
        name: uplink.name.to_string(),
        interface: uplink.interface.to_string(),
        state: uplink.state,
        ipv4: family(&uplink.ipv4),
        ipv6: family(&uplink.ipv6),
    }
}

/// Puts together what both families of an uplink have in common.
fn groups(pending: &[Pending]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for one in pending {
        let notice = &one.newest;
        let alike = groups.iter_mut().find(|group| {
            notice.uplink.is_some()
                && group.newest.uplink == notice.uplink
                && group.newest.happening == notice.happening
                && group.newest.state == notice.state
        });
        match alike {
            Some(group) => {
                group.families.extend(notice.family);
                group.count = group.count.max(one.count);
            }
            None => groups.push(Group {
                newest: notice,
                families: notice.family.into_iter().collect(),
                count: one.count,
            }),
        }
    }
    groups
}

fn severity(groups: &[Group<'_>]) -> Severity {
    let of = |group: &Group<'_>| match group.newest.happening {
        Happening::AllDown => Severity::Critical,
        Happening::Down | Happening::Degraded | Happening::Problem | Happening::Budget => {
            Severity::Warning
        }
        _ => Severity::Info,
    };
    groups.iter().map(of).max().unwrap_or(Severity::Warning)
}
