//! The short form of targets: texts such as `https://example.org/`.

use std::net::{IpAddr, Ipv4Addr};

use hyper::http::uri::PathAndQuery;

use super::display::DNS_PORT;
use super::{DnsTarget, DomainName, Endpoint, ExecTarget, Host, HttpTarget, RecordType};
use super::{Security, Statuses, Target};
use crate::config::value::{is_host4, is_host6, is_link_local6};
use crate::notify::settings::Page;

/// The longest path of a URL or a program.
pub(super) const LONGEST_PATH: usize = 1024;

/// What is wrong with a text: what would be allowed instead, and perhaps a hint.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoTarget {
    pub(super) allowed: &'static str,
    pub(super) hint: Option<&'static str>,
}

impl NoTarget {
    const fn of(kind: Kind) -> Self {
        Self {
            allowed: kind.form(),
            hint: None,
        }
    }

    const fn hint(self, hint: &'static str) -> Self {
        Self {
            hint: Some(hint),
            ..self
        }
    }
}

/// Any target, where the text does not even say of which kind.
pub(super) const ANY: &str = "a target: icmp://ADDRESS, tcp://HOST:PORT, http://HOST/PATH, \
     https://HOST/PATH, dns://SERVER/NAME, arp://gateway, exec:/PATH, or a map with `url` or `exec`";

#[derive(Clone, Copy, Debug)]
enum Kind {
    Icmp,
    Tcp,
    Http,
    Https,
    Dns,
    Gateway,
    Exec,
}

impl Kind {
    const ALL: [(&'static str, Self); 7] = [
        ("icmp://", Self::Icmp),
        ("tcp://", Self::Tcp),
        ("http://", Self::Http),
        ("https://", Self::Https),
        ("dns://", Self::Dns),
        ("arp://", Self::Gateway),
        ("exec:", Self::Exec),
    ];

    const fn form(self) -> &'static str {
        match self {
            Self::Icmp => {
                "icmp://ADDRESS, such as icmp://192.0.2.1 or \"icmp://fd00::1\", the address of one host"
            }
            Self::Tcp => {
                "tcp://HOST:PORT, such as tcp://192.0.2.1:443, \"tcp://[fd00::1]:443\" or tcp://example.org:443"
            }
            Self::Http => "http://HOST/PATH or http://HOST:PORT/PATH, such as http://example.org/",
            Self::Https => {
                "https://HOST/PATH or https://HOST:PORT/PATH, such as https://example.org/"
            }
            Self::Dns => {
                "dns://SERVER/NAME or dns://SERVER:PORT/NAME, such as dns://192.0.2.53/example.org"
            }
            Self::Gateway => "arp://gateway, the uplink's own gateway",
            Self::Exec => "exec:/PATH, the absolute path of a program, at most 1024 bytes",
        }
    }
}

/// Reads a target.
pub(super) fn target(text: &str) -> Result<Target, NoTarget> {
    let found = Kind::ALL
        .iter()
        .find_map(|(prefix, kind)| text.strip_prefix(prefix).map(|rest| (*kind, rest)));
    let Some((kind, rest)) = found else {
        return Err(NoTarget {
            allowed: ANY,
            hint: None,
        });
    };
    let no = || NoTarget::of(kind);
    match kind {
        Kind::Icmp => match rest.parse::<IpAddr>() {
            Ok(address) if is_asked(address) => Ok(Target::Icmp(address)),
            _ => Err(no()),
        },
        Kind::Tcp => endpoint(rest, None, kind).map(Target::Tcp),
        Kind::Http => page(rest, Security::None, kind).map(Target::Http),
        Kind::Https => page(rest, Security::Host, kind).map(Target::Http),
        Kind::Dns => question(rest, kind).map(Target::Dns),
        Kind::Gateway if rest == "gateway" => Ok(Target::Gateway),
        Kind::Gateway => Err(no()),
        Kind::Exec if is_program(rest) => Ok(Target::Exec(ExecTarget {
            program: rest.into(),
            arguments: Vec::new(),
        })),
        Kind::Exec => Err(if rest.contains(' ') {
            no().hint("arguments need the long form: {exec: /PATH, args: [...]}")
        } else {
            no()
        }),
    }
}

/// A server of notifications: unlike targets of probes it may be this host itself.
pub(in crate::config) fn server(text: &str, usual: u16) -> Result<Endpoint, &'static str> {
    split(text, Some(usual))
        .filter(|Endpoint { host, .. }| match host {
            Host::Address(address) => !address.is_unspecified() && !address.is_multicast(),
            Host::Name(_) => true,
        })
        .ok_or("HOST or HOST:PORT, an IPv6 address in brackets, as in [fd00::1]:25")
}

/// A page: `http://HOST/PATH` or `https://HOST/PATH`.
pub(crate) fn web_page(text: &str) -> Result<Page, &'static str> {
    const ALLOWED: &str =
        "https://HOST/PATH or http://HOST/PATH, without a user name and without a #";
    let (encrypted, usual, rest) =
        match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, 443, rest),
            (None, Some(rest)) => (false, 80, rest),
            (None, None) => return Err(ALLOWED),
        };
    let begins = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(begins).ok_or(ALLOWED)?;
    let server = server(authority, usual).map_err(|_| ALLOWED)?;
    let path = match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("/{path}"),
    };
    if path.contains('#')
        || path.len() > LONGEST_PATH
        || !path.is_ascii()
        || path.parse::<PathAndQuery>().is_err()
    {
        return Err(ALLOWED);
    }
    Ok(Page {
        server,
        path,
        encrypted,
    })
}

/// Whether a text is the path of a program.
pub(in crate::config) fn is_program(text: &str) -> bool {
    text.starts_with('/')
        && !text.ends_with('/')
        && text.len() <= LONGEST_PATH
        && !text.chars().any(|c| c.is_control() || c == ' ')
}

/// An address that can be asked over any interface that has a route to it.
const fn is_asked(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_host4(address),
        IpAddr::V6(address) => is_host6(address) && !is_link_local6(address),
    }
}

fn page(rest: &str, security: Security, kind: Kind) -> Result<HttpTarget, NoTarget> {
    let begins = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest
        .split_at_checked(begins)
        .ok_or_else(|| NoTarget::of(kind))?;
    if authority.contains('@') {
        return Err(NoTarget::of(kind).hint("a URL with a user name is not supported"));
    }
    let server = endpoint(authority, Some(security.default_port()), kind)?;
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    if path.contains('#') {
        return Err(NoTarget::of(kind).hint("what follows a # is never sent to a server"));
    }
    if path.len() > LONGEST_PATH || !path.is_ascii() || path.parse::<PathAndQuery>().is_err() {
        return Err(NoTarget::of(kind).hint("a path is at most 1024 characters, others than letters, digits and -._~!$&'()*+,;=:@/? written as %20"));
    }
    Ok(HttpTarget {
        server,
        path,
        status: Statuses::Success,
        body: None,
        security,
    })
}

fn question(rest: &str, kind: Kind) -> Result<DnsTarget, NoTarget> {
    let (server, name) = rest.split_once('/').ok_or_else(|| NoTarget::of(kind))?;
    let server = endpoint(server, Some(DNS_PORT), kind)?;
    let name = match name {
        "" | "." => DomainName(".".to_owned()),
        name => domain_name(name).ok_or_else(|| {
            NoTarget::of(kind).hint("a name is labels of 1 to 63 of the characters a-z 0-9 - _, with dots between them, 253 in all")
        })?,
    };
    Ok(DnsTarget {
        server,
        name,
        record: RecordType::A,
    })
}

/// The same as [`endpoint`], for who has other words for what is wrong, and takes any address.
fn split(text: &str, usual: Option<u16>) -> Option<Endpoint> {
    let (host, port) = match text.strip_prefix('[') {
        Some(inner) => {
            let (address, port) = inner.split_once(']')?;
            let address: std::net::Ipv6Addr = address.parse().ok()?;
            (Host::Address(address.into()), port)
        }
        None => {
            let (name, port) = text.split_at_checked(text.find(':').unwrap_or(text.len()))?;
            (host(name)?, port)
        }
    };
    let port = match port.strip_prefix(':') {
        Some(port) => read_port(port)?,
        None => usual.filter(|_| port.is_empty())?,
    };
    Some(Endpoint { host, port })
}

/// `HOST`, `HOST:PORT`, `[ADDRESS]` or `[ADDRESS]:PORT`; `usual` where no port is given.
fn endpoint(text: &str, usual: Option<u16>, kind: Kind) -> Result<Endpoint, NoTarget> {
    let no = || NoTarget::of(kind);
    let bracketed = text.strip_prefix('[');
    let (host, port) = if let Some(inner) = bracketed {
        let (address, port) = inner.split_once(']').ok_or_else(no)?;
        let address: IpAddr = address.parse().map_err(|_| no())?;
        if address.is_ipv4() {
            return Err(no());
        }
        (Host::Address(address), port)
    } else {
        if text.matches(':').count() > 1 {
            return Err(no().hint("an IPv6 address stands in brackets, as in [fd00::1]"));
        }
        let end = text.find(':').unwrap_or(text.len());
        let (host, port) = text.split_at_checked(end).ok_or_else(no)?;
        (self::host(host).ok_or_else(no)?, port)
    };
    if matches!(host, Host::Address(address) if !is_asked(address)) {
        return Err(no().hint("the address must be that of one host, known beyond its link"));
    }
    let port = match (port.strip_prefix(':'), usual) {
        (Some(port), _) => {
            read_port(port).ok_or_else(|| no().hint("a port is a number from 1 to 65535"))?
        }
        (None, Some(usual)) if port.is_empty() => usual,
        (None, None) if port.is_empty() => return Err(no().hint("the port is missing")),
        (None, _) => return Err(no()),
    };
    Ok(Endpoint { host, port })
}

fn read_port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let port: u16 = text.parse().ok()?;
    (digits && port > 0).then_some(port)
}

fn host(text: &str) -> Option<Host> {
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Some(Host::Address(address.into()));
    }
    let name = domain_name(text)?;
    // What ends in a number is a mistyped address and no name (RFC 1123, section 2.1).
    let last = name.as_str().rsplit('.').next()?;
    let number = last.bytes().all(|byte| byte.is_ascii_digit());
    (!number).then_some(Host::Name(name))
}

/// A name that is not the root.
fn domain_name(text: &str) -> Option<DomainName> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    (text.len() <= 253 && text.split('.').all(label)).then(|| DomainName(text.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read_as_the_same() {
        for text in [
            "icmp://192.0.2.1",
            "icmp://fd00::1",
            "tcp://192.0.2.1:443",
            "tcp://[fd00::1]:22",
            "tcp://example.org:25",
            "http://example.org/",
            "http://example.org:8080/generate_204?x=1&y=%20",
            "https://[fd00::1]/",
            "https://192.0.2.1:8443/a",
            "dns://192.0.2.53/example.org",
            "dns://[fd00::53]:5353/_x.example.org",
            "dns://192.0.2.53/",
            "arp://gateway",
            "exec:/usr/local/bin/modem-is-up",
        ] {
            let read = target(text).unwrap_or_else(|wrong| panic!("{text}: {wrong:?}"));
            assert_eq!(read.to_string(), text);
        }
    }

    #[test]
    fn what_may_be_left_out_is_put_in() {
        for (text, whole) in [
            ("http://example.org", "http://example.org/"),
            ("http://Example.ORG.:80", "http://example.org/"),
            ("https://example.org?x", "https://example.org/?x"),
            ("https://example.org:443/", "https://example.org/"),
            (
                "dns://192.0.2.53:53/EXAMPLE.org.",
                "dns://192.0.2.53/example.org",
            ),
            ("dns://192.0.2.53/.", "dns://192.0.2.53/"),
        ] {
            assert_eq!(target(text).unwrap().to_string(), whole);
        }
    }

    #[test]
    fn what_cannot_be_asked_is_no_target() {
        let long = format!("tcp://{}.org:1", "a".repeat(64));
        for text in [
            "",
            "icmp",
            "icmp://fe80::1",
            "udp://192.0.2.1:53",
            "tcp://192.0.2.1",
            "tcp://192.0.2.1:0",
            "tcp://192.0.2.1:+1",
            "tcp://192.0.2.1:65536",
            "tcp://192.0.2.256:1",
            "tcp://[192.0.2.1]:1",
            "tcp://[fe80::1]:1",
            "tcp://[::1]:1",
            "tcp://127.0.0.1:1",
            "tcp://fd00::1:1",
            "tcp://[fd00::1]1",
            "tcp://:1",
            "tcp://a..b:1",
            "tcp://b\u{fc}cher.example:1",
            &long,
            "http://",
            "http://user@example.org/",
            "http://example.org/#top",
            "http://example.org/a b",
            "http://example.org/\u{fc}",
            "dns://192.0.2.53",
            "dns://192.0.2.53/a..b",
            "dns:///example.org",
            "arp://192.0.2.1",
            "arp://",
            "exec:ls",
            "exec:/",
            "exec:/bin/sh -c true",
        ] {
            assert!(target(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_is_asked_in_both_families_and_an_address_in_its_own() {
        use crate::family::Family;
        let families = |text: &str| {
            let target = target(text).unwrap();
            Family::ALL.map(|family| target.is_asked_in(family))
        };
        assert_eq!(families("icmp://192.0.2.1"), [true, false]);
        assert_eq!(families("tcp://192.0.2.1:1"), [true, false]);
        assert_eq!(families("https://[fd00::1]/"), [false, true]);
        assert_eq!(families("dns://192.0.2.53/example.org"), [true, false]);
        for both in ["tcp://example.org:1", "arp://gateway", "exec:/bin/true"] {
            assert_eq!(families(both), [true, true], "{both}");
        }
    }
}
