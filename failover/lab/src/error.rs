//! Why something in the lab did not work: what was tried, on what, and what to do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

/// Why an operation of the lab failed.
#[derive(Debug, Error)]
pub enum LabError {
    /// The process lacks the capabilities.
    #[error("the lab needs root (CAP_SYS_ADMIN, CAP_NET_ADMIN): run it with sudo")]
    NotRoot,
    /// The factor for limits is not one.
    #[error("{variable} is {value:?}: it must be a whole number from 1 to 100, or not set")]
    Patience {
        /// The variable.
        variable: &'static str,
        /// What it is set to.
        value: String,
    },
    /// [`isolate`](crate::isolate) came too late.
    #[error(
        "the process already has {threads} threads: call isolate() first thing in main, before any runtime is started"
    )]
    TooManyThreads {
        /// How many there were.
        threads: usize,
    },
    /// [`isolate`](crate::isolate) was not called.
    #[error("the process was not set up: call isolate() before the first lab is built")]
    NotIsolated,
    /// None of the usual mount points is free to be covered.
    #[error(
        "no place for the lab's files: /run, /mnt, /srv and /media are missing or hold the program or the current folder"
    )]
    NoMountPoint,
    /// A system call or a file operation failed.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried, on what.
        what: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A node's thread ended, or its work panicked, while something was asked of it.
    #[error("node {node} gave no result: its thread has ended or the work on it panicked")]
    NodeGone {
        /// The node.
        node: String,
    },
    /// The kernel refused a change to links, addresses or routes.
    #[error("node {node}: cannot {what}: {source}")]
    Netlink {
        /// The node.
        node: String,
        /// What was tried, on what.
        what: String,
        /// The kernel's reason.
        source: Box<rtnetlink::Error>,
    },
    /// A program could not be started.
    #[error("node {node}: cannot start `{command}`: {source} (is it installed?)")]
    ProgramStart {
        /// The node.
        node: String,
        /// The command line.
        command: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A program is not installed.
    #[error(
        "`{program}` is neither in PATH nor in /usr/sbin: install it (Debian: apt-get install {package})"
    )]
    NotInstalled {
        /// The program.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// A program ended with another status than 0.
    #[error("node {node}: `{command}` ended with {status}: {output}")]
    ProgramFailed {
        /// The node.
        node: String,
        /// The command line.
        command: String,
        /// Its exit status.
        status: String,
        /// What it wrote, standard error first.
        output: String,
    },
    /// A program did not end in time.
    #[error("node {node}: `{command}` did not end within {limit:?}: {output}")]
    ProgramTimeout {
        /// The node.
        node: String,
        /// The command line.
        command: String,
        /// How long it was given.
        limit: Duration,
        /// What it had written until then.
        output: String,
    },
    /// The lab has no such uplink, client or downlink.
    #[error("the lab has no {what} {number}: they count from 1 to {count}")]
    NoSuch {
        /// What was asked for.
        what: &'static str,
        /// Its number.
        number: usize,
        /// How many there are.
        count: usize,
    },
    /// The builder was asked for something that cannot be.
    #[error("no such lab: {reason}")]
    Layout {
        /// Why not.
        reason: String,
    },
    /// Not every flow could be opened.
    #[error("{failed} of {count} {traffic} flows could not be opened, the first because: {first}")]
    Open {
        /// What kind of flows.
        traffic: String,
        /// How many were asked for.
        count: usize,
        /// How many failed.
        failed: usize,
        /// The first failure.
        first: crate::traffic::AskError,
    },
    /// The capture at a provider lost packets, so that its counts are worth nothing.
    #[error("node {node}: the capture lost {lost} packets, its counts cannot be trusted")]
    CaptureLost {
        /// The node.
        node: String,
        /// How many packets.
        lost: u32,
    },
    /// The lab was built without captures.
    #[error("node {node} does not capture packets: build the lab with `.capture(true)`")]
    NoCapture {
        /// The node.
        node: String,
    },
    /// A condition was not met in time.
    #[error("after {limit:?} still not true: {what}{detail}")]
    NotInTime {
        /// The condition.
        what: String,
        /// How long it was waited for.
        limit: Duration,
        /// What was seen last, beginning with a line break, or nothing.
        detail: String,
    },
    /// The program under test was not found.
    #[error(
        "no failover binary at {looked_at:?}: build it with `cargo build -p failover` or name it in FAILOVER_BIN"
    )]
    NoBinary {
        /// The places where it was looked for.
        looked_at: Vec<PathBuf>,
    },
    /// The daemon ended, or did not become ready.
    #[error("the daemon {what}; its log:\n{log}")]
    Daemon {
        /// What it did or did not do.
        what: String,
        /// What it logged.
        log: String,
    },
    /// `failover status --json` wrote something else than is documented.
    #[error("`failover status --json` wrote what cannot be read: {source}\n{text}")]
    Status {
        /// What is wrong with it.
        source: serde_json::Error,
        /// What was written.
        text: String,
    },
}

impl LabError {
    /// For `map_err`: says what was tried.
    pub fn io<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |source| Self::Io {
            what,
            source: source.into(),
        }
    }

    /// For `map_err`: says what was tried over netlink, on which node.
    pub fn netlink(node: &str, what: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Self {
        let (node, what) = (node.to_owned(), what.into());
        move |source| Self::Netlink {
            node,
            what,
            source: Box::new(source),
        }
    }
}
