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
