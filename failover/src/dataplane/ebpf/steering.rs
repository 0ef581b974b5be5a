//! eBPF mode behind the trait that the controller knows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use failover_common::UplinkState;
use thiserror::Error;
use tracing::{debug, info, warn};

use super::attach::{self, AttachError, Hook, Place};
use super::clsact;
use super::leftovers::{self, Leftovers};
use super::load::{LoadError, Programs, Settings};
use super::log;
use super::made::Made;
use super::mount::{self, MountError};
use super::object::EMBEDDED;
use super::offload::OffloadMaps;
use super::pins::{PinError, Pins, unlink};
use super::program::Point;
use super::publish::PublishError;
use super::rules::Written;
use super::support::{self, Unsupported};
use super::traffic;
use crate::causes::in_one_line;
use crate::config::FastPathSetting;
use crate::dataplane::{Steering, TrafficSource};
use crate::family::Family;
use crate::fastpath;
use crate::fastpath::standing::FastPath;
use crate::fastpath::switch::Switch;
use crate::fastpath::worker::Worker;
use crate::flows::{TrackedFlow, outbound_key};
use crate::interface::InterfaceIndex;
use crate::journal::{Event, Journal};
use crate::kernel::filters::{Filter, FilterError, Qdisc, TrafficFilters};
use crate::kernel::surroundings::FastPathKernel;
use crate::mark::MarkMask;
use crate::state::{EbpfFacts, Store, StoreError};
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
    made: Made,
    attached: BTreeMap<(InterfaceIndex, Point), (Place, Hook)>,
    /// What was last published, while nobody else is known to have touched it.
    published: Option<DataPlane>,
    /// What is known of the rules in the maps.
    rules: Written,
    /// Uplinks that teach nothing for the moment, with the states that they are in.
    deaf: BTreeMap<(UplinkId, Family), UplinkState>,
    /// Somebody may have taken programs off interfaces.
    suspect: bool,
    /// What earlier daemons left elsewhere is out.
    superseded: bool,
    /// What was already told of interfaces without program.
    told: BTreeSet<String>,
    /// What was already told of interfaces where TCX is refused.
    tcx_refused: BTreeSet<String>,
    journal: Journal,
    marks: MarkMask,
    fast_path: Arc<Switch<OffloadMaps>>,
}

impl Ebpf {
    /// Loads the programs and hangs them on the interfaces that exist. Until something is published
    /// they do what the last daemon published, or pass everything on; those of an earlier daemon that
    /// know more than that are replaced afterwards.
    ///
    /// # Errors
    /// When eBPF does not work here. What an earlier daemon left stays; where there was nothing,
    /// nothing is left.
    pub async fn start(
        settings: Settings,
        pins: &Pins,
        store: &Store,
        interfaces: &BTreeMap<InterfaceIndex, Attachment>,
    ) -> Result<Self, EbpfError> {
        support::check()?;
        let untouched = store.ebpf()? == EbpfFacts::default() && !pins.folder().exists();
        let started = Self::try_start(settings, pins, store, interfaces).await;
        if started.is_err() && untouched {
            for error in Leftovers::new(pins, store).remove().await {
                warn!(%error, "could not take out again what eBPF mode had begun with");
            }
        }
        started
    }

    /// Has what others take off noted there.
    #[must_use]
    pub fn noting(mut self, journal: Journal) -> Self {
        self.journal = journal;
        self
    }

    /// Who tells of users' traffic; to be asked for once. Where that cannot be had it is logged, and
    /// nobody does.
    pub fn traffic(&mut self) -> TrafficSource {
        traffic::source(&mut self.programs, &self.pins)
    }

    /// The fast path, for those who ask about it.
    #[must_use]
    pub fn fast_path(&self) -> Arc<dyn FastPath> {
        Arc::clone(&self.fast_path) as Arc<dyn FastPath>
    }

    /// Has the fast path follow what is wanted. It is to be begun after the maps know that.
    fn follow_fast_path(&mut self, wanted: &DataPlane) {
        let settings = fastpath::settings::Settings {
            is_on: wanted.fast_path == FastPathSetting::Auto,
            marks: self.marks,
            uplinks: wanted
                .uplinks
                .iter()
                .filter_map(|(id, entry)| Some((*id, entry.interface?)))
                .collect(),
            names: wanted
                .interfaces
                .iter()
                .map(|(index, attachment)| (*index, attachment.name.clone()))
                .collect(),
            policy: Arc::clone(&wanted.rules.policy),
            programs: self.programs.numbers(),
        };
        let (programs, pins) = (&self.programs, &self.pins);
        self.fast_path.set(settings, || {
            let maps = programs
                .offload_maps(pins)
                .map_err(|error| in_one_line(&error))?;
            let kernel = FastPathKernel::open().map_err(|error| in_one_line(&error))?;
            Worker::start(maps, kernel).map_err(|error| in_one_line(&error))
        });
    }

    async fn try_start(
        settings: Settings,
        pins: &Pins,
        store: &Store,
        interfaces: &BTreeMap<InterfaceIndex, Attachment>,
    ) -> Result<Self, EbpfError> {
        let mut made = Made::load(store)?;
        if let Some(wanted) = mount::missing(pins.root())? {
            made.note_mount(wanted.clone())?;
            mount::make(&wanted)?;
        }
        made.note_folder(pins.root())?;
        let mut started = Self {
            programs: Programs::load(EMBEDDED, settings, pins)?,
            pins: pins.clone(),
            store: store.clone(),
            filters: TrafficFilters::open()?,
            made,
            attached: BTreeMap::new(),
            published: None,
            rules: Written::default(),
            deaf: BTreeMap::new(),
            suspect: true,
            superseded: false,
            told: BTreeSet::new(),
            tcx_refused: BTreeSet::new(),
            journal: Journal::nowhere(),
            marks: settings.marks,
            fast_path: Arc::default(),
        };
        if settings.log_flows {
            log::follow(&mut started.programs.ebpf);
        }
        let knows_nothing = started.programs.is_unpublished()?;
        for place in started.in_order(places(interfaces)).await? {
            if knows_nothing && started.is_taken(&place).await? {
                debug!(%place, "programs of another daemon stay until these know what to do");
                continue;
            }
            match started.hang(&place).await {
                // It went while this began: that says nothing about this kernel.
                Err(error) if !place.exists() => debug!(%place, %error, "not attached"),
                other => other?,
            }
        }
        Ok(started)
    }

    /// Sees to it that what can be known to fail does so before anything is attached: loads the
    /// programs, and begins with the places where `clsact` cannot be had. To add it to an interface
    /// and to remove it again stops the interface for some milliseconds each time (`qdisc_graft` in
    /// net/sched/sch_api.c), in which it loses packets.
    async fn in_order(&mut self, mut places: Vec<Place>) -> Result<Vec<Place>, EbpfError> {
        let mut taken = BTreeSet::new();
        for place in &places {
            self.programs.program(place.program())?;
            if let Some(Qdisc::Other(_)) = self.filters.qdisc(place.interface).await? {
                taken.insert(place.interface);
            }
        }
        places.sort_by_key(|place| !taken.contains(&place.interface));
        Ok(places)
    }

    /// Whether a program of ours hangs there in the very place where a new one would.
    async fn is_taken(&mut self, place: &Place) -> Result<bool, EbpfError> {
        if self.pins.link(place.interface, place.point).exists() {
            return Ok(true);
        }
        let found = clsact::own_filters(&mut self.filters, place).await?;
        Ok(!found.is_empty())
    }

    /// Takes out what daemons of other versions or with other configurations left.
    async fn supersede(&mut self) {
        let mut errors = Vec::new();
        match self.pins.versions() {
            Ok(folders) => {
                let own = self.pins.folder();
                for folder in folders.iter().filter(|folder| **folder != own) {
                    info!(folder = %folder.display(), "removing what another version left");
                    errors.extend(leftovers::remove_folder(folder).err().map(EbpfError::Pins));
                }
            }
            Err(error) => errors.push(EbpfError::Pins(error)),
        }
        let noted = self.made.facts().folders.clone();
        for root in noted.iter().filter(|root| *root != self.pins.root()) {
            info!(folder = %root.display(), "removing what was pinned where `bpffs` pointed before");
            let failed = leftovers::remove_pins(&Pins::new(root));
            if failed.is_empty() {
                errors.extend(self.made.forget_folder(root).err().map(EbpfError::Store));
            }
            errors.extend(failed.into_iter().map(EbpfError::Pins));
        }
        let attached = &self.attached;
        let kept = |filter: &Filter| {
            attached.values().any(|(place, hook)| {
                *hook == Hook::Clsact
                    && place.interface == filter.interface
                    && place.side() == filter.side
                    && filter
                        .program
                        .as_ref()
                        .is_some_and(|program| program.name == place.program())
            })
        };
        errors.extend(leftovers::remove_filters(kept).await);
        for error in errors {
            warn!(%error, "programs of an earlier daemon may still be at work");
        }
    }

    async fn hang(&mut self, place: &Place) -> Result<(), EbpfError> {
        let Self {
            programs,
            pins,
            filters,
            made,
            ..
        } = self;
        let attached = attach::attach(programs, pins, filters, made, place).await?;
        let hook = attached.hook;
        info!(%place, %hook, "attached {}", place.program());
        if let Some(reason) = attached.tcx_refused
            && self.tcx_refused.insert(reason.clone())
        {
            warn!(
                reason,
                "TCX is refused: programs hang on clsact filters, behind TCX programs of others"
            );
        }
        let key = (place.interface, place.point);
        self.attached.insert(key, (place.clone(), hook));
        Ok(())
    }

    /// Takes programs off interfaces that are to have none any more, and removes pins of links that
    /// nobody wants.
    async fn take_off(&mut self, wanted: &[Place]) -> Vec<EbpfError> {
        let mut errors = Vec::new();
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
            let Some((place, hook)) = self.attached.get(&key) else {
                continue;
            };
            match attach::detach(&self.pins, &mut self.filters, place, *hook).await {
                Ok(()) => {
                    info!(%place, "took {} off", place.program());
                    self.attached.remove(&key);
                }
                Err(error) => errors.push(error.into()),
            }
        }
        if self.suspect {
            let keep: BTreeSet<_> = wanted
                .iter()
                .map(|place| self.pins.link(place.interface, place.point))
                .collect();
            match self.pins.pinned_links() {
                Ok(pinned) => {
                    for pin in pinned.iter().filter(|pin| !keep.contains(*pin)) {
                        errors.extend(unlink(pin).err().map(EbpfError::Pins));
                    }
                }
                Err(error) => errors.push(error.into()),
            }
        }
        errors
    }

    /// Whether a program is known to hang where it should.
    async fn hangs(&mut self, place: &Place) -> Result<bool, EbpfError> {
        let Some((found, hook)) = self.attached.get(&(place.interface, place.point)) else {
            return Ok(false);
        };
        if found.layer != place.layer {
            return Ok(false);
        }
        // An interface that is gone has no programs; the next look at the network tells of it.
        if !self.suspect || !place.exists() {
            return Ok(true);
        }
        let hook = *hook;
        let there = {
            let Self {
                programs,
                pins,
                filters,
                ..
            } = self;
            attach::is_attached(programs, pins, filters, place, hook).await?
        };
        if !there {
            warn!(%place, "somebody took our program off; it is attached again");
            let program = place.program();
            let reason = format!("somebody took our program {program} off {place}");
            self.journal.note(Event::Repaired { reason });
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
        self.programs.publish(wanted, &mut self.rules)?;
        self.deaf.clear();
        self.published = Some(wanted.clone());
        self.follow_fast_path(wanted);
        Ok(())
    }

    async fn attach(&mut self, wanted: &DataPlane) -> Vec<EbpfError> {
        let places = places(&wanted.interfaces);
        let mut errors = self.take_off(&places).await;
        for place in &places {
            if let Err(error) = self.see_to(place).await {
                if !place.exists() {
                    debug!(%place, %error, "not attached");
                    continue;
                }
                if self.told.insert(error.to_string()) {
                    warn!(%place, %error, "flows of this interface are steered by connection marks and routes alone");
                }
                errors.push(error);
            }
        }
        // Only now, so that there is no moment without programs that know what to do.
        if !std::mem::replace(&mut self.superseded, true) {
            self.supersede().await;
        }
        errors.extend(
            self.programs
                .tidy_rules(&mut self.rules)
                .err()
                .map(Into::into),
        );
        if errors.is_empty() {
            self.suspect = false;
            self.told.clear();
        }
        // Programs that were loaded just now are ours, too.
        self.follow_fast_path(wanted);
        errors
    }

    async fn forget(&mut self, id: UplinkId, family: Family) -> Result<(), EbpfError> {
        Ok(self.programs.forget(id, family)?)
    }

    async fn release(
        &mut self,
        id: UplinkId,
        family: Family,
        flows: &[TrackedFlow],
    ) -> Result<(), EbpfError> {
        // Should the rest fail, the state is put right when it is published next.
        self.published = None;
        let former = self.programs.set_state(id, family, UplinkState::Disabled)?;
        if let Some(former) = former {
            self.deaf.entry((id, family)).or_insert(former);
        }
        let keys = flows.iter().map(outbound_key);
        Ok(self.programs.release(id, family, keys)?)
    }

    async fn heed(&mut self, id: UplinkId, family: Family) -> Result<(), EbpfError> {
        if let Some(former) = self.deaf.remove(&(id, family)) {
            self.programs.set_state(id, family, former)?;
        }
        Ok(())
    }

    fn suspect(&mut self) {
        self.published = None;
        self.suspect = true;
    }

    async fn remove(&mut self) -> Vec<EbpfError> {
        self.fast_path.switch_off();
        self.attached.clear();
        self.published = None;
        Leftovers::new(&self.pins, &self.store).remove().await
    }
}
