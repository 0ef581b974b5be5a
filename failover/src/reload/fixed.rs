//! What cannot change while the daemon runs.
//!
//! | key | why |
//! | --- | --- |
//! | `mode` | programs and nftables would have to hand the picking over to each other |
//! | `marks.mask` | every living connection carries its uplink's id under the old mask |
//! | `control`, `state_dir` | commands and other daemons look for this one there |
//! | `log` | who reads it follows the file or stream that it began with |
//! | `bpffs`, `flows.capacity` | in eBPF mode: maps can be neither moved nor resized |

use crate::config::{Config, ModeSetting};
use crate::reload::Change;
use crate::wanted::PickedBy;

/// Whether a running daemon can take the change over.
pub(super) fn can_change(change: &Change, old: &Config, new: &Config, by: PickedBy) -> bool {
    let Change::SettingChanged { key, .. } = change else {
        return true;
    };
    match key.as_str() {
        "mode" => stays(old.mode, new.mode, by),
        "marks.mask" | "control" | "state_dir" | "log" => false,
        "bpffs" | "flows.capacity" => by == PickedBy::Nftables,
        _ => true,
    }
}

/// Whether the new mode is the one that runs. What `auto` would choose now is known only where it
/// tries first what runs.
fn stays(old: ModeSetting, new: ModeSetting, by: PickedBy) -> bool {
    match (new, by) {
        (ModeSetting::Ebpf | ModeSetting::Auto, PickedBy::Tc)
        | (ModeSetting::Classic, PickedBy::Nftables) => true,
        (ModeSetting::Auto, PickedBy::Nftables) => old == ModeSetting::Auto,
        (ModeSetting::Ebpf, PickedBy::Nftables) | (ModeSetting::Classic, PickedBy::Tc) => false,
    }
}
