//! Flows of an uplink that can go by no other: connections from outside, and those of the router
//! itself from the uplink's own address.

use std::net::SocketAddr;

use failover::family::Family;
use failover_tests::{Flows, Protocol, Traffic, addressing};
use serde::Deserialize;

use crate::Outcome;
use crate::inbound::forward_to_client;
use crate::scene::{PATIENT, Scene};
use crate::service::{self, Visitor};

/// A service of the router, and one of a client to which the user's own rules lead.
const OF_THE_ROUTER: u16 = 8081;
const OF_A_CLIENT: u16 = 8080;
/// How many visitors each has, and how many flows of each protocol the router.
const COUNT: usize = 5;

/// Such flows of one uplink.
pub(crate) struct Residents {
    uplink: u8,
    visitors: Vec<Visitor>,
    /// With the addresses by which they are seen.
    own: Vec<(Flows, Vec<SocketAddr>)>,
}

/// An element of the list of flows, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Listed {
    inside_port: Option<u16>,
    uplink_id: u8,
    why: String,
}

impl Residents {
    /// Opens them.
    pub(crate) async fn settle(
        scene: &Scene,
        family: Family,
        uplink: u8,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let gateway = scene.lab.gateway();
        service::start(gateway.node(), OF_THE_ROUTER).await?;
        service::start(scene.client()?.node(), OF_A_CLIENT).await?;
        forward_to_client(scene, "tcp", family, OF_A_CLIENT).await?;
        let address = scene.uplink(uplink)?.gateway_address(family);
        let address = address.ok_or("no address")?;
        let from = addressing::servers(family).first().copied();
        let mut visitors = Vec::new();
        for port in [OF_THE_ROUTER, OF_A_CLIENT] {
            for _ in 0..COUNT {
                let at = SocketAddr::new(address, port);
                let internet = scene.lab.internet().node();
                visitors.push(Visitor::connect(internet, from, at).await?);
            }
        }
        let mut own = Vec::new();
        for protocol in Protocol::ALL {
            let traffic = Traffic::new(protocol, family, COUNT).from_address(address);
            let flows = gateway.open(traffic).await?;
            let seen = seen(&flows).await?;
            own.push((flows, seen));
        }
        let mut residents = Self {
            uplink,
            visitors,
            own,
        };
        residents.expect_unmoved().await?;
        Ok(residents)
    }

    /// All are answered, and seen by the addresses by which they always were.
    pub(crate) async fn expect_unmoved(&mut self) -> Outcome {
        for visitor in &mut self.visitors {
            visitor.ask().await?;
        }
        for (flows, before) in &self.own {
            assert_eq!(seen(flows).await?, *before);
            let uplinks = before.iter().map(|seen| addressing::uplink_of(seen.ip()));
            let uplinks: Vec<_> = uplinks.flatten().collect();
            assert_eq!(uplinks, [self.uplink; COUNT]);
        }
        Ok(())
    }

    /// Those to the client are told as what they are.
    pub(crate) async fn expect_listed(&self, scene: &Scene) -> Outcome {
        let daemon = scene.daemon()?;
        let output = daemon.failover().command("flows --json").await?;
        let listed: Vec<Listed> = serde_json::from_str(&output.stdout)?;
        let of_the_client = listed
            .iter()
            .filter(|flow| flow.inside_port == Some(OF_A_CLIENT))
            .inspect(|flow| {
                assert_eq!(
                    (flow.uplink_id, flow.why.as_str()),
                    (self.uplink, "inbound")
                );
            });
        assert_eq!(of_the_client.count(), COUNT, "{listed:#?}");
        Ok(())
    }
}

async fn seen(flows: &Flows) -> Result<Vec<SocketAddr>, Box<dyn std::error::Error>> {
    let asked = flows.ask(PATIENT).await?;
    let seen: Result<Vec<_>, _> = asked.into_iter().map(|asked| Ok(asked?.seen)).collect();
    seen
}
