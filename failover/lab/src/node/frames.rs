//! Frames that a node sends as they are, past its own network stack.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socket};

use super::Node;
use crate::error::LabError;
use crate::sys;

/// How a frame lies in the memory of the receiving kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// In one piece.
    Linear,
    /// The Ethernet header in one piece, everything behind it in pages of its own, as many drivers
    /// leave it. The kernel does that with frames that are longer than a page (4096 bytes).
    Scattered,
}

/// `struct virtio_net_hdr` (include/uapi/linux/virtio_net.h): no offload, no checksum to compute,
/// and an Ethernet header of 14 bytes in the linear part.
const SCATTERED: [u8; 10] = {
    let [low, high] = 14_u16.to_ne_bytes();
    [0, 0, low, high, 0, 0, 0, 0, 0, 0]
};

impl Node {
    /// Sends frames by an interface, one after the other, each with its Ethernet header.
    ///
    /// # Errors
    /// When there is no such interface in the namespace, or the kernel refuses a frame: one that is
    /// longer than the interface's MTU, for instance.
    pub async fn send_frames(
        &self,
        interface: &str,
        layout: Layout,
        frames: Vec<Vec<u8>>,
    ) -> Result<(), LabError> {
        let index = self.interface_index(interface).await?;
        self.run(move || async move { send_all(index, layout, &frames) })
            .await?
            .map_err(LabError::io(format!(
                "send frames by {interface} of node {}",
                self.name()
            )))
    }
}

/// Opens a socket of the calling thread's network namespace that sends whole frames by an interface, and
/// receives none.
///
/// # Errors
/// When the kernel gives none, or there is no such interface.
pub fn frame_sender(index: u32) -> io::Result<OwnedFd> {
    // Without a protocol it receives nothing.
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    sys::bind_packet_socket(socket.as_fd(), index)?;
    Ok(socket)
}

fn send_all(index: u32, layout: Layout, frames: &[Vec<u8>]) -> io::Result<()> {
    let socket = frame_sender(index)?;
    let before: &[u8] = match layout {
        Layout::Linear => &[],
        Layout::Scattered => {
            sys::expect_layout(socket.as_fd())?;
            &SCATTERED
        }
    };
    for frame in frames {
        send(
            socket.as_raw_fd(),
            &[before, frame].concat(),
            MsgFlags::empty(),
        )?;
    }
    Ok(())
}
