//! What the journal keeps of what was noted, over ends of the daemon of all kinds.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::family::Family;
use crate::status::State;

/// A folder that is gone with its test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let name = format!("failover-journal-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// Longer than any disk takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn started() -> Event {
    Event::Started {
        mode: "classic".to_owned(),
        version: "0.1.0".to_owned(),
        interrupted: false,
    }
}

fn change(reason: &str) -> Event {
    Event::State {
        uplink: "lte".parse().unwrap(),
        family: Family::Ipv4,
        from: State::Up,
        to: State::Down,
        reason: reason.to_owned(),
    }
}

/// One daemon's life.
fn noted(folder: &Folder, events: impl IntoIterator<Item = Event>) {
    let (journal, writing) = Journal::start(folder.path());
    for event in events {
        journal.note(event);
    }
    writing.finish(PATIENCE);
}

fn read(folder: &Folder) -> Vec<Record> {
    let news = JournalReader::new(folder.path()).all().unwrap();
    assert_eq!(news.senseless, 0);
    news.lines.into_iter().map(|line| line.record).collect()
}

fn numbers(folder: &Folder) -> Vec<u64> {
    read(folder).iter().map(|record| record.seq).collect()
}

#[test]
fn events_are_kept_in_order_and_numbers_go_on_over_restarts() {
    let folder = Folder::new("order");
    noted(
        &folder,
        [started(), change("a"), Event::Stopped { reason: None }],
    );
    noted(&folder, [started(), change("b")]);
    // The second one was killed.
    noted(&folder, [started()]);
    let records = read(&folder);
    assert_eq!(numbers(&folder), [1, 2, 3, 4, 5, 6]);
    assert!(records.is_sorted_by_key(|record| record.time));
    let interrupted: Vec<bool> = records
        .iter()
        .filter_map(|record| match record.event {
            Event::Started { interrupted, .. } => Some(interrupted),
            _ => None,
        })
        .collect();
    assert_eq!(interrupted, [false, false, true]);
}

#[test]
fn a_daemon_that_was_killed_while_it_wrote_costs_one_line() {
    let folder = Folder::new("killed");
    noted(&folder, [started(), change("a"), change("b")]);
    let file = Places::of(folder.path()).current;
    let whole = fs::read(&file).unwrap();
    for cut in 1..40 {
        let (head, _) = whole.split_at(whole.len() - cut);
        fs::write(&file, head).unwrap();
        noted(&folder, [change("c")]);
        let records = read(&folder);
        // Without its end the last line counts as torn, even where nothing else is missing.
        assert_eq!(numbers(&folder), [1, 2, 3], "{cut} bytes");
        assert_eq!(
            records.last().map(|record| record.event.clone()),
            Some(change("c"))
        );
    }
}

#[test]
fn numbers_go_on_where_the_current_file_is_gone() {
    let folder = Folder::new("former");
    noted(&folder, [started(), change("a")]);
    let places = Places::of(folder.path());
    // As between the two steps of a change of files.
    fs::rename(&places.current, &places.former).unwrap();
    noted(&folder, [change("b")]);
    assert_eq!(numbers(&folder), [1, 2, 3]);
}

#[test]
fn a_number_is_given_to_what_is_written_only() {
    let folder = Folder::new("numbers");
    let places = Places::of(folder.path());
    fs::create_dir(&places.current).unwrap();
    let mut writer = Writer::new(folder.path(), Arc::default());
    let mut record = Record {
        seq: 0,
        time: Timestamp::now(),
        event: change("a"),
    };
    for _ in 0..3 {
        writer.try_write(&mut record).unwrap_err();
    }
    fs::remove_dir(&places.current).unwrap();
    writer.try_write(&mut record).unwrap();
    std::os::unix::fs::symlink("/dev/full", folder.path().join("full")).unwrap();
    fs::rename(&places.current, folder.path().join("aside")).unwrap();
    fs::rename(folder.path().join("full"), &places.current).unwrap();
    writer.try_write(&mut record).unwrap_err();
    fs::rename(folder.path().join("aside"), &places.current).unwrap();
    writer.try_write(&mut record).unwrap();
    assert_eq!(numbers(&folder), [1, 2]);
}

#[test]
fn what_cannot_be_written_yet_waits_and_comes_in_order() {
    let folder = Folder::new("waits");
    let places = Places::of(folder.path());
    // Nothing can be written where a folder is in the way.
    fs::create_dir(&places.current).unwrap();
    let (journal, writing) = Journal::start(folder.path());
    let (noted, is_noted) = channel();
    thread::spawn(move || {
        for number in 0..10 {
            journal.note(change(&number.to_string()));
        }
        noted.send(()).unwrap();
    });
    // Who waited for the journal here would wait for ever.
    is_noted
        .recv_timeout(PATIENCE)
        .expect("who notes waits for nothing");
    fs::remove_dir(&places.current).unwrap();
    writing.finish(PATIENCE);
    let reasons: Vec<Event> = read(&folder)
        .into_iter()
        .map(|record| record.event)
        .collect();
    let expected: Vec<Event> = (0..10).map(|number| change(&number.to_string())).collect();
    assert_eq!(reasons, expected);
}

#[test]
fn what_does_not_fit_the_queue_is_counted() {
    let folder = Folder::new("missed");
    let places = Places::of(folder.path());
    fs::create_dir(&places.current).unwrap();
    let (journal, writing) = Journal::start(folder.path());
    let many = u64::try_from(QUEUE).unwrap() + 500;
    for _ in 0..many {
        journal.note(Event::Stopped { reason: None });
    }
    let left_out = journal.missed.load(Ordering::Relaxed);
    assert!(left_out >= 400, "{left_out}");
    fs::remove_dir(&places.current).unwrap();
    // There is no room for the word that ends it either, so wait for the last of them first.
    let deadline = Instant::now() + PATIENCE;
    let told = || {
        let news = JournalReader::new(folder.path()).all().ok()?;
        let missed = news.lines.iter().find_map(|line| match line.record.event {
            Event::Missed { count } => Some(count),
            _ => None,
        })?;
        (u64::try_from(news.lines.len()).unwrap() + missed == many + 1).then_some(missed)
    };
    let mut found = None;
    while found.is_none() && Instant::now() < deadline {
        found = told();
        thread::yield_now();
    }
    assert_eq!(found, Some(left_out));
    writing.finish(PATIENCE);
}

#[test]
fn an_uplink_that_flaps_fills_no_journal() {
    let folder = Folder::new("flaps");
    noted(
        &folder,
        (0..1_000).map(|number| change(&number.to_string())),
    );
    let records = read(&folder);
    assert_eq!(records.len(), 21);
    let Some(Event::Repeated(rest)) = records.last().map(|record| &record.event) else {
        panic!("the last is a summary");
    };
    assert_eq!((rest.count, rest.reason.as_deref()), (980, Some("999")));
}
