//! All scenarios. Each line says what users see.

use crate::case::{
    Scenario, both_families, each_family, ebpf_only, ebpf_only_both, fast_path, fast_path_both,
    ipv4_only, ipv6_only,
};
use crate::{
    affinity, beginning, bpftool, by_hand, calls, churn, coming_from, doubt, downlinks, families,
    fastpath::{established, leaving, ways},
    flood, flow_table, ftp, inbound, last_resort, leases, links, loss, mail, metered, narrow,
    one_interface, own_rules, own_traffic, priorities, reloading, resets, restarts, returning,
    setups, silence, spreading, stickiness, strategies, traffic, translation,
};

#[rustfmt::skip]
pub(crate) fn table() -> Vec<Scenario> {
    vec![
        // What takes longest begins first.
        ebpf_only("a_million_flows_are_more_than_the_flow_table_holds", flood::a_million_flows).once(),

        fast_path_both("what_is_silent_leaves_the_fast_path_and_what_moves_is_not_forgotten", leaving::timed),

        // New flows.
        each_family("new_flows_are_spread_by_weight", spreading::by_weight),
        each_family("weights_count_among_the_uplinks_that_are_left", spreading::survivors_by_weight),
        each_family("all_flows_of_a_client_go_together_if_wanted", affinity::source),
        each_family("all_flows_of_a_client_to_a_server_go_together_if_wanted", affinity::pair),
        each_family("a_client_stays_where_it_was_sent_for_as_long_as_that_is_remembered", affinity::remembered),
        each_family("a_client_and_a_server_stay_where_they_were_sent_for_as_long_as_that_is_remembered", affinity::pairs_remembered),
        each_family("what_is_remembered_keeps_nobody_on_a_worse_uplink", affinity::better),
        both_families("new_flows_follow_the_uplink_that_answers_soonest_and_near_equals_take_no_turns", strategies::least_latency),
        both_families("what_the_first_uplink_cannot_carry_goes_by_the_next_and_no_flow_moves", strategies::overflow),
        each_family("clients_of_several_networks_use_all_uplinks", downlinks::all_clients),
        each_family("traffic_between_downlinks_is_never_steered", downlinks::between),

        // An uplink fails.
        each_family("an_uplink_that_dies_moves_only_its_own_flows", silence::moves_only_its_own_flows),
        both_families("strict_reverse_path_filters_do_no_harm", silence::strict_filters),
        each_family("lost_carrier_counts_at_once", links::carrier),
        each_family("an_interface_that_is_removed_counts_at_once_and_returns", links::interface),
        each_family("an_interface_that_is_set_down_counts_at_once_and_returns", links::set_down),
        each_family("flows_go_on_from_the_new_address_of_their_uplink", links::address),
        each_family("flows_wait_for_an_uplink_that_keeps_them", loss::keep),
        both_families("some_loss_takes_no_uplink_down", loss::some),
        both_families("an_uplink_that_fails_again_is_held_back_until_somebody_trusts_it", doubt::held_back),
        both_families("an_uplink_that_loses_too_much_is_left_by_new_flows_until_it_is_better", doubt::poor),
        both_families("what_probes_take_is_counted_as_providers_see_it_and_kept_within_a_budget", metered::counted),
        both_families("a_target_that_dies_takes_no_uplink_down", doubt::blamed),
        ebpf_only("an_uplink_that_swallows_what_users_send_is_found_out_by_that", traffic::unanswered),
        ebpf_only("scans_of_ports_and_nets_make_no_uplink_look_dead", traffic::scanned),
        ebpf_only("an_uplink_by_which_users_are_answered_needs_few_probes", traffic::spared),
        ebpf_only("while_users_are_answered_silent_targets_move_no_flow", traffic::contradicted),

        // What is done by hand.
        each_family("a_disabled_uplink_is_left_by_its_flows_and_by_no_others_until_it_is_enabled", by_hand::disabled),
        each_family("a_draining_uplink_keeps_its_flows_and_gets_no_new_ones_until_its_time_is_over", by_hand::draining),
        each_family("downloads_over_a_disabled_uplink_begin_anew_at_once", by_hand::downloads),
        each_family("who_has_no_way_but_a_disabled_uplink_waits_for_another", by_hand::no_other_way),

        // Configurations for those who come from another program.
        ipv4_only("what_ib_haip_does_is_done", coming_from::haip),
        ipv4_only("what_failover_routing_does_is_done", coming_from::failover_routing),
        ipv4_only("what_fault_tolerant_router_does_is_done", coming_from::fault_tolerant_router),
        ipv4_only("what_backroute_does_is_done", coming_from::backroute),
        each_family("what_mwan3_does_is_done", coming_from::mwan3),

        each_family("calls_and_migrating_connections_go_on_with_the_first_packet", calls::go_on),
        each_family("ftp_transfers_their_data_by_the_uplink_of_their_commands", ftp::transfers),

        // The provider gives addresses. IPv6 has them by router advertisements, IPv4 by DHCP.
        ipv4_only("a_lease_is_followed_and_costs_only_flows_of_an_address_that_is_gone", leases::dhcp),
        ipv4_only("two_uplinks_may_have_the_same_network_gateway_and_address", leases::the_same_network_twice),
        ipv6_only("router_advertisements_are_followed", leases::router_advertisements),
        each_family("the_ends_of_a_point_to_point_link_may_change", leases::point_to_point),

        // Clients of lost connections.
        each_family("downloads_over_a_dead_uplink_begin_anew_at_once", resets::downloads),
        each_family("nobody_is_told_of_a_lost_connection_while_all_uplinks_are_down", resets::withheld),
        each_family("untranslated_connections_are_never_reset", resets::untranslated),

        // Gateways behind one interface.
        each_family("gateways_in_one_network_share_flows_and_fail_over", one_interface::shared),
        each_family("gateways_in_one_network_answer_for_themselves", one_interface::shared_inbound),
        each_family("users_and_gateways_behind_one_interface_fail_over", one_interface::one_arm),
        each_family("users_and_gateways_behind_one_interface_are_reached_from_outside", one_interface::one_arm_inbound),
        each_family("answers_may_go_straight_to_users_behind_one_interface", one_interface::one_arm_untranslated),
        each_family("the_better_gateway_in_the_users_network_is_used_again_when_it_returns", one_interface::one_arm_reserve),
        each_family("a_host_with_several_gateways_in_one_network_fails_over", one_interface::host),

        // Rules.
        ipv4_only("clients_of_a_range_go_by_the_line_that_a_rule_gives_them", coming_from::client_ranges),
        each_family("mail_leaves_by_one_provider_and_else_not_at_all", mail::by_one_provider),

        // Priorities.
        each_family("the_reserve_is_used_when_the_better_uplink_is_down", priorities::reserve),
        each_family("the_death_of_the_reserve_hurts_nobody", priorities::reserve_dies),

        each_family("flows_may_finish_for_a_while_when_a_better_uplink_returns", returning::drains),
        each_family("flows_of_each_uplink_are_treated_as_it_says_when_a_better_one_returns", returning::each_its_own),
        each_family("flows_of_a_rule_go_back_to_the_uplink_that_it_names_first", returning::in_the_order_of_a_rule),

        // All uplinks fail.
        each_family("when_all_uplinks_die_nothing_is_forgotten", last_resort::nothing_is_forgotten),
        each_family("the_first_uplink_that_returns_keeps_its_flows_and_gets_the_others", last_resort::the_first_that_returns),
        each_family("the_last_uplink_that_dies_keeps_its_flows_until_another_returns", last_resort::one_after_the_other),

        // Address families.
        each_family("an_uplink_with_one_family_is_absent_in_the_other", families::lacks_one),
        each_family("a_family_that_dies_alone_moves_only_its_own_flows", families::dies_alone),

        // The gateway's own traffic.
        each_family("the_own_traffic_of_a_host_fails_over", own_traffic::of_a_host),
        each_family("the_own_traffic_of_a_router_fails_over", own_traffic::of_a_router),
        each_family("a_socket_bound_to_an_uplinks_address_leaves_by_it", own_traffic::bound_to_an_address),
        each_family("a_socket_bound_to_a_dead_uplinks_address_goes_on", own_traffic::a_bound_socket_survives),
        each_family("a_socket_bound_to_an_uplinks_address_returns_with_it", own_traffic::a_bound_socket_returns),
        both_families("probes_leave_by_their_own_uplink_only", own_traffic::probes),
        each_family("the_own_traffic_of_a_router_follows_the_rules", own_rules::of_a_router),
        each_family("the_own_traffic_of_a_host_follows_the_rules", own_rules::of_a_host),
        each_family("a_resolver_on_the_router_follows_the_rules_and_keeps_working", own_rules::resolver),

        // The configuration changes while the daemon runs.
        both_families("new_flows_follow_new_weights_and_no_flow_moves", reloading::weights),
        both_families("uplinks_come_and_go_and_leave_nothing_behind", reloading::uplinks),
        both_families("downlinks_come_and_go", reloading::downlinks),
        both_families("a_reload_amid_a_failure_puts_nothing_off", reloading::amid_a_failure),

        // What others do.
        each_family("flows_stay_when_the_daemon_is_killed_and_started", stickiness::killed_daemon),
        both_families("kills_and_starts_lose_no_packet_and_move_no_flow", restarts::kills),
        ebpf_only_both("another_map_layout_loses_no_packet_and_moves_no_flow", restarts::upgrades),
        both_families("what_was_asked_of_the_router_is_answered_across_a_restart", restarts::service),
        each_family("a_restart_amid_a_failure_moves_nothing", stickiness::killed_amid_a_failure),
        both_families("flows_and_ids_stay_when_the_configuration_changes", stickiness::other_configurations),
        both_families("a_flushed_nftables_ruleset_is_repaired", stickiness::flushed_ruleset),
        both_families("flushed_rules_are_repaired", stickiness::flushed_rules),
        both_families("flushed_routing_tables_are_repaired", stickiness::flushed_tables),
        both_families("whatever_becomes_of_interfaces_nothing_leaks_and_all_is_right", churn::rounds),
        both_families("an_interface_that_comes_later_is_used", beginning::interface_comes_later),
        each_family("an_uplink_that_is_dead_from_the_beginning_is_not_used", beginning::dead_from_the_beginning),
        each_family("flows_that_are_older_than_the_daemon_stay", beginning::older_flows),

        // Uplinks with a smaller MTU.
        each_family("tcp_segments_fit_the_uplink", narrow::segments),
        each_family("large_datagrams_arrive_after_a_move_to_a_narrow_uplink", narrow::discovery),

        // Connections from outside.
        each_family("inbound_connections_are_answered_by_their_uplink", inbound::to_the_router),
        each_family("a_udp_service_on_all_addresses_answers_from_the_one_that_was_asked", inbound::to_a_udp_service),
        each_family("inbound_connections_forwarded_to_a_client_are_answered_by_their_uplink", inbound::to_a_client),
        each_family("udp_forwarded_to_a_client_is_answered_by_its_uplink", inbound::udp_to_a_client),
        each_family("a_client_reaches_another_by_the_public_address", inbound::hairpin),

        // Translation.
        each_family("the_users_own_source_translation_wins", translation::users_own),
        each_family("an_uplink_without_translation_leaves_sources_alone", translation::none_for_one),
        each_family("translation_can_be_switched_off_for_all_but_one", translation::none_but_for_one),
        ipv6_only("sources_of_an_uplinks_own_prefix_are_not_translated_on_it", translation::own_prefix),

        // The maps of the TC programs.
        ebpf_only("flows_stay_without_the_flow_table", flow_table::is_not_needed),
        ebpf_only("bpftool_shows_names_and_tells_of_a_failover", bpftool::tells_of_a_failover),
        ebpf_only("gateways_of_a_shared_interface_are_known_by_their_addresses", one_interface::shared_maps),
        ebpf_only("gateways_on_one_arm_are_known_by_their_addresses", one_interface::one_arm_maps),
        ebpf_only("flows_stay_when_the_flow_table_is_lost_and_weights_change", flow_table::is_lost_with_the_daemon),

        // The fast path.
        fast_path("established_flows_take_the_fast_path_unseen_and_are_counted", established::from_inside),
        fast_path("connections_from_outside_take_the_fast_path_to_a_client", established::from_outside),
        fast_path("flows_of_a_rule_stay_off_the_fast_path_and_a_reload_sends_all_back", established::forbidden),
        fast_path("what_connection_tracking_forgets_leaves_the_fast_path_at_once", leaving::forgotten),
        fast_path("packets_on_the_fast_path_follow_a_new_hardware_address", leaving::other_hardware),
        fast_path("packets_on_the_fast_path_say_a_new_hardware_address_of_the_gateway", leaving::own_hardware),
        fast_path_both("ipv4_takes_the_fast_path_by_next_hops_of_ipv6", ways::of_another_family),
        fast_path_both("a_shorter_limit_of_ipv6_is_told_to_who_is_on_the_fast_path", ways::shorter_for_ipv6),
        fast_path_both("without_word_of_ended_flows_none_takes_the_fast_path", ways::untold),
        fast_path_both("a_killed_daemon_leaves_the_fast_path_to_the_stack", leaving::killed),
        fast_path_both("a_thousand_moves_to_and_from_the_fast_path_lose_nothing", established::moves),

        // Setups of the documentation.
        both_families("home_with_a_good_line_and_one_that_costs", setups::home),
        both_families("an_office_with_fixed_addresses_and_a_dmz", setups::office),
        both_families("two_gateways_in_one_network_as_documented", setups::two_gateways),
        both_families("one_arm_as_documented", setups::one_arm),
        both_families("a_point_to_point_link_as_documented", setups::ppp),
        both_families("hosts_with_addresses_of_both_providers_use_each_where_it_belongs", setups::prefixes),
    ]
}
