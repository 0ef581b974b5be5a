//! Programs in this network namespace that steer as well.

use std::fs;
use std::path::Path;

/// Words of a command line by which such a program is known.
const PROGRAMS: [&str; 4] = ["fault_tolerant_router", "mwan3track", "mwan3rtmon", "haip"];

/// Which of them run here, with their process ids.
pub(super) fn others() -> Vec<(String, u32)> {
    let Ok(own) = fs::read_link("/proc/self/ns/net") else {
        return Vec::new();
    };
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let program = program(&fs::read(entry.path().join("cmdline")).ok()?)?;
            let is_here = fs::read_link(entry.path().join("ns/net")).ok()? == own;
            is_here.then(|| (program.to_owned(), pid))
        })
        .collect()
}

/// What runs scripts.
const INTERPRETERS: [&str; 5] = ["sh", "bash", "ash", "python", "ruby"];

/// The program itself, or the script that an interpreter was started with.
fn program(command_line: &[u8]) -> Option<&'static str> {
    let mut words = command_line.split(|byte| *byte == 0).filter_map(|word| {
        Path::new(std::str::from_utf8(word).ok()?)
            .file_name()?
            .to_str()
    });
    let first = words.next()?;
    let known = |name: &str| PROGRAMS.into_iter().find(|program| *program == name);
    // They have their version in their name.
    let interpreter = first.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    known(first).or_else(|| {
        INTERPRETERS
            .contains(&interpreter)
            .then(|| known(words.next()?))
            .flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_known_by_its_name_and_a_file_that_is_edited_is_not() {
        for (line, expected) in [
            (
                "ruby\0/usr/local/bin/fault_tolerant_router\0monitor\0",
                Some("fault_tolerant_router"),
            ),
            ("/usr/bin/haip\0--wait=2\0", Some("haip")),
            ("python2.7\0/usr/bin/haip\0", Some("haip")),
            ("vi\0/usr/bin/haip\0", None),
            ("", None),
        ] {
            assert_eq!(program(line.as_bytes()), expected, "{line}");
        }
    }
}
