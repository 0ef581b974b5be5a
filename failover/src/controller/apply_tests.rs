//! In which order the kernel is changed, and what is left when something fails.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::dataplane::Classic;
use crate::family::Family;
use crate::flows::{Protocol, TrackedFlow};
use crate::kernel::recording::{Operation, RecordingKernel};
use crate::uplink::UplinkId;
use crate::wanted::fixture;
use crate::wanted::sysctls::RP_FILTER_ALL;

struct Bench {
    kernel: RecordingKernel,
    applier: Applier<RecordingKernel, Classic>,
    folder: PathBuf,
}

const KEY: &str = "net/ipv4/conf/wan1/rp_filter";

impl Bench {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("failover-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let kernel = RecordingKernel::default();
        for (key, value) in [(RP_FILTER_ALL, "0"), (KEY, "1")] {
            kernel
                .state()
                .sysctls
                .insert(key.to_owned(), value.to_owned());
        }
        let applier = Self::applier(&kernel, &folder);
        Self {
            kernel,
            applier,
            folder,
        }
    }

    fn applier(
        kernel: &RecordingKernel,
        folder: &std::path::Path,
    ) -> Applier<RecordingKernel, Classic> {
        Applier::new(
            kernel.clone(),
            Classic::default(),
            Store::new(folder),
            MarkMask::DEFAULT,
        )
        .unwrap()
    }

    async fn apply(&mut self, situation: &crate::wanted::Situation) -> Result<(), ApplyErrors> {
        self.apply_and_forget(situation, &BTreeSet::new()).await
    }

    async fn apply_and_forget(
        &mut self,
        situation: &crate::wanted::Situation,
        forget: &BTreeSet<Forget>,
    ) -> Result<(), ApplyErrors> {
        let uplinks = [KEY.split('/').nth(3).unwrap().parse().unwrap()].into();
        self.applier
            .apply(&situation.wanted(), &uplinks, forget)
            .await
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.folder).unwrap();
    }
}

#[tokio::test]
async fn an_interface_that_is_no_uplinks_any_more_gets_its_setting_back() {
    let mut bench = Bench::new("former");
    let wanted = fixture::three_uplinks().wanted();
    bench.apply(&fixture::three_uplinks()).await.unwrap();
    assert_eq!(bench.kernel.state().sysctls[KEY], "2");
    let (none, nothing) = (BTreeSet::new(), BTreeSet::new());
    // Also by a daemon that was not the one that changed it.
    bench.applier = Bench::applier(&bench.kernel, &bench.folder);
    bench.applier.apply(&wanted, &none, &nothing).await.unwrap();
    assert_eq!(bench.kernel.state().sysctls[KEY], "1");
    assert_eq!(bench.applier.facts.sysctls.len(), 0);
    let kept = Store::new(&bench.folder).installed().unwrap();
    assert_eq!(kept.sysctls.len(), 0);
}

fn owed() -> BTreeSet<Forget> {
    [Forget::Uplink(UplinkId::try_from(1).unwrap(), Family::Ipv4)].into()
}

fn is_forget(operation: &Operation) -> bool {
    matches!(operation, Operation::ForgetUplink(..))
}

#[tokio::test]
async fn flows_are_forgotten_after_the_new_selection_is_in_place() {
    let mut bench = Bench::new("order");
    bench
        .apply_and_forget(&fixture::three_uplinks(), &owed())
        .await
        .unwrap();
    let log = bench.kernel.take_log();
    let last_change = log
        .iter()
        .rposition(|done| matches!(done, Operation::Routing(_) | Operation::ReplaceFirewall(_)))
        .unwrap();
    let forgotten = log.iter().position(is_forget).unwrap();
    assert!(last_change < forgotten, "{log:?}");
}

#[tokio::test]
async fn flows_that_can_leave_an_uplink_that_works_are_forgotten_and_no_others() {
    let mut bench = Bench::new("leaving");
    let marks = MarkMask::DEFAULT;
    let uplink = UplinkId::try_from(1).unwrap();
    bench.kernel.state().flows = vec![
        flow(uplink, "198.18.0.10", "203.0.113.9", "198.18.11.2"),
        flow(uplink, "203.0.113.9", "198.18.0.10", "203.0.113.9"),
    ];
    let surroundings = {
        let config = "uplinks: {one: {interface: wan1}}\ndownlinks: [lan0]\n";
        let mut view = crate::network::NetworkView::default();
        view.addresses.push(crate::network::InterfaceAddress {
            interface: crate::interface::InterfaceIndex(9),
            address: "198.18.0.1".parse().unwrap(),
            prefix_len: 24,
        });
        Surroundings::new(&crate::config::parse(config).unwrap(), &view)
    };
    bench.applier.look_around(
        surroundings,
        [((uplink, Family::Ipv4), Keeping::default())].into(),
    );
    let leaving = Forget::Leaving {
        uplink,
        family: Family::Ipv4,
        source: None,
    };
    bench
        .apply_and_forget(&fixture::three_uplinks(), &[leaving].into())
        .await
        .unwrap();
    let log = bench.kernel.take_log();
    assert_eq!(
        log.last(),
        Some(&Operation::ForgetLeaving(Family::Ipv4, marks.flow(uplink)))
    );
    let left = &bench.kernel.state().flows;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].original.source.to_string(), "203.0.113.9");
}

fn flow(uplink: UplinkId, from: &str, to: &str, answers_to: &str) -> TrackedFlow {
    let mark = MarkMask::DEFAULT.flow(uplink);
    TrackedFlow::between(mark, Protocol(17), (from, to), (to, answers_to))
}

#[tokio::test]
async fn at_the_start_the_table_that_keeps_older_flows_comes_before_the_rules() {
    let mut bench = Bench::new("start");
    bench.apply(&fixture::three_uplinks()).await.unwrap();
    let log = bench.kernel.take_log();
    let position = |wanted: fn(&Operation) -> bool| log.iter().position(wanted).unwrap();
    assert!(
        position(|done| matches!(done, Operation::ReplaceFirewall(_)))
            < position(|done| matches!(done, Operation::Routing(_))),
        "{log:?}"
    );
}

#[tokio::test]
async fn what_is_in_place_is_not_touched_again() {
    let mut bench = Bench::new("again");
    bench.apply(&fixture::three_uplinks()).await.unwrap();
    drop(bench.kernel.take_log());
    bench.apply(&fixture::three_uplinks()).await.unwrap();
    bench.applier.suspect_routing();
    bench.applier.suspect_settings();
    bench.apply(&fixture::three_uplinks()).await.unwrap();
    assert_eq!(bench.kernel.take_log(), []);
}

#[tokio::test]
async fn when_publishing_fails_the_flows_stay() {
    let mut bench = Bench::new("fails");
    bench.apply(&fixture::three_uplinks()).await.unwrap();
    drop(bench.kernel.take_log());
    let mut fewer = fixture::three_uplinks();
    fixture::keep_only(&mut fewer, 2);
    let changes = difference(
        &fewer.wanted().routing,
        &bench.kernel.state().routing.clone(),
    )
    .len();
    bench.kernel.fail_after(changes, "no such table");
    let errors = bench.apply_and_forget(&fewer, &owed()).await.unwrap_err();
    assert!(
        errors
            .to_string()
            .contains("replace the nftables table: no such table"),
        "{errors}"
    );
    let log = bench.kernel.take_log();
    assert!(!log.iter().any(is_forget), "{log:?}");
}

#[tokio::test]
async fn a_setting_that_is_refused_does_not_keep_a_dead_uplinks_flows() {
    let mut bench = Bench::new("setting");
    bench.kernel.fail_after(0, "read-only file system");
    let errors = bench
        .apply_and_forget(&fixture::three_uplinks(), &owed())
        .await
        .unwrap_err();
    assert!(errors.to_string().contains("read-only"), "{errors}");
    let log = bench.kernel.take_log();
    assert!(log.iter().any(is_forget), "{log:?}");
}

#[tokio::test]
async fn a_route_that_is_refused_once_is_tried_again_when_the_rules_are_there() {
    let mut bench = Bench::new("refused");
    // The first call sets a kernel setting, the second the nftables table, the third is a route.
    bench.kernel.fail_after(2, "no route to the gateway");
    bench.apply(&fixture::three_uplinks()).await.unwrap();
    assert_eq!(
        bench.kernel.state().routing,
        fixture::three_uplinks().wanted().routing
    );
}

#[tokio::test]
async fn what_others_removed_comes_back() {
    let mut bench = Bench::new("repair");
    bench.apply(&fixture::three_uplinks()).await.unwrap();
    let wanted = fixture::three_uplinks().wanted();
    bench.kernel.state().routing.rules.clear();
    bench.kernel.state().firewall = None;
    bench.applier.suspect_routing();
    assert!(!bench.applier.inspect_firewall().await.unwrap());
    bench.apply(&fixture::three_uplinks()).await.unwrap();
    assert_eq!(bench.kernel.state().routing, wanted.routing);
    assert_eq!(bench.kernel.state().firewall, Some(wanted.ruleset));
}

#[tokio::test]
async fn clean_takes_everything_out_also_after_a_crash_and_restores_settings() {
    let mut bench = Bench::new("clean");
    bench.apply(&fixture::three_uplinks()).await.unwrap();
    assert_eq!(bench.kernel.state().sysctls[KEY], "2");
    // Another process, which knows nothing but the state folder.
    let mut other = Bench::applier(&bench.kernel, &bench.folder);
    other.remove_all().await.unwrap();
    let state = bench.kernel.state();
    assert_eq!(state.routing, Routing::default());
    assert_eq!(state.firewall, None);
    assert_eq!(state.sysctls[KEY], "1");
}

#[tokio::test]
async fn a_setting_that_somebody_changed_since_is_theirs() {
    let mut bench = Bench::new("theirs");
    bench.apply(&fixture::three_uplinks()).await.unwrap();
    bench
        .kernel
        .state()
        .sysctls
        .insert(KEY.to_owned(), "0".to_owned());
    bench.applier.remove_all().await.unwrap();
    assert_eq!(bench.kernel.state().sysctls[KEY], "0");
}

#[tokio::test]
async fn where_users_and_gateways_are_together_redirects_are_off_until_clean() {
    let mut bench = Bench::new("redirects");
    let keys = [
        "net/ipv4/conf/wan1/send_redirects",
        "net/ipv4/conf/all/send_redirects",
    ];
    for key in keys {
        let mut state = bench.kernel.state();
        state.sysctls.insert(key.to_owned(), "1".to_owned());
    }
    let values = |bench: &Bench| keys.map(|key| bench.kernel.state().sysctls[key].clone());
    bench.apply(&fixture::shared()).await.unwrap();
    assert_eq!(values(&bench), ["1", "1"]);
    bench.apply(&fixture::one_arm()).await.unwrap();
    assert_eq!(values(&bench), ["0", "0"]);
    bench.apply(&fixture::shared()).await.unwrap();
    assert_eq!(values(&bench), ["1", "1"]);
    bench.apply(&fixture::one_arm()).await.unwrap();
    assert_eq!(values(&bench), ["0", "0"]);
    bench.applier.remove_all().await.unwrap();
    assert_eq!(values(&bench), ["1", "1"]);
}
