//! What people are told, in words.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::family::Family;
use crate::notify::happening::{Happening, Notice};
use crate::notify::outbox::Batch;
use crate::status::{FamilyStatus, State, StatusDocument};

/// What was told about an uplink in families that fared alike.
pub(super) struct Group<'p> {
    pub(super) newest: &'p Notice,
    pub(super) families: Vec<Family>,
    pub(super) count: u64,
}

/// At most this many are named in a title.
const NAMED: usize = 4;

/// What happened, in a line.
pub(super) fn title(groups: &[Group<'_>], missed: u64, now: &StatusDocument) -> String {
    let mut said: Vec<String> = groups
        .iter()
        .take(NAMED)
        .map(|group| said(group, now))
        .collect();
    match groups.len().saturating_sub(NAMED) {
        0 => {}
        more => said.push(format!("{more} more")),
    }
    if missed > 0 {
        said.push(format!("{missed} happenings were not kept"));
    }
    said.join(", ")
}

/// What the configuration calls an uplink beside its name.
pub(super) fn description<'d>(name: &str, now: &'d StatusDocument) -> Option<&'d str> {
    now.uplink(name)?.description.as_deref()
}

/// How people are told of an uplink.
fn called(name: &str, now: &StatusDocument) -> String {
    match description(name, now) {
        Some(description) => format!("{name} ({description})"),
        None => name.to_owned(),
    }
}

fn said(group: &Group<'_>, now: &StatusDocument) -> String {
    let notice = group.newest;
    let uplink = notice.uplink.as_ref().map_or("", |name| name.as_str());
    let name = called(uplink, now);
    let told = match notice.happening {
        Happening::AllDown => "no uplink works".to_owned(),
        Happening::Back => "online again".to_owned(),
        Happening::Started => "failover began".to_owned(),
        Happening::Stopped => "failover ended".to_owned(),
        Happening::Problem => "the kernel or a file does not follow".to_owned(),
        Happening::Budget => format!("the probes of {name} used up their budget"),
        Happening::ByHand => format!("{name}: {}", notice.reason),
        Happening::Down | Happening::Up | Happening::Degraded => {
            let state = notice.state.map_or("", State::as_str);
            format!("{name} is {state}{}", over(group, uplink, now))
        }
    };
    if group.count > 1 {
        format!("{told} ({} changes)", group.count)
    } else {
        told
    }
}

/// Names the family where the other one fares otherwise.
fn over(group: &Group<'_>, name: &str, now: &StatusDocument) -> String {
    let [family] = group.families.as_slice() else {
        return String::new();
    };
    let other = now.uplink(name).map(|uplink| match family {
        Family::Ipv4 => uplink.ipv6.state,
        Family::Ipv6 => uplink.ipv4.state,
    });
    if other == Some(State::Absent) || other == group.newest.state {
        String::new()
    } else {
        format!(" over {family}")
    }
}

/// When something happened, as people here read it.
fn clock(time: Timestamp) -> String {
    let local = time.to_zoned(TimeZone::system());
    local.strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// What happened, each in a line, and how all uplinks stand.
pub(super) fn text(title: &str, batch: &Batch, now: &StatusDocument) -> String {
    let mut lines = vec![format!("{title}.")];
    if !batch.pending.is_empty() {
        lines.push(String::new());
    }
    for pending in &batch.pending {
        let notice = &pending.newest;
        let uplink = notice.uplink.as_ref().map(|name| format!(" {name}"));
        let family = notice.family.map(|family| format!(" {family}"));
        let state = notice
            .state
            .map_or(notice.happening.as_str(), State::as_str);
        let mut line = format!(
            "{}{}{} {state}: {}",
            clock(notice.time),
            uplink.unwrap_or_default(),
            family.unwrap_or_default(),
            notice.reason
        );
        if pending.count > 1 {
            let since = clock(pending.first);
            line.push_str(&format!(" ({} changes since {since})", pending.count));
        }
        lines.push(line);
    }
    if !now.uplinks.is_empty() {
        lines.extend([String::new(), "Now:".to_owned()]);
    }
    for uplink in &now.uplinks {
        let of = |family: Family, status: &FamilyStatus| {
            format!(
                "{family} {}, {:.0} % of new flows",
                status.state.as_str(),
                status.share * 100.0
            )
        };
        lines.push(format!(
            "{} is {}: {}; {}",
            called(uplink.name.as_str(), now),
            uplink.state.as_str(),
            of(Family::Ipv4, &uplink.ipv4),
            of(Family::Ipv6, &uplink.ipv6)
        ));
    }
    lines.push(String::new());
    lines.join("\n")
}
