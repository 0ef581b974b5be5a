//! The key `notify`: who is told what happens.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use lettre::message::Mailbox;

use super::problem::shown;
use super::section::{Given, Keys, Problems, Read, Section, Value, did_you_mean};
use super::target::{Endpoint, Security, text};
use super::tree::Content;
use super::value::{boolean, duration, path, word};
use crate::notify::happening::Happening;
use crate::notify::secret::SecretSource;
use crate::notify::settings::{
    Address, Carrier, ChannelConfig, ChannelName, Channels, Encryption, HeaderText, Login,
    MailConfig, Method, MqttConfig, Per, ProgramConfig, Rate, Told, WebhookConfig,
};
use crate::notify::template::Template;
use crate::uplink::UplinkName;

const KEYS: Keys = Keys {
    known: &[
        "mail", "mqtt", "webhook", "program", "on", "uplinks", "at_most",
    ],
    later: &[],
};
const MAIL_KEYS: Keys = Keys {
    known: &["server", "user", "password", "from", "to", "ca"],
    later: &[],
};
const MQTT_KEYS: Keys = Keys {
    known: &["server", "user", "password", "topic", "discovery", "ca"],
    later: &[],
};
const WEBHOOK_KEYS: Keys = Keys {
    known: &["url", "method", "headers", "body", "ca"],
    later: &[],
};
const PROGRAM_KEYS: Keys = Keys {
    known: &["run", "timeout"],
    later: &[],
};
const SECRET_KEYS: Keys = Keys {
    known: &["file", "env"],
    later: &[],
};
const METHODS: [(&str, Method); 3] = [
    ("POST", Method::Post),
    ("PUT", Method::Put),
    ("GET", Method::Get),
];

/// The most channels.
const MOST: usize = 32;
/// The longest path of a file.
const LONGEST_PATH: usize = 3840;
/// The most arguments, headers and receivers, and the longest text of each.
const MOST_TEXTS: usize = 64;
const LONGEST_TEXT: usize = 1024;
/// The longest body.
const LONGEST_BODY: usize = 16 * 1024;
/// How long a program may take.
const TIMEOUT: Duration = Duration::from_secs(30);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(3600);

/// Reads `notify`.
pub(super) fn channels(
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
    match text::server(rest.trim_end_matches('/'), port) {
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
fn login(section: &mut Section<'_>, encrypted: bool) -> Option<Login> {
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
        (Given::Good(..), Given::Good(_, at)) if !encrypted => {
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

fn mail(value: &Value<'_>) -> Read<MailConfig> {
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

fn mqtt(value: &Value<'_>) -> Read<MqttConfig> {
    const SCHEMES: [(&str, bool, u16); 2] = [("mqtts://", true, 8883), ("mqtt://", false, 1883)];
    const ALLOWED: &str =
        "mqtts://HOST (TLS) or mqtt://HOST, with :PORT where it is another than 8883 and 1883";
    let mut section = Section::open(value, &MQTT_KEYS)?;
    let server = section.read("server", |v| server(v, &SCHEMES, ALLOWED));
    section.require(&server, "server", ALLOWED);
    let encrypted = server.good().is_none_or(|((_, encrypted), _)| *encrypted);
    let login = login(&mut section, encrypted);
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
    let mqtt = server.ok().map(|(server, _)| MqttConfig {
        server,
        security,
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

fn template(value: &Value<'_>, longest: usize) -> Read<Template> {
    const ALLOWED: &str = "a text with facts such as {{uplink}}, {{state}} and {{reason|json}}";
    let found = value
        .spelled()
        .filter(|text| text.len() <= longest)
        .ok_or_else(|| value.problem(format!("{ALLOWED}, at most {longest} bytes")))?;
    Template::parse(found).map_err(|error| {
        let facts = crate::notify::message::Message::FACTS;
        let hint = match &error {
            crate::notify::template::TemplateError::Unknown { name } => did_you_mean(name, &facts),
            _ => None,
        };
        let known = facts.map(|fact| format!("{{{{{fact}}}}}")).join(", ");
        value
            .problem_with(error.to_string(), known)
            .hint(hint)
            .into()
    })
}

fn webhook(value: &Value<'_>) -> Read<WebhookConfig> {
    const ALLOWED: &str = "https://HOST/PATH or http://HOST/PATH; or {file: /PATH} or {env: VARIABLE} where it is a secret";
    let mut section = Section::open(value, &WEBHOOK_KEYS)?;
    let address = section.read("url", |v| match v.node.content {
        Content::Map(_) => secret(v).map(Address::Secret),
        _ => match text::web_page(v.spelled().unwrap_or_default()) {
            Ok(page) => Ok(Address::Page(page)),
            Err(_) if v.spelled().is_some_and(|text| text.contains('@')) => {
                let problem = v.problem_with("no address of a page", ALLOWED);
                Err(problem.secret().into())
            }
            Err(_) => Err(v.problem(ALLOWED).into()),
        },
    });
    section.require(&address, "url", ALLOWED);
    let method = section
        .read("method", |v| word(v, &METHODS))
        .or(Method::Post);
    let headers = section.read("headers", headers);
    let body = section.read("body", |v| template(v, LONGEST_BODY));
    if let Some((_, at)) = body.good()
        && method == Method::Get
    {
        section.problem(at.problem("no body with `method: GET`"));
    }
    let ca = section.read("ca", |v| path(v, LONGEST_PATH));
    if let (Some((Address::Page(page), _)), Some((_, at))) = (address.good(), ca.good())
        && !page.encrypted
    {
        section.problem(at.problem("this key only where the url begins with https://"));
    }
    let ca = ca.ok();
    let webhook = address.ok().map(|address| WebhookConfig {
        address,
        ca,
        method,
        headers: headers.ok().unwrap_or_default(),
        body: body.ok(),
    });
    section.finish(webhook)
}

fn headers(value: &Value<'_>) -> Read<Vec<(String, HeaderText)>> {
    const ALLOWED: &str = "a map of headers, such as {Title: \"{{title}}\"}";
    let named = value.named(ALLOWED)?;
    if named.len() > MOST_TEXTS {
        return Err(value
            .problem(format!("at most {MOST_TEXTS} headers"))
            .into());
    }
    let mut headers = Vec::new();
    let mut problems = Problems::default();
    for (name, place, value) in named {
        if name.parse::<hyper::header::HeaderName>().is_err() || is_ours(name) {
            let found = format!("`{}`", shown(name));
            let allowed = "the name of a header that is yours to set";
            problems
                .0
                .push(value.problem_with(found, allowed).at(place));
            continue;
        }
        match header(name, &value) {
            Ok(text) => headers.push((name.to_owned(), text)),
            Err(more) => problems.0.extend(more.0),
        }
    }
    if problems.0.is_empty() {
        Ok(headers)
    } else {
        Err(problems)
    }
}

/// Headers that follow from the message.
fn is_ours(name: &str) -> bool {
    let ours = [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "user-agent",
    ];
    ours.contains(&name.to_ascii_lowercase().as_str())
}

fn header(name: &str, value: &Value<'_>) -> Read<HeaderText> {
    if matches!(value.node.content, Content::Map(_)) {
        return secret(value).map(HeaderText::Secret);
    }
    if name.eq_ignore_ascii_case("authorization") {
        return secret(value).map(HeaderText::Secret);
    }
    template(value, LONGEST_TEXT).map(HeaderText::Template)
}

fn program(value: &Value<'_>) -> Read<ProgramConfig> {
    const ALLOWED: &str = "a list of the absolute path of a program and its arguments, such as [/etc/failover/hook.sh, mail]";
    let mut section = Section::open(value, &PROGRAM_KEYS)?;
    let run = section.read("run", |v| {
        if !matches!(v.node.content, Content::List(_)) {
            return Ok(vec![text(v, LONGEST_TEXT, ALLOWED)?]);
        }
        let items = v.list(ALLOWED, |v| text(v, LONGEST_TEXT, ALLOWED))?;
        if items.is_empty() || items.len() > MOST_TEXTS {
            return Err(v.problem(ALLOWED).into());
        }
        Ok(items.into_iter().map(|(text, _)| text).collect())
    });
    section.require(&run, "run", ALLOWED);
    let mut program = None;
    if let Some((words, at)) = run.good() {
        match words.split_first() {
            Some((path, arguments)) if text::is_program(path) => {
                program = Some((PathBuf::from(path), arguments.to_vec()));
            }
            _ => section.problem(at.problem(ALLOWED)),
        }
    }
    let timeout = section
        .read("timeout", |v| {
            duration(v, Duration::from_secs(1)..=LONGEST_TIMEOUT)
        })
        .or(TIMEOUT);
    section.finish(program.map(|(program, arguments)| ProgramConfig {
        program,
        arguments,
        timeout,
    }))
}
