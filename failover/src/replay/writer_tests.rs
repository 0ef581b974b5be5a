//! What is in the files when much was written, and when the disk refuses.

use std::fs;

use super::*;
use crate::config::{ProbeConfig, Target};
use crate::family::{Family, PerFamily};
use crate::health::{Failure, Health, Outcome, PlanNumber, Round, RoundKind};
use crate::replay::{Recorded, Replay, Report, TraceReader};

/// Longer than any disk takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A state folder that is gone with its test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("failover-trace-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

fn fiber() -> UplinkName {
    "fiber".parse().unwrap()
}

/// An uplink that is silent for 5 of every 20 rounds.
struct Line {
    now: Instant,
    recorded: Recorded,
    targets: Arc<[Target]>,
    next: u64,
}

impl Line {
    fn new() -> Self {
        let thresholds = (&ProbeConfig::default()).into();
        let mut recorded = Recorded::new(Family::Ipv4, thresholds, Health::Up);
        let now = Instant::now();
        recorded.set_present(now, true);
        Self {
            now,
            recorded,
            targets: [Target::Icmp([192, 0, 2, 1].into())].into(),
            next: 0,
        }
    }

    fn begin(&mut self) -> Begin {
        let thresholds = (&ProbeConfig::default()).into();
        let families = PerFamily {
            ipv4: self.recorded.record(),
            ipv6: Recorded::new(Family::Ipv6, thresholds, Health::Unknown).record(),
        };
        let interface = "wan1".parse().unwrap();
        let probe = ProbeConfig::default();
        Begin::new(
            &fiber(),
            &interface,
            &probe,
            self.now,
            Timestamp::now(),
            families,
        )
    }

    fn round(&mut self) -> Vec<Entry> {
        self.now += Duration::from_millis(500);
        let rtt = Duration::from_millis(20);
        let outcome = if self.next % 20 < 5 {
            Outcome::Failed(Failure::Timeout)
        } else {
            Outcome::Answered { rtt }
        };
        let round = Round {
            plan: PlanNumber(1),
            sequence: self.next,
            kind: RoundKind::Regular,
            sent_at: self.now,
            targets: Arc::clone(&self.targets),
            outcomes: vec![outcome],
        };
        self.next += 1;
        self.recorded.round(self.now, &round);
        self.recorded.take().unwrap()
    }
}

fn played(file: &Path) -> Report {
    let mut reader = TraceReader::open(file).unwrap();
    let mut replay = Replay::new(None);
    while let Some(line) = reader.next_line().unwrap() {
        replay.play(line);
    }
    Report::of(&replay, reader.senseless, Vec::new()).unwrap()
}

#[test]
fn two_files_bound_a_trace_and_what_they_hold_is_whole() {
    // Three times what a file begins with, which has 20 kB once the line has failed often: so much of each
    // file is rounds.
    const SIZE: u64 = 60_000;
    let folder = Folder::new("bound");
    let mut traces = Traces::new(&folder.0);
    traces.size = SIZE;
    let mut line = Line::new();
    let opened = traces.start(line.begin(), None).unwrap();
    opened.blocking_recv().unwrap().unwrap();
    let file = traces.file_of(&fiber());
    let former = PathBuf::from(format!("{}.1", file.display()));
    let lengths = || [&file, &former].map(|file| fs::metadata(file).map_or(0, |found| found.len()));
    let deadline = Instant::now() + PATIENCE;
    for _ in 0..1_000 {
        let before = lengths();
        let entries = line.round();
        if traces.write(&fiber(), entries) == Given::WantsBegin {
            let begin = line.begin();
            traces.begin(begin);
        }
        // As slow as a line is: the thread comes along, and nothing is left out.
        while lengths() == before {
            assert!(Instant::now() < deadline, "nothing is written");
            thread::yield_now();
        }
    }
    traces.finish(PATIENCE);
    for file in [&file, &former] {
        let length = fs::metadata(file).unwrap().len();
        assert!(length < SIZE * 2, "{length}");
    }
    let report = played(&file);
    assert!(report.same_as_recorded, "{:#?}", report.contradictions);
    assert_eq!((report.gaps.len(), report.senseless_lines), (0, 0));
    assert!(report.families[0].own.times_down > 3, "{report:#?}");

    // It goes on there, after a gap.
    let mut traces = Traces::new(&folder.0);
    traces.start(line.begin(), None).unwrap();
    traces.write(&fiber(), line.round());
    traces.finish(PATIENCE);
    let report = played(&file);
    assert!(report.same_as_recorded, "{:#?}", report.contradictions);
    assert_eq!(report.gaps.len(), 1);
}

#[test]
fn a_queue_that_is_full_is_a_gap_and_no_contradiction() {
    let folder = Folder::new("queue");
    let mut traces = Traces::new(&folder.0);
    let mut line = Line::new();
    traces.start(line.begin(), None).unwrap();
    for number in 0..200 {
        let trace = traces.running.get_mut(&fiber()).unwrap();
        if number == 50 {
            // As if these had not fitted.
            trace.missed = 3;
            line.round();
        }
        if traces.write(&fiber(), line.round()) == Given::WantsBegin {
            let begin = line.begin();
            traces.begin(begin);
        }
    }
    traces.finish(PATIENCE);
    let report = played(&traces.file_of(&fiber()));
    assert!(report.same_as_recorded, "{:#?}", report.contradictions);
    assert_eq!(report.gaps.len(), 1);
    assert_eq!(report.gaps[0].missed, 4);
}

#[test]
fn a_disk_that_refuses_ends_the_trace() {
    let folder = Folder::new("full");
    let mut traces = Traces::new(&folder.0);
    let file = traces.file_of(&fiber());
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/dev/full", &file).unwrap();
    let mut line = Line::new();
    let opened = traces.start(line.begin(), None).unwrap();
    opened.blocking_recv().unwrap().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !traces.is_over(&fiber(), line.now) && Instant::now() < deadline {
        thread::yield_now();
    }
    assert!(traces.is_over(&fiber(), line.now));
}

#[test]
fn a_trace_is_over_when_its_time_is() {
    let folder = Folder::new("time");
    let mut traces = Traces::new(&folder.0);
    let mut line = Line::new();
    let now = line.now;
    let hour = Duration::from_secs(3600);
    traces.start(line.begin(), Some(now + hour)).unwrap();
    assert!(!traces.is_over(&fiber(), now + hour / 2));
    assert!(traces.is_over(&fiber(), now + hour));
    traces.set_end(&fiber(), None);
    assert!(!traces.is_over(&fiber(), now + hour));
    assert!(traces.stop(&fiber()).wait(PATIENCE));
    assert!(!traces.stop(&fiber()).wait(PATIENCE));
}
