//! A gateway with two uplinks to one provider, in two namespaces without names: the kernel removes
//! them with the last thread and descriptor that holds them, however the test ends.

use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use failover::interface::InterfaceIndex;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::AddressHeaderFlags;
use nix::mount::{MsFlags, mount};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns, unshare};
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};

use crate::servers::{self, Authority};
use crate::serving::{Serving, dnsmasq, serving};

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

/// The provider's address on the uplink with this number: the gateway.
pub(crate) fn provider(uplink: u8) -> [IpAddr; 2] {
    [
        Ipv4Addr::new(198, 18, uplink, 1).into(),
        Ipv6Addr::new(0xfd00, uplink.into(), 0, 0, 0, 0, 0, 1).into(),
    ]
}

/// The two namespaces.
pub(crate) struct Network {
    gateway: File,
    provider: File,
    serving: Mutex<Vec<Serving>>,
}

impl Network {
    /// Two uplinks, `wan1` and `wan2`, the default route being through `wan2`.
    pub(crate) fn new() -> Self {
        let network = Self {
            gateway: new_namespace(),
            provider: new_namespace(),
            serving: Mutex::default(),
        };
        for namespace in [&network.gateway, &network.provider] {
            netlink(namespace, async |handle| up(&handle, "lo").await);
        }
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
                counter through { }
                counter astray { }
                chain out {
                    type filter hook output priority 0
                    icmp type echo-request counter name requests
                    icmpv6 type echo-request counter name requests
                    meta mark 0x81000000 oifname wan1 icmp type echo-request counter name marked
                    meta mark 0x81000000 oifname wan1 icmpv6 type echo-request counter name marked
                    meta mark 0x81000000 oifname wan1 meta l4proto { tcp, udp } counter name through accept
                    oifname lo accept
                    meta l4proto udp counter name astray
                    tcp flags & (syn | ack) == syn counter name astray
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
        (
            self.counter("inet", "marked"),
            self.counter("inet", "requests"),
        )
    }

    /// How many packets of TCP and UDP left the gateway by `wan1` with the mark 0x81000000, and how
    /// many that begin something left it otherwise.
    pub(crate) fn probes(&self) -> (u64, u64) {
        (
            self.counter("inet", "through"),
            self.counter("inet", "astray"),
        )
    }

    /// Counts questions of ARP and neighbour discovery from now on. The kernel's own have no mark.
    pub(crate) fn count_neighbour_discovery(&self) {
        self.nft(
            &self.gateway,
            "table netdev gateway {
                counter marked { }
                counter elsewhere { }
                chain wan1 {
                    type filter hook egress device wan1 priority 0
                    meta mark 0x81000000 counter name marked
                }
                chain wan2 {
                    type filter hook egress device wan2 priority 0
                    meta mark 0x81000000 counter name elsewhere
                }
            }",
        );
    }

    /// How many packets with the mark were seen, by `wan1` and by `wan2`.
    pub(crate) fn neighbour_discovery(&self) -> (u64, u64) {
        (
            self.counter("netdev", "marked"),
            self.counter("netdev", "elsewhere"),
        )
    }

    fn counter(&self, family: &str, name: &str) -> u64 {
        let listing = inside(&self.gateway, || {
            Command::new("nft")
                .args(["list", "counter", family, "gateway", name])
                .output()
                .expect("nft is needed for this test: install nftables")
        });
        let listing = String::from_utf8(listing.stdout).unwrap();
        let mut words = listing.split_whitespace();
        words.find(|word| *word == "packets").unwrap();
        words.next().unwrap().parse::<u64>().unwrap()
    }

    /// Serves pages and names at the provider until the network ends.
    pub(crate) fn serve(&self, authority: &Authority) {
        let authority = authority.clone();
        let serving = serving(&self.provider, async move || {
            servers::begin(ANSWERING, &authority).await;
            let [v4, v6] = ANSWERING;
            let [near4, near6] = provider(2);
            dnsmasq(&[v4, v6, near4, near6])
        });
        self.serving.lock().unwrap().push(serving);
    }

    /// Resolves names on the gateway itself.
    pub(crate) fn resolver_on_gateway(&self) -> Serving {
        serving(&self.gateway, async || {
            dnsmasq(&[Ipv4Addr::LOCALHOST.into()])
        })
    }

    /// Does `work` on the gateway, with this text in `/etc/resolv.conf`.
    pub(crate) fn with_resolvers<T: Send>(
        &self,
        text: &str,
        work: impl AsyncFnOnce() -> T + Send,
    ) -> T {
        inside(&self.gateway, || {
            const NONE: Option<&str> = None;
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).unwrap();
            let name = format!("failover-resolvers-{}", std::process::id());
            let file = std::env::temp_dir().join(name);
            std::fs::write(&file, text).unwrap();
            let bound = mount(
                Some(&file),
                "/etc/resolv.conf",
                NONE,
                MsFlags::MS_BIND,
                NONE,
            );
            // What is bound stays until this thread ends.
            std::fs::remove_file(&file).unwrap();
            bound.unwrap();
            runtime().block_on(work())
        })
    }

    /// Makes a tunnel interface, which has no hardware addresses.
    pub(crate) fn tunnel(&self, name: &str) {
        let made = inside(&self.gateway, || {
            Command::new("ip")
                .args(["tuntap", "add", "dev", name, "mode", "tun"])
                .status()
                .expect("ip is needed for this test: install iproute2")
        });
        assert!(made.success());
        self.set_up(name, true);
    }

    /// Sets an interface of the gateway up or down.
    pub(crate) fn set_up(&self, interface: &str, up: bool) {
        netlink(&self.gateway, async |handle| {
            let link = LinkUnspec::new_with_name(interface);
            let link = if up { link.up() } else { link.down() };
            handle.link().set(link.build()).execute().await.unwrap();
        });
    }

    /// Gives the gateway its IPv6 address on an uplink again.
    pub(crate) fn add_source(&self, uplink: u8) {
        netlink(&self.gateway, async |handle| {
            let [_, address] = source(uplink);
            add_address(&handle, &format!("wan{uplink}"), address, false).await;
        });
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

pub(crate) fn runtime() -> tokio::runtime::Runtime {
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
