//! What the unit says, on the process that runs.

use super::machine::Machine;
use crate::error::LabError;
use crate::terminal::Terminal;

/// CAP_NET_ADMIN, CAP_NET_RAW, CAP_PERFMON, CAP_BPF (`include/uapi/linux/capability.h`).
const CAPABILITIES: u64 = 1 << 12 | 1 << 13 | 1 << 38 | 1 << 39;
/// What `systemd-analyze security` may say at most.
const EXPOSURE: f64 = 3.0;

/// Where the daemon may write, and where not.
const PLACES: [(&str, bool); 9] = [
    ("/usr/bin", false),
    ("/etc/failover", false),
    ("/home", false),
    ("/root", false),
    ("/var/lib", false),
    ("/sys/fs/bpf", false),
    ("/var/lib/failover", true),
    ("/run/failover", true),
    ("/var/log/failover", true),
];

/// Looks at the unit and at the process.
pub(super) async fn holds(terminal: &Terminal, machine: &Machine) -> Result<bool, LabError> {
    let mut held = true;
    let mut verdict = |met: bool, text: String| {
        terminal.verdict(met, text);
        held &= met;
    };

    let verified = machine
        .run("systemd-analyze verify failover.service")
        .await?;
    let said = verified.stdout + &verified.stderr;
    verdict(
        verified.status.success() && said.is_empty(),
        format!("systemd-analyze verify: {}", or_clean(&said)),
    );
    let security = machine
        .must("systemd-analyze security --no-pager failover | tail --lines 1")
        .await?;
    let exposure = security
        .split_whitespace()
        .find_map(|word| word.parse::<f64>().ok());
    verdict(
        exposure.is_some_and(|exposure| exposure < EXPOSURE),
        format!("systemd-analyze security: {}", security.trim()),
    );

    let status = machine
        .must("cat /proc/$(systemctl show -P MainPID failover)/status")
        .await?;
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(":"))
            .unwrap_or_default()
            .trim()
    };
    for set in ["CapEff", "CapBnd"] {
        verdict(
            u64::from_str_radix(field(set), 16) == Ok(CAPABILITIES),
            format!("{set} {}", field(set)),
        );
    }
    verdict(
        field("NoNewPrivs") == "1" && field("Seccomp") == "2",
        "no new privileges, system calls are filtered".to_owned(),
    );
    for (place, wanted) in PLACES {
        let try_it = format!(
            "nsenter --target $(systemctl show -P MainPID failover) --mount sh -c 'touch {place}/probe && rm {place}/probe'"
        );
        let writable = machine.run(&try_it).await?.status.success();
        let word = if wanted { "writable" } else { "not writable" };
        verdict(writable == wanted, format!("{place} is {word}"));
    }
    Ok(held)
}

fn or_clean(said: &str) -> &str {
    if said.is_empty() {
        "clean"
    } else {
        said.trim()
    }
}
