//! What users have beside the daemon: rules of their own that set marks, and routes to their networks.

use super::{Packets, space};
use crate::error::LabError;
use crate::lab::Lab;
use crate::node::ProgramSpec;

/// What a packet has that is given no mark; those behind it stand for marks.
pub(super) const HOP_LIMIT: u8 = 60;
/// What is around the daemon: routes to users' networks, the user's own rules that set marks by the
/// hop limit, and providers that let nothing of this through.
pub(super) async fn surroundings(lab: &Lab, packets: &Packets<'_>) -> Result<(), LabError> {
    let gateway = lab.gateway().node();
    // Connection tracking reckons checksums of UDP-Lite with UDP's protocol number and takes right ones for
    // wrong (`udplite_error` in net/netfilter/nf_conntrack_proto_udp.c): such packets begin no connection.
    let key = "net/netfilter/nf_conntrack_checksum";
    gateway.set_sysctl(key, "0").await?;
    for network in space::BEHIND {
        let via = if network.contains(':') {
            "-6 route add NET via fd00:18::10"
        } else {
            "route add NET via 198.18.0.10"
        };
        let line = format!("ip {}", via.replace("NET", network));
        gateway.must(ProgramSpec::line(&line)).await?;
    }
    let chains = packets
        .marks()
        .iter()
        .map(|mark| format!("chain mark_{mark:x} {{ meta mark set meta mark | {mark:#010x}; }}\n"));
    let elements = (HOP_LIMIT..).zip(packets.marks());
    let elements: Vec<String> = elements
        .map(|(hop_limit, mark)| format!("{hop_limit} : goto mark_{mark:x}"))
        .collect();
    let elements = elements.join(", ");
    gateway
        .nft(format!(
            "table inet users {{
               {}
               chain prerouting {{
                 type filter hook prerouting priority mangle; policy accept;
                 iifname != {{ \"lan0\", \"lan1\" }} return
                 ip ttl vmap {{ {elements} }}
                 ip6 hoplimit vmap {{ {elements} }}
               }}
             }}",
            chains.collect::<String>()
        ))
        .await?;
    for uplink in lab.uplinks() {
        uplink
            .provider()
            .nft(
                "table inet swallow { chain prerouting {
                   type filter hook prerouting priority raw; policy accept;
                   ip daddr { 198.18.192.0/18, 198.19.144.0-198.19.255.255, 198.51.100.0/24 } drop
                   ip6 daddr fd00:aa::/32 drop
                 }
               }",
            )
            .await?;
    }
    Ok(())
}
