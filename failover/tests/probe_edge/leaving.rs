//! Probes that end in the middle leave nothing open.

use std::collections::BTreeMap;
use std::time::Duration;

use failover::config::Target;
use failover::probe::{ProbePlan, Prober};

use crate::kinds::{Written, host, network_with_servers, once, target};
use crate::network::ANSWERING;
use crate::network::SILENT;
use crate::programs::{end_another_child, has_zombies, shell, until_none_runs};
use crate::servers::{Authority, MUTE_PORT, NAME};
use crate::{NEVER, alive_tasks, next, open_descriptors, plans, prober, within_5_s};

/// Plans that end in the middle of every kind leave nothing open.
pub(crate) fn dropped() {
    let authority = Authority::new("the test's own");
    let network = network_with_servers(&authority);
    let trusted = Written::new("dropped.pem", &authority.pem());
    let server = host(ANSWERING[0]);
    let word = format!("700.{}", std::process::id());
    let texts = [
        format!("tcp://{}:1", host(SILENT[0])),
        format!("http://{server}:{MUTE_PORT}/"),
        format!(
            "{{url: https://{server}:{MUTE_PORT}/, ca: {}}}",
            trusted.0.display()
        ),
        format!("dns://{}/{NAME}", host(SILENT[0])),
        "arp://gateway".to_owned(),
        shell(&format!("sleep {word}")),
    ];
    let kinds: Vec<Target> = texts.iter().map(|text| target(text)).collect();
    let mut whole = once(&network, 0, "icmp://192.0.2.1", NEVER);
    whole.targets.extend(kinds);
    network.on_gateway(async || {
        let (mut prober, mut reports) = prober();
        let mut turn = async |prober: &mut Prober, number: u64| {
            let timeout = NEVER + Duration::from_millis(number);
            prober.set_plans(plans(ProbePlan {
                timeout,
                ..whole.clone()
            }));
            let plan = prober.plan_number(whole.uplink, whole.family).unwrap();
            next(&mut reports, |round| {
                round.plan == plan && round.answered() == 2
            })
            .await;
            prober.set_plans(BTreeMap::new());
            within_5_s("all tasks end", async {
                while alive_tasks() > 0 {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            until_none_runs(&word).await;
        };
        turn(&mut prober, 0).await;
        let descriptors = open_descriptors();
        for number in 1..=20 {
            turn(&mut prober, number).await;
        }
        within_5_s("no child of ours is left as a zombie", async {
            while has_zombies() {
                // The tests of this process have a runtime each and one queue of children to be
                // reaped: another runtime may have looked at it for the signal of this one's child
                // before that was in it. The next child's signal is for all that are in it.
                end_another_child().await;
            }
        })
        .await;
        within_5_s("all descriptors are closed", async {
            while open_descriptors() > descriptors {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    });
}
