//! ib.haip: everything is said on its command line.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::shell::{self, Word};
use super::{Draft, ImportError, Program};
use crate::config::Place;
use crate::draft::{Entry, Names, Value};
use crate::interface::InterfaceName;

/// Seconds between pings where the command line does not say it.
const WAIT: u32 = 10;
/// Missing answers until it switches, likewise.
const FAIL: u16 = 3;
/// The longest interval, in seconds.
const LONGEST: u32 = 3600;

struct Route {
    line: u64,
    weight: u32,
    target: Ipv4Addr,
    interface: InterfaceName,
    gateway: Option<Ipv4Addr>,
    source: Option<Ipv4Addr>,
}

#[derive(Default)]
struct Options {
    routes: Vec<Route>,
    wait: Option<u32>,
    fail: Option<u16>,
}

pub(super) fn read(text: &str) -> Result<Draft, ImportError> {
    let mut draft = Draft::default();
    let words = arguments(text)?;
    let mut options = options(&words, &mut draft)?;
    if options.routes.is_empty() {
        let line = words.first().map_or(1, |word| word.line);
        let why = "its command line has no `--route`";
        return Err(ImportError::not(Program::Haip, line, why));
    }
    leave_out_what_cannot_be(&mut options.routes, &mut draft);
    draft.about = vec![
        "From the command line of haip. Each uplink has a default route of its own in `main` (with \
         another metric), or says `gateway`."
            .to_owned(),
    ];
    let spread = options
        .routes
        .windows(2)
        .any(|pair| matches!(pair, [a, b] if a.weight == b.weight));
    if spread {
        draft.remark(
            None,
            "routes of one weight: haip uses one of them, failover spreads new flows over both; \
             give them different priorities if that is not wanted",
        );
    }
    let mut names = Names::default();
    let uplinks = options
        .routes
        .iter()
        .map(|route| {
            Entry::new(
                names.name(route.interface.as_str()),
                Value::Map(uplink(route)),
            )
        })
        .collect();
    let wait = options.wait.unwrap_or(WAIT).clamp(1, LONGEST);
    let probe = vec![
        Entry::scalar("interval", &format!("{wait}s"))
            .with_comment("It may be much shorter: the default is 500ms."),
        Entry::scalar("down_after", &options.fail.unwrap_or(FAIL).clamp(1, 1000)),
        Entry::scalar("up_after", &1)
            .with_comment("haip comes back with the first answer; the default of 5 is calmer."),
    ];
    draft.entries = vec![
        Entry::new("uplinks", Value::Map(uplinks)),
        Entry::new("downlinks", Value::Row(Vec::new())).with_comment(
            "haip does not say behind which interfaces users are. Name them here, such as [eth0]; \
             without any, only this host's own traffic is cared for.",
        ),
        Entry::new("probe", Value::Map(probe)),
    ];
    draft.remark(
        None,
        "downlinks: haip knows none; name the interfaces behind which users are, else only this \
         host's own traffic fails over",
    );
    draft.remark(
        None,
        "source routing that was set up beside haip (tables, `ip rule`, if-up scripts) is not \
         needed any more: take it out",
    );
    Ok(draft)
}

fn uplink(route: &Route) -> Vec<Entry> {
    let mut entries = vec![Entry::scalar("interface", &route.interface)];
    entries.extend(
        route
            .gateway
            .map(|gateway| Entry::scalar("gateway", &gateway)),
    );
    entries.extend(route.source.map(|source| Entry::scalar("source", &source)));
    entries.push(Entry::scalar("priority", &route.weight));
    let targets = Value::Row(vec![format!("icmp://{}", route.target)]);
    entries.push(Entry::new(
        "probe",
        Value::Map(vec![Entry::new("targets", targets)]),
    ));
    entries
}

/// The arguments of haip, wherever in the file they are.
fn arguments(text: &str) -> Result<Vec<Word>, ImportError> {
    let script = shell::read(text);
    let called = script.commands.iter().find_map(|command| {
        let position = command
            .iter()
            .position(|word| word.text.rsplit('/').next() == Some("haip"))?;
        let behind = command.get(position + 1..)?;
        behind
            .iter()
            .any(|word| word.text.starts_with("--route"))
            .then(|| behind.to_vec())
    });
    // /etc/default/haip: an init script puts the variables together.
    let set = || {
        let routes = script.variables.get("ROUTES")?;
        let mut words = lines_of_routes(text, routes);
        for (variable, option) in [
            ("WAIT", "--wait"),
            ("TOGGLE", "--toggle"),
            ("STATUS", "--status"),
        ] {
            if let Some(value) = script.variables.get(variable) {
                let line = value.line;
                words.push(Word {
                    text: option.to_owned(),
                    line,
                });
                words.push(value.clone());
            }
        }
        if let Some(more) = script.variables.get("OPTS") {
            words.extend(shell::split(&more.text, more.line, &BTreeMap::new()));
        }
        Some(words)
    };
    called.or_else(set).ok_or_else(|| {
        ImportError::not(
            Program::Haip,
            1,
            "there is no command `haip … --route WEIGHT/IP/DEVICE`, and no `ROUTES=` as in \
             /etc/default/haip",
        )
    })
}

/// The routes of a variable, each with the line that added it.
fn lines_of_routes(text: &str, all: &Word) -> Vec<Word> {
    shell::split(&all.text, all.line, &BTreeMap::new())
        .into_iter()
        .map(|word| {
            let line = (1..)
                .zip(text.lines())
                .find(|(_, line)| line.contains("ROUTES=") && line.contains(&word.text))
                .map_or(word.line, |(number, _)| number);
            Word { line, ..word }
        })
        .collect()
}

fn options(words: &[Word], draft: &mut Draft) -> Result<Options, ImportError> {
    let mut options = Options::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (name, inline) = match word.text.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value)),
            _ => (word.text.as_str(), None),
        };
        let place = at(word.line);
        let mut value = || {
            inline
                .map(str::to_owned)
                .or_else(|| words.next().map(|word| word.text.clone()))
                .ok_or_else(|| ImportError::value(place, format!("`{name}` has no value")))
        };
        match name {
            "--route" => options.routes.push(route(&value()?, word.line)?),
            "--wait" => options.wait = Some(number(&value()?, name, place)?),
            "--fail" => options.fail = Some(number(&value()?, name, place)?),
            "--toggle" => {
                let program = value()?;
                draft.remark(
                    word.line,
                    format!(
                        "`--toggle {program}`: no program is called; `failover events --follow \
                         --json` tells a script of its own what happens"
                    ),
                );
            }
            "--status" => {
                value()?;
                draft.remark(
                    word.line,
                    "`--status`: no files are touched; `failover status --json` has the states",
                );
            }
            "--logfile" => {
                value()?;
                draft.remark(
                    word.line,
                    "`--logfile`: the log goes to standard error, and so to systemd's journal",
                );
            }
            "--iptools" | "--ping" => {
                let program = value()?;
                draft.remark(
                    word.line,
                    format!("`{name} {program}`: no such program is called, it can be left out"),
                );
            }
            "--verbose" => draft.remark(word.line, "`--verbose`: failover run -v"),
            flags if flags.starts_with("-v") => {
                draft.remark(word.line, format!("`{flags}`: failover run -v"));
            }
            other => draft.remark(
                word.line,
                format!("`{other}` is not known here and was left out"),
            ),
        }
    }
    Ok(options)
}

fn route(text: &str, line: u64) -> Result<Route, ImportError> {
    let wrong = |why: String| {
        ImportError::value(
            at(line),
            format!(
                "`--route {text}`: {why}; written is WEIGHT/IP/DEVICE or WEIGHT/IP/DEVICE:GATEWAY"
            ),
        )
    };
    let parts: Vec<&str> = text.split('/').collect();
    let (weight, target, device, source) = match parts.as_slice() {
        [weight, target, device] => (weight, target, device, None),
        [weight, target, device, source] => (weight, target, device, Some(source)),
        _ => return Err(wrong("it has not three parts".to_owned())),
    };
    let address = |text: &str| {
        text.parse::<Ipv4Addr>()
            .map_err(|_| wrong(format!("`{text}` is no IPv4 address")))
    };
    let (device, gateway) = match device.split_once(':') {
        Some((device, gateway)) => (device, Some(address(gateway)?)),
        None => (*device, None),
    };
    Ok(Route {
        line,
        // Priorities begin with 1.
        weight: weight
            .parse::<u32>()
            .ok()
            .filter(|weight| *weight <= 65_535)
            .ok_or_else(|| wrong(format!("the weight `{weight}` is not 0 to 65535")))?
            .max(1),
        target: address(target)?,
        interface: device.parse().map_err(|error| wrong(format!("{error}")))?,
        gateway,
        source: source.map(|source| address(source)).transpose()?,
    })
}

/// Several uplinks on one interface each need a gateway.
fn leave_out_what_cannot_be(routes: &mut Vec<Route>, draft: &mut Draft) {
    routes.sort_by_key(|route| route.weight);
    let mut kept: Vec<Route> = Vec::new();
    for route in routes.drain(..) {
        let alone = kept.iter().all(|other| {
            other.interface != route.interface
                || (other.gateway.is_some()
                    && route.gateway.is_some()
                    && other.gateway != route.gateway)
        });
        if alone {
            kept.push(route);
        } else {
            draft.remark(
                route.line,
                format!(
                    "a second route by {} was left out: uplinks that share an interface each need a \
                     `gateway` of their own",
                    route.interface
                ),
            );
        }
    }
    *routes = kept;
}

fn number<T: std::str::FromStr>(text: &str, option: &str, place: Place) -> Result<T, ImportError> {
    text.parse()
        .map_err(|_| ImportError::value(place, format!("`{option} {text}`: `{text}` is no number")))
}

const fn at(line: u64) -> Place {
    Place { line, column: 1 }
}
