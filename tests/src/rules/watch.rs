//! What leaves by an uplink: the numbers of the packets that its provider sees.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use nix::sys::socket::{MsgFlags, recv};
use socket2::SockRef;

use super::frames;
use crate::capture;
use crate::error::LabError;
use crate::lab::{ACCESS, Uplink};
use crate::sys;

/// Sees what comes to a provider from the gateway.
#[derive(Debug)]
pub(super) struct Watch {
    uplink: u8,
    socket: OwnedFd,
}

impl Watch {
    pub(super) async fn open(uplink: &Uplink) -> Result<Self, LabError> {
        let node = uplink.provider();
        let index = node.interface_index(ACCESS).await?;
        let open = move || async move {
            let socket = capture::open()?;
            SockRef::from(&socket).attach_filter(&capture::incoming_on(index))?;
            Ok(socket)
        };
        let what = format!("watch the packets on node {}", node.name());
        let opened: io::Result<OwnedFd> = node.run(open).await?;
        Ok(Self {
            uplink: uplink.number(),
            socket: opened.map_err(LabError::io(what))?,
        })
    }

    /// The number of the uplink.
    pub(super) const fn uplink(&self) -> u8 {
        self.uplink
    }

    /// The numbers of the packets that came since the last call.
    pub(super) fn take(&self) -> Result<Vec<u32>, LabError> {
        let what = || format!("read the packets of uplink {}", self.uplink);
        let mut bytes = [0_u8; 256];
        let mut numbers = Vec::new();
        loop {
            match recv(self.socket.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => {
                    let packet = bytes.get(..length).unwrap_or_default();
                    numbers.extend(frames::number_of(packet));
                }
                Err(nix::Error::EAGAIN) => break,
                Err(nix::Error::EINTR | nix::Error::ENETDOWN) => {}
                Err(other) => return Err(LabError::io(what())(io::Error::from(other))),
            }
        }
        let lost = sys::packets_lost(self.socket.as_fd()).map_err(LabError::io(what()))?;
        if lost > 0 {
            let node = format!("provider{}", self.uplink);
            return Err(LabError::CaptureLost { node, lost });
        }
        Ok(numbers)
    }
}
