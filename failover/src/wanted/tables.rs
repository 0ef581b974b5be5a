//! The routes: one table per uplink with its default route, the base table with the weighted set of
//! the uplinks that new flows use, and those that the router's own traffic goes by.

use std::collections::BTreeSet;

use crate::family::Family;
use crate::wanted::routing::{NextHop, Route, To};
use crate::wanted::{Situation, own_traffic};

/// All routes of ours.
#[must_use]
pub fn routes(situation: &Situation) -> BTreeSet<Route> {
    Family::ALL
        .into_iter()
        .flat_map(|family| {
            uplink_routes(situation, family)
                .chain(base_route(situation, family))
                .chain(own_traffic::routes(situation, family))
        })
        .collect()
}

fn uplink_routes(situation: &Situation, family: Family) -> impl Iterator<Item = Route> {
    situation.uplinks.iter().filter_map(move |uplink| {
        let path = uplink.path(family)?;
        Some(Route {
            table: situation.numbers.table(uplink.id),
            family,
            to: To::Hops {
                hops: vec![NextHop {
                    interface: path.interface,
                    gateway: path.gateway,
                    onlink: path.onlink || path.stranded,
                    weight: 1,
                }],
                source: path.sourced.then_some(path.source),
            },
        })
    })
}

/// The router's own unbound traffic, and everything that nothing else steered.
fn base_route(situation: &Situation, family: Family) -> Option<Route> {
    Some(Route {
        table: situation.numbers.base(),
        family,
        to: own_traffic::to_pool(situation, family, situation.pools.get(family))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wanted::fixture;
    use crate::wanted::routing::TableId;

    #[test]
    fn each_uplink_has_its_table_and_the_base_table_the_weighted_set() {
        let routes = routes(&fixture::three_uplinks());
        let base = routes
            .iter()
            .find(|route| route.table == TableId(300) && route.family == Family::Ipv4)
            .unwrap();
        assert_eq!(
            base.hops().iter().map(|hop| hop.weight).collect::<Vec<_>>(),
            [3, 2, 1]
        );
        assert_eq!(base.source(), None);
        for table in 301..=303 {
            assert!(
                routes
                    .iter()
                    .any(|r| r.table == TableId(table) && r.source().is_some())
            );
        }
        // Uplink 3 has IPv4 only.
        assert!(
            !routes
                .iter()
                .any(|r| r.table == TableId(303) && r.family == Family::Ipv6)
        );
    }

    #[test]
    fn a_single_member_makes_a_plain_route_with_its_source() {
        let mut situation = fixture::three_uplinks();
        fixture::keep_only(&mut situation, 2);
        let routes = routes(&situation);
        let base = routes
            .iter()
            .find(|route| route.table == TableId(300) && route.family == Family::Ipv4)
            .unwrap();
        assert_eq!(base.hops().len(), 1);
        assert_eq!(base.source(), Some("198.18.12.2".parse().unwrap()));
    }

    #[test]
    fn an_empty_pool_leaves_the_base_table_empty_so_that_main_decides() {
        let mut situation = fixture::three_uplinks();
        situation.pools.ipv4 = crate::select::select(&[]);
        assert!(
            !routes(&situation)
                .iter()
                .any(|r| r.table == TableId(300) && r.family == Family::Ipv4)
        );
    }
}
