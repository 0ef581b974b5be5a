//! The resolvers of `/etc/resolv.conf`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::family::Family;

const FILE: &str = "/etc/resolv.conf";
const PORT: u16 = 53;
/// No more are asked (`MAXNS` of resolv.conf(5)).
const MOST: usize = 3;

/// A name server that resolves names for this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resolver {
    pub(super) address: SocketAddr,
}

impl Resolver {
    /// Whether its address means something on one link only.
    pub(super) const fn is_link_local(&self) -> bool {
        matches!(self.address, SocketAddr::V6(address) if address.ip().is_unicast_link_local())
    }
}

/// Reads the file, which others change at any time. Those of `family` come first.
pub(super) async fn read(family: Family) -> Result<Vec<Resolver>, String> {
    let text = tokio::task::spawn_blocking(|| std::fs::read_to_string(FILE))
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| format!("{FILE} cannot be read: {error}"))?;
    Ok(resolvers(&text, family))
}

/// Without any the host itself is meant (resolv.conf(5)).
fn resolvers(text: &str, family: Family) -> Vec<Resolver> {
    let mut found: Vec<Resolver> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let server = words.next().is_some_and(|word| word == "nameserver");
            words.next().filter(|_| server)
        })
        // Which link is meant is left out: only the uplink's own is asked.
        .filter_map(|word| word.split('%').next()?.parse::<IpAddr>().ok())
        .take(MOST)
        .map(|address| Resolver {
            address: SocketAddr::new(address, PORT),
        })
        .collect();
    if found.is_empty() {
        found.push(Resolver {
            address: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT),
        });
    }
    found.sort_by_key(|resolver| Family::of(resolver.address.ip()) != family);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, family: Family) -> Vec<String> {
        resolvers(text, family)
            .iter()
            .map(|resolver| resolver.address.ip().to_string())
            .collect()
    }

    #[test]
    fn resolvers_of_the_family_come_first_and_no_more_than_three_are_asked() {
        let text = "# by hand\ndomain example.org\nnameserver 192.0.2.53 # first\n\
                    nameserver fd00::53\n;nameserver 192.0.2.54\noptions edns0\n\
                    nameserver fe80::1%eth0\nnameserver 192.0.2.55\n";
        assert_eq!(
            read(text, Family::Ipv4),
            ["192.0.2.53", "fd00::53", "fe80::1"]
        );
        assert_eq!(
            read(text, Family::Ipv6),
            ["fd00::53", "fe80::1", "192.0.2.53"]
        );
    }

    #[test]
    fn a_file_that_names_none_means_this_host() {
        for text in ["", "nameserver\n", "nameserver nobody\nsearch lan\n"] {
            assert_eq!(read(text, Family::Ipv6), ["127.0.0.1"]);
        }
    }
}
