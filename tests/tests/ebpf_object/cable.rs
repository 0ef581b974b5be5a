//! Two network namespaces joined by one cable, with nothing on it but what a test sends.
//!
//! No program and no file holds the namespaces, only this process does: they are gone when it is.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::thread;

use libtest_mimic::Failed;
use nix::sched::{CloneFlags, setns, unshare};
use rtnetlink::packet_route::neighbour::NeighbourState;
use rtnetlink::{Handle, LinkUnspec, LinkVeth};

/// The interface on either side.
pub(crate) const INTERFACE: &str = "cable";

/// One end of the cable.
pub(crate) struct End {
    namespace: File,
    /// The address of this end.
    pub(crate) address: Ipv4Addr,
    mac: [u8; 6],
}

/// Both ends: the programs are attached at the near one.
pub(crate) struct Cable {
    pub(crate) near: End,
    pub(crate) far: End,
}

impl Cable {
    /// Makes the namespaces and joins them.
    pub(crate) fn new() -> Result<Self, Failed> {
        let near = End::new(1)?;
        let far = End::new(2)?;
        near.within(|| {
            with_netlink(async |netlink| {
                let peer = "far";
                let ends = LinkVeth::new(INTERFACE, peer).build();
                netlink.link().add(ends).execute().await?;
                let there = LinkUnspec::new_with_name(peer)
                    .setns_by_fd(far.namespace.as_raw_fd())
                    .build();
                netlink.link().set(there).execute().await?;
                Ok(())
            })?;
            near.configure(INTERFACE, &far)
        })?;
        far.within(|| far.configure("far", &near))?;
        Ok(Self { near, far })
    }
}

impl End {
    /// An empty namespace, in which IPv6 speaks up for nothing.
    fn new(number: u8) -> Result<Self, Failed> {
        let namespace = on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            for interfaces in ["all", "default"] {
                let key = format!("/proc/sys/net/ipv6/conf/{interfaces}/disable_ipv6");
                match fs::write(&key, "1") {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(error.into());
                    }
                    Ok(()) | Err(_) => {}
                }
            }
            Ok(File::open("/proc/thread-self/ns/net")?)
        })?;
        Ok(Self {
            namespace,
            address: Ipv4Addr::new(198, 18, 0, number),
            mac: [0x02, 0, 0, 0, 0, number],
        })
    }

    /// Does something in this namespace, on a thread that is there and nowhere else.
    pub(crate) fn within<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, Failed> + Send,
    ) -> Result<T, Failed> {
        on_a_thread(|| {
            setns(&self.namespace, CloneFlags::CLONE_NEWNET)?;
            work()
        })
    }

    /// Gives the interface its name and addresses and tells it its neighbour, so that nobody asks
    /// by ARP: every frame on the cable is one that a test has sent.
    fn configure(&self, interface: &str, other: &Self) -> Result<(), Failed> {
        let index = nix::net::if_::if_nametoindex(interface)?;
        with_netlink(async |netlink| {
            let link = LinkUnspec::new_with_index(index)
                .name(INTERFACE)
                .address(self.mac.to_vec())
                .up()
                .build();
            netlink.link().set(link).execute().await?;
            let address = IpAddr::V4(self.address);
            netlink.address().add(index, address, 24).execute().await?;
            netlink
                .neighbours()
                .add(index, IpAddr::V4(other.address))
                .link_layer_address(&other.mac)
                .state(NeighbourState::Permanent)
                .execute()
                .await?;
            Ok(())
        })
    }
}

/// Namespaces belong to threads: each piece of work gets one of its own.
fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T, Failed> + Send) -> Result<T, Failed> {
    thread::scope(|scope| scope.spawn(work).join())
        .map_err(|_| Failed::from("a thread of the test panicked"))?
}

/// Talks netlink in the namespace of the calling thread.
fn with_netlink(work: impl AsyncFnOnce(Handle) -> Result<(), Failed>) -> Result<(), Failed> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection()?;
            tokio::spawn(connection);
            work(handle).await
        })
}
