//! The two files of the journal, and how a line gets into them: the current one is written until it is
//! full, then takes the place of the former one. A line that was cut off, by a crash or a full disk, is
//! taken away again before the next one is written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use tracing::warn;

/// The largest file, in bytes: some 2,500 events. There are two of them.
pub(super) const FILE_SIZE: u64 = 512 * 1024;

/// Where the files are.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// The one that is written.
    pub(super) current: PathBuf,
    /// The one before it.
    pub(super) former: PathBuf,
}

/// Which file it is, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

/// The files, to be written.
#[derive(Debug)]
pub(super) struct Files {
    places: Places,
    size: u64,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    id: FileId,
    /// Up to here there are whole lines.
    length: u64,
}

impl Places {
    /// In a state folder.
    pub(super) fn of(folder: &Path) -> Self {
        Self {
            current: folder.join("events.jsonl"),
            former: folder.join("events.old.jsonl"),
        }
    }
}

impl FileId {
    /// That of an open file.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        Ok(Self::from(&file.metadata()?))
    }

    /// That of the file which has this name, if one has.
    pub(super) fn at(path: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(Self::from(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl From<&fs::Metadata> for FileId {
    fn from(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

impl Files {
    /// Files of at most `size` bytes. Nothing is opened yet.
    pub(super) const fn new(places: Places, size: u64) -> Self {
        Self {
            places,
            size,
            open: None,
        }
    }

    /// Writes one line, with its end: the whole of it or nothing.
    pub(super) fn append(&mut self, line: &[u8]) -> io::Result<()> {
        // Kept only if all goes well: whatever else happened, the file is looked at anew.
        let mut open = match self.open.take() {
            // Somebody may have removed it or put it elsewhere.
            Some(open) if FileId::at(&self.places.current)? == Some(open.id) => open,
            _ => Open::new(&self.places.current)?,
        };
        let more = u64::try_from(line.len()).map_err(io::Error::other)?;
        if open.length > 0 && open.length + more > self.size {
            fs::rename(&self.places.current, &self.places.former)?;
            open = Open::new(&self.places.current)?;
        }
        if let Err(error) = open.file.write_all(line) {
            // A part of it may be there. If it cannot be cut off now it is when the file is opened.
            open.file.set_len(open.length).ok();
            return Err(error);
        }
        open.length += more;
        self.open = Some(open);
        Ok(())
    }
}

impl Open {
    fn new(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(path)?;
        let found = file.metadata()?.len();
        let length = whole_lines(&mut file, found)?;
        if length < found {
            warn!(
                file = %path.display(),
                bytes = found - length,
                "the journal ends within a line, which is taken out: a daemon ended while it wrote it"
            );
            file.set_len(length)?;
        }
        let id = FileId::of(&file)?;
        Ok(Self { file, id, length })
    }
}

/// Up to where there are whole lines.
fn whole_lines(file: &mut File, length: u64) -> io::Result<u64> {
    let mut last = [0];
    if length > 0 {
        file.seek(SeekFrom::Start(length - 1))?;
        file.read_exact(&mut last)?;
    }
    if length == 0 || last == *b"\n" {
        return Ok(length);
    }
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(length).read_to_end(&mut bytes)?;
    let end = bytes.iter().rposition(|byte| *byte == b'\n');
    u64::try_from(end.map_or(0, |at| at + 1)).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::writer::tests::Folder;

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn two_files_bound_what_is_kept() {
        let folder = Folder::new("bound");
        let places = Places::of(folder.path());
        let mut files = Files::new(places.clone(), 100);
        for number in 0..50 {
            files
                .append(format!("line {number:04}\n").as_bytes())
                .unwrap();
            let sizes = [&places.current, &places.former].map(|path| text(path).len());
            assert!(sizes.iter().all(|size| *size <= 100), "{sizes:?}");
        }
        let kept = text(&places.former) + &text(&places.current);
        let lines: Vec<String> = kept.lines().map(str::to_owned).collect();
        let last: Vec<String> = (40..50).map(|n| format!("line {n:04}")).collect();
        assert!(lines.len() >= 10 && lines.ends_with(&last), "{lines:?}");
    }

    #[test]
    fn a_line_that_fits_no_file_is_kept_alone() {
        let folder = Folder::new("long");
        let places = Places::of(folder.path());
        let mut files = Files::new(places.clone(), 10);
        let long = format!("{}\n", "x".repeat(50));
        for line in ["a\n", &long, "b\n"] {
            files.append(line.as_bytes()).unwrap();
        }
        assert_eq!(
            (text(&places.former), text(&places.current)),
            (long, "b\n".to_owned())
        );
    }

    #[test]
    fn a_torn_line_is_taken_out_before_the_next_one_is_written() {
        let folder = Folder::new("torn");
        let places = Places::of(folder.path());
        for (found, expected) in [
            ("one\ntw", "one\nthree\n"),
            ("tw", "three\n"),
            ("", "three\n"),
            ("one\n", "one\nthree\n"),
        ] {
            fs::write(&places.current, found).unwrap();
            Files::new(places.clone(), 100).append(b"three\n").unwrap();
            assert_eq!(text(&places.current), expected, "{found:?}");
        }
    }

    #[test]
    fn what_a_full_disk_refuses_is_written_when_there_is_room() {
        let folder = Folder::new("full");
        let places = Places::of(folder.path());
        std::os::unix::fs::symlink("/dev/full", &places.current).unwrap();
        let mut files = Files::new(places.clone(), 100);
        let refusal = files.append(b"one\n").unwrap_err();
        assert_eq!(refusal.kind(), io::ErrorKind::StorageFull);
        fs::remove_file(&places.current).unwrap();
        files.append(b"one\n").unwrap();
        assert_eq!(text(&places.current), "one\n");
    }

    #[test]
    fn a_file_that_was_removed_or_put_away_is_made_anew() {
        let folder = Folder::new("removed");
        let places = Places::of(folder.path());
        let mut files = Files::new(places.clone(), 100);
        files.append(b"one\n").unwrap();
        fs::remove_file(&places.current).unwrap();
        files.append(b"two\n").unwrap();
        assert_eq!(text(&places.current), "two\n");
        fs::rename(&places.current, folder.path().join("copy")).unwrap();
        files.append(b"three\n").unwrap();
        assert_eq!(text(&places.current), "three\n");
    }
}
