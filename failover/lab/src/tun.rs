//! A TUN interface whose packets this process sends and receives: it stands for a VPN, or for any
//! other interface without Ethernet header.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;

use nix::fcntl::OFlag;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::error::LabError;
use crate::node::Node;
use crate::sys;

/// As long as packets of an interface ever are in tests.
const LONGEST_PACKET: usize = 9000;

/// The side of a TUN interface that is not the kernel's. The interface vanishes with the node, or
/// when both halves are gone.
#[derive(Debug)]
pub struct Tun {
    /// Packets that the kernel sends by the interface, each beginning with its IP header.
    pub sent: UnboundedReceiver<Vec<u8>>,
    /// Packets for the kernel, which receives them by the interface.
    pub deliver: UnboundedSender<Vec<u8>>,
}

impl Node {
    /// Makes a TUN interface and sets it up.
    ///
    /// # Errors
    /// When the kernel has no TUN, or there is an interface of that name.
    pub async fn add_tun(&self, interface: &str) -> Result<Tun, LabError> {
        let (to_us, sent) = unbounded_channel();
        let (deliver, to_kernel) = unbounded_channel();
        let name = interface.to_owned();
        self.run(move || async move {
            // The interface appears in the namespace of the thread that opens the device.
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(OFlag::O_NONBLOCK.bits())
                .open("/dev/net/tun")?;
            sys::attach_tun(&file, &name)?;
            let device = sys::watch(file)?;
            tokio::task::spawn_local(pump(device, to_us, to_kernel));
            Ok::<(), io::Error>(())
        })
        .await?
        .map_err(LabError::io(format!(
            "make TUN interface {interface} on node {}",
            self.name()
        )))?;
        self.set_up(interface).await?;
        Ok(Tun { sent, deliver })
    }
}

/// Passes packets on in both directions until both are over.
async fn pump(
    device: AsyncFd<File>,
    to_us: UnboundedSender<Vec<u8>>,
    mut to_kernel: UnboundedReceiver<Vec<u8>>,
) {
    let sending = async {
        let mut buffer = vec![0_u8; LONGEST_PACKET];
        loop {
            let read = device.async_io(tokio::io::Interest::READABLE, |mut file| {
                file.read(&mut buffer)
            });
            let packet = tokio::select! {
                packet = read => packet,
                // Nobody wants packets any more, also while none come.
                () = to_us.closed() => return,
            };
            match packet {
                Ok(length) => {
                    let packet = buffer.get(..length).unwrap_or_default();
                    if to_us.send(packet.to_vec()).is_err() {
                        return;
                    }
                }
                // The interface was deleted, or is down: there are no packets.
                Err(error) => {
                    tracing::debug!(%error, "a TUN interface cannot be read");
                    return;
                }
            }
        }
    };
    let receiving = async {
        while let Some(packet) = to_kernel.recv().await {
            let written = device
                .async_io(tokio::io::Interest::WRITABLE, |mut file| {
                    file.write(&packet).map(drop)
                })
                .await;
            if let Err(error) = written {
                tracing::debug!(%error, "the kernel does not take a packet from a TUN interface");
            }
        }
    };
    tokio::join!(sending, receiving);
}
