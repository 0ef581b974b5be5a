//! Waiting until the kernel has done in the background what IPv6 addresses need: a link that was
//! just set up gets its link-local address, and every address its local route, some milliseconds
//! later.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::time::Duration;

use super::Node;
use crate::error::LabError;
use crate::eventually::eventually;

/// The kernel may hold back news of links for a second.
const LIMIT: Duration = Duration::from_secs(5);

/// The scope of a link-local address in `/proc/net/if_inet6`.
const LINK_LOCAL: &str = "20";

impl Node {
    /// Waits until every interface that is up has a link-local address and every IPv6 address its
    /// local route: from then on, routes change only when somebody changes them. Interfaces must
    /// have a carrier.
    ///
    /// # Errors
    /// When it takes longer than 5 s.
    pub async fn settled(&self) -> Result<(), LabError> {
        let what = format!("the IPv6 addresses of node {} are in use", self.name());
        eventually(&what, LIMIT, || async {
            let settled = self
                .run(|| async { Tables::read() })
                .await?
                .map_err(LabError::io(format!(
                    "read the IPv6 tables of node {}",
                    self.name()
                )))?
                .are_settled();
            Ok(settled.then_some(()))
        })
        .await?;
        // The kernel works on addresses under the same lock as on links: when this is through, what
        // follows the local route of an address is done too.
        self.set_up("lo").await
    }
}

/// What `/proc/net` shows of a namespace.
struct Tables {
    interfaces: String,
    addresses: String,
    routes: String,
}

impl Tables {
    fn read() -> io::Result<Self> {
        Ok(Self {
            interfaces: fs::read_to_string("/proc/thread-self/net/dev")?,
            addresses: fs::read_to_string("/proc/thread-self/net/if_inet6")?,
            routes: fs::read_to_string("/proc/thread-self/net/ipv6_route")?,
        })
    }

    fn are_settled(&self) -> bool {
        // Destination, its length, …, interface: the local route of an address is a host route.
        let local: HashSet<(&str, &str)> = self
            .routes
            .lines()
            .filter_map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                match words.as_slice() {
                    [destination, "80", .., interface] => Some((*destination, *interface)),
                    _ => None,
                }
            })
            .collect();
        let mut linked = HashSet::new();
        for line in self.addresses.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [address, _, _, scope, _, interface] = words.as_slice() else {
                return false;
            };
            if !local.contains(&(*address, *interface)) {
                return false;
            }
            if *scope == LINK_LOCAL {
                linked.insert(*interface);
            }
        }
        self.interfaces
            .lines()
            .skip(2)
            .filter_map(|line| line.split(':').next())
            .map(str::trim)
            .filter(|interface| *interface != "lo")
            .all(|interface| linked.contains(interface))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: &str = "fe800000000000000000000000000001";

    fn tables(addresses: &str, routes: &str) -> Tables {
        Tables {
            interfaces: "Inter-|\n face |\n    lo: 0 0\n  wan1: 0 0\n".to_owned(),
            addresses: addresses.to_owned(),
            routes: routes.to_owned(),
        }
    }

    #[test]
    fn an_interface_without_its_own_address_is_not_settled() {
        assert!(!tables("", "").are_settled());
    }

    #[test]
    fn an_address_counts_once_its_route_is_there() {
        let addresses = format!("{ADDRESS} 02 40 20 80     wan1\n");
        let route = |length: &str, interface: &str| {
            format!("{ADDRESS} {length} 0 00 0 00000000 00000001 00000000 80200001 {interface}\n")
        };
        assert!(!tables(&addresses, "").are_settled());
        assert!(!tables(&addresses, &route("40", "wan1")).are_settled());
        assert!(!tables(&addresses, &route("80", "wan2")).are_settled());
        assert!(tables(&addresses, &route("80", "wan1")).are_settled());
    }
}
