//! The routes: one table per uplink with its default route, and the base table with the weighted
//! set of the uplinks that new flows use.

use std::collections::BTreeSet;

use crate::family::Family;
use crate::wanted::Situation;
use crate::wanted::routing::{NextHop, Route};

/// All routes of ours.
#[must_use]
pub fn routes(situation: &Situation) -> BTreeSet<Route> {
    Family::ALL
        .into_iter()
        .flat_map(|family| uplink_routes(situation, family).chain(base_route(situation, family)))
        .collect()
}

fn uplink_routes(situation: &Situation, family: Family) -> impl Iterator<Item = Route> {
    situation.uplinks.iter().filter_map(move |uplink| {
        let path = uplink.path(family)?;
        Some(Route {
            table: situation.numbers.table(uplink.id),
            family,
            hops: vec![NextHop {
                interface: path.interface,
                gateway: path.gateway,
                onlink: path.onlink || path.stranded,
                weight: 1,
            }],
            source: path.sourced.then_some(path.source),
        })
    })
}

/// The router's own unbound traffic, and everything that nothing else steered. With several next
/// hops the kernel takes each one's own source address.
fn base_route(situation: &Situation, family: Family) -> Option<Route> {
    let members: Vec<(NextHop, _)> = situation
        .pools
        .get(family)
        .members
        .iter()
        .filter_map(|(&id, &weight)| {
            let path = situation.uplink(id)?.path(family)?;
            let hop = NextHop {
                interface: path.interface,
                gateway: path.gateway,
                onlink: path.onlink,
                weight,
            };
            Some((hop, path.source))
        })
        .collect();
    let (hops, source) = match members.as_slice() {
        [] => return None,
        [(hop, source)] => (vec![NextHop { weight: 1, ..*hop }], Some(*source)),
        several => {
            let mut hops: Vec<NextHop> = several.iter().map(|(hop, _)| *hop).collect();
            hops.sort_unstable();
            (hops, None)
        }
    };
    Some(Route {
        table: situation.numbers.base(),
        family,
        hops,
        source,
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
            base.hops.iter().map(|hop| hop.weight).collect::<Vec<_>>(),
            [3, 2, 1]
        );
        assert_eq!(base.source, None);
        for table in 301..=303 {
            assert!(
                routes
                    .iter()
                    .any(|r| r.table == TableId(table) && r.source.is_some())
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
        assert_eq!(base.hops.len(), 1);
        assert_eq!(base.source, Some("198.18.12.2".parse().unwrap()));
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
