//! Which connection tracking entries belong to an address that an uplink had.

use std::net::IpAddr;

use crate::mark::{Mark, MarkMask};

/// An address that an uplink had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormerAddress {
    /// The address.
    pub address: IpAddr,
    /// The mark of the uplink's entries.
    pub mark: Mark,
    /// Our bits of it.
    pub mask: MarkMask,
    /// Another interface has the address.
    pub elsewhere: bool,
}

impl FormerAddress {
    /// The mark of entries of the uplink's probes.
    #[must_use]
    pub const fn probes(&self) -> Mark {
        Mark(self.mark.0 | self.mask.probe_bit())
    }

    /// Whether an entry goes. One of the uplink does if its replies go to the address, or its first
    /// packet went there. One that is a probe's, or has no uplink's id and is translated, does if
    /// its replies go to the address, unless another interface has it.
    #[must_use]
    pub fn has(&self, entry: &EntryAddresses) -> bool {
        let answered_there = entry.reply_destination == Some(self.address);
        let asked_there = entry.destination == Some(self.address);
        let bits = entry.mark.0 & self.mask.bits();
        if bits == self.mark.0 {
            answered_there || asked_there
        } else if bits == self.probes().0 {
            answered_there && !self.elsewhere
        } else {
            let translated = entry.source != Some(self.address);
            bits == 0 && answered_there && translated && !self.elsewhere
        }
    }
}

/// What says whose an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryAddresses {
    /// The mark.
    pub mark: Mark,
    /// Where the first packet came from.
    pub source: Option<IpAddr>,
    /// Where it went, before any translation.
    pub destination: Option<IpAddr>,
    /// Where replies go: the source, after translation.
    pub reply_destination: Option<IpAddr>,
}
