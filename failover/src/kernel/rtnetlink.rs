//! One rtnetlink socket: a question with many answers, or an order with an acknowledgement.
//!
//! The socket checks requests strictly (`NETLINK_GET_STRICT_CHK`, Linux 4.20), so that the kernel
//! itself filters what is listed: a full table of a BGP peer in `main` costs nothing here.

use std::io;

use futures_util::StreamExt;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{AsyncSocket, TokioSocket, protocols::NETLINK_ROUTE};
use thiserror::Error;

/// How often a listing is begun anew when the table changed meanwhile.
const ATTEMPTS: u32 = 16;

/// Length of the header of the request that an error message repeats (`struct nlmsghdr`).
const NLMSG_HEADER_LEN: usize = 16;

/// The attribute of an error message that says in words what is wrong
/// (`include/uapi/linux/netlink.h`).
const NLMSGERR_ATTR_MSG: u16 = 1;

/// Why a request of rtnetlink failed.
#[derive(Debug, Error)]
pub enum RtnetlinkError {
    /// There is no socket.
    #[error("cannot open a netlink socket: {0}")]
    Open(#[source] io::Error),
    /// The socket's task has ended: the runtime is shutting down, or reading failed for good.
    #[error("the netlink connection has ended")]
    Closed,
    /// The kernel refused.
    #[error("{error}{}", detail.as_ref().map(|d| format!(": {d}")).unwrap_or_default())]
    Refused {
        /// The error's number.
        error: io::Error,
        /// The kernel's own words, where it has any.
        detail: Option<String>,
    },
    /// It never held still for as long as it takes to read it.
    #[error("it changed during each of {ATTEMPTS} attempts to read it")]
    Unsteady,
}

impl RtnetlinkError {
    /// The number of the kernel's error, such as `libc::EEXIST`.
    pub(super) fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { error, .. } => error.raw_os_error(),
            _ => None,
        }
    }
}

/// One socket, bound to the network namespace in which it was made.
#[derive(Debug)]
pub(super) struct Rtnetlink {
    handle: rtnetlink::Handle,
    port: u32,
    listed: u64,
}

impl Rtnetlink {
    /// Opens a socket and gives it to a task of the runtime, which ends with this value.
    pub(super) fn open() -> Result<Self, RtnetlinkError> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE).map_err(RtnetlinkError::Open)?;
        let raw = socket.socket_mut();
        let address = raw.bind_auto().map_err(RtnetlinkError::Open)?;
        raw.set_netlink_get_strict_chk(true)
            .map_err(RtnetlinkError::Open)?;
        // Both only make errors speak; a kernel without them still answers with the number.
        if let Err(error) = raw.set_ext_ack(true).and_then(|()| raw.set_cap_ack(true)) {
            tracing::info!(%error, "the kernel gives no words with netlink errors");
        }
        let (mut connection, handle, _unsolicited) = rtnetlink::from_socket(socket);
        // So that an answer that is cut short is not taken for a whole one.
        connection.set_forward_ack(true);
        connection.set_forward_done(true);
        tokio::spawn(connection);
        Ok(Self {
            handle,
            port: address.port_number(),
            listed: 0,
        })
    }

    /// The socket's number, which stands in the notifications of what it changed.
    pub(super) const fn port(&self) -> u32 {
        self.port
    }

    /// How many things the kernel has listed so far, in all attempts.
    pub(super) const fn listed(&self) -> u64 {
        self.listed
    }

    /// Lists everything that fits `request`.
    pub(super) async fn dump(
        &mut self,
        request: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, RtnetlinkError> {
        for _ in 0..ATTEMPTS {
            let (found, consistent) = self.dump_once(request.clone()).await?;
            if consistent {
                return Ok(found);
            }
        }
        Err(RtnetlinkError::Unsteady)
    }

    async fn dump_once(
        &mut self,
        request: RouteNetlinkMessage,
    ) -> Result<(Vec<RouteNetlinkMessage>, bool), RtnetlinkError> {
        let mut message = NetlinkMessage::from(request);
        message.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        let mut answers = self
            .handle
            .request(message)
            .map_err(|_| RtnetlinkError::Closed)?;
        let mut found = Vec::new();
        let mut consistent = true;
        while let Some(answer) = answers.next().await {
            consistent &= answer.header.flags & NLM_F_DUMP_INTR == 0;
            match answer.payload {
                NetlinkPayload::InnerMessage(inner) => {
                    self.listed = self.listed.saturating_add(1);
                    found.push(inner);
                }
                NetlinkPayload::Error(error) => {
                    return Err(refusal(&error, answer.header.flags));
                }
                NetlinkPayload::Done(done) if done.code != 0 => {
                    return Err(RtnetlinkError::Refused {
                        error: io::Error::from_raw_os_error(done.code.saturating_abs()),
                        detail: None,
                    });
                }
                NetlinkPayload::Done(_) => return Ok((found, consistent)),
                _ => {}
            }
        }
        Err(RtnetlinkError::Closed)
    }

    /// Asks for one thing.
    pub(super) async fn ask(
        &mut self,
        request: RouteNetlinkMessage,
    ) -> Result<RouteNetlinkMessage, RtnetlinkError> {
        let mut message = NetlinkMessage::from(request);
        message.header.flags = NLM_F_REQUEST;
        let mut answers = self
            .handle
            .request(message)
            .map_err(|_| RtnetlinkError::Closed)?;
        let answer = answers.next().await.ok_or(RtnetlinkError::Closed)?;
        match answer.payload {
            NetlinkPayload::InnerMessage(inner) => Ok(inner),
            NetlinkPayload::Error(error) => Err(refusal(&error, answer.header.flags)),
            _ => Err(RtnetlinkError::Closed),
        }
    }

    /// Has `request` carried out; `flags` are added to "request" and "acknowledge".
    pub(super) async fn execute(
        &mut self,
        request: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), RtnetlinkError> {
        let mut results = self.execute_all(vec![request], flags).await;
        results.pop().unwrap_or(Err(RtnetlinkError::Closed))
    }

    /// Has requests carried out in their order, all of them sent before the first answer is waited
    /// for. One result for each.
    pub(super) async fn execute_all(
        &mut self,
        requests: Vec<RouteNetlinkMessage>,
        flags: u16,
    ) -> Vec<Result<(), RtnetlinkError>> {
        let sent: Vec<_> = requests
            .into_iter()
            .map(|request| {
                let mut message = NetlinkMessage::from(request);
                message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
                self.handle.request(message)
            })
            .collect();
        let mut results = Vec::with_capacity(sent.len());
        for answers in sent {
            let answer = match answers {
                Ok(mut answers) => answers.next().await,
                Err(_) => None,
            };
            results.push(
                match answer.map(|answer| (answer.header.flags, answer.payload)) {
                    Some((_, NetlinkPayload::Error(error))) if error.code.is_none() => Ok(()),
                    Some((flags, NetlinkPayload::Error(error))) => Err(refusal(&error, flags)),
                    _ => Err(RtnetlinkError::Closed),
                },
            );
        }
        results
    }
}

fn refusal(error: &netlink_packet_core::ErrorMessage, flags: u16) -> RtnetlinkError {
    let detail = (flags & NLM_F_ACK_TLVS != 0)
        .then(|| error.header.get(NLMSG_HEADER_LEN..))
        .flatten()
        .and_then(|attributes| {
            NlasIterator::new(attributes)
                .filter_map(Result::ok)
                .find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)
                .map(|attribute| {
                    String::from_utf8_lossy(attribute.value())
                        .trim_end_matches('\0')
                        .to_owned()
                })
        });
    RtnetlinkError::Refused {
        error: error.to_io(),
        detail,
    }
}
