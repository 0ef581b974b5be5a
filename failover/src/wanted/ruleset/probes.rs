//! How many bytes probes take: a counter for each uplink, for what goes out and what comes back.
//!
//! A probe is told by its mark on its way out, behind a question that is asked of all of the router's
//! own packets anyway, and by its connection on the way back. Both is counted where only the router's
//! own packets come by: what is forwarded pays nothing. Counters are not written anew with chains, so
//! that they go on counting.

use std::fmt::{self, Formatter};

use super::Ruleset;
use crate::uplink::UplinkId;

/// What the name of a counter begins with; the uplink's id follows.
const COUNTER: &str = "probes_";

/// The uplink whose probes a counter of the table counts, if it is such a one.
#[must_use]
pub fn counted_uplink(counter: &str) -> Option<UplinkId> {
    let id: u8 = counter.strip_prefix(COUNTER)?.parse().ok()?;
    UplinkId::try_from(id).ok()
}

impl Ruleset<'_> {
    /// The counters, and the chains that the rules below go to.
    pub(super) fn probes(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mask = self.mask();
        let marked = |to: &dyn Fn(UplinkId) -> String| {
            let uplinks = self.0.uplinks.iter();
            let elements = uplinks.map(|uplink| {
                let mark = self.0.numbers.marks.probe(uplink.id).0;
                format!("{mark:#010x} : {}", to(uplink.id))
            });
            elements.collect::<Vec<_>>().join(", ")
        };
        for uplink in &self.0.uplinks {
            writeln!(f, "  counter {COUNTER}{} {{\n  }}", uplink.id)?;
        }
        let counters = marked(&|id| format!("\"{COUNTER}{id}\""));
        for (chain, mark) in [("probe_sent", "meta mark"), ("probe_answered", "ct mark")] {
            writeln!(f, "  chain {chain} {{")?;
            if !counters.is_empty() {
                writeln!(
                    f,
                    "    counter name {mark} & {mask:#010x} map {{ {counters} }}"
                )?;
            }
            writeln!(f, "  }}")?;
        }
        for uplink in &self.0.uplinks {
            let (id, mark) = (uplink.id, self.0.numbers.marks.probe(uplink.id).0);
            writeln!(f, "  chain probe_{id} {{")?;
            writeln!(f, "    {}\n  }}", self.set("ct", mark))?;
        }
        writeln!(f, "  chain probe_out {{")?;
        let chains = marked(&|id| format!("goto probe_{id}"));
        if !chains.is_empty() {
            writeln!(f, "    meta mark & {mask:#010x} vmap {{ {chains} }}")?;
        }
        // Of an uplink that the table does not know yet, or any more.
        let probe = self.0.numbers.marks.probe_bit();
        writeln!(f, "    {}\n  }}", self.set("ct", probe))
    }

    /// Counts what comes back to a probe, in a chain of the hook `input`.
    pub(super) fn count_answers(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let probe = self.0.numbers.marks.probe_bit();
        writeln!(f, "    ct mark & {probe:#010x} != 0 goto probe_answered")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wanted::fixture;
    use crate::wanted::ruleset::ruleset;

    #[test]
    fn probes_are_counted_where_nothing_forwarded_comes_by() {
        let text = ruleset(&fixture::three_uplinks());
        for id in 1..=3 {
            assert!(text.contains(&format!("  counter probes_{id} {{\n  }}\n")));
        }
        let sent = "meta mark & 0xff000000 map { 0x81000000 : \"probes_1\", ";
        assert!(text.contains(sent), "{text}");
        for (to, hook) in [("probe_sent", "output"), ("probe_answered", "input")] {
            let asked = text
                .split("  chain ")
                .filter(|chain| chain.contains(&format!("goto {to}\n")));
            for chain in asked {
                assert!(chain.contains(&format!("hook {hook} ")), "{chain}");
            }
        }
    }

    #[test]
    fn a_counter_names_its_uplink() {
        assert_eq!(counted_uplink("probes_12").map(UplinkId::get), Some(12));
        for other in ["probes_", "probes_0", "probes_200", "mine", "probes_1x"] {
            assert_eq!(counted_uplink(other), None, "{other}");
        }
    }
}
