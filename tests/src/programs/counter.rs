//! A program of a user's, which counts the packets that pass it: it stands for any of those that
//! others attach.

use std::path::Path;

use aya::maps::{HashMap, PerCpuArray};
use aya::programs::tc::TcAttachOptions;
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader};
use failover_common::{Counters, Interface, Role, UplinkCounters, globals, maps};

use super::ProgramsError;
use super::loaded::checked;

/// The program, which is only used for what it counts here.
const PROGRAM: &str = "fo_wan_in";
/// Whose packets it takes the packets for.
const UPLINK: u8 = 1;

/// Where it stands among the TCX programs of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Before all that are there.
    First,
    /// Behind all that are there.
    Last,
}

/// A program that counts the packets of one interface. It is gone with this, unless it is held by
/// something else.
#[derive(Debug)]
pub struct Counter {
    ebpf: Ebpf,
}

impl Counter {
    /// Loads one for the interface with this index; it is attached to nothing.
    ///
    /// # Errors
    /// When the object is unreadable or the kernel refuses it.
    pub fn new(object: &[u8], interface: u32) -> Result<Self, ProgramsError> {
        const LENGTH: usize = size_of::<Interface>();
        let mut ebpf = EbpfLoader::new()
            .override_global(globals::MARK_MASK, &0xff00_0000_u32, true)
            .override_global(globals::MARK_SHIFT, &24_u32, true)
            .override_global(globals::MARK_ASK, &0x8000_0000_u32, true)
            .override_global("AYA_LOG_LEVEL", &0_u8, true)
            .map_max_entries(maps::FLOWS, 16)
            .load(object)?;
        let known = Interface {
            role: Role::Uplink,
            uplink: UPLINK,
            downlink: 0,
        };
        let mut bytes = [0; LENGTH];
        bytes.copy_from_slice(bytemuck::bytes_of(&known));
        let map = ebpf
            .map_mut(maps::INTERFACES)
            .ok_or_else(|| ProgramsError::Missing(maps::INTERFACES.to_owned()))?;
        HashMap::<_, [u8; 4], [u8; LENGTH]>::try_from(map)
            .and_then(|mut map| map.insert(interface.to_ne_bytes(), bytes, 0))
            .map_err(|source| ProgramsError::Map {
                name: maps::INTERFACES.to_owned(),
                source,
            })?;
        let mut counter = Self { ebpf };
        counter.program()?.load().map_err(failed)?;
        Ok(counter)
    }

    /// Attaches it by TCX to an interface of the calling thread's namespace, until it is dropped.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn attach(
        &mut self,
        interface: &str,
        side: TcAttachType,
        order: Order,
    ) -> Result<(), ProgramsError> {
        let order = match order {
            Order::First => LinkOrder::first(),
            Order::Last => LinkOrder::last(),
        };
        self.program()?
            .attach_with_options(interface, side, TcAttachOptions::TcxOrder(order))
            .map(drop)
            .map_err(failed)
    }

    /// Pins it, so that `tc filter add … bpf da pinned` finds it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn pin(&mut self, path: &Path) -> Result<(), ProgramsError> {
        self.program()?
            .pin(path)
            .map_err(|error| ProgramsError::Missing(error.to_string()))
    }

    /// The kernel's number of the program.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn id(&mut self) -> Result<u32, ProgramsError> {
        Ok(self.program()?.info().map_err(failed)?.id())
    }

    /// What has passed it so far.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn passed(&self) -> Result<Counters, ProgramsError> {
        const LENGTH: usize = size_of::<UplinkCounters>();
        let name = maps::COUNTERS;
        let map_failed = |source| ProgramsError::Map {
            name: name.to_owned(),
            source,
        };
        let map = self
            .ebpf
            .map(name)
            .ok_or_else(|| ProgramsError::Missing(name.to_owned()))?;
        let map: PerCpuArray<_, [u8; LENGTH]> = PerCpuArray::try_from(map).map_err(map_failed)?;
        let values = map.get(&u32::from(UPLINK), 0).map_err(map_failed)?;
        values.iter().try_fold(Counters::default(), |sum, bytes| {
            let one: UplinkCounters = checked(name, bytes)?;
            Ok(sum.plus(one.wan_in))
        })
    }

    fn program(&mut self) -> Result<&mut SchedClassifier, ProgramsError> {
        self.ebpf
            .program_mut(PROGRAM)
            .and_then(|program| program.try_into().ok())
            .ok_or_else(|| ProgramsError::Missing(format!("program {PROGRAM}")))
    }
}

fn failed(source: aya::programs::ProgramError) -> ProgramsError {
    ProgramsError::Program {
        name: PROGRAM.to_owned(),
        source,
    }
}
