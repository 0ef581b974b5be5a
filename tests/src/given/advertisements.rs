//! Router advertisements of a provider.

use std::fmt::Write;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{LIMIT, folder, until_written, word, write};
use crate::error::LabError;
use crate::lab::{ACCESS, Lab, Uplink};
use crate::node::{Program, ProgramSpec};

/// A prefix of 64 bits from which the gateway makes its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Its network.
    pub network: Ipv6Addr,
    /// For how long addresses are valid, in whole seconds.
    pub valid: Duration,
    /// For how long new traffic may use them.
    pub preferred: Duration,
}

/// What is advertised: a router for everything, and prefixes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advertised {
    /// The prefixes.
    pub prefixes: Vec<Prefix>,
}

/// A provider's daemon at work. It advertises every three to four seconds, at once after a change,
/// and when it is asked.
#[derive(Debug)]
pub struct Advertiser {
    config: PathBuf,
    program: Program,
}

impl Advertiser {
    /// Starts it, and has the gateway's interface heed it although the gateway is a router.
    ///
    /// # Errors
    /// When `radvd` is missing or refuses.
    pub async fn start(
        lab: &Lab,
        uplink: &Uplink,
        advertised: &Advertised,
    ) -> Result<Self, LabError> {
        let settings = format!("net/ipv6/conf/{}", uplink.interface());
        let gateway = lab.gateway().node();
        gateway
            .set_sysctl(&format!("{settings}/accept_ra"), "2")
            .await?;
        let folder = folder(lab.files(), uplink.provider().name())?;
        let config = folder.join("radvd.conf");
        configure(&config, advertised)?;
        let spec = ProgramSpec::line("radvd --nodaemon --logmethod stderr --debug 1").arguments([
            "--config",
            &word(&config),
            "--pidfile",
            &word(&folder.join("radvd.pid")),
        ]);
        let program = uplink.provider().start(spec).await?;
        until_written("radvd runs", &program, |text| text.contains("started")).await?;
        Ok(Self { config, program })
    }

    /// Advertises something else from now on.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn change(&self, advertised: &Advertised) -> Result<(), LabError> {
        configure(&self.config, advertised)?;
        self.program.signal(Signal::SIGHUP);
        Ok(())
    }

    /// Ends it: the last thing it says is that it is no router any more (lifetime 0).
    ///
    /// # Errors
    /// When it does not end.
    pub async fn withdraw(self) -> Result<(), LabError> {
        self.program.signal(Signal::SIGTERM);
        self.program.wait(LIMIT).await.map(drop)
    }
}

fn configure(file: &Path, advertised: &Advertised) -> Result<(), LabError> {
    let mut text = format!(
        "interface {ACCESS} {{
            AdvSendAdvert on;
            MinRtrAdvInterval 3;
            MaxRtrAdvInterval 4;
            AdvDefaultLifetime 600;
        "
    );
    for prefix in &advertised.prefixes {
        // Writing to a string does not fail.
        write!(
            text,
            "prefix {}/64 {{ AdvOnLink on; AdvAutonomous on; AdvValidLifetime {}; AdvPreferredLifetime {}; }};",
            prefix.network,
            prefix.valid.as_secs(),
            prefix.preferred.as_secs(),
        )
        .ok();
    }
    text.push_str("};\n");
    write(file, &text)
}
