//! Reading the journal, also while a daemon writes it: everything that is there, and then what comes,
//! over changes of the file and restarts of the daemon.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::journal::event::Record;
use crate::journal::files::{FileId, Places};

/// How often the files may change places while they are opened.
const TRIES: u32 = 10;

/// Why the journal cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// Not by this user.
    #[error("not permitted to read {path}: run this as root, or let this user read it")]
    NotPermitted {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not at all.
    #[error("cannot read {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// As it stands in the file, without the line's end, and with what this version does not know.
    pub text: String,
    /// What it says.
    pub record: Record,
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct News {
    /// The events, in their order.
    pub lines: Vec<Line>,
    /// How many lines were no events: torn when a daemon or the machine crashed, or written by others.
    pub senseless: usize,
}

/// Reads the journal of a state folder.
#[derive(Debug)]
pub struct JournalReader {
    places: Places,
    current: Option<Tail>,
    /// The number of the last event that was read.
    last: u64,
}

/// A file that may grow.
#[derive(Debug)]
struct Tail {
    file: File,
    id: FileId,
    /// Up to here it was read: whole lines.
    position: u64,
    /// There is a beginning of a line behind that.
    unfinished: bool,
}

impl JournalReader {
    /// A reader of the journal in a state folder, which needs not exist yet.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self {
            places: Places::of(folder),
            current: None,
            last: 0,
        }
    }

    /// Everything that is there. No journal is none.
    ///
    /// # Errors
    /// When a file is there and cannot be read.
    pub fn all(&mut self) -> Result<News, ReadError> {
        let mut news = News::default();
        let (former, current) = self.open_both()?;
        if let Some(mut former) = former {
            self.take(&mut former, Which::Former, &mut news)?;
        }
        self.current = current;
        self.take_current(&mut news)?;
        Ok(news)
    }

    /// What came since it was last read.
    ///
    /// # Errors
    /// As [`Self::all`].
    pub fn news(&mut self) -> Result<News, ReadError> {
        let mut news = News::default();
        self.take_current(&mut news)?;
        let known = self.current.as_ref().map(|tail| tail.id);
        let there = FileId::at(&self.places.current);
        let there = there.map_err(|source| self.failed(Which::Current, source))?;
        if there.is_none() || there == known {
            return Ok(news);
        }
        // The file has changed. The rest of the one before it was written before that.
        self.take_current(&mut news)?;
        let (former, next) = self.open_both()?;
        if let Some(mut former) = former
            && Some(former.id) != known
        {
            // It changed more than once since then.
            let mut missed = News::default();
            let last = self.last;
            self.take(&mut former, Which::Former, &mut missed)?;
            missed.lines.retain(|line| line.record.seq > last);
            news.lines.append(&mut missed.lines);
            news.senseless += missed.senseless;
        }
        self.current = next;
        self.take_current(&mut news)?;
        Ok(news)
    }

    /// Whether the last line has no end: it is just being written, or was torn.
    #[must_use]
    pub fn ends_within_a_line(&self) -> bool {
        self.current.as_ref().is_some_and(|tail| tail.unfinished)
    }

    /// The former and the current file, as they were at one moment.
    fn open_both(&self) -> Result<(Option<Tail>, Option<Tail>), ReadError> {
        let open =
            |which| Tail::open(self.place(which)).map_err(|source| self.failed(which, source));
        let mut tries = 1;
        loop {
            let current = open(Which::Current)?;
            let former = open(Which::Former)?;
            let id = |tail: &Option<Tail>| tail.as_ref().map(|tail| tail.id);
            // The current one became the former one in between.
            if current.is_some() && id(&current) == id(&former) && tries < TRIES {
                tries += 1;
                continue;
            }
            return Ok((former, current));
        }
    }

    fn take_current(&mut self, news: &mut News) -> Result<(), ReadError> {
        if let Some(mut tail) = self.current.take() {
            let taken = self.take(&mut tail, Which::Current, news);
            self.current = Some(tail);
            taken?;
        }
        Ok(())
    }

    fn take(&mut self, tail: &mut Tail, which: Which, news: &mut News) -> Result<(), ReadError> {
        let bytes = tail.read().map_err(|source| self.failed(which, source))?;
        for line in bytes.split(|byte| *byte == b'\n') {
            match (Record::parse(line), std::str::from_utf8(line)) {
                (Some(record), Ok(text)) => {
                    self.last = record.seq;
                    let text = text.to_owned();
                    news.lines.push(Line { text, record });
                }
                _ if line.is_empty() => {}
                _ => news.senseless += 1,
            }
        }
        Ok(())
    }

    fn place(&self, which: Which) -> &Path {
        match which {
            Which::Former => &self.places.former,
            Which::Current => &self.places.current,
        }
    }

    fn failed(&self, which: Which, source: io::Error) -> ReadError {
        let path = self.place(which).to_owned();
        if source.kind() == io::ErrorKind::PermissionDenied {
            ReadError::NotPermitted { path, source }
        } else {
            ReadError::Unreadable { path, source }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Which {
    Former,
    Current,
}

impl Tail {
    fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(Self {
            id: FileId::of(&file)?,
            file,
            position: 0,
            unfinished: false,
        }))
    }

    /// The whole lines that were not read yet.
    fn read(&mut self) -> io::Result<Vec<u8>> {
        // Somebody emptied it.
        if self.file.metadata()?.len() < self.position {
            self.position = 0;
        }
        self.file.seek(SeekFrom::Start(self.position))?;
        let mut bytes = Vec::new();
        self.file.read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n');
        let whole = whole.map_or(0, |end| end + 1);
        self.unfinished = whole < bytes.len();
        bytes.truncate(whole);
        self.position += u64::try_from(whole).map_err(io::Error::other)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::journal::event::Event;
    use crate::journal::files::Files;
    use crate::journal::writer::tests::Folder;

    fn line(seq: u64) -> Vec<u8> {
        let record = Record {
            seq,
            time: "2026-11-21T02:13:04Z".parse().unwrap(),
            event: Event::Solved,
        };
        record.line().unwrap()
    }

    fn numbers(news: &News) -> Vec<u64> {
        news.lines.iter().map(|line| line.record.seq).collect()
    }

    /// Files of four lines each.
    fn files(places: &Places) -> Files {
        let size = u64::try_from(line(99).len()).unwrap() * 4;
        Files::new(places.clone(), size)
    }

    #[test]
    fn no_journal_is_no_error_and_one_that_comes_is_followed() {
        let folder = Folder::new("none");
        let mut reader = JournalReader::new(&folder.path().join("not/there"));
        assert_eq!(reader.all().unwrap(), News::default());
        assert_eq!(reader.news().unwrap(), News::default());

        let mut reader = JournalReader::new(folder.path());
        assert_eq!(reader.all().unwrap(), News::default());
        let mut files = files(&Places::of(folder.path()));
        files.append(&line(1)).unwrap();
        assert_eq!(numbers(&reader.news().unwrap()), [1]);
        assert_eq!(reader.news().unwrap(), News::default());
    }

    #[test]
    fn torn_and_foreign_lines_are_skipped_and_counted() {
        let folder = Folder::new("senseless");
        let places = Places::of(folder.path());
        let text = [
            &line(1)[..],
            b"{\"seq\":2,\"ti\n",
            &line(3),
            b"\0\xff\n\n",
            b"{\"seq\":4",
        ];
        fs::write(&places.current, text.concat()).unwrap();
        let mut reader = JournalReader::new(folder.path());
        let news = reader.all().unwrap();
        assert_eq!((numbers(&news), news.senseless), (vec![1, 3], 2));
        assert!(reader.ends_within_a_line());
        // The next daemon takes the torn line out and goes on.
        files(&places).append(&line(4)).unwrap();
        let news = reader.news().unwrap();
        assert_eq!((numbers(&news), news.senseless), (vec![4], 0));
        assert!(!reader.ends_within_a_line());
    }

    #[test]
    fn nothing_is_lost_or_told_twice_when_the_file_changes() {
        let folder = Folder::new("rotation");
        let places = Places::of(folder.path());
        let mut files = files(&places);
        files.append(&line(1)).unwrap();
        let mut reader = JournalReader::new(folder.path());
        let mut read = numbers(&reader.all().unwrap());
        // Looked at after one, two and so on until seven at once: the file changes at each fourth.
        let mut next = 2;
        for step in (1..8).chain([1]) {
            for _ in 0..step {
                files.append(&line(next)).unwrap();
                next += 1;
            }
            read.extend(numbers(&reader.news().unwrap()));
        }
        assert_eq!(read, (1..next).collect::<Vec<u64>>());
        let mut fresh = JournalReader::new(folder.path());
        let kept = numbers(&fresh.all().unwrap());
        assert!(read.ends_with(&kept) && kept.len() > 4, "{kept:?}");
    }

    #[test]
    fn a_journal_that_begins_anew_is_followed() {
        let folder = Folder::new("anew");
        let places = Places::of(folder.path());
        let mut files = files(&places);
        for seq in 1..4 {
            files.append(&line(seq)).unwrap();
        }
        let mut reader = JournalReader::new(folder.path());
        reader.all().unwrap();
        fs::remove_file(&places.current).unwrap();
        files.append(&line(1)).unwrap();
        assert_eq!(numbers(&reader.news().unwrap()), [1]);
        fs::write(&places.current, "").unwrap();
        assert_eq!(reader.news().unwrap(), News::default());
        fs::write(&places.current, line(2)).unwrap();
        assert_eq!(numbers(&reader.news().unwrap()), [2]);
    }
}
