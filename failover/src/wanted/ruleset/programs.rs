//! What the table and the TC programs tell each other, by the packet mark.
//!
//! A packet from a downlink carries the id of its flow's uplink. With the ask bit beside it, the
//! flow is new to the programs, or none of its packets has come back yet: then its connection
//! decides, if that has a mark. The ask bit alone says that a rule lets no uplink carry the flow: its
//! packets are dropped, unless it has a connection. The ask bit is the one that says "probe" on the router's own packets;
//! no rule knows it on forwarded ones.

use std::fmt::{self, Formatter};

use super::{Ruleset, names};
use crate::interface::InterfaceName;
use crate::policy::Otherwise;
use crate::wanted::{PickedBy, UplinkSituation};

impl Ruleset<'_> {
    /// Whether the TC programs pick.
    pub(super) fn by_tc(&self) -> bool {
        self.0.picked_by == PickedBy::Tc
    }

    fn ask(&self, uplink: &UplinkSituation) -> u32 {
        self.0.numbers.marks.probe(uplink.id).0
    }

    /// The chains that the rules below go to.
    pub(super) fn programs(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let all: Vec<&UplinkSituation> = self.0.uplinks.iter().collect();
        for uplink in &all {
            let id = uplink.id;
            // The programs at the downlink enter a flow as inbound by this. Only its first packet is
            // marked, and no rule knows this mark: one that every packet had would send the answers
            // for a VPN's or a container's peer out again.
            writeln!(f, "  chain inbound_{id} {{")?;
            writeln!(f, "    {}", self.set("ct", self.mark(uplink)))?;
            writeln!(f, "    ct state new {}", self.set("meta", self.ask(uplink)))?;
            writeln!(f, "  }}")?;
            // The programs ask for the kernel's route without knowing others' marks.
            let uplinks = names(all.iter().map(|uplink| &uplink.interface));
            if !self.tries_rules() {
                writeln!(f, "  chain check_{id} {{")?;
                writeln!(f, "    {}", self.set("meta", 0))?;
                writeln!(f, "    fib daddr . mark oifname {uplinks} goto to_{id}")?;
                writeln!(f, "  }}")?;
            }
        }
        if self.tries_rules() {
            // The user's own rules have marked it behind the programs: what they picked is no more than
            // a proposal.
            writeln!(f, "  chain marked {{\n    {}", self.set("meta", 0))?;
            writeln!(f, "    goto new_flow\n  }}")?;
        }
        let (mask, others) = (self.mask(), self.0.numbers.marks.others());
        writeln!(f, "  chain picked {{")?;
        let marked = format!("meta mark & {others:#010x} != 0 ");
        if self.tries_rules() {
            writeln!(f, "    {marked}goto marked")?;
        }
        let denies = self.0.policy.rules.iter();
        if denies
            .into_iter()
            .any(|rule| rule.otherwise == Otherwise::Drop)
        {
            let ask = self.0.numbers.marks.probe_bit();
            writeln!(f, "    meta mark & {mask:#010x} == {ask:#010x} drop")?;
        }
        let checked = (!self.tries_rules()).then_some((marked, "check"));
        for (matching, chain) in checked.into_iter().chain([(String::new(), "to")]) {
            let elements: Vec<String> = all
                .iter()
                .map(|uplink| format!("{:#010x} : goto {chain}_{}", self.ask(uplink), uplink.id))
                .collect();
            writeln!(
                f,
                "    {matching}meta mark & {mask:#010x} vmap {{ {} }}",
                elements.join(", ")
            )?;
        }
        // An uplink that the table does not know yet, or any more.
        writeln!(f, "    {}", self.set("meta", 0))?;
        writeln!(f, "  }}")?;
        writeln!(f, "  chain asked {{")?;
        // Not new, and of no uplink: it goes wherever the kernel sends it.
        writeln!(
            f,
            "    ct state != {{ {} }} {} return",
            self.beginning(),
            self.set("meta", 0)
        )?;
        writeln!(f, "    goto picked\n  }}")
    }

    /// Lets a packet pass at once whose flow and way the programs know: first, because most packets
    /// from a downlink are such.
    pub(super) fn accept_known(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if !self.by_tc() || self.0.downlinks.is_empty() {
            return Ok(());
        }
        let (mask, ask) = (self.mask(), self.0.numbers.marks.probe_bit());
        let downlinks = names(self.0.downlinks.iter());
        writeln!(
            f,
            "    meta mark & {mask:#010x} != 0 meta mark & {ask:#010x} == 0 iifname {downlinks} return"
        )
    }

    /// Takes the programs' pick for a new connection's first packet before anything else is looked up:
    /// nothing of what follows in the chain is for it.
    pub(super) fn accept_new(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let is_uplinks = |name: &InterfaceName| self.0.uplinks.iter().any(|u| u.interface == *name);
        let users = self.0.downlinks.iter();
        let users: Vec<&InterfaceName> = users.filter(|name| !is_uplinks(name)).collect();
        if !self.by_tc() || users.is_empty() {
            return Ok(());
        }
        let (mask, ask) = (self.mask(), self.0.numbers.marks.probe_bit());
        let users = names(users.into_iter());
        writeln!(
            f,
            "    meta mark & {ask:#010x} != 0 ct mark & {mask:#010x} == 0 ct state new iifname {users} \
             goto picked"
        )
    }

    /// Takes the programs' pick for a new connection.
    pub(super) fn accept_picked(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if !self.by_tc() || self.0.downlinks.is_empty() {
            return Ok(());
        }
        let ask = self.0.numbers.marks.probe_bit();
        let downlinks = names(self.0.downlinks.iter());
        writeln!(
            f,
            "    meta mark & {ask:#010x} != 0 iifname {downlinks} goto asked"
        )
    }
}
