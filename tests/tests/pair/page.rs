//! The configurations as `docs/pair.md` has them, with the files where the lab has them.

use std::path::Path;

const PAGE: &str = include_str!("../../../docs/pair.md");

/// Where the page's files are.
const FOLDERS: [&str; 3] = ["/var/lib/failover/", "/var/log/", "/run/"];

/// One of the two routers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// The one that serves the office while it can.
    First,
    /// The other one.
    Second,
}

/// The configuration of failover.
pub(crate) fn failover(files: &Path) -> Result<String, String> {
    block("## failover, on both", Which::First, "yaml", files)
}

/// That of keepalived.
pub(crate) fn keepalived(which: Which, files: &Path) -> Result<String, String> {
    block("## keepalived", which, "text", files)
}

/// That of conntrackd.
pub(crate) fn conntrackd(which: Which, files: &Path) -> Result<String, String> {
    block("## conntrackd", which, "text", files)
}

/// The block behind the words "The first router" or "The second router" in a section, or the only one.
fn block(heading: &str, which: Which, language: &str, files: &Path) -> Result<String, String> {
    let missing = || format!("the page has no {which:?} configuration below {heading:?}");
    let (_, section) = PAGE
        .split_once(&format!("\n{heading}\n"))
        .ok_or_else(missing)?;
    let section = section.split("\n## ").next().unwrap_or(section);
    let words = match which {
        Which::First => "\nThe first router, ",
        Which::Second => "\nThe second router:",
    };
    let section = section.split_once(words).map_or(section, |(_, rest)| rest);
    let (_, rest) = section
        .split_once(&format!("\n```{language}\n"))
        .ok_or_else(missing)?;
    let (block, _) = rest.split_once("```").ok_or_else(missing)?;
    let here = format!("{}/", files.display());
    // The lab's own folder may lie in one of these.
    let mut text = block.to_owned();
    for (number, folder) in FOLDERS.iter().enumerate() {
        text = text.replace(folder, &format!("<{number}>"));
    }
    for number in 0..FOLDERS.len() {
        text = text.replace(&format!("<{number}>"), &here);
    }
    Ok(text)
}
