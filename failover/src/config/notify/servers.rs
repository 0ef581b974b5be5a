//! Channels that are a server with a login: mail and MQTT.

use std::path::PathBuf;

use lettre::message::Mailbox;

use super::{LONGEST_PATH, LONGEST_TEXT, MOST_TEXTS, secret, text};
use crate::config::section::{Given, Keys, Read, Section, Value};
use crate::config::target::text as address;
use crate::config::target::{Endpoint, Identity, Security};
use crate::config::tree::Content;
use crate::config::value::{boolean, path};
use crate::notify::settings::{Encryption, Login, MailConfig, MqttConfig};

const MAIL_KEYS: Keys = Keys {
    known: &["server", "user", "password", "from", "to", "ca"],
    later: &[],
};
const MQTT_KEYS: Keys = Keys {
    known: &[
        "server",
        "user",
        "password",
        "topic",
        "discovery",
        "ca",
        "certificate",
        "key",
    ],
    later: &[],
};

/// A server behind one of these schemes.
fn server<S: Copy>(
    value: &Value<'_>,
    schemes: &[(&str, S, u16)],
    allowed: &str,
) -> Read<(Endpoint, S)> {
    let found = value.spelled().unwrap_or_default();
    let rest = schemes
        .iter()
        .find_map(|(scheme, means, port)| Some((found.strip_prefix(scheme)?, *means, *port)));
    let Some((rest, means, port)) = rest else {
        return Err(value.problem(allowed).into());
    };
    match address::server(rest.trim_end_matches('/'), port) {
        Ok(server) => Ok((server, means)),
        Err(form) => {
            let problem = value
                .problem(allowed)
                .hint(format!("behind :// stands {form}"));
            // What stands before an @ may be a password.
            Err(if rest.contains('@') {
                value
                    .problem_with("a user in the address of a server", allowed)
                    .hint("there are the keys user and password".to_owned())
                    .secret()
            } else {
                problem
            }
            .into())
        }
    }
}

/// Those keys that several kinds of servers have.
fn login(section: &mut Section<'_>, guarded: bool) -> Option<Login> {
    let user = section.read("user", |v| {
        text(v, LONGEST_TEXT, "a user's name of one line")
    });
    let password = section.read("password", secret);
    match (&user, &password) {
        (Given::Good(_, at), Given::Absent) => {
            section.problem(at.problem_with(
                "a user without a password",
                "both `user` and `password`, or neither",
            ));
        }
        (Given::Absent, Given::Good(_, at)) => {
            section.problem(at.problem_with(
                "a password without a user",
                "both `user` and `password`, or neither",
            ));
        }
        (Given::Good(..), Given::Good(_, at)) if !guarded => {
            section.problem(at.problem_with(
                "a password for a connection that everybody can read",
                "a password only over TLS",
            ));
        }
        _ => {}
    }
    Some(Login {
        user: user.ok()?,
        password: password.ok()?,
    })
}

/// Whose certificates are trusted.
fn security(encrypted: bool, ca: Given<'_, PathBuf>, section: &mut Section<'_>) -> Security {
    match ca {
        Given::Good(_, at) if !encrypted => {
            section.problem(at.problem("this key only for connections with TLS"));
            Security::None
        }
        Given::Good(file, _) => Security::File(file),
        _ if encrypted => Security::Host,
        _ => Security::None,
    }
}

/// The certificate by which a server knows us, and its key.
fn identity(section: &mut Section<'_>, encrypted: bool) -> Option<Identity> {
    const BOTH: &str = "both `certificate` and `key`, or neither";
    let certificate = section.read("certificate", |v| path(v, LONGEST_PATH));
    let key = section.read("key", |v| path(v, LONGEST_PATH));
    match (&certificate, &key) {
        (Given::Good(_, at), _) | (_, Given::Good(_, at)) if !encrypted => {
            section.problem(at.problem("this key only for connections with TLS"));
        }
        (Given::Good(_, at), Given::Absent) => {
            section.problem(at.problem_with("a certificate without its key", BOTH));
        }
        (Given::Absent, Given::Good(_, at)) => {
            section.problem(at.problem_with("a key without its certificate", BOTH));
        }
        _ => {}
    }
    Some(Identity {
        certificate: certificate.ok()?,
        key: key.ok()?,
    })
}

pub(super) fn mail(value: &Value<'_>) -> Read<MailConfig> {
    const SCHEMES: [(&str, Encryption, u16); 3] = [
        ("smtps://", Encryption::Always, 465),
        ("smtp+starttls://", Encryption::StartTls, 587),
        ("smtp://", Encryption::Never, 25),
    ];
    const ALLOWED: &str = "smtps://HOST (TLS from the beginning), smtp+starttls://HOST, or smtp://HOST for a relay nearby that wants no password; with :PORT where it is another than 465, 587 and 25";
    let mut section = Section::open(value, &MAIL_KEYS)?;
    let server = section.read("server", |v| server(v, &SCHEMES, ALLOWED));
    section.require(&server, "server", ALLOWED);
    let encrypted = server
        .good()
        .is_none_or(|((_, encryption), _)| *encryption != Encryption::Never);
    let login = login(&mut section, encrypted);
    let from = section.read("from", mailbox);
    section.require(&from, "from", MAILBOX);
    let to = section.read("to", |v| {
        if !matches!(v.node.content, Content::List(_)) {
            return Ok(vec![mailbox(v)?]);
        }
        let items = v.list("a list of addresses", mailbox)?;
        if items.is_empty() || items.len() > MOST_TEXTS {
            let allowed = format!("a list of 1 to {MOST_TEXTS} addresses");
            return Err(v.problem(allowed).into());
        }
        Ok(items.into_iter().map(|(address, _)| address).collect())
    });
    section.require(
        &to,
        "to",
        "a list of addresses, such as [admin@example.net]",
    );
    let ca = section.read("ca", |v| path(v, LONGEST_PATH));
    let security = security(encrypted, ca, &mut section);
    let mail = match (server.ok(), from.ok(), to.ok()) {
        (Some((server, encryption)), Some(from), Some(to)) => Some(MailConfig {
            server,
            encryption,
            security,
            login,
            from,
            to,
        }),
        _ => None,
    };
    section.finish(mail)
}

const MAILBOX: &str = "an address, such as gw@example.net or \"Gateway <gw@example.net>\"";

fn mailbox(value: &Value<'_>) -> Read<String> {
    let found = text(value, LONGEST_TEXT, MAILBOX)?;
    match found.parse::<Mailbox>() {
        Ok(_) if found.is_ascii() => Ok(found),
        _ => Err(value.problem(MAILBOX).into()),
    }
}

pub(super) fn mqtt(value: &Value<'_>) -> Read<MqttConfig> {
    const SCHEMES: [(&str, bool, u16); 2] = [("mqtts://", true, 8883), ("mqtt://", false, 1883)];
    const ALLOWED: &str =
        "mqtts://HOST (TLS) or mqtt://HOST, with :PORT where it is another than 8883 and 1883";
    let mut section = Section::open(value, &MQTT_KEYS)?;
    let server = section.read("server", |v| server(v, &SCHEMES, ALLOWED));
    section.require(&server, "server", ALLOWED);
    let encrypted = server.good().is_none_or(|((_, encrypted), _)| *encrypted);
    // Brokers at home often have no TLS; `check` warns of it.
    let login = login(&mut section, true);
    let topic = section.read("topic", topic);
    let discovery = section.read("discovery", |v| match v.node.content {
        Content::Bool(_) => Ok(boolean(v)?.then(|| "homeassistant".to_owned())),
        _ => topic_text(
            v,
            "true, false, or the prefix of discovery, such as homeassistant",
        )
        .map(Some),
    });
    let ca = section.read("ca", |v| path(v, LONGEST_PATH));
    let security = security(encrypted, ca, &mut section);
    let identity = identity(&mut section, encrypted);
    let mqtt = server.ok().map(|(server, _)| MqttConfig {
        server,
        security,
        identity,
        login,
        topic: topic.or("failover".to_owned()),
        discovery: discovery.or(None),
    });
    section.finish(mqtt)
}

fn topic(value: &Value<'_>) -> Read<String> {
    topic_text(
        value,
        "a topic without wildcards, such as failover or home/gateway",
    )
}

fn topic_text(value: &Value<'_>, allowed: &str) -> Read<String> {
    let found = text(value, 200, allowed)?;
    let fits = !found.contains(['+', '#'])
        && !found.starts_with(['/', '$'])
        && !found.ends_with('/')
        && !found.contains("//");
    if fits {
        Ok(found)
    } else {
        Err(value.problem(allowed).into())
    }
}
