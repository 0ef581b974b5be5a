//! Values as they are written in the file.

use std::fmt;
use std::time::Duration;

use super::model::{
    Affinity, Budget, FastPathSetting, LogFile, LogTo, ModeSetting, Mss, Nat, OnDown, OnUp,
    Passive, Percent,
};

impl fmt::Display for ModeSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Ebpf => "ebpf",
            Self::Classic => "classic",
        })
    }
}

impl fmt::Display for Nat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Masquerade => "masquerade",
            Self::None => "none",
        })
    }
}

impl fmt::Display for Affinity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flow => f.write_str("flow"),
            Self::Pair(None) => f.write_str("pair"),
            Self::Source(None) => f.write_str("source"),
            Self::Pair(Some(time)) => write!(f, "{{pair: {}}}", written(*time)),
            Self::Source(Some(time)) => write!(f, "{{source: {}}}", written(*time)),
        }
    }
}

impl fmt::Display for Mss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Off => "off",
        })
    }
}

impl fmt::Display for FastPathSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Off => "off",
        })
    }
}

impl fmt::Display for Passive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Off => "off",
        })
    }
}

impl fmt::Display for OnDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reset => "reset",
            Self::Keep => "keep",
        })
    }
}

impl fmt::Display for OnUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stay => f.write_str("stay"),
            Self::Drain(time) => write!(f, "{{drain: {}}}", written(*time)),
            Self::Move => f.write_str("move"),
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::None => f.write_str("none"),
            Self::Bytes(bytes) => f.write_str(&written_size(*bytes)),
        }
    }
}

impl fmt::Display for LogTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("the default"),
            Self::Stderr => f.write_str("stderr"),
            Self::Journal => f.write_str("journal"),
            Self::File(LogFile { path, size, keep }) => {
                let (path, size) = (path.display(), written_size(*size));
                write!(f, "{{file: {path}, size: {size}, keep: {keep}}}")
            }
        }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, tenth) = (self.tenths() / 10, self.tenths() % 10);
        if tenth == 0 {
            write!(f, "{whole}%")
        } else {
            write!(f, "{whole}.{tenth}%")
        }
    }
}

/// A duration that a file can hold, in the largest unit that it is a whole number of.
#[must_use]
pub fn written(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    match milliseconds {
        0 => "0s".to_owned(),
        n if n % 3_600_000 == 0 => format!("{}h", n / 3_600_000),
        n if n % 60_000 == 0 => format!("{}m", n / 60_000),
        n if n % 1_000 == 0 => format!("{}s", n / 1_000),
        n => format!("{n}ms"),
    }
}

/// A number of bytes that a file can hold, in the largest unit that it is a whole number of.
pub(super) fn written_size(bytes: u64) -> String {
    match bytes {
        n if n % 1_000_000_000 == 0 => format!("{}GB", n / 1_000_000_000),
        n if n % 1_000_000 == 0 => format!("{}MB", n / 1_000_000),
        n if n % (1 << 20) == 0 => format!("{}MiB", n >> 20),
        n if n % 1_000 == 0 => format!("{}kB", n / 1_000),
        n => format!("{}KiB", n >> 10),
    }
}
