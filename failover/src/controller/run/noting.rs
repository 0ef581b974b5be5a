//! What the engine tells, as events of the journal.

use crate::controller::engine::{Change, DrainNotice, HandNotice, UsedUp};
use crate::controller::uplink::Notice;
use crate::journal::{DrainStep, Event};

impl From<Notice> for Event {
    fn from(notice: Notice) -> Self {
        Self::State {
            uplink: notice.uplink,
            family: notice.family,
            from: notice.from,
            to: notice.to,
            reason: notice.reason,
        }
    }
}

impl From<HandNotice> for Event {
    fn from(notice: HandNotice) -> Self {
        Self::ByHand {
            uplink: notice.uplink,
            step: notice.step,
            until: notice.until,
        }
    }
}

impl From<UsedUp> for Event {
    fn from(used_up: UsedUp) -> Self {
        Self::Budget {
            uplink: used_up.uplink,
            bytes: used_up.bytes,
            budget: used_up.budget,
        }
    }
}

impl From<DrainNotice> for Event {
    fn from(notice: DrainNotice) -> Self {
        let (step, seconds) = match notice.change {
            Change::Drains(time) => (DrainStep::Begun, Some(time.as_secs())),
            Change::Over => (DrainStep::Over, None),
            Change::OverAndKept => (DrainStep::Kept, None),
            Change::CalledOff => (DrainStep::CalledOff, None),
            Change::Moves => (DrainStep::Moved, None),
        };
        Self::Drain {
            uplink: notice.uplink,
            family: notice.family,
            via: notice.via,
            step,
            seconds,
        }
    }
}
