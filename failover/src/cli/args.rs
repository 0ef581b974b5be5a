//! What can be typed: the commands, and what several of them take. What one takes stands with it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tracing::level_filters::LevelFilter;

use crate::cli::by_hand::DrainArgs;
#[cfg(feature = "demo")]
use crate::cli::demo::DemoArgs;
use crate::cli::doctor::DoctorArgs;
use crate::cli::events::EventsArgs;
use crate::cli::explain::ExplainArgs;
use crate::cli::flows::FlowsArgs;
use crate::cli::generate::GenerateArgs;
use crate::cli::import::ImportArgs;
use crate::cli::init::InitArgs;
use crate::cli::notify::NotifyCommand;
use crate::cli::replay::ReplayArgs;
use crate::cli::trace::TraceArgs;
use crate::uplink::UplinkName;

/// Where the configuration is by default.
pub(super) const CONFIG: &str = "/etc/failover/failover.yaml";
/// Where the control socket is by default.
const CONTROL: &str = "/run/failover/control.sock";

/// Keeps a network online over several uplinks: new flows use the good ones, known flows stay where
/// they are.
#[derive(Debug, Parser)]
#[command(
    name = "failover",
    version,
    propagate_version = true,
    after_help = "Example:\n  failover check --config /etc/failover/failover.yaml && failover run\n\n\
                  RUST_LOG (error, warn, info, debug, trace) overrides -v and -q.\n\n\
                  Exit codes: 0 good; 1 the answer is no, or the configuration or the kernel does not allow it;\n\
                  2 the command line is wrong; 3 the daemon cannot be reached; 4 not permitted."
)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// Logs more: once for debug, twice for trace.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,

    /// Logs less: once for warnings and errors, twice for errors only.
    #[arg(short, long, action = clap::ArgAction::Count, global = true, conflicts_with = "verbose")]
    quiet: u8,
}

impl Arguments {
    /// The log level that was asked for; `RUST_LOG` overrides it.
    #[must_use]
    pub const fn verbosity(&self) -> LevelFilter {
        match (self.quiet, self.verbose) {
            (0, 0) => LevelFilter::INFO,
            (0, 1) => LevelFilter::DEBUG,
            (0, _) => LevelFilter::TRACE,
            (1, _) => LevelFilter::WARN,
            _ => LevelFilter::ERROR,
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the daemon in the foreground.
    ///
    /// What it put into the kernel stays when it ends, so that traffic goes on; `failover clean`
    /// takes it out.
    #[command(after_help = "Example:\n  failover run --config ./failover.yaml -v")]
    Run(ConfigArgs),

    /// Says what is wrong with the configuration, or `ok`; touches nothing, needs no root.
    #[command(after_help = "Example:\n  failover check --config ./failover.yaml")]
    Check(ConfigArgs),

    /// Shows the state, share and reason of each uplink and address family.
    ///
    /// A line per uplink and family: its share of new flows, the round-trip time and loss of its
    /// probes, its live flows (of both families), and why it is in its state.
    #[command(
        after_help = "Example:\n  failover status --json | jq '.uplinks[] | {name, state, reason}'"
    )]
    Status(AskArgs),

    /// Shows the flows that are alive: who talks to whom, by which uplink, and why.
    ///
    /// A line per flow, those with the most bytes first. Addresses are those on the inside: sources
    /// not translated yet, port forwards resolved. WHY is `hash` (chosen by weight), `rule`,
    /// `inbound` (the connection came in by this uplink) or `restored` (the flow is older than its
    /// entry and stays where it was). JSON is one array, a flow per line, in no order.
    ///
    /// PATH, where there is a fast path, is `fast` for flows that take it, and for others the reason;
    /// docs/fastpath.md lists these. In JSON `offloaded` says it, and `fastpath` the reason.
    ///
    /// In eBPF mode these are the flows between downlinks and uplinks that the TC programs know; the
    /// router's own are not among them. In classic mode connection tracking tells all flows of the
    /// uplinks, the router's own too, and every one of them that did not come in is called `hash`.
    /// It counts packets and bytes, and notes ages, only where the kernel is told to
    /// (net.netfilter.nf_conntrack_acct and nf_conntrack_timestamp).
    #[command(
        after_help = "Example:\n  failover flows --uplink lte | head\n  failover flows --json | jq 'map(select(.inside == \"10.0.0.7\"))'"
    )]
    Flows(FlowsArgs),

    /// Shows what happened, and why: states of uplinks, starts and ends of the daemon, reloads, repairs.
    ///
    /// The daemon keeps a journal in its state folder, of the last 1 MiB at most (some thousand events);
    /// this reads it, also while no daemon runs. Events of one sort (a kind, and for an uplink each
    /// family) that come too often are counted: after 20 of them at once it is one line in five
    /// minutes, with how many there were. Times are local in the table, and UTC in JSON, which is one
    /// object per line. The family is named where an uplink has events of both.
    #[command(
        after_help = "Example:\n  failover events --since 22:00 --uplink fiber\n  failover events --follow --json | jq 'select(.to == \"down\") | .uplink'"
    )]
    Events(EventsArgs),

    /// Says by which uplink a flow goes, and why; nothing is sent.
    ///
    /// Rule, pool and slot are those of a flow that began now; what the flow table and connection
    /// tracking hold for this very flow is told, too, and decides where it is there. At the end it says
    /// what would become of it without single uplinks. Without the port that it comes from, a pool of
    /// several uplinks gives shares. In JSON, `fate` says where it goes and `decided_by` why.
    #[command(
        after_help = "Example:\n  failover explain --from 10.0.0.5:40000 --to 1.1.1.1:443 --proto tcp\n  failover explain --from 10.0.0.5 --to '[2606:4700:4700::1111]:53' --proto udp --json | jq .fate"
    )]
    Explain(ExplainArgs),

    /// Has the running daemon read its configuration again and follow it.
    ///
    /// The file is the one that the daemon was started with. It is checked whole first: when it is
    /// wrong, or differs in what cannot change while the daemon runs, everything stays as it is, and
    /// the reason is printed and logged. Otherwise only what differs changes, and that is printed. A
    /// flow moves only if its uplink is gone. SIGHUP does the same without an answer.
    #[command(
        after_help = "Example:\n  failover check && failover reload\n  failover reload --json | jq '.changes[] | select(.change == \"uplink_added\") | .uplink'"
    )]
    Reload(AskArgs),

    /// Trusts an uplink that is held back, since it failed again and again.
    ///
    /// Such an uplink is `degraded` while it answers, for longer after each failure. With this it is
    /// up at once, and its failures are forgotten.
    #[command(after_help = "Example:\n  failover trust fiber")]
    Trust(UplinkArgs),

    /// Takes an uplink out of use until it is enabled.
    ///
    /// No new flow uses it, whatever becomes of the others, and its open flows are treated as if it were
    /// down (`flows.on_down`), as soon as another one is usable. It is asked on, so that `failover status`
    /// says how it would fare. That outlives restarts of the daemon and of the machine.
    #[command(after_help = "Example:\n  failover disable lte\n  failover enable lte")]
    Disable(UplinkArgs),

    /// Has new flows go elsewhere, while open ones may finish.
    ///
    /// With --for the uplink is disabled when that time is over, and so are flows that are left; without
    /// it they may take as long as they like. Connections from outside are still answered. While no other
    /// uplink is usable new flows use it all the same. That outlives restarts of the daemon and of the
    /// machine. A second drain sets the time anew.
    #[command(after_help = "Example:\n  failover drain fiber --for 10m\n  failover enable fiber")]
    Drain(DrainArgs),

    /// Ends `disable` and `drain`: the uplink takes part again, as its probes say.
    #[command(after_help = "Example:\n  failover enable fiber")]
    Enable(UplinkArgs),

    /// Sends all flows of the fast path back to the stack.
    ///
    /// In eBPF mode established flows bypass routing and netfilter. After a change of the firewall that is
    /// to hold for open flows too, this has it see their next packets, and says how many flows there were.
    /// No packet is lost, no flow moves, and flows that go on take the fast path again after a while;
    /// `fastpath: off`, for all flows or for those of a rule, keeps them from it. In classic mode there is
    /// none: exit code 1.
    #[command(
        after_help = "Example:\n  nft -f /etc/nftables.conf && failover flush\n  failover flush --json | jq .flows"
    )]
    Flush(AskArgs),

    /// Writes down all that an uplink is judged by, for `failover replay`.
    ///
    /// The running daemon writes a trace: what became of each probe and of the link, when, and what the
    /// daemon made of that. It is in the state folder, as traces/NAME.jsonl; at 32 MiB a new file is
    /// begun and one older file kept (NAME.jsonl.1), which makes about a day with four targets asked
    /// twice a second. A trace that is there already goes on. It ends with --stop, after the time of
    /// --for, with the daemon, or when the disk refuses.
    #[command(
        after_help = "Example:\n  failover trace fiber --for 12h\n  failover trace fiber --stop"
    )]
    Trace(TraceArgs),

    /// Plays a trace: what would other settings have made of this line's own history?
    ///
    /// Without --config it says whether the settings of the trace make the verdicts that the daemon came
    /// to. With it, the states as they were stand beside those that the probe settings in that file would
    /// have made of the same answers and silences. It asks no daemon and needs no root. Exit code 1:
    /// the verdicts are not those that were recorded, or the files cannot be used.
    #[command(
        after_help = "Example:\n  failover replay /var/lib/failover/traces/fiber.jsonl --config ./patient.yaml\n  failover replay fiber.jsonl --json | jq '.families[].own.times_down'"
    )]
    Replay(ReplayArgs),

    /// Writes a commented configuration from what it finds on this host.
    ///
    /// Uplinks are the interfaces with default routes, downlinks the others that have addresses. What is
    /// a guess is said in a comment. A file that is there is not overwritten.
    #[command(after_help = "Example:\n  failover init\n  failover init --output - | less")]
    Init(InitArgs),

    /// Looks for what on this host keeps failover from working, and says how to mend it.
    ///
    /// Forwarding, filters, marks, rules, routes, offload, missing features, targets that do not
    /// answer: docs/doctor.md lists the checks. It works with and without a daemon and changes nothing;
    /// with --fix it sets kernel settings where that is safe, and says which. A notice may be meant so,
    /// and alone does not make the exit code 1. Without root some things cannot be looked at: they are
    /// named, and the exit code is 4 if nothing else was wrong.
    #[command(
        after_help = "Example:\n  failover doctor\n  failover doctor --fix\n  failover doctor --json | jq '.findings[] | select(.severity == \"problem\") | .id'"
    )]
    Doctor(DoctorArgs),

    /// Prints rules for those who translate sources themselves (`nat: none`).
    ///
    /// Commented rules for a firewall of your own: what failover would do on each uplink that has
    /// `nat: none`. Nothing is loaded.
    #[command(
        after_help = "Example:\n  failover generate nftables > /etc/nftables.d/uplinks.nft\n  failover generate iptables | iptables-restore --noflush\n  failover generate iptables --ipv6 | ip6tables-restore --noflush"
    )]
    Generate(GenerateArgs),

    /// Prints a configuration that does what another program's does.
    ///
    /// The configuration goes to standard output, and `failover check` accepts it. What has no
    /// equivalent goes to standard error, with its line and what to do instead. FILE is
    /// /etc/fault_tolerant_router.conf, /etc/config/mwan3, or what starts haip: a unit, a script or
    /// /etc/default/haip. Nothing is changed. Exit code 1: the file is not what --from says.
    #[command(
        after_help = "Example:\n  failover import --from mwan3 --network ./network ./mwan3 > failover.yaml\n  failover import --from fault-tolerant-router /etc/fault_tolerant_router.conf\n  failover import --from haip /etc/default/haip"
    )]
    Import(ImportArgs),

    /// Tries the channels of notifications, or says how they fare.
    ///
    /// `test` sends a message by each channel of the configuration, or by one, without asking a daemon, and
    /// says what came of it. `status` asks the daemon what it delivered last, what waits and what fails.
    #[command(
        subcommand,
        after_help = "Example:\n  failover notify test\n  failover notify test admin --config ./failover.yaml"
    )]
    Notify(NotifyCommand),

    /// Takes out of the kernel everything that failover ever put there.
    ///
    /// It works without a daemon and refuses beside one. The configuration says where the state
    /// folder is, which remembers what was changed. Ids of uplinks stay remembered.
    #[command(after_help = "Example:\n  systemctl stop failover && failover clean")]
    Clean(ConfigArgs),

    /// Shows failover at work: three uplinks, one of which dies and returns under real traffic.
    ///
    /// Gateway, providers, a client and its internet are network namespaces of this command alone, and
    /// the daemon is this program. Needs root and nft; changes nothing on this machine and leaves
    /// nothing behind, however it ends. Takes half a minute. Exit code 1: something that is promised
    /// does not hold, or could not be shown; 130: interrupted.
    #[cfg(feature = "demo")]
    #[command(
        after_help = "Example:\n  sudo failover demo\n  sudo failover demo --brief --json demo.json"
    )]
    Demo(DemoArgs),
}

/// Where the configuration is.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    pub config: PathBuf,
}

/// Where the daemon is asked.
#[derive(Debug, Args)]
pub struct ControlArgs {
    /// The daemon's control socket.
    #[arg(long, value_name = "SOCK", default_value = CONTROL)]
    pub control: PathBuf,
}

/// How to answer, and which daemon is meant.
#[derive(Debug, Args)]
pub struct AskArgs {
    /// Prints JSON, for scripts.
    #[arg(long)]
    pub json: bool,

    /// Which daemon is meant.
    #[command(flatten)]
    pub daemon: ControlArgs,
}

/// Which uplink, and of which daemon.
#[derive(Debug, Args)]
pub struct UplinkArgs {
    /// The uplink.
    #[arg(value_name = "NAME")]
    pub uplink: UplinkName,

    /// Which daemon is meant.
    #[command(flatten)]
    pub daemon: ControlArgs,
}

/// A time that is longer than nothing.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration = text
        .parse()
        .map_err(|_| format!("`{text}` is no time: allowed are times such as 90s, 30m and 12h"))?;
    Duration::try_from(span)
        .ok()
        .filter(|time| !time.is_zero())
        .ok_or_else(|| format!("`{text}` is over before it begins"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
