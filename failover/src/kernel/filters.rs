//! The `clsact` queueing discipline and the BPF filters that hang on it (`tc filter`).

use std::fmt;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcFilterBpfOption, TcHandle, TcMessage, TcOption};
use nix::errno::Errno;
use thiserror::Error;

use super::rtnetlink::{Rtnetlink, RtnetlinkError};
use crate::interface::InterfaceIndex;

/// `TC_H_CLSACT` and its two sides (include/uapi/linux/pkt_sched.h).
const CLSACT: u32 = 0xffff_fff1;
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;
/// All protocols, in network order, as it stands in a filter's number.
const ETH_P_ALL: u32 = 0x0003_u16.to_be() as u32;

/// A side of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What comes in.
    Ingress,
    /// What goes out.
    Egress,
}

impl Side {
    /// Both sides.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    fn parent(self) -> TcHandle {
        TcHandle::from(match self {
            Self::Ingress => INGRESS,
            Self::Egress => EGRESS,
        })
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

/// What filters of what comes in hang on, and with `clsact` those of what goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Qdisc {
    /// `clsact`.
    Clsact,
    /// Another one in its place: `ingress`, on which filters for what goes out are asked about what
    /// comes in (`ingress_tcf_block` in net/sched/sch_ingress.c).
    Other(String),
}

/// A filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The interface.
    pub interface: InterfaceIndex,
    /// Its side.
    pub side: Side,
    /// Its priority, lower ones are asked first.
    pub priority: u16,
    /// Its number within the priority.
    pub handle: u32,
    /// Its kind, such as `u32` or `bpf`.
    pub kind: String,
    /// Its chain. Others than the first are only reached from filters that lead there.
    pub chain: u32,
    /// What it runs; `None` where it is no BPF filter.
    pub program: Option<Program>,
}

/// What a BPF filter runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The name that it was given when it was attached.
    pub name: String,
    /// The kernel's number of the program.
    pub id: Option<u32>,
}

/// Why filters could not be read or changed.
#[derive(Debug, Error)]
pub enum FilterError {
    /// There is no socket.
    #[error(transparent)]
    Open(RtnetlinkError),
    /// A listing failed.
    #[error("cannot list the {side} filters of interface {interface}: {source}")]
    List {
        /// The interface.
        interface: InterfaceIndex,
        /// Its side.
        side: Side,
        /// Why.
        source: RtnetlinkError,
    },
    /// The queueing disciplines could not be listed.
    #[error("cannot list the queueing disciplines: {0}")]
    Qdiscs(#[source] RtnetlinkError),
    /// A filter or the discipline was not removed.
    #[error("cannot remove {what} of interface {interface}: {source}")]
    Remove {
        /// What was to be removed.
        what: String,
        /// The interface.
        interface: InterfaceIndex,
        /// Why.
        source: RtnetlinkError,
    },
}

/// Reads and removes filters.
#[derive(Debug)]
pub struct TrafficFilters {
    netlink: Rtnetlink,
}

impl TrafficFilters {
    /// Opens a socket in the present network namespace, served by the present runtime.
    ///
    /// # Errors
    /// When the kernel gives no socket.
    pub fn open() -> Result<Self, FilterError> {
        Ok(Self {
            netlink: Rtnetlink::open().map_err(FilterError::Open)?,
        })
    }

    /// The filters on a side of an interface.
    ///
    /// # Errors
    /// When the kernel refuses to list them.
    pub async fn list(
        &mut self,
        interface: InterfaceIndex,
        side: Side,
    ) -> Result<Vec<Filter>, FilterError> {
        let request = RouteNetlinkMessage::GetTrafficFilter(question(interface, side));
        let listed = self.netlink.dump(request).await;
        let messages = match listed {
            // A kernel without traffic control has no filters; an interface that is gone neither.
            Err(error) if errno_is(&error, &[Errno::EOPNOTSUPP, Errno::ENODEV]) => Vec::new(),
            other => other.map_err(|source| FilterError::List {
                interface,
                side,
                source,
            })?,
        };
        let filters = messages.into_iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewTrafficFilter(message) => filter(interface, side, &message),
            _ => None,
        });
        Ok(filters.collect())
    }

    /// What filters can hang on at an interface; `None` where there is nothing yet.
    ///
    /// # Errors
    /// When the kernel refuses to list it.
    pub async fn qdisc(&mut self, interface: InterfaceIndex) -> Result<Option<Qdisc>, FilterError> {
        let mut request = TcMessage::default();
        request.header.index = index(interface);
        let listed = self
            .netlink
            .dump(RouteNetlinkMessage::GetQueueDiscipline(request))
            .await
            .map_err(FilterError::Qdiscs)?;
        // The kernel lists those of all interfaces.
        Ok(listed.into_iter().find_map(|message| match message {
            RouteNetlinkMessage::NewQueueDiscipline(message)
                if message.header.index == index(interface)
                    && message.header.parent == TcHandle::from(CLSACT) =>
            {
                message.attributes.into_iter().find_map(kind)
            }
            _ => None,
        }))
    }

    /// Removes a filter; that it is gone is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn remove(&mut self, filter: &Filter) -> Result<(), FilterError> {
        let mut request = TcMessage::default();
        request.header.index = index(filter.interface);
        request.header.parent = filter.side.parent();
        request.header.handle = TcHandle::from(filter.handle);
        request.header.info = u32::from(filter.priority) << 16 | ETH_P_ALL;
        self.delete(
            RouteNetlinkMessage::DelTrafficFilter(request),
            filter.interface,
            || format!("the {} filter of priority {}", filter.side, filter.priority),
        )
        .await
    }

    /// Removes the `clsact` discipline with whatever hangs on it; that it is gone is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn remove_clsact(&mut self, interface: InterfaceIndex) -> Result<(), FilterError> {
        let mut request = TcMessage::default();
        request.header.index = index(interface);
        request.header.parent = TcHandle::from(CLSACT);
        self.delete(
            RouteNetlinkMessage::DelQueueDiscipline(request),
            interface,
            || "the clsact qdisc".to_owned(),
        )
        .await
    }

    async fn delete(
        &mut self,
        request: RouteNetlinkMessage,
        interface: InterfaceIndex,
        what: impl FnOnce() -> String,
    ) -> Result<(), FilterError> {
        match self.netlink.execute(request, 0).await {
            Err(error) if errno_is(&error, &[Errno::ENOENT, Errno::ENODEV, Errno::EINVAL]) => {
                Ok(())
            }
            other => other.map_err(|source| FilterError::Remove {
                what: what(),
                interface,
                source,
            }),
        }
    }
}

fn index(interface: InterfaceIndex) -> i32 {
    i32::try_from(interface.0).unwrap_or(i32::MAX)
}

fn errno_is(error: &RtnetlinkError, numbers: &[Errno]) -> bool {
    numbers
        .iter()
        .any(|number| error.errno() == Some(*number as i32))
}

fn kind(attribute: TcAttribute) -> Option<Qdisc> {
    match attribute {
        TcAttribute::Kind(kind) if kind == "clsact" => Some(Qdisc::Clsact),
        TcAttribute::Kind(kind) => Some(Qdisc::Other(kind)),
        _ => None,
    }
}

/// Asks for the filters on a side of an interface.
pub(super) fn question(interface: InterfaceIndex, side: Side) -> TcMessage {
    let mut request = TcMessage::default();
    request.header.index = index(interface);
    request.header.parent = side.parent();
    request
}

/// What an answer says. Without a number it is the head of its priority, not a filter.
pub(super) fn filter(interface: InterfaceIndex, side: Side, message: &TcMessage) -> Option<Filter> {
    let handle = u32::from(message.header.handle);
    if handle == 0 {
        return None;
    }
    let mut kind = String::new();
    let mut chain = 0;
    let mut name = None;
    let mut id = None;
    for attribute in &message.attributes {
        let options = match attribute {
            TcAttribute::Options(options) => options,
            TcAttribute::Kind(found) => {
                kind.clone_from(found);
                continue;
            }
            TcAttribute::Chain(found) => {
                chain = *found;
                continue;
            }
            _ => continue,
        };
        for option in options {
            match option {
                TcOption::Bpf(TcFilterBpfOption::ProgName(found)) => name = Some(found.clone()),
                TcOption::Bpf(TcFilterBpfOption::ProgId(found)) => id = Some(*found),
                _ => {}
            }
        }
    }
    let [high, low, _, _] = message.header.info.to_be_bytes();
    Some(Filter {
        interface,
        side,
        priority: u16::from_be_bytes([high, low]),
        handle,
        kind,
        chain,
        program: name.map(|name| Program { name, id }),
    })
}
