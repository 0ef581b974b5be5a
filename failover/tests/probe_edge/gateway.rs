//! The gateway as a target: asked on its link, by ARP or neighbour discovery.

use std::net::IpAddr;
use std::time::Duration;

use failover::health::{Failure, Outcome};
use failover::probe::ProbePlan;

use crate::kinds::{PATIENT, SHORT, asked, once};
use crate::network::{Network, provider};
use crate::{next, plans, prober, whole};

pub(crate) fn asked_on_its_link(place: usize) {
    let network = Network::new();
    network.count_neighbour_discovery();
    let ask = |timeout: Duration, gateway: Option<IpAddr>, interface: &str| {
        let plan = ProbePlan {
            gateway,
            interface: interface.parse().unwrap(),
            index: network.index(interface),
            ..once(&network, place, "arp://gateway", timeout)
        };
        network.on_gateway(async || asked(plan).await)
    };
    let before = network.neighbour_discovery();
    let answered = ask(PATIENT, Some(provider(1)[place]), "wan1");
    assert!(matches!(answered, Outcome::Answered { .. }), "{answered:?}");
    let after = network.neighbour_discovery();
    assert_eq!(
        (after.0 - before.0, after.1 - before.1),
        (1, 0),
        "one question, by wan1 alone"
    );

    let nobody: IpAddr = ["198.18.1.77", "fd00:1::77"][place].parse().unwrap();
    let silent = ask(SHORT, Some(nobody), "wan1");
    assert_eq!(silent, Outcome::Failed(Failure::Timeout));
    let none = ask(PATIENT, None, "wan1");
    let not_sent = |why: &str| Outcome::Failed(Failure::NotSent(why.to_owned()));
    assert_eq!(none, not_sent("no gateway on wan1"));
    network.tunnel("tun1");
    let what = ["ARP", "neighbour discovery"][place];
    let tunnel = ask(PATIENT, Some(provider(1)[place]), "tun1");
    assert_eq!(tunnel, not_sent(&format!("no {what} on tun1")));
}

/// The gateway answers again after its interface was gone: each question that fails makes a new socket.
pub(crate) fn returns(place: usize) {
    let network = Network::new();
    let plan = ProbePlan {
        interval: Duration::from_millis(50),
        ..once(&network, place, "arp://gateway", SHORT)
    };
    network.on_gateway(async || {
        let (mut prober, mut reports) = prober();
        prober.set_plans(plans(plan));
        next(&mut reports, |round| round.answered() == 1).await;
        network.set_up("wan1", false);
        next(&mut reports, |round| whole(round) && round.answered() == 0).await;
        network.set_up("wan1", true);
        if place == 1 {
            // The kernel takes the addresses of an interface that is set down.
            network.add_source(1);
        }
        next(&mut reports, |round| round.answered() == 1).await;
    });
}
