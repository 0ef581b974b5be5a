//! Reading one target of the file: a text, or a map for what a text cannot say.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::display::RECORD_TYPES;
use super::text::{self, LONGEST_PATH};
use super::{ExecTarget, RecordType, Security, Statuses, Target};
use crate::config::problem::Problem;
use crate::config::section::{Given, Keys, Read, Section, Value};
use crate::config::tree::Content;
use crate::config::value::{integer, line_of_text, path, word};

const URL_KEYS: Keys = Keys {
    known: &["url", "status", "body", "ca", "record"],
    later: &[],
};
const EXEC_KEYS: Keys = Keys {
    known: &["exec", "args"],
    later: &[],
};

/// The most arguments of a program, and the longest.
const MOST_ARGUMENTS: usize = 64;
const LONGEST_ARGUMENT: usize = 1024;

/// Reads a target.
pub(in crate::config) fn target(value: &Value<'_>) -> Read<Target> {
    match &value.node.content {
        Content::Map(entries) if entries.iter().any(|entry| entry.key == "exec") => exec(value),
        Content::Map(entries) if !entries.is_empty() => url(value),
        _ => short(value),
    }
}

fn short(value: &Value<'_>) -> Read<Target> {
    let text = value.spelled().ok_or_else(|| value.problem(text::ANY))?;
    text::target(text).map_err(|wrong| {
        value
            .problem(wrong.allowed)
            .hint(wrong.hint.map(str::to_owned))
            .into()
    })
}

fn exec(value: &Value<'_>) -> Read<Target> {
    let mut section = Section::open(value, &EXEC_KEYS)?;
    let program = section.read("exec", |v| {
        v.spelled()
            .filter(|text| text::is_program(text))
            .map(PathBuf::from)
            .ok_or_else(|| {
                let allowed =
                    format!("the absolute path of a program, at most {LONGEST_PATH} bytes");
                v.problem(allowed).into()
            })
    });
    let arguments = section.read("args", arguments).or(Vec::new());
    section.finish(
        program
            .ok()
            .map(|program| Target::Exec(ExecTarget { program, arguments })),
    )
}

fn arguments(value: &Value<'_>) -> Read<Vec<String>> {
    let allowed = format!(
        "a list of at most {MOST_ARGUMENTS} texts of at most {LONGEST_ARGUMENT} bytes, such as [-w, \"3\"]"
    );
    let items = value.list(&allowed, |item| {
        item.spelled()
            .filter(|text| text.len() <= LONGEST_ARGUMENT && !text.chars().any(char::is_control))
            .map(str::to_owned)
            .ok_or_else(|| item.problem(allowed.as_str()).into())
    })?;
    if items.len() > MOST_ARGUMENTS {
        return Err(value
            .problem_with(format!("{} arguments", items.len()), allowed)
            .into());
    }
    Ok(items.into_iter().map(|(text, _)| text).collect())
}

fn url(value: &Value<'_>) -> Read<Target> {
    let mut section = Section::open(value, &URL_KEYS)?;
    let target = section.read("url", short);
    let status = section.read("status", statuses);
    let body = section.read("body", line_of_text);
    let ca = section.read("ca", |v| path(v, LONGEST_PATH));
    let record = section.read("record", |v| word(v, &RECORD_TYPES));
    section.require(&target, "url", text::ANY);
    for misfit in misfits(&target, &status, &body, &ca, &record) {
        section.problem(misfit);
    }
    let mut target = target.ok();
    match &mut target {
        Some(Target::Http(page)) => {
            page.status = status.or(Statuses::Success);
            page.body = body.ok();
            if let Some(file) = ca.ok() {
                page.security = Security::File(file);
            }
        }
        Some(Target::Dns(question)) => question.record = record.or(RecordType::A),
        _ => {}
    }
    section.finish(target)
}

/// Keys that mean nothing for the kind of target.
fn misfits(
    target: &Given<'_, Target>,
    status: &Given<'_, Statuses>,
    body: &Given<'_, String>,
    ca: &Given<'_, PathBuf>,
    record: &Given<'_, RecordType>,
) -> Vec<Problem> {
    let Some((target, _)) = target.good() else {
        return Vec::new();
    };
    let (is_page, is_secure) = match target {
        Target::Http(page) => (true, page.security != Security::None),
        _ => (false, false),
    };
    let is_question = matches!(target, Target::Dns(_));
    let only = |fits: bool, at: Option<&Value<'_>>, of: &str| {
        let allowed = format!("this key only where the url begins with {of}");
        at.filter(|_| !fits).map(|at| at.problem(allowed))
    };
    let pages = "http:// or https://";
    [
        only(is_page, status.good().map(|(_, at)| at), pages),
        only(is_page, body.good().map(|(_, at)| at), pages),
        only(is_secure, ca.good().map(|(_, at)| at), "https://"),
        only(is_question, record.good().map(|(_, at)| at), "dns://"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// One status, or a list of them.
fn statuses(value: &Value<'_>) -> Read<Statuses> {
    const ALLOWED: &str = "a status of 200 to 599 or a list of them, such as [200, 204]";
    if !matches!(value.node.content, Content::List(_)) {
        let status = integer(value, 200..=599).map_err(|_| value.problem(ALLOWED))?;
        return Ok(Statuses::These(BTreeSet::from([status])));
    }
    let items = value.list(ALLOWED, |item| integer(item, 200..=599))?;
    if items.is_empty() {
        return Err(value.problem(ALLOWED).into());
    }
    let these = items.into_iter().map(|(status, _)| status).collect();
    Ok(Statuses::These(these))
}
