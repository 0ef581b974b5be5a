//! Which tests run on another kernel: emulated, each takes several times as long.

use std::collections::BTreeMap;
use std::process::Command;

use thiserror::Error;

use super::TestProgram;
use crate::command::{self, CommandError};

/// Only what depends on the kernel's version is worth the time: classic mode uses nothing newer than
/// the oldest kernel here, and runs only if the filter names it.
const LEFT_OUT: &str = "classic/";

/// What a machine as slow as an emulated one cannot do even when nothing happens. They run there only
/// if the filter names them.
const TOO_FAST: [&str; 3] = [
    // Some packets of a fast stream are lost.
    "kills_and_starts_lose_no_packet",
    "another_map_layout_loses_no_packet",
    // curl does not look at a connection for data before it is over, and then refuses it.
    "ftp_transfers_their_data",
];

/// What the daemon does by routes, rules and nftables, which all these kernels have alike. Where each
/// test runs once, it is left out.
const ALIKE: [&str; 101] = [
    // Translation, and the router's own packets.
    "translat",
    "own_traffic",
    "a_socket_bound",
    "a_udp_service",
    "what_was_asked_of_the_router",
    "by_the_public_address",
    "probes_leave",
    // Which flows are forgotten, and who is told.
    "calls_and_migrating",
    "downloads_over",
    "nobody_is_told",
    "when_a_better_one_returns",
    "when_a_better_uplink_returns",
    "go_back_to_the_uplink_that_it_names_first",
    "a_disabled_uplink",
    "a_draining_uplink",
    // Addresses, and sizes of packets.
    "a_lease_is_followed",
    "router_advertisements",
    "point_to_point",
    "two_uplinks_may_have",
    "segments_fit",
    "large_datagrams",
    // Other configurations, and what others flush.
    "flushed",
    "a_reload_amid",
    "new_flows_follow_new_weights",
    "come_and_go",
    "flows_and_ids_stay",
    // What the daemon makes of its probes.
    "is_held_back",
    "loses_too_much",
    "a_target_that_dies",
    "what_probes_take",
    "does_is_done",
    // Setups of the documentation, made of what other scenarios play there.
    "home_with_a_good_line",
    "an_office_with_fixed",
    "as_documented",
    "addresses_of_both_providers",
    // Rules, which the programs are given packet by packet too.
    "clients_of_a_range",
    "mail_leaves_by_one",
    // What it makes of users' traffic.
    "scans_of_ports",
    "needs_few_probes",
    "silent_targets_move",
    // Which rule decides: fewer rules do.
    "1000_random_rules",
    "300_random_rules",
    "64_random_rules",
    "no_packet_meets_a_mixture",
    "rules_are_not_for_errors",
    "a_reset_follows_rules",
    "what_came_in_asks_no_rule",
    "new_rules_move_no_known_flow",
    "a_forgotten_flow_is_picked_by_rules",
    "rules_are_for_what_leaves",
    // Who new flows go to, which the daemon decides.
    "weights_count_among",
    "go_together_if_wanted",
    "clients_of_several_networks",
    "the_reserve_is_used",
    "the_death_of_the_reserve",
    "the_better_gateway_in_the_users",
    "a_host_with_several_gateways",
    "the_first_uplink_that_returns",
    "the_last_uplink_that_dies",
    "an_uplink_with_one_family",
    "a_family_that_dies_alone",
    "an_interface_that_comes_later",
    "dead_from_the_beginning",
    "forwarded_to_a_client",
    "cannot_carry",
    "answers_soonest",
    "some_loss_takes",
    "flows_wait_for_an_uplink",
    // What the same code does in every program that the verifier let pass.
    "a_flow_",
    "an_answer",
    "an_error",
    "a_reset_",
    "a_raised_generation",
    "what_is_sent_again",
    "mask_0",
    // What others of their kind show.
    "an_interface_that_is_set_down",
    "gateways_in_one_network_answer",
    "are_reached_from_outside",
    "a_restart_amid",
    "gateways_in_one_network_share",
    "from_the_new_address",
    "strict_reverse_path",
    "when_all_uplinks_die",
    "flow_table_is_lost",
    // Which flows are on the fast path, which the daemon decides.
    "from_outside_take_the_fast_path",
    "stay_off_the_fast_path",
    "leaves_the_fast_path",
    "a_new_hardware_address",
    "a_thousand_moves",
    "by_next_hops_of_ipv6",
    "a_shorter_limit_of_ipv6",
    "without_word_of_ended_flows",
    // Where flows and sources go by what is remembered, and by whose hardware address: the packet tests
    // have it.
    "it_was_sent_for_as_long",
    "they_were_sent_for_as_long",
    "what_is_remembered",
    "between_downlinks",
    "known_by_their_addresses",
    // What the daemon does when it starts, and for its own resolver; how maps are shown.
    "older_than_the_daemon",
    "a_resolver_on_the_router",
    "bpftool_shows",
    // A table that is full is full in the packet tests.
    "a_million_flows",
];

/// How much of a test program runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Extent<'a> {
    /// Every test.
    Whole,
    /// Every test of what depends on the kernel, but of one that there is for both families, or with and
    /// without the fast path, only one: they take turns.
    EachOnce,
    /// Tests whose names hold this.
    Named(&'a str),
}

/// Why it is not known which tests there are.
#[derive(Debug, Error)]
#[error("{program} does not list its tests: {source}")]
pub(crate) struct Unlisted {
    program: String,
    source: CommandError,
}

impl Extent<'_> {
    /// The arguments of a test program.
    ///
    /// # Errors
    /// When it does not list its tests.
    pub(super) fn arguments(self, test: &TestProgram) -> Result<Vec<String>, Unlisted> {
        match self {
            Self::Named(filter) if filter.contains(LEFT_OUT.trim_end_matches('/')) => {
                Ok(vec![filter.to_owned()])
            }
            Self::Named(filter) if TOO_FAST.iter().any(|name| filter.contains(name)) => {
                Ok([filter, "--skip", LEFT_OUT].map(str::to_owned).to_vec())
            }
            Self::Named(filter) => Ok([vec![filter.to_owned()], without_some()].concat()),
            Self::Whole => Ok(without_some()),
            Self::EachOnce => {
                let mut list = Command::new(&test.file);
                list.args(["--list", "--format", "terse"]);
                let listed = command::read(&mut list).map_err(|source| Unlisted {
                    program: test.name.clone(),
                    source,
                })?;
                let mut arguments = vec!["--exact".to_owned()];
                for name in superfluous(&listed) {
                    arguments.extend(["--skip".to_owned(), name]);
                }
                Ok(arguments)
            }
        }
    }
}

fn without_some() -> Vec<String> {
    [LEFT_OUT]
        .into_iter()
        .chain(TOO_FAST)
        .flat_map(|name| ["--skip".to_owned(), name.to_owned()])
        .collect()
}

/// The tests that are left out where each runs once, of `mode/family/scenario: test` and
/// `name_family: test`.
fn superfluous(listed: &str) -> Vec<String> {
    let mut left_out = Vec::new();
    let mut of_both: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
    {
        let mut parts = TOO_FAST.iter().chain(&ALIKE);
        if name.starts_with(LEFT_OUT) || parts.any(|part| name.contains(part)) {
            left_out.push(name.to_owned());
        } else if let Some((_mode, rest)) = name.split_once('/')
            && let Some((_family, scenario)) = rest.split_once('/')
        {
            of_both.entry(scenario).or_default().push(name);
        } else if let Some((test, "ipv4" | "ipv6")) = name.rsplit_once('_') {
            of_both.entry(test).or_default().push(name);
        }
    }
    let pairs = of_both.values().filter(|names| names.len() > 1);
    for (number, names) in pairs.enumerate() {
        let chosen = number % names.len();
        let others = names.iter().enumerate();
        left_out.extend(
            others
                .filter(|(position, _)| *position != chosen)
                .map(|(_, name)| (*name).to_owned()),
        );
    }
    left_out
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn classic_runs_only_if_it_is_asked_for() {
        let test = TestProgram {
            name: "none".to_owned(),
            file: PathBuf::from("/nonexistent"),
        };
        let of = |extent: Extent<'_>| extent.arguments(&test).unwrap();
        let whole = of(Extent::Whole);
        assert_eq!(&whole[..2], ["--skip", "classic/"]);
        assert!(whole.contains(&TOO_FAST[0].to_owned()));
        let named = of(Extent::Named("dies"));
        assert_eq!(&named[..3], ["dies", "--skip", "classic/"]);
        let counting = format!("{}_and_more", TOO_FAST[1]);
        let asked = of(Extent::Named(&counting));
        assert_eq!(asked, [counting.as_str(), "--skip", "classic/"]);
        assert_eq!(of(Extent::Named("classic/ipv4/")), ["classic/ipv4/"]);
        assert_eq!(of(Extent::Named("classic")), ["classic"]);
        let error = Extent::EachOnce.arguments(&test).unwrap_err().to_string();
        assert!(error.contains("none does not list its tests"), "{error}");
    }

    #[test]
    fn families_take_turns() {
        let listed = "classic/ipv4/a: test\nebpf/ipv4/a: test\nebpf/ipv6/a: test\n\
            ebpf/ipv4/b: test\nebpf/ipv6/b: test\nebpf/both/c: test\nebpf/ipv6/d: test\n\
            ebpf/both/kills_and_starts_lose_no_packet: test\nbudget: test\n\
            ebpf/ipv4/tcp_segments_fit: test\nno_flow_ipv4: test\nno_flow_ipv6: test\n\
            fastpath/both/c: test\n\n12 tests\n";
        assert_eq!(
            superfluous(listed),
            [
                "classic/ipv4/a",
                "ebpf/both/kills_and_starts_lose_no_packet",
                "ebpf/ipv4/tcp_segments_fit",
                "ebpf/ipv6/a",
                "ebpf/ipv4/b",
                "fastpath/both/c",
                "no_flow_ipv4"
            ]
        );
    }
}
