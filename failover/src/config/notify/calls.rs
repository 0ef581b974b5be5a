//! Channels that are a call for each message: webhooks and programs.

use std::path::PathBuf;
use std::time::Duration;

use hyper::header::HeaderName;

use super::{LONGEST_PATH, LONGEST_TEXT, MOST_TEXTS, secret, template, text};
use crate::config::problem::shown;
use crate::config::section::{Keys, Problems, Read, Section, Value};
use crate::config::target::text::{is_program, web_page};
use crate::config::tree::Content;
use crate::config::value::{duration, path, word};
use crate::notify::settings::{Address, HeaderText, Method, ProgramConfig, WebhookConfig};

const WEBHOOK_KEYS: Keys = Keys {
    known: &["url", "method", "headers", "body", "ca"],
    later: &[],
};
const PROGRAM_KEYS: Keys = Keys {
    known: &["run", "timeout"],
    later: &[],
};
const METHODS: [(&str, Method); 3] = [
    ("POST", Method::Post),
    ("PUT", Method::Put),
    ("GET", Method::Get),
];

/// The longest body.
const LONGEST_BODY: usize = 16 * 1024;
/// How long a program may take.
const TIMEOUT: Duration = Duration::from_secs(30);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(3600);

pub(super) fn webhook(value: &Value<'_>) -> Read<WebhookConfig> {
    const ALLOWED: &str = "https://HOST/PATH or http://HOST/PATH; or {file: /PATH} or {env: VARIABLE} where it is a secret";
    let mut section = Section::open(value, &WEBHOOK_KEYS)?;
    let address = section.read("url", |v| match v.node.content {
        Content::Map(_) => secret(v).map(Address::Secret),
        _ => match web_page(v.spelled().unwrap_or_default()) {
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
        if name.parse::<HeaderName>().is_err() || is_ours(name) {
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

pub(super) fn program(value: &Value<'_>) -> Read<ProgramConfig> {
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
            Some((path, arguments)) if is_program(path) => {
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
