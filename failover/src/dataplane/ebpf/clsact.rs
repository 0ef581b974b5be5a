//! The hook of kernels before 6.6: a filter of the `clsact` queueing discipline.

use aya::programs::tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle};
use aya::programs::{ProgramError, SchedClassifier};
use nix::errno::Errno;
use tracing::debug;

use super::attach::{AttachError, Hook, Place};
use super::made::Made;
use crate::kernel::filters::{Filter, FilterError, Qdisc, TrafficFilters};
use crate::network::LinkLayer;

/// The priority of our `clsact` filters: early, and a number that nobody types by habit, since the
/// kernel refuses two kinds of filters of one priority.
const PRIORITY: u16 = 102;
/// How many priorities are tried when others have that one.
const PRIORITIES: u16 = 8;
/// The number of our filter within its priority.
const HANDLE: TcHandle = TcHandle::new(0, 1);

/// Hangs a program on an interface. One that hangs there already is replaced without a gap.
///
/// # Errors
/// When the kernel refuses.
pub(super) async fn attach(
    program: &mut SchedClassifier,
    filters: &mut TrafficFilters,
    made: &mut Made,
    place: &Place,
) -> Result<(), AttachError> {
    match filters.qdisc(place.interface).await? {
        Some(Qdisc::Clsact) => {}
        Some(Qdisc::Other(found)) => {
            return Err(AttachError::OtherQdisc {
                place: place.clone(),
                found,
            });
        }
        None => {
            made.note_clsact(place.interface)?;
            add_clsact(place)?;
        }
    }
    let mut earlier = own_filters(filters, place).await?.into_iter();
    let failed = |source| AttachError::Attach {
        place: place.clone(),
        hook: Hook::Clsact,
        source,
    };
    let id = match earlier.next() {
        Some(filter) => {
            let handle = TcHandle::from(filter.handle);
            let name = place.name.as_str();
            let side = place.point.side();
            SchedClassifierLink::attached(name, side, filter.priority, handle, None)
                .map_err(|error| failed(TcError::IoError(error).into()))
                .and_then(|link| program.attach_to_link(link).map_err(failed))?
        }
        None => add_filter(program, place)?,
    };
    for twin in earlier {
        filters.remove(&twin).await?;
    }
    // Dropping it would take the filter off.
    std::mem::forget(program.take_link(id).map_err(failed)?);
    Ok(())
}

fn add_filter(
    program: &mut SchedClassifier,
    place: &Place,
) -> Result<tc::SchedClassifierLinkId, AttachError> {
    let mut priority = PRIORITY;
    loop {
        let options = TcAttachOptions::Netlink(NlOptions {
            priority,
            handle: HANDLE,
            classid: None,
        });
        match program.attach_with_options(place.name.as_str(), place.point.side(), options) {
            Err(error) if priority < PRIORITY + PRIORITIES && is_taken(&error) => {
                debug!(%place, priority, "another's filter has the priority; trying the next");
                priority += 1;
            }
            other => {
                return other.map_err(|source| AttachError::Attach {
                    place: place.clone(),
                    hook: Hook::Clsact,
                    source,
                });
            }
        }
    }
}

/// The kernel answers `EEXIST` where there is a BPF filter of that priority and number, and `EINVAL`
/// or, before Linux 4.20, `ENOENT` where filters of that priority are of another kind
/// (`tc_new_tfilter` in net/sched/cls_api.c).
fn is_taken(error: &ProgramError) -> bool {
    let ProgramError::TcError(TcError::NetlinkError(error)) = error else {
        return false;
    };
    let taken = [Errno::EEXIST, Errno::EINVAL, Errno::ENOENT];
    error
        .raw_os_error()
        .is_some_and(|number| taken.contains(&Errno::from_raw(number)))
}

/// Filters that an earlier daemon of any version put there.
///
/// # Errors
/// When the kernel does not list them.
pub(super) async fn own_filters(
    filters: &mut TrafficFilters,
    place: &Place,
) -> Result<Vec<Filter>, FilterError> {
    let mut found = filters.list(place.interface, place.side()).await?;
    // With and without the suffix: what an interface's packets begin with may have changed.
    let names = [LinkLayer::Ethernet, LinkLayer::None].map(|layer| place.point.program(layer));
    found.retain(|filter| {
        filter
            .program
            .as_ref()
            .is_some_and(|program| names.contains(&program.name.as_str()))
    });
    Ok(found)
}

/// Adds the `clsact` discipline; that somebody else just did is no error (`EEXIST`, "Exclusivity flag
/// on").
fn add_clsact(place: &Place) -> Result<(), AttachError> {
    match tc::qdisc_add_clsact(place.name.as_str()) {
        Ok(()) | Err(TcError::AlreadyAttached) => Ok(()),
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(Errno::EEXIST as i32) => {
            Ok(())
        }
        Err(source) => Err(AttachError::Qdisc {
            place: place.clone(),
            source,
        }),
    }
}
