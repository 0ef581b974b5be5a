//! A gateway in which the programs find what they look for: routes, interfaces, uplinks.

use std::sync::Arc;

use failover_common::{Affinity, Family, Interface, Role, Uplink, UplinkFamily, UplinkState};

use super::{Direction, Loaded, ProgramsError, Settings, attach};
use crate::{Lab, LabError};

/// A lab whose gateway routes to its uplinks, without a daemon.
#[derive(Debug)]
pub struct Stand {
    lab: Lab,
    wiring: Arc<Wiring>,
}

/// What tests need to know of the gateway.
#[derive(Clone, Debug)]
pub struct Wiring {
    /// The index of `lan0`.
    pub lan: u32,
    /// The hardware address of `lan0`.
    pub lan_mac: [u8; 6],
    /// The indexes of `wan1`, `wan2` …
    pub wans: Vec<u32>,
    /// Their hardware addresses.
    pub wan_macs: Vec<[u8; 6]>,
}

impl Stand {
    /// Builds the lab.
    ///
    /// # Errors
    /// When that fails.
    pub async fn new(uplinks: u8) -> Result<Self, LabError> {
        let lab = Lab::builder().uplinks(uplinks).capture(false);
        Self::over(lab.build().await?).await
    }

    /// The same in a lab that is there already.
    ///
    /// # Errors
    /// When it has no downlink.
    pub async fn over(lab: Lab) -> Result<Self, LabError> {
        let gateway = lab.gateway().node();
        let (mut wans, mut wan_macs) = (Vec::new(), Vec::new());
        for uplink in lab.uplinks() {
            wans.push(gateway.interface_index(uplink.interface()).await?);
            wan_macs.push(gateway.hardware_address(uplink.interface()).await?);
        }
        let lan = gateway.interface_index("lan0").await?;
        let lan_mac = gateway.hardware_address("lan0").await?;
        Ok(Self {
            lab,
            wiring: Arc::new(Wiring {
                lan,
                lan_mac,
                wans,
                wan_macs,
            }),
        })
    }

    /// The lab.
    #[must_use]
    pub const fn lab(&self) -> &Lab {
        &self.lab
    }

    /// What tests need to know of the gateway.
    #[must_use]
    pub fn wiring(&self) -> &Wiring {
        &self.wiring
    }

    /// Freshly loaded programs that know what those of [`Stand::with`] know, and are attached in the
    /// gateway: each program to an interface in a direction.
    ///
    /// # Errors
    /// When the programs cannot be loaded or attached.
    pub async fn attached(
        &self,
        object: Vec<u8>,
        hooks: Vec<(&'static str, String, Direction)>,
    ) -> Result<Loaded, ProgramsError> {
        let wiring = Arc::clone(&self.wiring);
        let node = self.lab.gateway().node();
        node.run(move || async move {
            let mut loaded = Loaded::new(&object, Settings::default())?;
            wire(&mut loaded, &wiring)?;
            for (name, interface, direction) in hooks {
                attach(loaded.program_mut(name)?, &interface, direction).map_err(|source| {
                    ProgramsError::Program {
                        name: name.to_owned(),
                        source,
                    }
                })?;
            }
            Ok(loaded)
        })
        .await?
    }

    /// Works with freshly loaded programs in the gateway's namespace. They know `lan0` as downlink,
    /// and uplink *i* on `wan`*i* as up, translating, of generation 1; a new flow goes to one of
    /// all uplinks, slot by slot.
    ///
    /// # Errors
    /// When the programs cannot be loaded, and those of the work.
    pub async fn with<T, E, W>(&self, object: Vec<u8>, settings: Settings, work: W) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<ProgramsError> + Send + 'static,
        W: FnOnce(&mut Loaded, &Wiring) -> Result<T, E> + Send + 'static,
    {
        let wiring = Arc::clone(&self.wiring);
        let node = self.lab.gateway().node();
        node.run(move || async move {
            let mut loaded = Loaded::new(&object, settings)?;
            wire(&mut loaded, &wiring)?;
            work(&mut loaded, &wiring)
        })
        .await
        .map_err(ProgramsError::from)?
    }
}

/// Tells the programs who is who.
fn wire(loaded: &mut Loaded, wiring: &Wiring) -> Result<(), ProgramsError> {
    let interface = |role, uplink| Interface {
        role,
        uplink,
        downlink: 0,
    };
    loaded.set_interface(wiring.lan, &interface(Role::Downlink, 0))?;
    let up = UplinkFamily {
        generation: 1,
        state: UplinkState::Up,
        translates: true,
        reserved: [0; 2],
    };
    let ids: Vec<u8> = (1..).take(wiring.wans.len()).collect();
    for (&id, &index) in ids.iter().zip(&wiring.wans) {
        loaded.set_interface(index, &interface(Role::Uplink, id))?;
        let uplink = Uplink {
            interface: index,
            ipv4: up,
            ipv6: up,
        };
        loaded.set_uplink(id, &uplink)?;
    }
    for family in [Family::Ipv4, Family::Ipv6] {
        loaded.select(family, Affinity::Flow, &ids)?;
    }
    Ok(())
}
