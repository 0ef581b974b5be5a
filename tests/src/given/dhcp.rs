//! DHCP: a provider's server and the gateway's client.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{LIMIT, folder, until_written, word, write};
use crate::error::LabError;
use crate::lab::{ACCESS, Lab, Uplink};
use crate::node::{Node, Program, ProgramSpec};

/// As clients do in the world: the address is taken away and put on at each renewal, whether or not
/// it is the same. It says so when all is done.
const SCRIPT: &str = r#"#!/bin/sh
case $1 in
deconfig)
    ip -4 address flush dev "$interface"
    ;;
bound | renew)
    ip -4 address flush dev "$interface"
    ip -4 address add "$ip/$mask" dev "$interface"
    for one in $router; do
        ip -4 route add default via "$one" dev "$interface" metric "$METRIC"
    done
    ;;
esac
echo "done: $1 $ip"
"#;

/// What a server gives to the only client that it has: an address of the network in which the
/// provider has one, with 24 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// The gateway.
    pub router: Ipv4Addr,
}

/// A provider's server at work.
#[derive(Debug)]
pub struct DhcpServer {
    provider: Node,
    leases: PathBuf,
    program: Program,
}

impl DhcpServer {
    /// Starts it at an uplink's provider, which has an address in the network.
    ///
    /// # Errors
    /// When `dnsmasq` is missing or refuses.
    pub async fn start(lab: &Lab, uplink: &Uplink, lease: Lease) -> Result<Self, LabError> {
        let leases = folder(lab.files(), uplink.provider().name())?.join("leases");
        let provider = uplink.provider().clone();
        let program = serve(&provider, &leases, lease).await?;
        Ok(Self {
            provider,
            leases,
            program,
        })
    }

    /// Gives something else from now on. It refuses to renew another address.
    ///
    /// # Errors
    /// When `dnsmasq` refuses.
    pub async fn change(&mut self, lease: Lease) -> Result<(), LabError> {
        self.program.signal(Signal::SIGTERM);
        self.program.wait(LIMIT).await?;
        self.program = serve(&self.provider, &self.leases, lease).await?;
        Ok(())
    }

    /// It answers nobody until [`Self::go_on`].
    pub fn pause(&self) {
        self.program.signal(Signal::SIGSTOP);
    }

    /// It answers again, at first what was asked meanwhile.
    pub fn go_on(&self) {
        self.program.signal(Signal::SIGCONT);
    }
}

async fn serve(provider: &Node, leases: &Path, lease: Lease) -> Result<Program, LabError> {
    let Lease { address, router } = lease;
    let spec = ProgramSpec::new("dnsmasq").arguments([
        // In the foreground, as the present user, and without a file that holds its number.
        "--no-daemon".to_owned(),
        "--log-facility=-".to_owned(),
        "--conf-file=/dev/null".to_owned(),
        // No name server.
        "--port=0".to_owned(),
        format!("--interface={ACCESS}"),
        // Its answers come by return of post.
        "--no-ping".to_owned(),
        "--dhcp-authoritative".to_owned(),
        format!("--dhcp-range={address},{address},255.255.255.0,2m"),
        format!("--dhcp-option=option:router,{router}"),
        format!("--dhcp-leasefile={}", word(leases)),
    ]);
    let program = provider.start(spec).await?;
    until_written("dnsmasq serves", &program, |text| text.contains("IP range")).await?;
    Ok(program)
}

/// The gateway's client on one interface.
#[derive(Debug)]
pub struct DhcpClient {
    program: Program,
}

impl DhcpClient {
    /// Starts it. Default routes get the metric.
    ///
    /// # Errors
    /// When `busybox` is missing.
    pub async fn start(lab: &Lab, uplink: &Uplink, metric: u32) -> Result<Self, LabError> {
        let interface = uplink.interface();
        let script = folder(lab.files(), interface)?.join("configure");
        write(&script, SCRIPT)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))
            .map_err(LabError::io(format!("make {} a program", script.display())))?;
        let spec = ProgramSpec::line("busybox udhcpc -f -t 20 -T 1 -A 1 -i")
            .arguments([interface, "-s", &word(&script)])
            .variable("METRIC", metric.to_string());
        let program = lab.gateway().node().start(spec).await?;
        Ok(Self { program })
    }

    /// Has it renew its lease, and waits until all that follows is done.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn renew(&self) -> Result<(), LabError> {
        let before = self.count("done: renew ");
        self.program.signal(Signal::SIGUSR1);
        until_written("the lease is renewed", &self.program, |text| {
            text.matches("done: renew ").count() > before
        })
        .await
    }

    /// Has it renew its lease, and waits until the server has refused.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn renew_in_vain(&self) -> Result<(), LabError> {
        let before = self.count("done: nak ");
        self.program.signal(Signal::SIGUSR1);
        until_written("the lease is refused", &self.program, |text| {
            text.matches("done: nak ").count() > before
        })
        .await
    }

    /// Has it give its address up and ask for one anew, and waits until all that follows is done.
    /// Returns for how long there was no address at the most.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn begin_anew(&self) -> Result<Duration, LabError> {
        let (given_up, bound) = (self.count("done: deconfig "), self.count("done: bound "));
        let start: Instant = self.program.signal(Signal::SIGUSR2);
        until_written("the lease is released", &self.program, |text| {
            text.matches("done: deconfig ").count() > given_up
        })
        .await?;
        self.program.signal(Signal::SIGUSR1);
        until_written("there is a new lease", &self.program, |text| {
            text.matches("done: bound ").count() > bound
        })
        .await?;
        Ok(start.elapsed())
    }

    fn count(&self, what: &str) -> usize {
        self.program.stdout().matches(what).count()
    }
}
