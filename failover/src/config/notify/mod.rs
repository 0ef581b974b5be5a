//! The key `notify`: who is told what happens.

mod calls;
mod servers;

use std::collections::BTreeSet;

use super::problem::shown;
use super::section::{Keys, Problems, Read, Section, Value, did_you_mean};
use super::tree::Content;
use super::value::{path, word};
use crate::notify::happening::Happening;
use crate::notify::message::Message;
use crate::notify::secret::SecretSource;
use crate::notify::settings::{Carrier, ChannelConfig, ChannelName, Channels, Per, Rate, Told};
use crate::notify::template::{Template, TemplateError};
use crate::uplink::UplinkName;
use calls::{program, webhook};
use servers::{mail, mqtt};

const KEYS: Keys = Keys {
    known: &[
        "mail", "mqtt", "webhook", "program", "on", "uplinks", "at_most",
    ],
    later: &[],
};
const SECRET_KEYS: Keys = Keys {
    known: &["file", "env"],
    later: &[],
};

/// The most channels.
const MOST: usize = 32;
/// The longest path of a file.
const LONGEST_PATH: usize = 3840;
/// The most arguments, headers and receivers, and the longest text of each.
const MOST_TEXTS: usize = 64;
const LONGEST_TEXT: usize = 1024;

/// Reads `notify`.
pub(in crate::config) fn channels(
    value: &Value<'_>,
    uplinks: Option<&BTreeSet<UplinkName>>,
) -> Read<Channels> {
    const ALLOWED: &str =
        "a map of channels, such as {hook: {program: {run: [/etc/failover/hook.sh]}}}";
    let named = value.named(ALLOWED)?;
    if named.len() > MOST {
        let found = format!("{} channels", named.len());
        return Err(value
            .problem_with(found, format!("at most {MOST} channels"))
            .into());
    }
    let mut channels = Channels::new();
    let mut problems = Problems::default();
    for (name, place, value) in named {
        match (name.parse::<ChannelName>(), channel(&value, uplinks)) {
            (Ok(name), Ok(channel)) => {
                channels.insert(name, channel);
            }
            (parsed, read) => {
                if parsed.is_err() {
                    let allowed = "a name of 1 to 32 of the characters a-z A-Z 0-9 _ - ., the first a letter or a digit";
                    let found = format!("`{}`", shown(name));
                    let problem = value.problem_with(found, allowed).at(place);
                    problems.0.push(problem);
                }
                problems.0.extend(read.err().unwrap_or_default().0);
            }
        }
    }
    if problems.0.is_empty() {
        Ok(channels)
    } else {
        Err(problems)
    }
}

fn channel(value: &Value<'_>, uplinks: Option<&BTreeSet<UplinkName>>) -> Read<ChannelConfig> {
    let mut section = Section::open(value, &KEYS)?;
    let mail = section.read("mail", mail);
    let mqtt = section.read("mqtt", mqtt);
    let webhook = section.read("webhook", webhook);
    let program = section.read("program", program);
    let on = section.read("on", happenings);
    let told = section.read("uplinks", |v| names(v, uplinks));
    let at_most = section.read("at_most", rate);
    let given = [
        !mail.is_absent(),
        !mqtt.is_absent(),
        !webhook.is_absent(),
        !program.is_absent(),
    ];
    let count = given.iter().filter(|given| **given).count();
    if count != 1 {
        let found = if count == 0 {
            "none of them"
        } else {
            "several"
        };
        section.problem(value.problem_with(found, "one of mail, mqtt, webhook and program"));
    }
    if !mqtt.is_absent() {
        let only = "this key only for mail, webhook and program: over MQTT every state is told";
        let places = [
            on.good().map(|(_, at)| at),
            at_most.good().map(|(_, at)| at),
        ];
        for at in places.into_iter().flatten() {
            section.problem(at.problem(only));
        }
    }
    let usual = |count, per| Rate { count, per };
    let carrier = match (mail.ok(), mqtt.ok(), webhook.ok(), program.ok()) {
        (Some(mail), ..) => Some((Carrier::Mail(mail), usual(6, Per::Hour))),
        (_, Some(mqtt), ..) => Some((Carrier::Mqtt(mqtt), usual(1, Per::Minute))),
        (_, _, Some(webhook), _) => Some((Carrier::Webhook(webhook), usual(12, Per::Hour))),
        (_, _, _, Some(program)) => Some((Carrier::Program(program), usual(60, Per::Minute))),
        (None, None, None, None) => None,
    };
    let channel = carrier.map(|(carrier, usual)| ChannelConfig {
        told: Told {
            on: on.ok().unwrap_or_else(|| Happening::USUAL.into()),
            uplinks: told.ok(),
        },
        at_most: at_most.or(usual),
        carrier,
    });
    section.finish(channel)
}

fn happenings(value: &Value<'_>) -> Read<BTreeSet<Happening>> {
    let allowed = "a list of happenings, such as [down, up]";
    let items = value.list(allowed, |v| word(v, &Happening::WORDS))?;
    if items.is_empty() {
        return Err(value.problem(allowed).into());
    }
    Ok(items.into_iter().map(|(happening, _)| happening).collect())
}

fn names(value: &Value<'_>, known: Option<&BTreeSet<UplinkName>>) -> Read<BTreeSet<UplinkName>> {
    let allowed = "a list of uplinks, such as [fiber, lte]";
    let items = value.list(allowed, |v| {
        let name = v.spelled().and_then(|text| text.parse::<UplinkName>().ok());
        let fits = |name: &UplinkName| known.is_none_or(|known| known.contains(name));
        name.filter(fits).ok_or_else(|| {
            let names: Vec<&str> = known
                .into_iter()
                .flatten()
                .map(UplinkName::as_str)
                .collect();
            let hint = v.spelled().and_then(|found| did_you_mean(found, &names));
            let allowed = format!("the name of an uplink: {}", names.join(", "));
            v.problem(allowed).hint(hint).into()
        })
    })?;
    if items.is_empty() {
        return Err(value.problem(allowed).into());
    }
    Ok(items.into_iter().map(|(name, _)| name).collect())
}

fn rate(value: &Value<'_>) -> Read<Rate> {
    value
        .spelled()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| {
            let allowed = "1 to 1000 messages per m, h or d, such as 6/h";
            value.problem(allowed).into()
        })
}

fn text(value: &Value<'_>, longest: usize, allowed: &str) -> Read<String> {
    let fits = |text: &&str| {
        !text.is_empty() && text.len() <= longest && !text.chars().any(char::is_control)
    };
    let found = value.spelled().filter(fits).map(str::to_owned);
    found.ok_or_else(|| value.problem(allowed).into())
}

/// A secret is never in the file itself: it is copied, printed and shown to others.
fn secret(value: &Value<'_>) -> Read<SecretSource> {
    const ALLOWED: &str = "{file: /PATH} or {env: VARIABLE}, which hold it";
    if !matches!(value.node.content, Content::Map(_)) {
        let problem = value
            .problem_with("a secret in the configuration itself", ALLOWED)
            .hint(
                "put it into a file that root alone may read (chmod 600), and name that".to_owned(),
            );
        return Err(problem.secret().into());
    }
    let mut section = Section::open(value, &SECRET_KEYS)?;
    let file = section.read("file", |v| path(v, LONGEST_PATH));
    let variable = section.read("env", |v| {
        let allowed = "the name of a variable of the environment: letters, digits and _";
        let name = text(v, LONGEST_TEXT, allowed)?;
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.chars().all(fits) {
            Ok(name)
        } else {
            Err(v.problem(allowed).into())
        }
    });
    let bad = file.is_bad() || variable.is_bad();
    let source = match (file.ok(), variable.ok()) {
        (Some(file), None) => Some(SecretSource::File(file)),
        (None, Some(variable)) => Some(SecretSource::Environment(variable)),
        _ => None,
    };
    if source.is_none() && !bad {
        section.problem(value.problem_with("neither or both", ALLOWED));
    }
    section.finish(source)
}

fn template(value: &Value<'_>, longest: usize) -> Read<Template> {
    const ALLOWED: &str = "a text with facts such as {{uplink}}, {{state}} and {{reason|json}}";
    let found = value
        .spelled()
        .filter(|text| text.len() <= longest)
        .ok_or_else(|| value.problem(format!("{ALLOWED}, at most {longest} bytes")))?;
    Template::parse(found).map_err(|error| {
        let facts = Message::FACTS;
        let hint = match &error {
            TemplateError::Unknown { name } => did_you_mean(name, &facts),
            _ => None,
        };
        let known = facts.map(|fact| format!("{{{{{fact}}}}}")).join(", ");
        value
            .problem_with(error.to_string(), known)
            .hint(hint)
            .into()
    })
}
