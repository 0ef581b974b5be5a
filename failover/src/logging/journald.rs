//! The journal of systemd, by its own protocol
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL>): one datagram per line, with what the line is about
//! in fields, such as `FAILOVER_UPLINK`.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

const SOCKET: &str = "/run/systemd/journal/socket";

/// The longest name of a field.
const LONGEST_NAME: usize = 64;

/// Writes to the journal, and waits for nothing.
#[derive(Debug)]
pub(super) struct Journald {
    socket: UnixDatagram,
    /// Lines that the journal was too slow for.
    missed: AtomicU64,
}

impl Journald {
    pub(super) fn new() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            missed: AtomicU64::new(0),
        })
    }

    fn send(&self, entry: &Entry) -> io::Result<()> {
        self.socket.send_to(&entry.encoded(), SOCKET).map(|_| ())
    }
}

impl<S: Subscriber> Layer<S> for Journald {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut entry = Entry::new(*event.metadata().level());
        event.record(&mut entry);
        match self.send(&entry) {
            Ok(()) => {
                let missed = self.missed.swap(0, Ordering::Relaxed);
                if missed > 0 {
                    let mut entry = Entry::new(Level::WARN);
                    entry.message = "lines are missing here: the journal was too slow".to_owned();
                    entry.fields.push(("missed".into(), missed.to_string()));
                    self.send(&entry).ok();
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.missed.fetch_add(1, Ordering::Relaxed);
            }
            // There is no journal.
            Err(_) => {
                let text = entry.text();
                writeln!(io::stderr(), "{:>5} {text}", entry.level.as_str()).ok();
            }
        }
    }
}

/// A line with its fields.
#[derive(Debug)]
struct Entry {
    level: Level,
    message: String,
    fields: Vec<(String, String)>,
}

impl Entry {
    const fn new(level: Level) -> Self {
        Self {
            level,
            message: String::new(),
            fields: Vec::new(),
        }
    }

    /// The line as it stands in other logs: who reads the journal sees no fields at first.
    fn text(&self) -> String {
        let mut text = self.message.clone();
        for (name, value) in &self.fields {
            // Writing to a String cannot fail.
            write!(text, " {name}={value}").ok();
        }
        text
    }

    fn encoded(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put(&mut bytes, "MESSAGE", &self.text());
        put(&mut bytes, "PRIORITY", priority(self.level));
        put(&mut bytes, "SYSLOG_IDENTIFIER", "failover");
        for (name, value) in &self.fields {
            put(&mut bytes, &field_name(name), value);
        }
        bytes
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = format!("{value:?}");
        if field.name() == "message" {
            self.message = value;
        } else {
            self.fields.push((field.name().to_owned(), value));
        }
    }
}

/// The severity of syslog.
const fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

/// The journal takes only such names, and ours are not to be those of others.
fn field_name(name: &str) -> String {
    let mut field = format!("FAILOVER_{}", name.to_ascii_uppercase());
    field = field.replace(
        |c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit()),
        "_",
    );
    field.truncate(LONGEST_NAME);
    field
}

/// A field; its value may be of several lines.
fn put(bytes: &mut Vec<u8>, name: &str, value: &str) {
    bytes.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        let length = u64::try_from(value.len()).unwrap_or(u64::MAX);
        bytes.push(b'\n');
        bytes.extend_from_slice(&length.to_le_bytes());
    } else {
        bytes.push(b'=');
    }
    bytes.extend_from_slice(value.as_bytes());
    bytes.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(fields: &[(&str, &str)]) -> Entry {
        let mut entry = Entry::new(Level::WARN);
        entry.message = "uplink changed its state".to_owned();
        entry.fields = fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        entry
    }

    #[test]
    fn a_line_has_its_fields_twice() {
        let entry = entry(&[("uplink", "fiber"), ("family", "IPv4")]);
        assert_eq!(
            String::from_utf8(entry.encoded()).unwrap(),
            "MESSAGE=uplink changed its state uplink=fiber family=IPv4\nPRIORITY=4\n\
             SYSLOG_IDENTIFIER=failover\nFAILOVER_UPLINK=fiber\nFAILOVER_FAMILY=IPv4\n"
        );
    }

    #[test]
    fn a_value_of_several_lines_has_its_length_before_it() {
        let mut bytes = Vec::new();
        put(&mut bytes, "MESSAGE", "one\ntwo");
        assert_eq!(bytes, b"MESSAGE\n\x07\0\0\0\0\0\0\0one\ntwo\n");
    }

    #[test]
    fn names_are_such_as_the_journal_takes() {
        assert_eq!(field_name("rtt.ms"), "FAILOVER_RTT_MS");
        assert_eq!(field_name(&"x".repeat(80)).len(), LONGEST_NAME);
    }
}
