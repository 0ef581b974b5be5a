//! What whoever picks uplinks knows of users' traffic.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::family::Family;
use crate::health::Traffic;
use crate::probe::Witness;
use crate::uplink::UplinkId;

/// News of users' traffic through an uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrafficReport {
    /// The uplink.
    pub uplink: UplinkId,
    /// The family.
    pub family: Family,
    /// What.
    pub news: Traffic,
}

/// Who tells of users' traffic.
#[derive(Debug)]
pub struct TrafficSource {
    /// News as they come; closed where nobody sees traffic.
    pub news: mpsc::Receiver<TrafficReport>,
    /// Who can be asked.
    pub witness: Option<Arc<dyn Witness>>,
}

impl TrafficSource {
    /// Nobody sees users' traffic.
    #[must_use]
    pub fn none() -> Self {
        Self {
            news: mpsc::channel(1).1,
            witness: None,
        }
    }
}
