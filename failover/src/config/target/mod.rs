//! Who is asked by a probe, and how.

mod display;
pub(super) mod read;
mod stored;
pub(super) mod text;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::family::Family;

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// An ICMP echo, `icmp://ADDRESS`.
    Icmp(IpAddr),
    /// A TCP connection, `tcp://HOST:PORT`.
    Tcp(Endpoint),
    /// A page, `http://HOST/PATH` or `https://HOST/PATH`.
    Http(HttpTarget),
    /// A question to a name server over UDP, `dns://SERVER/NAME`.
    Dns(DnsTarget),
    /// ARP or neighbour discovery of the uplink's own gateway, `arp://gateway`.
    Gateway,
    /// A program of the user, `exec:/PATH`.
    Exec(ExecTarget),
}

impl Target {
    /// Whether only the uplink's own gateway is asked: its silence is bad, but its answer does not
    /// prove that anything is behind it.
    #[must_use]
    pub const fn is_gateway(&self) -> bool {
        matches!(self, Self::Gateway)
    }

    /// Whether the target is asked in a family: a literal address in its own, anything else in both.
    #[must_use]
    pub fn is_asked_in(&self, family: Family) -> bool {
        let host = match self {
            Self::Icmp(address) => return Family::of(*address) == family,
            Self::Tcp(endpoint) => &endpoint.host,
            Self::Http(page) => &page.server.host,
            Self::Dns(question) => &question.server.host,
            Self::Gateway | Self::Exec(_) => return true,
        };
        match host {
            Host::Address(address) => Family::of(*address) == family,
            Host::Name(_) => true,
        }
    }

    /// Whether asking it takes the address of the uplink's gateway.
    #[must_use]
    pub const fn needs_gateway(&self) -> bool {
        matches!(self, Self::Gateway | Self::Exec(_))
    }
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The host.
    pub host: Host,
    /// The port, 1 to 65535.
    pub port: u16,
}

/// A host, by its address or its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// An address that other links know.
    Address(IpAddr),
    /// A name that is resolved through the uplink.
    Name(DomainName),
}

/// A domain name in lower case without the last dot; `.` is the root. At most 253 characters, in
/// labels of 1 to 63 of the characters `a-z 0-9 - _` (RFC 1035, section 2.3.4).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainName(String);

impl DomainName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A page and what it must be like.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HttpTarget {
    /// The server.
    pub server: Endpoint,
    /// The path with its query, beginning with `/`.
    pub path: String,
    /// What the status must be.
    pub status: Statuses,
    /// What the beginning of the body must contain.
    pub body: Option<String>,
    /// Whether and how the server proves who it is.
    pub security: Security,
}

/// Whether a page comes over TLS, and whose certificates are trusted then.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Security {
    /// `http`.
    None,
    /// `https`; the authorities that this host trusts.
    Host,
    /// `https`; only the certificates of this PEM file.
    File(PathBuf),
}

impl Security {
    /// The port where none is given.
    #[must_use]
    pub const fn default_port(&self) -> u16 {
        match self {
            Self::None => 80,
            Self::Host | Self::File(_) => 443,
        }
    }
}

/// A certificate of our own, by which a server knows us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// A PEM file with the certificate, and those of authorities between it and the server's.
    pub certificate: PathBuf,
    /// A PEM file with its key.
    pub key: PathBuf,
}

/// Statuses of HTTP that are an answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Statuses {
    /// 200 to 299.
    Success,
    /// These, each 200 to 599.
    These(BTreeSet<u16>),
}

impl Statuses {
    /// Whether a status is an answer.
    #[must_use]
    pub fn contains(&self, status: u16) -> bool {
        match self {
            Self::Success => (200..300).contains(&status),
            Self::These(these) => these.contains(&status),
        }
    }
}

/// A question to a name server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnsTarget {
    /// The server.
    pub server: Endpoint,
    /// The name that is asked for.
    pub name: DomainName,
    /// The type of record that is asked for.
    pub record: RecordType,
}

/// Types of DNS records that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordType {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Name servers.
    Ns,
    /// The start of a zone.
    Soa,
    /// Texts.
    Txt,
}

/// A program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecTarget {
    /// Its absolute path.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}
