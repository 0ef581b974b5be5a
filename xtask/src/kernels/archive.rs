//! The archive that a kernel unpacks as its first file system: cpio, format `newc`
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;
use std::path::{Component, Path};

const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_644;
const PROGRAM: u32 = 0o100_755;

/// An archive that is being written. Everything in it belongs to root.
#[derive(Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    folders: BTreeSet<String>,
}

/// Why a file cannot be in an archive.
#[derive(Debug, thiserror::Error)]
#[error("{path} has {size} bytes: an initial file system can hold files of up to 4 GiB")]
pub(crate) struct TooLarge {
    path: String,
    size: usize,
}

impl Archive {
    /// Adds a folder and those that it is in, unless they are there.
    pub(super) fn folder(&mut self, path: &Path) {
        let mut name = String::new();
        for component in path.components() {
            if let Component::Normal(part) = component {
                if !name.is_empty() {
                    name.push('/');
                }
                name.push_str(&part.to_string_lossy());
                if self.folders.insert(name.clone()) {
                    self.entry(&name, FOLDER, 0, &[]);
                }
            }
        }
    }

    /// Adds a file that only is read, and the folders that it is in.
    pub(super) fn file(&mut self, path: &Path, content: &[u8]) -> Result<(), TooLarge> {
        self.content(path, FILE, content)
    }

    /// Adds a program, and the folders that it is in.
    pub(super) fn program(&mut self, path: &Path, content: &[u8]) -> Result<(), TooLarge> {
        self.content(path, PROGRAM, content)
    }

    /// The archive, complete.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entries = 0;
        self.entry("TRAILER!!!", 0, 0, &[]);
        self.bytes
    }

    fn content(&mut self, path: &Path, mode: u32, content: &[u8]) -> Result<(), TooLarge> {
        if let Some(folder) = path.parent() {
            self.folder(folder);
        }
        let name = path.to_string_lossy();
        let name = name.trim_start_matches('/');
        let size = u32::try_from(content.len()).map_err(|_too_large| TooLarge {
            path: name.to_owned(),
            size: content.len(),
        })?;
        self.entry(name, mode, size, content);
        Ok(())
    }

    fn entry(&mut self, name: &str, mode: u32, size: u32, content: &[u8]) {
        // The kernel takes entries with the same number for one file.
        self.entries += 1;
        let links = if mode == FOLDER { 2 } else { 1 };
        let name_size = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
        let fields = [
            self.entries,
            mode,
            0,
            0,
            links,
            0,
            size,
            0,
            0,
            0,
            0,
            name_size,
            0,
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    /// Headers and contents begin at multiples of four.
    fn pad(&mut self) {
        let size = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(size, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, mode and content of each entry, read as the kernel reads them.
    fn entries(bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            assert_eq!(&bytes[at..at + 6], b"070701");
            let field = |number: usize| {
                let begin = at + 6 + number * 8;
                let text = std::str::from_utf8(&bytes[begin..begin + 8]).unwrap();
                u32::from_str_radix(text, 16).unwrap()
            };
            let (name_size, size) = (field(11) as usize, field(6) as usize);
            let name = &bytes[at + 110..at + 110 + name_size - 1];
            let content = (at + 110 + name_size).next_multiple_of(4);
            entries.push((
                String::from_utf8(name.to_vec()).unwrap(),
                field(1),
                bytes[content..content + size].to_vec(),
            ));
            at = (content + size).next_multiple_of(4);
        }
        entries
    }

    #[test]
    fn each_folder_comes_once_and_before_what_is_in_it() {
        let mut archive = Archive::default();
        archive.program(Path::new("/usr/sbin/nft"), b"nft").unwrap();
        archive
            .file(Path::new("/usr/lib/libc.so.6"), b"libc!")
            .unwrap();
        archive.folder(Path::new("/usr/lib"));
        let entry = |name: &str, mode, content: &[u8]| (name.to_owned(), mode, content.to_vec());
        assert_eq!(
            entries(&archive.finish()),
            [
                entry("usr", FOLDER, b""),
                entry("usr/sbin", FOLDER, b""),
                entry("usr/sbin/nft", PROGRAM, b"nft"),
                entry("usr/lib", FOLDER, b""),
                entry("usr/lib/libc.so.6", FILE, b"libc!"),
                entry("TRAILER!!!", 0, b""),
            ]
        );
    }
}
