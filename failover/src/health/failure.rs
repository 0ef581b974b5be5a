//! Why a probe has no answer, in words for people.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::family::Family;

/// Why a probe has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// None came in time.
    Timeout,
    /// The probe could not be sent.
    NotSent(String),
    /// An ICMP error came instead.
    Icmp(String),
    /// No way to the target, says this host or a router on the way.
    Unreachable,
    /// The port is closed.
    Refused,
    /// The connection was broken off.
    Reset,
    /// The target's name could not be resolved.
    Resolve {
        /// The name.
        name: String,
        /// Why.
        why: String,
    },
    /// The target's name has no address of the family.
    NoAddress {
        /// The name.
        name: String,
        /// The family.
        family: Family,
    },
    /// No TLS connection.
    Tls(String),
    /// The page has another status.
    Status(u16),
    /// The page is elsewhere.
    Redirected {
        /// Where.
        to: String,
    },
    /// The page has the right status and another content.
    Content,
    /// What came is no HTTP.
    NotHttp(String),
    /// The name server says no.
    Dns(DnsFailure),
    /// The program says no.
    Exec(ExecFailure),
}

/// What a name server says other than what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DnsFailure {
    /// It does not understand the question.
    FormErr,
    /// It could not find out.
    ServFail,
    /// There is no such name.
    NxDomain,
    /// It does not answer such questions.
    NotImp,
    /// It does not answer us.
    Refused,
    /// Another code of RFC 6895.
    Other(u8),
    /// The name has no record of the type.
    NoRecord,
    /// What came is no answer to the question.
    Garbled,
}

/// What a program did other than end with 0 in time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecFailure {
    /// It could not be begun.
    NotRun(String),
    /// It ended with this status.
    Exit(i32),
    /// It was killed by this signal.
    Signal(i32),
}

impl Failure {
    /// Whether it says nothing about the uplink: the target is none for the family. It then counts
    /// neither as asked nor as silent.
    #[must_use]
    pub const fn is_no_evidence(&self) -> bool {
        matches!(self, Self::NoAddress { .. })
    }

    /// Whether nothing was asked of the network, because of something on this host.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        matches!(self, Self::NotSent(_) | Self::Exec(ExecFailure::NotRun(_)))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no answer in time"),
            Self::NotSent(why) => write!(f, "cannot send: {why}"),
            Self::Icmp(what) => f.write_str(what),
            Self::Unreachable => f.write_str("no route to the target"),
            Self::Refused => f.write_str("connection refused"),
            Self::Reset => f.write_str("connection reset"),
            Self::Resolve { name, why } => write!(f, "cannot resolve {name}: {why}"),
            Self::NoAddress { name, family } => write!(f, "{name} has no {family} address"),
            Self::Tls(why) => write!(f, "no TLS connection: {why}"),
            Self::Status(status) => write!(f, "HTTP status {status}"),
            Self::Redirected { to } => write!(f, "redirected to {to}: a captive portal?"),
            Self::Content => f.write_str("the page lacks the expected text: a captive portal?"),
            Self::NotHttp(why) => write!(f, "no HTTP answer: {why}"),
            Self::Dns(failure) => failure.fmt(f),
            Self::Exec(failure) => failure.fmt(f),
        }
    }
}

impl fmt::Display for DnsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FormErr => "the name server says FORMERR: it does not understand the question",
            Self::ServFail => "the name server says SERVFAIL: it could not find out",
            Self::NxDomain => "the name server says NXDOMAIN: there is no such name",
            Self::NotImp => "the name server says NOTIMP: it does not answer such questions",
            Self::Refused => "the name server says REFUSED: it does not answer this host",
            Self::Other(code) => return write!(f, "the name server says error {code}"),
            Self::NoRecord => "the name server says that the name has no such record",
            Self::Garbled => "the name server's answer does not fit the question",
        })
    }
}

impl fmt::Display for ExecFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRun(why) => write!(f, "the program cannot be run: {why}"),
            Self::Exit(status) => write!(f, "the program ended with status {status}"),
            Self::Signal(signal) => write!(f, "the program was killed by signal {signal}"),
        }
    }
}
