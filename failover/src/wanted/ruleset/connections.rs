//! The chains that keep a connection on its uplink: its id goes into the connection mark once, and
//! from there into every packet's mark.

use std::collections::BTreeSet;
use std::fmt::{self, Formatter};

use super::{FEW, Ruleset, by_output, names, nfproto};
use crate::family::Family;
use crate::wanted::UplinkSituation;

impl Ruleset<'_> {
    pub(super) fn mark_chains(
        &self,
        f: &mut Formatter<'_>,
        uplink: &UplinkSituation,
    ) -> fmt::Result {
        let id = uplink.id;
        let mark = self.mark(uplink);
        writeln!(
            f,
            "  chain to_{id} {{\n    {}\n  }}",
            self.set("meta", mark)
        )?;
        writeln!(
            f,
            "  chain connection_{id} {{\n    {}\n  }}",
            self.set("ct", mark)
        )?;
        writeln!(
            f,
            "  chain adopt_{id} {{\n    {}\n    goto to_{id}\n  }}",
            self.set("ct", mark)
        )?;
        writeln!(f, "  chain back_to_{id} {{")?;
        if self.0.has_own_interface(uplink) {
            writeln!(f, "    oifname \"{}\" return", uplink.interface)?;
        }
        writeln!(f, "    goto to_{id}\n  }}")
    }

    /// Connections that are older than the table, or whose mark others overwrite: a forwarded one
    /// that is translated to an uplink's address, or by the user's own rules to another address of
    /// its interface, belongs to that uplink, as does one of the router itself from there that
    /// leaves by an uplink.
    pub(super) fn adopt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.by_address(f, "adopt", "adopt")?;
        self.by_address(f, "adopt_own", "connection")
    }

    /// A chain that goes to a chain of the uplink whose address a connection's answers go to.
    fn by_address(&self, f: &mut Formatter<'_>, name: &str, to: &str) -> fmt::Result {
        writeln!(f, "  chain {name} {{")?;
        for (family, key) in [
            (Family::Ipv4, "ct reply ip daddr"),
            (Family::Ipv6, "ct reply ip6 daddr"),
        ] {
            // Of several uplinks with the same address, the kernel used the one of its own first
            // route before this table was there.
            let mut uplinks: Vec<_> = self.0.uplinks.iter().collect();
            uplinks.sort_by_key(|uplink| uplink.main_metric.get(family).unwrap_or(u32::MAX));
            let sources = uplinks
                .iter()
                .filter_map(|uplink| Some((uplink.path(family)?.source, uplink.id)));
            let others = self
                .0
                .uplinks
                .iter()
                .filter(|uplink| !self.0.shares_interface(uplink) && uplink.path(family).is_some())
                .flat_map(|uplink| uplink.addresses.iter().map(|own| (*own, uplink.id)))
                .filter(|(own, _)| Family::of(*own) == family);
            let mut taken = BTreeSet::new();
            let mut elements: Vec<_> = sources
                .chain(others)
                .filter(|(address, _)| taken.insert(*address))
                .collect();
            elements.sort_unstable();
            let elements: Vec<String> = elements
                .into_iter()
                .map(|(address, id)| format!("{address} : goto {to}_{id}"))
                .collect();
            if !elements.is_empty() {
                let family = nfproto(family);
                writeln!(
                    f,
                    "    meta nfproto {family} {key} vmap {{ {} }}",
                    elements.join(", ")
                )?;
            }
        }
        writeln!(f, "  }}")
    }

    pub(super) fn prerouting(&self, f: &mut Formatter<'_>, picks: bool) -> fmt::Result {
        let mask = self.mask();
        for uplink in &self.0.uplinks {
            let id = uplink.id;
            writeln!(f, "  chain from_{id} {{")?;
            self.clear_incoming(f)?;
            let chain = if self.by_tc() {
                "inbound"
            } else {
                "connection"
            };
            writeln!(f, "    ct mark & {mask:#010x} == 0 goto {chain}_{id}")?;
            writeln!(f, "  }}")?;
        }
        writeln!(f, "  chain from_some {{")?;
        self.clear_incoming(f)?;
        writeln!(f, "  }}")?;
        self.coming_by_shared(f)?;
        // After conntrack (-200) and after the user's own marking at mangle (-150), before
        // translation of destinations (-100).
        writeln!(f, "  chain prerouting {{")?;
        writeln!(
            f,
            "    type filter hook prerouting priority mangle + 10; policy accept;"
        )?;
        self.coming_by_one_arm(f)?;
        self.accept_known(f)?;
        self.accept_new(f)?;
        let own = self
            .0
            .uplinks
            .iter()
            .filter(|uplink| self.0.has_own_interface(uplink))
            .map(|uplink| format!("\"{}\" : goto from_{}", uplink.interface, uplink.id));
        let shared = self
            .shared()
            .map(|name| format!("\"{name}\" : goto from_shared"));
        let from: BTreeSet<String> = own.chain(shared).collect();
        if !from.is_empty() {
            let from: Vec<String> = from.into_iter().collect();
            writeln!(f, "    iifname vmap {{ {} }}", from.join(", "))?;
        }
        self.by_connection(f, "to")?;
        // A probe's, or of an uplink that is no more.
        let unmarked = if self.by_tc() {
            self.set("meta", 0) + " "
        } else {
            String::new()
        };
        writeln!(f, "    ct mark & {mask:#010x} != 0 {unmarked}return")?;
        // One that is not translated goes wherever the kernel sends it: the router's own address of
        // an uplink is also the source of what its VPN carries.
        writeln!(
            f,
            "    ct status snat ct state established,related {} adopt",
            if self.by_tc() { "jump" } else { "goto" }
        )?;
        self.accept_picked(f)?;
        if picks {
            let downlinks = names(self.0.downlinks.iter());
            writeln!(
                f,
                "    iifname {downlinks} ct state {} goto new_flow",
                self.beginning()
            )?;
        }
        writeln!(f, "  }}")
    }

    pub(super) fn output(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mask = self.mask();
        let uplinks = names(self.0.uplinks.iter().map(|uplink| &uplink.interface));
        writeln!(f, "  chain output {{")?;
        writeln!(
            f,
            "    type route hook output priority mangle + 10; policy accept;"
        )?;
        self.no_redirects(f)?;
        // Probes, and sockets that chose an uplink themselves.
        writeln!(f, "    meta mark & {mask:#010x} != 0 goto probe_sent")?;
        // An ICMP error about a forwarded flow is related to it and may go to either side; where it
        // goes, the kernel's first route for it says.
        writeln!(f, "    ct state related oifname != {uplinks} return")?;
        self.adopt_own(f)?;
        // Only what would leave otherwise is marked and routed anew. A VPN's outer packets, which
        // others mark, are kept out of the VPN by rules that know that whole mark only
        // (`not fwmark 0xca6c`): with our bits they would be sent into it.
        self.by_connection(f, "back_to")?;
        writeln!(f, "  }}")
    }

    /// Goes to a chain of the connection's uplink.
    pub(super) fn by_connection(&self, f: &mut Formatter<'_>, to: &str) -> fmt::Result {
        let elements: Vec<String> = self
            .0
            .uplinks
            .iter()
            .map(|uplink| format!("{:#010x} : goto {to}_{}", self.mark(uplink), uplink.id))
            .collect();
        writeln!(
            f,
            "    ct mark & {:#010x} vmap {{ {} }}",
            self.mask(),
            elements.join(", ")
        )
    }

    /// Takes our bits from a packet that comes in by an uplink: others may have copied them there,
    /// with the whole mark of its connection, and it would be sent out again instead of to whom it
    /// is for.
    pub(super) fn clear_incoming(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mask = self.mask();
        writeln!(
            f,
            "    meta mark & {mask:#010x} != 0 {}",
            self.set("meta", 0)
        )
    }

    pub(super) fn first_packet_out(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mask = self.mask();
        let probe = self.0.numbers.marks.probe_bit();
        writeln!(f, "  chain first_packet_out {{")?;
        writeln!(
            f,
            "    type nat hook postrouting priority srcnat - 10; policy accept;"
        )?;
        writeln!(f, "    ct mark & {mask:#010x} != 0 return")?;
        // So that a probe's entry is never taken for a flow of the uplink: it is not counted and not
        // deleted with them.
        writeln!(f, "    meta mark & {probe:#010x} != 0 goto probe_out")?;
        let (own, mixed): (Vec<_>, Vec<_>) = self
            .0
            .uplinks
            .iter()
            .partition(|uplink| self.0.has_own_interface(uplink));
        let chain = |uplink: &UplinkSituation| format!("connection_{}", uplink.id);
        if own.len() > FEW {
            by_output(
                f,
                own.iter().map(|uplink| (&uplink.interface, chain(uplink))),
            )?;
        } else {
            for uplink in own {
                writeln!(
                    f,
                    "    oifname \"{}\" goto {}",
                    uplink.interface,
                    chain(uplink)
                )?;
            }
        }
        for uplink in &mixed {
            self.leaves(f, uplink)?;
        }
        for uplink in mixed {
            self.leaves_marked(f, uplink)?;
        }
        writeln!(f, "  }}")
    }
}
