//! The chain that refuses the router's own packets of IPv6 which the user's rules let out by no uplink.
//! Those of IPv4 find no route (`own_traffic`).

use std::fmt::{self, Formatter};

use super::Ruleset;
use crate::wanted::own_traffic;

impl Ruleset<'_> {
    /// Behind `output`, which sends answers of the router's services back where the question came in.
    pub(super) fn forbidden(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if !own_traffic::refuses(self.0) {
            return Ok(());
        }
        let nobody = own_traffic::NOBODY;
        writeln!(
            f,
            "  chain forbidden {{
    type filter hook output priority filter; policy accept;
    rt ip6 nexthop {nobody} reject with icmpv6 admin-prohibited
  }}"
        )
    }
}
