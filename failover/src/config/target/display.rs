//! Targets as they are written in the file: the short form where it says all.

use std::fmt;

use super::{DnsTarget, DomainName, Endpoint, ExecTarget, Host, HttpTarget, RecordType};
use super::{Security, Statuses, Target};

/// The port of name servers where none is given.
pub(super) const DNS_PORT: u16 = 53;

/// What `record` may be.
pub(super) const RECORD_TYPES: [(&str, RecordType); 5] = [
    ("A", RecordType::A),
    ("AAAA", RecordType::Aaaa),
    ("NS", RecordType::Ns),
    ("SOA", RecordType::Soa),
    ("TXT", RecordType::Txt),
];

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Icmp(address) => write!(f, "icmp://{address}"),
            Self::Tcp(endpoint) => write!(f, "tcp://{endpoint}"),
            Self::Http(page) => page.fmt(f),
            Self::Dns(question) => question.fmt(f),
            Self::Gateway => f.write_str("arp://gateway"),
            Self::Exec(program) => program.fmt(f),
        }
    }
}

impl fmt::Display for HttpTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut more = String::new();
        if let Statuses::These(these) = &self.status {
            let these: Vec<String> = these.iter().map(u16::to_string).collect();
            more.push_str(&format!(", status: [{}]", these.join(", ")));
        }
        if let Some(body) = &self.body {
            more.push_str(&format!(", body: {}", quoted(body)));
        }
        let scheme = match &self.security {
            Security::None => "http",
            Security::Host => "https",
            Security::File(file) => {
                more.push_str(&format!(", ca: {}", quoted(&file.to_string_lossy())));
                "https"
            }
        };
        let server = self.server.written(self.security.default_port());
        let url = format!("{scheme}://{server}{}", self.path);
        if more.is_empty() {
            f.write_str(&url)
        } else {
            write!(f, "{{url: {}{more}}}", quoted(&url))
        }
    }
}

impl fmt::Display for DnsTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.name.as_str() {
            "." => "",
            name => name,
        };
        let url = format!("dns://{}/{name}", self.server.written(DNS_PORT));
        if self.record == RecordType::A {
            f.write_str(&url)
        } else {
            write!(f, "{{url: {}, record: {}}}", quoted(&url), self.record)
        }
    }
}

impl fmt::Display for ExecTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = self.program.display();
        if self.arguments.is_empty() {
            return write!(f, "exec:{program}");
        }
        let arguments: Vec<String> = self.arguments.iter().map(|text| quoted(text)).collect();
        let program = quoted(&program.to_string());
        write!(f, "{{exec: {program}, args: [{}]}}", arguments.join(", "))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Endpoint {
    /// Without the port where it is the usual one.
    fn written(&self, usual: u16) -> String {
        if self.port == usual {
            self.host.to_string()
        } else {
            self.to_string()
        }
    }
}

impl fmt::Display for Host {
    /// As it stands in a URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(std::net::IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Ns => "NS",
            Self::Soa => "SOA",
            Self::Txt => "TXT",
        })
    }
}

/// A text in double quotes. Values of the file hold no control characters.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
