//! On what something was measured: figures of one machine say little about another.

use std::{fmt, fs};

use jiff::Timestamp;
use serde::Serialize;

/// Machine and moment of a measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// When.
    pub date: Timestamp,
    /// The kernel's release.
    pub kernel: String,
    /// The processor's name.
    pub cpu: String,
    /// How many of them this program may use.
    pub cpus: usize,
}

impl Machine {
    /// This machine, now. What cannot be found out is empty or 0: a measurement is not lost for it.
    #[must_use]
    pub fn this() -> Self {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self {
            date: Timestamp::now(),
            kernel: kernel.trim().to_owned(),
            cpu: model(&cpuinfo).to_owned(),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
        }
    }
}

/// For the line below a heading.
impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = self.date.strftime("%Y-%m-%d");
        write!(
            f,
            "Linux {}, {} × {}, {date}",
            self.kernel, self.cpus, self.cpu
        )
    }
}

/// `model name : …` in `/proc/cpuinfo`; other architectures name it otherwise or not at all.
fn model(cpuinfo: &str) -> &str {
    let names = ["model name", "Model", "cpu model", "cpu"];
    cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| names.contains(&key.trim()))
        .map(|(_, value)| value.trim())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_has_a_name() {
        let text =
            "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n";
        assert_eq!(model(text), "AMD EPYC");
        assert_eq!(model(""), "");
    }
}
