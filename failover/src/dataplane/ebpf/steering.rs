//! eBPF mode behind the trait that the controller knows.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;
use tracing::{debug, info, warn};

use super::attach::{self, AttachError, Hook, Place};
use super::leftovers::{self, Leftovers};
use super::load::{LoadError, Programs, Settings};
use super::log;
use super::mount::{self, MountError};
use super::object::EMBEDDED;
use super::pins::{PinError, Pins, unlink};
use super::program::Point;
use super::publish::PublishError;
use super::support::{self, Unsupported};
use crate::dataplane::Steering;
use crate::family::Family;
use crate::interface::InterfaceIndex;
use crate::kernel::filters::{FilterError, TrafficFilters};
use crate::state::{Store, StoreError};
use crate::uplink::UplinkId;
use crate::wanted::PickedBy;
use crate::wanted::dataplane::{Attachment, DataPlane};

/// Why eBPF mode does not work, or does not do something.
#[derive(Debug, Error)]
pub enum EbpfError {
    /// Not here.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// There is no place for pins.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The programs are not loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The maps are not in the wanted state.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// A program does not hang where it should.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// A pin cannot be used.
    #[error(transparent)]
    Pins(#[from] PinError),
    /// Filters cannot be looked at.
    #[error(transparent)]
    Filters(#[from] FilterError),
    /// What was done cannot be noted.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The programs at work.
#[derive(Debug)]
pub struct Ebpf {
    programs: Programs,
    pins: Pins,
    store: Store,
    filters: TrafficFilters,
    attached: BTreeMap<(InterfaceIndex, Point), (Place, Hook)>,
    /// What was last published, while nobody else is known to have touched it.
    published: Option<DataPlane>,
    /// Somebody may have taken programs off interfaces.
    suspect: bool,
    /// What was already told of interfaces without program.
    told: BTreeSet<String>,
}

impl Ebpf {
    /// Loads the programs and hangs them on the interfaces that exist. Until something is published
    /// they do what the last daemon published, or pass everything on.
    ///
    /// # Errors
    /// When eBPF does not work here. What an earlier daemon left stays.
    pub async fn start(
        settings: Settings,
        pins: &Pins,
        store: &Store,
        interfaces: &BTreeMap<InterfaceIndex, Attachment>,
    ) -> Result<Self, EbpfError> {
        support::check()?;
        if let Some(place) = mount::ensure(pins.root())? {
            let mut facts = store.ebpf()?;
            facts.mounted = Some(place);
            store.keep_ebpf(&facts)?;
        }
        let mut started = Self {
            programs: Programs::load(EMBEDDED, settings, pins)?,
            pins: pins.clone(),
            store: store.clone(),
            filters: TrafficFilters::open()?,
            attached: BTreeMap::new(),
            published: None,
            suspect: true,
            told: BTreeSet::new(),
        };
        if settings.log_flows {
            log::follow(&mut started.programs.ebpf);
        }
        for place in places(interfaces) {
            started.hang(&place).await?;
        }
        // Only now, so that there is no moment without programs.
        for folder in pins.other_versions()? {
            info!(folder = %folder.display(), "removing what another version left");
            leftovers::remove_folder(&folder)?;
        }
        Ok(started)
    }

    async fn hang(&mut self, place: &Place) -> Result<(), EbpfError> {
        let attached =
            attach::attach(&mut self.programs, &self.pins, &mut self.filters, place).await?;
        debug!(%place, hook = %attached.hook, "attached {}", place.program());
        let key = (place.interface, place.point);
        self.attached.insert(key, (place.clone(), attached.hook));
        if attached.made_clsact {
            let mut facts = self.store.ebpf()?;
            facts.clsact.insert(place.name.clone());
            self.store.keep_ebpf(&facts)?;
        }
        Ok(())
    }

    /// Takes programs off interfaces that are to have none any more, and removes pins of links that
    /// nobody wants.
    async fn take_off(&mut self, wanted: &[Place]) -> Result<(), EbpfError> {
        let is_wanted = |(interface, point): &(InterfaceIndex, Point)| {
            wanted
                .iter()
                .any(|place| place.interface == *interface && place.point == *point)
        };
        let unwanted: Vec<_> = self
            .attached
            .keys()
            .filter(|key| !is_wanted(key))
            .copied()
            .collect();
        for key in unwanted {
            if let Some((place, hook)) = self.attached.remove(&key) {
                attach::detach(&self.pins, &mut self.filters, &place, hook).await?;
            }
        }
        if self.suspect {
            let keep: BTreeSet<_> = wanted
                .iter()
                .map(|place| self.pins.link(place.interface, place.point))
                .collect();
            for pin in self.pins.pinned_links()? {
                if !keep.contains(&pin) {
                    unlink(&pin)?;
                }
            }
        }
        Ok(())
    }

    /// Whether a program is known to hang where it should.
    async fn hangs(&mut self, place: &Place) -> Result<bool, EbpfError> {
        let Some((found, hook)) = self.attached.get(&(place.interface, place.point)) else {
            return Ok(false);
        };
        if found.layer != place.layer {
            return Ok(false);
        }
        if !self.suspect {
            return Ok(true);
        }
        let hook = *hook;
        let there = attach::is_attached(&mut self.programs, &mut self.filters, place, hook).await?;
        if !there {
            warn!(%place, "somebody took our program off; it is attached again");
            if hook == Hook::Tcx {
                unlink(&self.pins.link(place.interface, place.point))?;
            }
        }
        Ok(there)
    }

    async fn see_to(&mut self, place: &Place) -> Result<(), EbpfError> {
        if self.hangs(place).await? {
            return Ok(());
        }
        self.hang(place).await
    }
}

/// Where programs are to hang.
fn places(interfaces: &BTreeMap<InterfaceIndex, Attachment>) -> Vec<Place> {
    interfaces
        .iter()
        .flat_map(|(interface, attachment)| {
            Point::of(attachment.role).iter().map(|point| Place {
                interface: *interface,
                name: attachment.name.clone(),
                layer: attachment.layer,
                point: *point,
            })
        })
        .collect()
}

impl Steering for Ebpf {
    type Error = EbpfError;

    fn picked_by(&self) -> PickedBy {
        PickedBy::Tc
    }

    async fn publish(&mut self, wanted: &DataPlane) -> Result<(), EbpfError> {
        if self.published.as_ref() == Some(wanted) {
            return Ok(());
        }
        self.published = None;
        self.programs.publish(wanted)?;
        self.published = Some(wanted.clone());
        Ok(())
    }

    async fn attach(&mut self, wanted: &DataPlane) -> Vec<EbpfError> {
        let places = places(&wanted.interfaces);
        let mut errors = Vec::new();
        errors.extend(self.take_off(&places).await.err());
        for place in &places {
            if let Err(error) = self.see_to(place).await {
                if self.told.insert(error.to_string()) {
                    warn!(%place, %error, "flows of this interface are steered by routes alone");
                }
                errors.push(error);
            }
        }
        if errors.is_empty() {
            self.suspect = false;
            self.told.clear();
        }
        errors
    }

    async fn forget(&mut self, id: UplinkId, family: Family) -> Result<(), EbpfError> {
        Ok(self.programs.forget(id, family)?)
    }

    fn suspect(&mut self) {
        self.published = None;
        self.suspect = true;
    }

    async fn remove(&mut self) -> Vec<EbpfError> {
        self.attached.clear();
        self.published = None;
        Leftovers::new(&self.pins, &self.store).remove().await
    }
}
