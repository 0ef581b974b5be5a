//! What hangs at the interfaces of a node.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use aya::programs::{ProgramError, SchedClassifier, TcAttachType};
use failover_tests::{LabError, Node, ProgramSpec, eventually};
use nix::net::if_::if_nameindex;
use serde::Deserialize;

use crate::Hook;

/// A program at an interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) struct Hanging {
    /// The interface.
    #[serde(rename = "devname")]
    pub(crate) interface: String,
    /// The hook and the side, as in `tcx/ingress`.
    pub(crate) kind: String,
    /// The program's name, and with clsact that of the filter.
    pub(crate) name: String,
    /// The kernel's number of the program.
    #[serde(alias = "prog_id", rename = "id")]
    pub(crate) program: u32,
}

/// Where programs hang: interface, hook and side, name.
pub(crate) type Places = BTreeSet<(String, String, String)>;

/// Everything that hangs at the interfaces of a node, in the kernel's order for each.
pub(crate) async fn listed(node: &Node) -> Result<Vec<Hanging>, LabError> {
    let mut found = by_clsact(node).await?;
    if Hook::all().contains(&Hook::Tcx) {
        let by_tcx = node.run(|| async { by_tcx() }).await?;
        found.extend(by_tcx.map_err(|error| LabError::Io {
            what: "list what hangs by TCX".to_owned(),
            source: io::Error::other(error),
        })?);
    }
    Ok(found)
}

async fn by_clsact(node: &Node) -> Result<Vec<Hanging>, LabError> {
    #[derive(Deserialize)]
    struct Listed {
        tc: Vec<Hanging>,
    }
    let text = node
        .must(ProgramSpec::line("bpftool --json net show"))
        .await?;
    let listed: Vec<Listed> = serde_json::from_str(&text).map_err(|error| LabError::Io {
        what: format!("read what bpftool wrote: {text}"),
        source: io::Error::from(error),
    })?;
    // Newer versions list what hangs by TCX, too.
    let found = listed.into_iter().flat_map(|listed| listed.tc);
    Ok(found
        .filter(|one| one.kind.starts_with("clsact/"))
        .collect())
}

/// To be called in the node.
fn by_tcx() -> Result<Vec<Hanging>, ProgramError> {
    let interfaces = if_nameindex().map_err(|error| ProgramError::IOError(error.into()))?;
    let mut found = Vec::new();
    for interface in &interfaces {
        let name = interface.name().to_string_lossy();
        let sides = [
            ("tcx/ingress", TcAttachType::Ingress),
            ("tcx/egress", TcAttachType::Egress),
        ];
        for (kind, side) in sides {
            let (_, programs) = SchedClassifier::query_tcx(&name, side)?;
            found.extend(programs.iter().map(|program| Hanging {
                interface: name.clone().into_owned(),
                kind: kind.to_owned(),
                name: program.name_as_str().unwrap_or_default().to_owned(),
                program: program.id(),
            }));
        }
    }
    Ok(found)
}

/// Where programs hang in a node.
pub(crate) async fn places(node: &Node) -> Result<Places, LabError> {
    let found = listed(node).await?.into_iter();
    Ok(found
        .map(|one| (one.interface, one.kind, one.name))
        .collect())
}

/// Where the daemon's programs are to hang.
pub(crate) fn wanted(hook: Hook, programs: &[(&str, &str, &str)]) -> Places {
    let place = |(interface, side, name): &(&str, &str, &str)| {
        let kind = format!("{hook}/{side}");
        ((*interface).to_owned(), kind, (*name).to_owned())
    };
    programs.iter().map(place).collect()
}

/// Those of a downlink.
pub(crate) const fn downlink(interface: &str) -> [(&str, &'static str, &'static str); 2] {
    [
        (interface, "ingress", "fo_lan_in"),
        (interface, "egress", "fo_lan_out"),
    ]
}

/// That of an uplink.
pub(crate) const fn uplink(interface: &str) -> (&str, &'static str, &'static str) {
    (interface, "ingress", "fo_wan_in")
}

/// Those that the usual configuration asks for.
pub(crate) fn usual(hook: Hook) -> Places {
    let [lan_in, lan_out] = downlink("lan0");
    wanted(hook, &[lan_in, lan_out, uplink("wan1"), uplink("wan2")])
}

/// Waits until programs hang where they should and nowhere else.
pub(crate) async fn until(node: &Node, limit: Duration, wanted: &Places) -> Result<(), LabError> {
    let what = format!("programs hang at {wanted:?}");
    eventually(&what, limit, || async {
        Ok((places(node).await? == *wanted).then_some(()))
    })
    .await
}
