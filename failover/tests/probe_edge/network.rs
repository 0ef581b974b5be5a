//! A gateway with two uplinks to one provider, in two namespaces without names: the kernel removes
//! them with the last thread and descriptor that holds them, however the test ends.

use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use failover::interface::InterfaceIndex;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::AddressHeaderFlags;
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns, unshare};
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};

/// Answers probes; lives at the provider, reached through either uplink.
pub(crate) const ANSWERING: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x1111, 0, 0, 0, 0, 0, 1)),
];
/// Where the provider drops everything.
pub(crate) const SILENT: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x1111, 0, 0, 0, 0, 0, 2)),
];
/// Where the provider refuses everything with an ICMP error.
pub(crate) const REFUSED: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 3)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x1111, 0, 0, 0, 0, 0, 3)),
];

/// The gateway's address on the uplink with this number.
pub(crate) fn source(uplink: u8) -> [IpAddr; 2] {
    [
        Ipv4Addr::new(198, 18, uplink, 2).into(),
        Ipv6Addr::new(0xfd00, uplink.into(), 0, 0, 0, 0, 0, 2).into(),
    ]
}

fn provider(uplink: u8) -> [IpAddr; 2] {
    [
        Ipv4Addr::new(198, 18, uplink, 1).into(),
        Ipv6Addr::new(0xfd00, uplink.into(), 0, 0, 0, 0, 0, 1).into(),
    ]
}

/// The two namespaces.
pub(crate) struct Network {
    gateway: File,
    provider: File,
}

impl Network {
    /// Two uplinks, `wan1` and `wan2`, the default route being through `wan2`.
    pub(crate) fn new() -> Self {
        let network = Self {
            gateway: new_namespace(),
            provider: new_namespace(),
        };
        for uplink in [1, 2] {
            network.connect(uplink);
        }
        network.nft(
            &network.provider,
            "table inet provider {
                chain in {
                    type filter hook input priority 0
                    ip daddr 192.0.2.2 drop
                    ip6 daddr fd00:1111::2 drop
                    ip daddr 192.0.2.3 reject
                    ip6 daddr fd00:1111::3 reject
                }
            }",
        );
        network.nft(
            &network.gateway,
            "table inet gateway {
                counter marked { }
                counter requests { }
                chain out {
                    type filter hook output priority 0
                    icmp type echo-request counter name requests
                    icmpv6 type echo-request counter name requests
                    meta mark 0x81000000 oifname wan1 icmp type echo-request counter name marked
                    meta mark 0x81000000 oifname wan1 icmpv6 type echo-request counter name marked
                }
            }",
        );
        network
    }

    /// Makes the uplink with this number and everything on it.
    pub(crate) fn connect(&self, uplink: u8) {
        let (near, far) = (format!("wan{uplink}"), format!("isp{uplink}"));
        let provider_namespace = self.provider.as_raw_fd();
        netlink(&self.gateway, async |handle| {
            let pair = LinkVeth::new(&near, &far).build();
            handle.link().add(pair).execute().await.unwrap();
            let far = LinkUnspec::new_with_name(&far)
                .setns_by_fd(provider_namespace)
                .build();
            handle.link().set(far).execute().await.unwrap();
            up(&handle, &near).await;
            for address in source(uplink) {
                add_address(&handle, &near, address, false).await;
            }
        });
        netlink(&self.provider, async |handle| {
            up(&handle, &far).await;
            for address in provider(uplink) {
                add_address(&handle, &far, address, false).await;
            }
            for address in [ANSWERING, SILENT, REFUSED].as_flattened() {
                add_address(&handle, &far, *address, true).await;
            }
        });
        netlink(&self.gateway, async |handle| {
            for gateway in provider(uplink) {
                let everywhere: IpAddr = match gateway {
                    IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                    IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
                };
                let route = RouteMessageBuilder::<IpAddr>::new()
                    .destination_prefix(everywhere, 0)
                    .unwrap()
                    .gateway(gateway)
                    .unwrap()
                    .output_interface(if_nametoindex(near.as_str()).unwrap())
                    .priority(100 - u32::from(uplink))
                    .build();
                handle.route().add(route).execute().await.unwrap();
            }
        });
    }

    /// Removes the interface of the uplink with this number.
    pub(crate) fn remove(&self, uplink: u8) {
        netlink(&self.gateway, async |handle| {
            let index = if_nametoindex(format!("wan{uplink}").as_str()).unwrap();
            handle.link().del(index).execute().await.unwrap();
        });
    }

    /// The index of an interface of the gateway.
    pub(crate) fn index(&self, interface: &str) -> InterfaceIndex {
        InterfaceIndex(inside(&self.gateway, || if_nametoindex(interface).unwrap()))
    }

    /// How many echo requests left the gateway: by `wan1` with the mark 0x81000000, and in all.
    pub(crate) fn requests(&self) -> (u64, u64) {
        let counter = |name: &str| {
            let listing = inside(&self.gateway, || {
                Command::new("nft")
                    .args(["list", "counter", "inet", "gateway", name])
                    .output()
                    .expect("nft is needed for this test: install nftables")
            });
            let listing = String::from_utf8(listing.stdout).unwrap();
            let mut words = listing.split_whitespace();
            words.find(|word| *word == "packets").unwrap();
            words.next().unwrap().parse::<u64>().unwrap()
        };
        (counter("marked"), counter("requests"))
    }

    /// Does `work` on the gateway, in a runtime of its own that ends with it.
    pub(crate) fn on_gateway<T: Send>(&self, work: impl AsyncFnOnce() -> T + Send) -> T {
        inside(&self.gateway, || runtime().block_on(work()))
    }

    fn nft(&self, namespace: &File, rules: &str) {
        let status = inside(namespace, || {
            let mut nft = Command::new("nft")
                .args(["-f", "-"])
                .stdin(Stdio::piped())
                .spawn()
                .expect("nft is needed for this test: install nftables");
            nft.stdin
                .take()
                .unwrap()
                .write_all(rules.as_bytes())
                .unwrap();
            nft.wait().unwrap()
        });
        assert!(status.success(), "nft refuses:\n{rules}");
    }
}

fn new_namespace() -> File {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .expect("a network namespace cannot be made: run this test as root");
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        thread.join().unwrap()
    })
}

/// Does `work` in a thread that is in the namespace.
fn inside<T: Send>(namespace: &File, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn netlink(namespace: &File, work: impl AsyncFnOnce(Handle) + Send) {
    inside(namespace, || {
        runtime().block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().unwrap();
            tokio::spawn(connection);
            tokio::time::timeout(Duration::from_secs(5), work(handle))
                .await
                .expect("the kernel answers netlink requests");
        });
    });
}

async fn up(handle: &Handle, interface: &str) {
    let link = LinkUnspec::new_with_name(interface).up().build();
    handle.link().set(link).execute().await.unwrap();
}

/// Adds an address of a /24 or /64, or alone, that can be used at once.
async fn add_address(handle: &Handle, interface: &str, address: IpAddr, alone: bool) {
    let length = match (address, alone) {
        (IpAddr::V4(_), false) => 24,
        (IpAddr::V6(_), false) => 64,
        (IpAddr::V4(_), true) => 32,
        (IpAddr::V6(_), true) => 128,
    };
    let index = if_nametoindex(interface).unwrap();
    let mut request = handle.address().add(index, address, length);
    if request.message_mut().header.family == AddressFamily::Inet6 {
        request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
    }
    request.execute().await.unwrap();
}
