//! Which uplinks' interfaces let only smaller packets through than others send.

use std::collections::BTreeMap;

use crate::family::PerFamily;
use crate::interface::InterfaceName;
use crate::network::{Mtu, NetworkView};

/// Interfaces, and how large packets may be there, for the families in which that is less than what
/// packets from elsewhere may have.
pub type Narrow = BTreeMap<InterfaceName, PerFamily<Option<Mtu>>>;

/// The uplinks' interfaces whose MTU is smaller than that of another interface: nobody sends through
/// an interface what does not fit in his own.
#[must_use]
pub fn narrow<'i>(
    view: &NetworkView,
    interfaces: impl Iterator<Item = &'i InterfaceName>,
) -> Narrow {
    let widest = PerFamily::from_fn(|family| {
        let others = view.links.values().filter(|link| !link.loopback);
        others.map(|link| *link.mtu.get(family)).max()
    });
    let of_family = |mtu: PerFamily<Mtu>| {
        PerFamily::from_fn(|family| {
            let mtu = *mtu.get(family);
            widest
                .get(family)
                .is_some_and(|widest| mtu < widest)
                .then_some(mtu)
        })
    };
    interfaces
        .filter_map(|name| Some((name.clone(), of_family(view.links.get(name)?.mtu))))
        .filter(|(_, narrow)| *narrow != PerFamily::default())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::InterfaceIndex;
    use crate::network::Link;

    fn link(ipv4: u32, ipv6: u32) -> Link {
        Link {
            mtu: PerFamily {
                ipv4: Mtu(ipv4),
                ipv6: Mtu(ipv6),
            },
            ..Link::ethernet(InterfaceIndex(1))
        }
    }

    fn narrow_of(links: &[(&str, Link)]) -> Vec<(String, Option<Mtu>, Option<Mtu>)> {
        let mut view = NetworkView::default();
        for (name, link) in links {
            view.links.insert(name.parse().unwrap(), link.clone());
        }
        let uplinks: Vec<InterfaceName> =
            ["wan1", "wan2", "wan3"].map(|n| n.parse().unwrap()).into();
        let found = narrow(&view, uplinks.iter()).into_iter();
        found
            .map(|(name, mtu)| (name.to_string(), mtu.ipv4, mtu.ipv6))
            .collect()
    }

    #[test]
    fn no_uplink_is_narrow_where_all_interfaces_are_alike() {
        let loopback = Link {
            loopback: true,
            ..link(65536, 65536)
        };
        let links = [
            ("lo", loopback),
            ("lan0", link(1500, 1500)),
            ("wan1", link(1500, 1500)),
            ("wan2", link(1500, 1500)),
        ];
        assert_eq!(narrow_of(&links), []);
        // Nor where only others are narrower.
        let links = [("wg0", link(1420, 1420)), ("wan1", link(1500, 1500))];
        assert_eq!(narrow_of(&links), []);
    }

    #[test]
    fn an_uplink_is_narrow_in_each_family_on_its_own() {
        let links = [
            ("lan0", link(1500, 1500)),
            ("wan1", link(1492, 1480)),
            ("wan2", link(1500, 1480)),
            ("wan3", link(9000, 1500)),
        ];
        let both = ("wan1".to_owned(), Some(Mtu(1492)), Some(Mtu(1480)));
        // Another uplink counts like any other interface.
        let wide = ("wan2".to_owned(), Some(Mtu(1500)), Some(Mtu(1480)));
        assert_eq!(narrow_of(&links), [both.clone(), wide]);
        let ipv6 = ("wan2".to_owned(), None, Some(Mtu(1480)));
        assert_eq!(narrow_of(&links[..3]), [both, ipv6]);
    }
}
