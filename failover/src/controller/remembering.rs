//! Looks up the uplink that a source or a pair was given in a pool, where new flows remember it.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use failover_common::RememberedKey;
use tracing::warn;

use crate::causes::in_one_line;
use crate::config::Affinity;
use crate::controller::engine::explaining::PoolMemory;
use crate::dataplane::ebpf::publish::layout_affinity;
use crate::dataplane::ebpf::table::{FlowTable, TableError};
use crate::family::Family;
use crate::flows::{Protocol, key_of};
use crate::kernel::nftables::{Nft, NftError};
use crate::uplink::UplinkId;
use crate::wanted::PickedBy;
use crate::wanted::ruleset::remembered_name;

/// What is remembered by who has the last word about a new flow. `bpffs` is where maps are pinned.
pub(super) async fn remembered(
    chosen_by: PickedBy,
    bpffs: Option<&Path>,
    memory: &PoolMemory,
    ends: (IpAddr, IpAddr),
) -> Option<(UplinkId, Duration)> {
    match chosen_by {
        PickedBy::Tc => by_programs(bpffs?, memory, ends),
        PickedBy::Nftables => by_nftables(memory, ends).await,
    }
}

/// What the programs remember of a source and a destination, and for how long.
fn by_programs(
    bpffs: &Path,
    memory: &PoolMemory,
    (source, destination): (IpAddr, IpAddr),
) -> Option<(UplinkId, Duration)> {
    let flow = key_of(Protocol(0), (source, 0), (destination, 0));
    let affinity = layout_affinity(memory.affinity);
    let key = RememberedKey::new(&flow, memory.identity.get(), affinity);
    let look = || -> Result<_, TableError> {
        let table = FlowTable::open(bpffs)?;
        Ok((table.remembered(&key)?, table.lives()?.now_ns))
    };
    let found = look().inspect_err(
        |error| warn!(error = %in_one_line(error), "cannot look up what is remembered"),
    );
    let (remembered, now_ns) = found.ok()?;
    let remembered = remembered?;
    let passed = Duration::from_nanos(now_ns.saturating_sub(remembered.seen_ns));
    let left = memory.time.checked_sub(passed)?;
    let uplink = UplinkId::try_from(remembered.uplink).ok()?;
    (left > Duration::ZERO).then_some((uplink, left))
}

/// What the own nftables table remembers of a source and a destination, and for how long.
async fn by_nftables(
    memory: &PoolMemory,
    (source, destination): (IpAddr, IpAddr),
) -> Option<(UplinkId, Duration)> {
    let family = Family::of(source);
    let element = match memory.affinity {
        Affinity::Source(_) => source.to_string(),
        Affinity::Flow | Affinity::Pair(_) => format!("{source} . {destination}"),
    };
    let look = async || -> Result<_, NftError> {
        let nft = Nft::find()?;
        for uplink in &memory.named {
            let set = remembered_name(memory.identity, family, *uplink);
            if let Some(left) = nft.time_left(&set, &element).await? {
                return Ok(Some((*uplink, left)));
            }
        }
        Ok(None)
    };
    let found = look().await;
    found
        .inspect_err(
            |error| warn!(error = %in_one_line(error), "cannot look up what is remembered"),
        )
        .ok()?
}
