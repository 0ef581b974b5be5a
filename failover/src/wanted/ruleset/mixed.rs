//! What the chains say of interfaces that do not tell whose a packet is: of those that several
//! uplinks share, and of those behind which users are too (one arm).
//!
//! What comes in is told by the address of the gateway that it comes from. What goes out has left by
//! the uplink whose gateway is its next hop; on one arm, what has another next hop goes to a
//! neighbour or to another router there, and is none of ours. No mark tells either: a route that is
//! more specific than ours wins over a mark.

use std::fmt::{self, Formatter};

use super::{Ruleset, address_keyword, names, nfproto};
use crate::family::Family;
use crate::interface::InterfaceName;
use crate::wanted::UplinkSituation;
use crate::wanted::gateways::gateways;

impl Ruleset<'_> {
    /// The interfaces that several uplinks share and behind which no user is.
    pub(super) fn shared(&self) -> impl Iterator<Item = &InterfaceName> {
        self.0
            .uplinks
            .iter()
            .filter(|uplink| {
                self.0.shares_interface(uplink) && !self.0.is_one_arm(&uplink.interface)
            })
            .map(|uplink| &uplink.interface)
    }

    /// What comes in by an interface that uplinks share.
    pub(super) fn coming_by_shared(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "  chain from_shared {{")?;
        self.by_gateway(f, |name| !self.0.is_one_arm(name))?;
        // Of a gateway that is not known yet, or of several uplinks.
        self.clear_incoming(f)?;
        writeln!(f, "    return\n  }}")
    }

    /// What comes in by one arm from a gateway. Before all else: the rest is from users.
    pub(super) fn coming_by_one_arm(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.by_gateway(f, |name| self.0.is_one_arm(name))
    }

    fn by_gateway(
        &self,
        f: &mut Formatter<'_>,
        wanted: impl Fn(&InterfaceName) -> bool,
    ) -> fmt::Result {
        for family in Family::ALL {
            let elements: Vec<String> = gateways(self.0)
                .into_iter()
                .filter(|(gateway, _)| gateway.family == family && wanted(&gateway.interface))
                .map(|(gateway, id)| {
                    let (name, mac) = (gateway.interface, gateway.mac);
                    let chain = match id {
                        Some(id) => format!("from_{id}"),
                        None => "from_some".to_owned(),
                    };
                    format!("\"{name}\" . {mac} : goto {chain}")
                })
                .collect();
            if !elements.is_empty() {
                writeln!(
                    f,
                    "    meta nfproto {} iifname . ether saddr vmap {{ {} }}",
                    nfproto(family),
                    elements.join(", ")
                )?;
            }
        }
        Ok(())
    }

    /// Tells by which of several ways through an interface a connection's first packet leaves.
    pub(super) fn leaves(&self, f: &mut Formatter<'_>, uplink: &UplinkSituation) -> fmt::Result {
        let (id, interface) = (uplink.id, &uplink.interface);
        for next_hop in Family::ALL
            .into_iter()
            .filter_map(|family| next_hop(uplink, family))
        {
            writeln!(
                f,
                "    oifname \"{interface}\" {next_hop} goto connection_{id}"
            )?;
        }
        Ok(())
    }

    /// What is true, beside the interface, of the first packet of a connection that leaves by an uplink,
    /// behind the chain that wrote that into the connection mark. On one arm a connection from outside,
    /// which has its mark already, leaves by the same interface to users.
    pub(super) fn leaves_by(&self, uplink: &UplinkSituation, family: Family) -> String {
        let (mask, mark) = (self.mask(), self.mark(uplink));
        if self.0.has_own_interface(uplink) {
            String::new()
        } else if !self.0.is_one_arm(&uplink.interface) {
            format!("ct mark & {mask:#010x} == {mark:#010x} ")
        } else if let Some(next_hop) = next_hop(uplink, family) {
            format!("{next_hop} ")
        } else {
            format!("meta mark & {mask:#010x} == {mark:#010x} ")
        }
    }

    /// What the next hop does not tell, the mark does: it goes to a neighbour in a network that
    /// uplinks share, or by a next hop of the other family, which nft does not know. Not on one arm,
    /// where neighbours are users.
    pub(super) fn leaves_marked(
        &self,
        f: &mut Formatter<'_>,
        uplink: &UplinkSituation,
    ) -> fmt::Result {
        let (id, interface) = (uplink.id, &uplink.interface);
        let untold = Family::ALL.into_iter().filter(|family| {
            !self.0.is_one_arm(interface)
                || uplink.path(*family).is_some() && next_hop(uplink, *family).is_none()
        });
        for family in untold {
            writeln!(
                f,
                "    oifname \"{interface}\" meta nfproto {} meta mark & {:#010x} == {:#010x} goto connection_{id}",
                nfproto(family),
                self.mask(),
                self.mark(uplink)
            )?;
        }
        Ok(())
    }

    /// Tells the programs at the downlinks by which uplink a connection goes, where the interface by
    /// which its packet came in does not. Behind the routing, which would obey the mark.
    pub(super) fn forward(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mixed: Vec<&InterfaceName> = self
            .0
            .uplinks
            .iter()
            .filter(|uplink| !self.0.has_own_interface(uplink))
            .map(|uplink| &uplink.interface)
            .collect();
        if !self.by_tc() || mixed.is_empty() || self.0.downlinks.is_empty() {
            return Ok(());
        }
        let (mixed, downlinks) = (names(mixed.into_iter()), names(self.0.downlinks.iter()));
        writeln!(f, "  chain forward {{")?;
        writeln!(
            f,
            "    type filter hook forward priority mangle + 10; policy accept;"
        )?;
        writeln!(f, "    iifname != {mixed} return")?;
        writeln!(f, "    oifname != {downlinks} return")?;
        writeln!(f, "    meta mark & {:#010x} != 0 return", self.mask())?;
        self.by_connection(f, "to")?;
        writeln!(f, "  }}")
    }

    /// Which states of a connection a flow may begin in, as far as is known. On one arm answers may
    /// go straight to users: connection tracking then takes all but the first packet of a TCP
    /// connection for invalid, and knows no mark for it.
    pub(super) fn beginning(&self) -> &'static str {
        if self.0.one_arms().next().is_some() {
            "new, untracked, invalid"
        } else {
            "new, untracked"
        }
    }

    /// Users behind one arm are not led past us. For IPv4 there is a kernel setting; for IPv6 there
    /// is none.
    pub(super) fn no_redirects(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let one_arms: Vec<&InterfaceName> = self.0.one_arms().collect();
        if one_arms.is_empty() {
            return Ok(());
        }
        let one_arms = names(one_arms.into_iter());
        writeln!(f, "    oifname {one_arms} icmpv6 type nd-redirect drop")
    }

    /// The rules by which the router's own connections that are older than the table, or whose mark
    /// others overwrite, are found where they leave by an uplink.
    pub(super) fn adopt_own(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let unmarked = format!(
            "ct mark & {:#010x} == 0 ct state established,related",
            self.mask()
        );
        let uplinks = |wanted: &dyn Fn(&InterfaceName) -> bool| {
            let found = self.0.uplinks.iter().map(|uplink| &uplink.interface);
            found.filter(|name| wanted(name)).collect::<Vec<_>>()
        };
        let plain = uplinks(&|name| !self.0.is_one_arm(name));
        if !plain.is_empty() {
            let plain = names(plain.into_iter());
            writeln!(f, "    {unmarked} oifname {plain} jump adopt_own")?;
        }
        for uplink in &self.0.uplinks {
            if !self.0.is_one_arm(&uplink.interface) {
                continue;
            }
            for next_hop in Family::ALL
                .into_iter()
                .filter_map(|family| next_hop(uplink, family))
            {
                writeln!(
                    f,
                    "    {unmarked} oifname \"{}\" {next_hop} jump adopt_own",
                    uplink.interface
                )?;
            }
        }
        Ok(())
    }
}

/// What is true of a packet that goes to an uplink's gateway, where nft can tell: it knows next hops
/// of the packet's own family only.
fn next_hop(uplink: &UplinkSituation, family: Family) -> Option<String> {
    let gateway = uplink.path(family)?.gateway?;
    let ip = address_keyword(gateway);
    (Family::of(gateway) == family).then(|| format!("rt {ip} nexthop {gateway}"))
}
