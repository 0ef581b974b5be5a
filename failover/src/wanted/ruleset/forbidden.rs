//! The chain that refuses the router's own packets which the user's rules let out by no uplink.

use std::fmt::{self, Formatter};

use super::{Ruleset, address_keyword};
use crate::family::Family;
use crate::wanted::own_traffic;

impl Ruleset<'_> {
    /// Behind `output`, which sends answers of the router's services back where the question came in.
    pub(super) fn forbidden(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let refused: Vec<Family> = Family::ALL
            .into_iter()
            .filter(|family| own_traffic::refuses(self.0, *family))
            .collect();
        if refused.is_empty() {
            return Ok(());
        }
        writeln!(f, "  chain forbidden {{")?;
        writeln!(
            f,
            "    type filter hook output priority filter; policy accept;"
        )?;
        for family in refused {
            let nobody = *own_traffic::NOBODY.get(family);
            let ip = address_keyword(nobody);
            writeln!(
                f,
                "    rt {ip} nexthop {nobody} reject with icmpx admin-prohibited"
            )?;
        }
        writeln!(f, "  }}")
    }
}
