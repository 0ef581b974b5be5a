//! Hangs a program on an interface, by TCX where the kernel has it, else by `clsact`, and takes it
//! off.

use std::fmt;
use std::path::Path;

use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions, TcError};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use thiserror::Error;
use tracing::debug;

use super::clsact;
use super::load::{LoadError, Programs};
use super::made::Made;
use super::pins::{PinError, Pins, unlink};
use super::program::Point;
use crate::causes::in_one_line;
use crate::interface::{InterfaceIndex, InterfaceName};
use crate::kernel::filters::{FilterError, Side, TrafficFilters};
use crate::network::LinkLayer;
use crate::state::StoreError;

/// Where a program is to hang.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The interface.
    pub interface: InterfaceIndex,
    /// Its name.
    pub name: InterfaceName,
    /// What its packets begin with.
    pub layer: LinkLayer,
    /// Which program.
    pub point: Point,
}

impl Place {
    /// The name of the program.
    #[must_use]
    pub const fn program(&self) -> &'static str {
        self.point.program(self.layer)
    }

    /// Whether the interface still exists under this name.
    #[must_use]
    pub fn exists(&self) -> bool {
        if_nametoindex(self.name.as_str()).ok() == Some(self.interface.0)
    }

    pub(super) const fn side(&self) -> Side {
        match self.point.side() {
            TcAttachType::Egress => Side::Egress,
            TcAttachType::Ingress | TcAttachType::Custom(_) => Side::Ingress,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.side())
    }
}

/// How a program hangs on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// TCX, Linux 6.6 or newer: a link of its own beside those of others.
    Tcx,
    /// A filter of the `clsact` queueing discipline, any older kernel.
    Clsact,
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcx => "TCX",
            Self::Clsact => "clsact",
        })
    }
}

/// Why a program does not hang where it should.
#[derive(Debug, Error)]
pub enum AttachError {
    /// The object is of another build.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The interface was made anew or renamed meanwhile.
    #[error("cannot attach to {place}: the interface is another by now")]
    Changed {
        /// Where.
        place: Place,
    },
    /// The queueing discipline that classic filters hang on could not be made.
    #[error(
        "cannot add the clsact qdisc to {place}: {source}; `tc qdisc show dev {}` tells what is there", place.name
    )]
    Qdisc {
        /// Where.
        place: Place,
        /// What the kernel said.
        source: TcError,
    },
    /// There is another queueing discipline in its place.
    #[error(
        "cannot attach to {place} by clsact: the {found} qdisc is in its place; after `tc qdisc del dev {name} {found}` and `tc qdisc add dev {name} clsact` both sides can have filters", name = place.name
    )]
    OtherQdisc {
        /// Where.
        place: Place,
        /// What is there.
        found: String,
    },
    /// Nobody can tell what hangs there.
    #[error("cannot list what hangs at {place}: {}", in_one_line(.source))]
    Look {
        /// Where.
        place: Place,
        /// What the kernel said.
        source: ProgramError,
    },
    /// The kernel refused.
    #[error("cannot attach the eBPF program {} to {place} by {hook}: {}", place.program(), in_one_line(.source))]
    Attach {
        /// Where.
        place: Place,
        /// How it was to hang there.
        hook: Hook,
        /// What the kernel said.
        source: ProgramError,
    },
    /// The kernel refused both.
    #[error("{tcx}; {clsact}")]
    Neither {
        /// What was said of TCX.
        tcx: Box<AttachError>,
        /// What was said of `clsact`.
        clsact: Box<AttachError>,
    },
    /// The link cannot be kept over the daemon's end.
    #[error("cannot pin the link of the eBPF program at {place}: {reason}")]
    Pin {
        /// Where.
        place: Place,
        /// Why.
        reason: String,
    },
    /// A pin is in the way.
    #[error(transparent)]
    Pins(#[from] PinError),
    /// Filters cannot be looked at.
    #[error(transparent)]
    Filters(#[from] FilterError),
    /// What is to be made cannot be noted.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How a program was attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// How it hangs.
    pub hook: Hook,
    /// What the kernel said to TCX, where it knows TCX and refused it.
    pub tcx_refused: Option<String>,
}

/// Hangs a program on an interface of the calling thread's network namespace, beside those of others.
/// One that hangs there already, by an earlier daemon, is replaced without a gap. Where TCX is
/// refused it hangs on `clsact`.
///
/// # Errors
/// When the interface does not exist or the kernel refuses.
pub async fn attach(
    programs: &mut Programs,
    pins: &Pins,
    filters: &mut TrafficFilters,
    made: &mut Made,
    place: &Place,
) -> Result<Attached, AttachError> {
    let pin = pins.link(place.interface, place.point);
    let program = programs.program(place.program())?;
    let by = |hook, tcx_refused| Attached { hook, tcx_refused };
    if pin.exists() {
        match replace_link(program, &pin) {
            Ok(()) => return Ok(by(Hook::Tcx, None)),
            // The interface was deleted meanwhile, or the file is none of ours.
            Err(reason) => {
                debug!(%place, reason, "a pinned link cannot be used again");
                unlink(&pin)?;
            }
        }
    }
    let exists = || match place.exists() {
        true => Ok(()),
        false => Err(AttachError::Changed {
            place: place.clone(),
        }),
    };
    exists()?;
    let tcx = match by_tcx(program, &pin, place) {
        Ok(()) => return Ok(by(Hook::Tcx, None)),
        Err(error) => error,
    };
    exists()?;
    let AttachError::Attach { source, .. } = &tcx else {
        return Err(tcx);
    };
    let refused = (!lacks_tcx(source)).then(|| in_one_line(source));
    match clsact::attach(program, filters, made, place).await {
        Ok(()) => Ok(by(Hook::Clsact, refused)),
        Err(clsact) if refused.is_some() => Err(AttachError::Neither {
            tcx: Box::new(tcx),
            clsact: Box::new(clsact),
        }),
        Err(clsact) => Err(clsact),
    }
}

/// Whether the program still hangs where it was attached.
///
/// # Errors
/// When the kernel does not tell.
pub async fn is_attached(
    programs: &mut Programs,
    pins: &Pins,
    filters: &mut TrafficFilters,
    place: &Place,
    hook: Hook,
) -> Result<bool, AttachError> {
    let failed = |source| AttachError::Look {
        place: place.clone(),
        source,
    };
    let program = programs.program(place.program())?;
    let own = program.info().map_err(failed)?.id();
    match hook {
        Hook::Tcx => {
            match SchedClassifier::query_tcx(place.name.as_str(), place.point.side()) {
                Ok((_, there)) => Ok(there.iter().any(|program| program.id() == own)),
                // To open programs by their numbers, of others too, takes CAP_SYS_ADMIN. Without it
                // the link is given the program that it has: that changes nothing, and the kernel
                // refuses it where the link leads nowhere.
                Err(error) if errno(&error) == Some(Errno::EPERM) => {
                    let pin = pins.link(place.interface, place.point);
                    Ok(replace_link(program, &pin).is_ok())
                }
                Err(error) => Err(failed(error)),
            }
        }
        Hook::Clsact => {
            let there = filters.list(place.interface, place.side()).await?;
            Ok(there
                .iter()
                .filter_map(|filter| filter.program.as_ref())
                .any(|program| program.id == Some(own)))
        }
    }
}

/// Takes a program off an interface; that the interface is gone is no error.
///
/// # Errors
/// When the kernel refuses.
pub async fn detach(
    pins: &Pins,
    filters: &mut TrafficFilters,
    place: &Place,
    hook: Hook,
) -> Result<(), AttachError> {
    match hook {
        Hook::Tcx => unlink(&pins.link(place.interface, place.point))?,
        Hook::Clsact => {
            for filter in clsact::own_filters(filters, place).await? {
                filters.remove(&filter).await?;
            }
        }
    }
    Ok(())
}

fn replace_link(program: &mut SchedClassifier, pin: &Path) -> Result<(), String> {
    let words = |error: LinkError| error.to_string();
    let link = FdLink::from(PinnedLink::from_pin(pin).map_err(words)?);
    let link = SchedClassifierLink::try_from(link).map_err(words)?;
    let replaced = program
        .attach_to_link(link)
        .and_then(|id| program.take_link(id))
        .map_err(|error| in_one_line(&error))?;
    // The pin keeps the link; its descriptor is closed.
    drop(replaced);
    Ok(())
}

fn by_tcx(program: &mut SchedClassifier, pin: &Path, place: &Place) -> Result<(), AttachError> {
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let link = program
        .attach_with_options(place.name.as_str(), place.point.side(), options)
        .and_then(|id| program.take_link(id))
        .map_err(|source| AttachError::Attach {
            place: place.clone(),
            hook: Hook::Tcx,
            source,
        })?;
    let failed = |reason: String| AttachError::Pin {
        place: place.clone(),
        reason,
    };
    let link = FdLink::try_from(link).map_err(|error| failed(error.to_string()))?;
    link.pin(pin).map_err(|error| failed(error.to_string()))?;
    Ok(())
}

/// Kernels before 6.6 do not know the kind of attachment and answer `EINVAL` (`link_create` in
/// kernel/bpf/syscall.c).
fn lacks_tcx(error: &ProgramError) -> bool {
    errno(error) == Some(Errno::EINVAL)
}

/// What the kernel answered to bpf(2).
fn errno(error: &ProgramError) -> Option<Errno> {
    match error {
        ProgramError::SyscallError(syscall) => syscall.io_error.raw_os_error().map(Errno::from_raw),
        _ => None,
    }
}
