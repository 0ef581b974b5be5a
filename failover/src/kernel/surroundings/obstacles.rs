//! Programs and filters of others that packets of the fast path would not pass.
//!
//! What ours redirects is not seen by what comes behind it: TCX programs and filters later in the order,
//! where ours hangs by TCX all filters, and chains of nftables that hang on the interface. What comes
//! before has seen the packet.

use std::io;

use aya::programs::tc::TcError;
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use nix::net::if_::if_indextoname;

use super::{SurroundingsError, chains};
use crate::interface::InterfaceIndex;
use crate::kernel::filters::{self, Filter, Side};
use crate::kernel::netlink::rtnetlink;
use crate::kernel::questions::Questions;
use crate::sys;

/// How often the programs are listed anew when one of them went meanwhile.
const ATTEMPTS: usize = 4;

/// A program that hangs by TCX.
struct Hanging {
    id: u32,
    name: String,
}

/// A filter of `clsact` or `ingress`; `None` for one that could not be read.
type Listed = Option<Filter>;

/// Looks at what comes in by an interface.
pub(super) fn find(
    routing: &mut Questions,
    netfilter: &mut Questions,
    interface: InterfaceIndex,
    own: &[u32],
) -> Result<Option<String>, SurroundingsError> {
    let failed = |source| SurroundingsError::Look { interface, source };
    let Some(name) = name_of(interface).map_err(failed)? else {
        // Nothing comes in any more.
        return Ok(None);
    };
    let programs = match programs(&name) {
        // To open programs by their numbers takes CAP_SYS_ADMIN; the numbers alone do not.
        Err(error) if errno(&error) == Some(Errno::EPERM) => numbers(interface).map_err(failed)?,
        programs => programs.map_err(|source| SurroundingsError::Programs {
            interface,
            source: Box::new(source),
        })?,
    };
    let filters = list_filters(routing, interface).map_err(failed)?;
    if let Some(what) = behind_ours(&programs, &filters, own) {
        return Ok(Some(format!("{what} on {name}")));
    }
    let chain = chains::find(netfilter, &name).map_err(failed)?;
    Ok(chain.map(|chain| format!("an nftables chain of others on {name} ({chain})")))
}

/// The name of an interface; `None` where it is gone.
fn name_of(interface: InterfaceIndex) -> io::Result<Option<String>> {
    match if_indextoname(interface.0) {
        // nix 0.31 takes the null pointer that says "none" for success.
        Ok(name) if name.is_empty() => Ok(None),
        Ok(name) => Ok(Some(name.to_string_lossy().into_owned())),
        Err(Errno::ENXIO | Errno::ENODEV) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// In the order in which they run.
fn programs(interface: &str) -> Result<Vec<Hanging>, ProgramError> {
    let mut attempt = 1;
    loop {
        match SchedClassifier::query_tcx(interface, TcAttachType::Ingress) {
            Ok((_, found)) => {
                let hanging = found.iter().map(|program| Hanging {
                    id: program.id(),
                    name: program.name_as_str().unwrap_or_default().to_owned(),
                });
                return Ok(hanging.collect());
            }
            Err(error) => match errno(&error) {
                // A kernel without TCX (`bpf_prog_query` in kernel/bpf/syscall.c), and an interface that
                // is gone meanwhile.
                Some(Errno::EINVAL | Errno::ENODEV) => return Ok(Vec::new()),
                Some(Errno::ENOENT) if attempt < ATTEMPTS => attempt += 1,
                _ => return Err(error),
            },
        }
    }
}

/// The same, by their numbers alone.
fn numbers(interface: InterfaceIndex) -> io::Result<Vec<Hanging>> {
    let found = match sys::hanging_programs(interface.0) {
        Err(error)
            if matches!(
                error.raw_os_error().map(Errno::from_raw),
                Some(Errno::EINVAL | Errno::ENODEV)
            ) =>
        {
            Vec::new()
        }
        found => found?,
    };
    let hanging = found.into_iter().map(|id| Hanging {
        id,
        name: format!("number {id}"),
    });
    Ok(hanging.collect())
}

fn errno(error: &ProgramError) -> Option<Errno> {
    let error = match error {
        ProgramError::SyscallError(error) => &error.io_error,
        // There is no interface of this name.
        ProgramError::TcError(TcError::IoError(error)) => error,
        _ => return None,
    };
    error.raw_os_error().map(Errno::from_raw)
}

fn list_filters(questions: &mut Questions, interface: InterfaceIndex) -> io::Result<Vec<Listed>> {
    let side = Side::Ingress;
    let question = RouteNetlinkMessage::GetTrafficFilter(filters::question(interface, side));
    let found = questions.list(&question, |message| {
        Ok(match rtnetlink(message) {
            Ok(Some(RouteNetlinkMessage::NewTrafficFilter(message))) => {
                filters::filter(interface, side, &message).map(Some)
            }
            Ok(_) => None,
            Err(_) => Some(None),
        })
    });
    match found {
        // A kernel without traffic control has no filters; an interface without a place for them, or
        // that is gone, neither.
        Err(error)
            if matches!(
                error.raw_os_error().map(Errno::from_raw),
                Some(Errno::EOPNOTSUPP | Errno::ENODEV | Errno::EINVAL | Errno::ENOENT)
            ) =>
        {
            Ok(Vec::new())
        }
        other => other,
    }
}

/// What packets that ours redirects would not come to.
fn behind_ours(programs: &[Hanging], filters: &[Listed], own: &[u32]) -> Option<String> {
    let is_own = |program: &&Hanging| own.contains(&program.id);
    let is_own_filter = |filter: &Filter| {
        let id = filter.program.as_ref().and_then(|program| program.id);
        id.is_some_and(|id| own.contains(&id))
    };
    let by_tcx = programs.iter().position(|program| is_own(&program));
    let by_filter = filters
        .iter()
        .flatten()
        .filter(|filter| is_own_filter(filter))
        .map(|filter| filter.priority)
        .min();
    // All programs come before all filters.
    let behind = match (by_tcx, by_filter) {
        (Some(place), _) => programs.get(place + 1..).unwrap_or_default(),
        (None, Some(_)) => &[],
        (None, None) => programs,
    };
    let program = behind.iter().find(|program| !is_own(program));
    if let Some(program) = program {
        return Some(format!("an eBPF program of others ({})", program.name));
    }
    let first = by_filter.filter(|_| by_tcx.is_none());
    let mut kinds: Vec<&str> = filters
        .iter()
        .filter_map(|filter| match filter {
            // Other chains are reached only from filters of the first one.
            Some(filter) => (filter.chain == 0
                && !is_own_filter(filter)
                && first.is_none_or(|first| first <= filter.priority))
            .then_some(filter.kind.as_str()),
            None => Some("of a kind that is not known"),
        })
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    (!kinds.is_empty()).then(|| format!("tc filters of others ({})", kinds.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::filters::Program;

    const OWN: [u32; 2] = [70, 71];

    fn tcx(ids: &[u32]) -> Vec<Hanging> {
        ids.iter()
            .map(|id| Hanging {
                id: *id,
                name: format!("program{id}"),
            })
            .collect()
    }

    fn filter(priority: u16, kind: &str, id: Option<u32>) -> Listed {
        Some(Filter {
            interface: InterfaceIndex(2),
            side: Side::Ingress,
            priority,
            handle: 1,
            kind: kind.to_owned(),
            chain: 0,
            program: id.map(|id| Program {
                name: "program".to_owned(),
                id: Some(id),
            }),
        })
    }

    fn found(programs: &[u32], filters: &[Listed]) -> Option<String> {
        behind_ours(&tcx(programs), filters, &OWN)
    }

    #[test]
    fn a_program_behind_ours_is_in_the_way_and_one_before_is_not() {
        assert_eq!(found(&[], &[]), None);
        assert_eq!(found(&[3, 70], &[]), None);
        let behind = Some("an eBPF program of others (program3)".to_owned());
        assert_eq!(found(&[70, 3], &[]), behind);
        // While ours is not there, nobody knows where it will be.
        assert_eq!(found(&[3], &[]), behind);
        // Ours hangs by a filter, which comes after all programs.
        assert_eq!(found(&[3], &[filter(102, "bpf", Some(71))]), None);
    }

    #[test]
    fn filters_are_in_the_way_of_programs() {
        let filters = [
            filter(1, "u32", None),
            filter(2, "u32", None),
            filter(3, "bpf", Some(9)),
        ];
        let all = Some("tc filters of others (bpf, u32)".to_owned());
        assert_eq!(found(&[70], &filters), all);
        // What an earlier daemon left beside them is ours.
        assert_eq!(found(&[70], &[filter(102, "bpf", Some(71))]), None);
    }

    #[test]
    fn filters_of_a_later_preference_are_in_the_way_of_ours() {
        let ours = filter(102, "bpf", Some(71));
        assert_eq!(found(&[], std::slice::from_ref(&ours)), None);
        assert_eq!(found(&[], &[filter(101, "u32", None), ours.clone()]), None);
        let behind = Some("tc filters of others (flower)".to_owned());
        let others = [ours.clone(), filter(103, "flower", None)];
        assert_eq!(found(&[], &others), behind);
        // Of the same preference, nobody says which one is asked first.
        let twin = Some("tc filters of others (bpf)".to_owned());
        assert_eq!(found(&[], &[ours, filter(102, "bpf", Some(9))]), twin);
    }

    #[test]
    fn a_chain_that_only_others_lead_to_is_not_in_the_way_and_what_cannot_be_read_is() {
        let mut chained = filter(1, "u32", None);
        if let Some(filter) = &mut chained {
            filter.chain = 7;
        }
        assert_eq!(found(&[70], &[chained]), None);
        assert!(found(&[70], &[None]).is_some());
    }
}
