//! Machines on which something is missing that eBPF mode might want.

use failover_tests::{BpfCommand, ProgramSpec, Refusal};
use nix::errno::Errno;

/// A machine on which something is missing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Situation {
    /// In the names of tests.
    pub(crate) name: &'static str,
    /// System calls that the daemon is refused.
    pub(crate) refused: &'static [Refusal],
    /// What starts the daemon.
    pub(crate) launcher: &'static [&'static str],
    /// Commands that are run in the gateway before.
    pub(crate) prepared_by: &'static [&'static str],
    /// Whether the configured folder is on a BPF file system.
    pub(crate) bpffs: bool,
    /// Whether the first start loses packets: qdiscs are added, for which the kernel stops the
    /// interfaces for some milliseconds.
    pub(crate) interrupts: bool,
    /// What the reason must name.
    pub(crate) said: &'static [&'static str],
}

impl Situation {
    const fn new(name: &'static str, said: &'static [&'static str]) -> Self {
        Self {
            name,
            refused: &[],
            launcher: &[],
            prepared_by: &[],
            bpffs: true,
            interrupts: false,
            said,
        }
    }

    const fn refusing(mut self, refused: &'static [Refusal]) -> Self {
        self.refused = refused;
        self
    }

    const fn started_by(mut self, launcher: &'static [&'static str]) -> Self {
        self.launcher = launcher;
        self
    }

    const fn after(mut self, prepared_by: &'static [&'static str]) -> Self {
        self.prepared_by = prepared_by;
        self
    }

    const fn without_bpffs(mut self) -> Self {
        self.bpffs = false;
        self
    }

    const fn interrupting(mut self) -> Self {
        self.interrupts = true;
        self
    }

    /// The daemon's program as this machine starts it.
    pub(crate) fn applied(&self, spec: ProgramSpec) -> ProgramSpec {
        let spec = if self.launcher.is_empty() {
            spec
        } else {
            spec.through(self.launcher)
        };
        self.refused.iter().copied().fold(spec, ProgramSpec::refuse)
    }
}

/// Leaves these capabilities alone.
const NETWORK_ONLY: &[&str] = &["setpriv", "--bounding-set=-all,+net_admin,+net_raw"];
const NETWORK_AND_BPF: &[&str] = &[
    "setpriv",
    "--bounding-set=-all,+net_admin,+net_raw,+bpf,+perfmon",
];
/// Hides the kernel's own type information in a mount namespace of its own.
const NO_KERNEL_BTF: &[&str] = &[
    "unshare",
    "--mount",
    "sh",
    "-c",
    r#"set -e; mount -t tmpfs none /sys/kernel/btf; test ! -e /sys/kernel/btf/vmlinux; exec "$@""#,
    "sh",
];

/// Without bpf(2), as in most containers.
pub(crate) const NO_BPF: Situation = Situation::new(
    "bpf_not_permitted",
    &["bpf(2)", "not permitted", "seccomp", "security module"],
)
.refusing(&[Refusal::bpf(Errno::EPERM)]);

/// Where eBPF mode is not possible, and what is said of it.
pub(crate) const IMPOSSIBLE: &[Situation] = &[
    NO_BPF,
    Situation::new("bpf_unknown", &["bpf(2)", "CONFIG_BPF_SYSCALL", "seccomp"])
        .refusing(&[Refusal::bpf(Errno::ENOSYS)]),
    Situation::new(
        "capabilities_dropped",
        &["CAP_BPF", "CAP_PERFMON", "CAP_SYS_ADMIN"],
    )
    .started_by(NETWORK_ONLY),
    Situation::new("no_memory_for_maps", &["map", "Cannot allocate memory"])
        .refusing(&[Refusal::bpf_command(BpfCommand::MapCreate, Errno::ENOMEM)]),
    Situation::new("btf_refused", &["BTF", "maps", "seccomp"])
        .refusing(&[Refusal::bpf_command(BpfCommand::BtfLoad, Errno::EPERM)]),
    Situation::new("programs_refused", &["program", "Permission denied"])
        .refusing(&[Refusal::bpf_command(BpfCommand::ProgLoad, Errno::EACCES)]),
    Situation::new("pins_refused", &["pin", "Operation not permitted"])
        .refusing(&[Refusal::bpf_command(BpfCommand::ObjPin, Errno::EPERM)]),
    Situation::new(
        "attaching_refused",
        &["lan0 ingress", "TCX", "clsact", "ingress qdisc"],
    )
    .refusing(&[Refusal::bpf_command(BpfCommand::LinkCreate, Errno::EPERM)])
    .after(&["tc qdisc add dev lan0 ingress"]),
    Situation::new(
        "mounting_refused",
        &["mount", "BPF file system", "not permitted", "bpffs"],
    )
    .refusing(&[Refusal::mount(Errno::EPERM)])
    .without_bpffs(),
    Situation::new(
        "mounting_not_allowed",
        &["mount", "BPF file system", "not permitted", "bpffs"],
    )
    .started_by(NETWORK_AND_BPF)
    .without_bpffs(),
];

/// Where something is missing that eBPF mode goes on without, and what is said of it.
pub(crate) const POSSIBLE: &[Situation] = &[
    Situation::new("no_bpffs_yet", &["mounted a BPF file system"]).without_bpffs(),
    Situation::new("few_capabilities", &[]).started_by(NETWORK_AND_BPF),
    Situation::new("kernel_btf_hidden", &[]).started_by(NO_KERNEL_BTF),
    Situation::new("tcx_refused", &["TCX", "not permitted", "clsact"])
        .refusing(&[Refusal::bpf_command(BpfCommand::LinkCreate, Errno::EPERM)])
        .interrupting(),
    Situation::new("tcx_full", &["TCX", "out of range", "clsact"])
        .refusing(&[Refusal::bpf_command(BpfCommand::LinkCreate, Errno::ERANGE)])
        .interrupting(),
];
