//! How well an uplink answers: round-trip time, its jitter, and loss over the window, and whether
//! that is bad by the limits that the user set.
//!
//! Going bad looks at the younger half of the window, coming back at that and the whole of it, by a
//! lower limit: what is bad is seen soon, and what is at the limit does not flicker. A target that never
//! answers while another one does says something about itself and not about the uplink: it is left
//! out. Of latency and jitter those of the best target count: what the uplink adds, all have.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::round::{Outcome, Places, Round, RoundKind};
use crate::config::{Band, QualityLimits, Target};

/// In how many pieces the window moves on.
const PIECES: u64 = 30;
/// How many probes must have ended before they say anything.
const LEAST_PROBES: u32 = 10;

/// What was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    /// Probes that ended.
    pub probes: u32,
    /// Those without an answer, 0.0 to 1.0; `None` when none has ended.
    pub loss: Option<f64>,
    /// The mean round-trip time to the nearest target; `None` without an answer.
    pub latency: Option<Duration>,
    /// The mean change of the round-trip time to the steadiest target; `None` with less than two
    /// answers of one target.
    pub jitter: Option<Duration>,
}

/// What is bad, and by how much.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Complaint {
    /// It was bad when a daemon last ran, and not enough has been measured since.
    Before,
    /// Too many probes are lost.
    Loss {
        /// The share that is, 0.0 to 1.0.
        measured: f64,
        /// The share that may be.
        limit: f64,
    },
    /// Answers take too long.
    Latency {
        /// How long they take.
        measured: Duration,
        /// How long they may take.
        limit: Duration,
    },
    /// Answers take times that differ too much.
    Jitter {
        /// By how much they differ.
        measured: Duration,
        /// By how much they may.
        limit: Duration,
    },
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |duration: &Duration| duration.as_secs_f64() * 1000.0;
        match self {
            Self::Before => f.write_str("answered badly before, not measured since"),
            Self::Loss { measured, limit } => write!(
                f,
                "{:.0}% of the probes are lost, {:.0}% may be",
                measured * 100.0,
                limit * 100.0
            ),
            Self::Latency { measured, limit } => write!(
                f,
                "answers take {:.0} ms, {:.0} ms may be",
                ms(measured),
                ms(limit)
            ),
            Self::Jitter { measured, limit } => write!(
                f,
                "the answers' times change by {:.0} ms, {:.0} ms may be",
                ms(measured),
                ms(limit)
            ),
        }
    }
}

/// What became of the probes of one target in one piece of the window.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Sums {
    answered: u32,
    lost: u32,
    rtt: Duration,
    changes: u32,
    change: Duration,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.answered = self.answered.saturating_add(other.answered);
        self.lost = self.lost.saturating_add(other.lost);
        self.rtt = self.rtt.saturating_add(other.rtt);
        self.changes = self.changes.saturating_add(other.changes);
        self.change = self.change.saturating_add(other.change);
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Piece {
    number: u64,
    targets: Vec<Sums>,
}

/// The probes of the window.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Quality {
    limits: QualityLimits,
    /// The length of a piece.
    piece: Duration,
    /// When the first piece began.
    #[serde(with = "super::stored::moment_if_any")]
    origin: Option<Instant>,
    pieces: VecDeque<Piece>,
    /// The last round-trip time of each target.
    last: Vec<Option<Duration>>,
    /// Targets that are left out.
    aside: Places,
    complaint: Option<Complaint>,
}

impl Quality {
    pub(super) fn new(limits: QualityLimits) -> Self {
        Self {
            limits,
            piece: piece(limits.window),
            origin: None,
            pieces: VecDeque::new(),
            last: Vec::new(),
            aside: Places::NONE,
            complaint: None,
        }
    }

    /// Measures over another window, and by other limits.
    pub(super) fn set(&mut self, limits: QualityLimits) {
        if std::mem::replace(&mut self.piece, piece(limits.window)) != self.piece {
            self.clear();
        }
        self.limits = limits;
        let kept = match self.complaint {
            Some(Complaint::Before) => limits.any(),
            Some(Complaint::Loss { .. }) => limits.max_loss.is_some(),
            Some(Complaint::Latency { .. }) => limits.max_latency.is_some(),
            Some(Complaint::Jitter { .. }) => limits.max_jitter.is_some(),
            None => false,
        };
        self.complaint = self.complaint.filter(|_| kept);
    }

    /// It was bad when a daemon last ran.
    pub(super) const fn was_bad(&mut self) {
        self.complaint = Some(Complaint::Before);
    }

    /// What was last found bad.
    pub(super) const fn complaint(&self) -> Option<Complaint> {
        self.complaint
    }

    /// Forgets what was measured; what was found bad stays so until something else is measured.
    pub(super) fn clear(&mut self) {
        self.origin = None;
        self.pieces.clear();
        self.last.clear();
    }

    /// Forgets what was found bad, too.
    pub(super) fn begin_anew(&mut self) {
        self.clear();
        self.complaint = None;
    }

    /// Leaves these targets out.
    pub(super) const fn set_aside(&mut self, aside: Places) {
        self.aside = aside;
    }

    /// Takes in what became of some targets of a round. Confirming rounds do not count: more of them
    /// are sent the more is lost.
    pub(super) fn learn(&mut self, round: &Round, settled: &[usize]) {
        if round.kind != RoundKind::Regular {
            return;
        }
        let origin = *self.origin.get_or_insert(round.sent_at);
        let number = self.number(origin, round.sent_at);
        let only_gateway = round.targets.iter().all(Target::is_gateway);
        for &place in settled {
            let gateway = round.targets.get(place).is_some_and(Target::is_gateway);
            let Some(outcome) = round
                .outcomes
                .get(place)
                .filter(|_| !gateway || only_gateway)
            else {
                continue;
            };
            if self.last.len() <= place {
                self.last.resize(place + 1, None);
            }
            let last = self.last.get_mut(place);
            let mut sums = Sums::default();
            match outcome {
                Outcome::Answered { rtt } => {
                    sums.answered = 1;
                    sums.rtt = *rtt;
                    if let Some(before) = last.and_then(|last| last.replace(*rtt)) {
                        sums.changes = 1;
                        sums.change = before.abs_diff(*rtt);
                    }
                }
                Outcome::Failed(failure) if failure.is_no_evidence() => continue,
                Outcome::Failed(_) => sums.lost = 1,
                Outcome::Outstanding | Outcome::Overdue => continue,
            }
            if let Some(found) = self.sums(number, place) {
                found.add(&sums);
            }
        }
    }

    fn number(&self, origin: Instant, at: Instant) -> u64 {
        let since = at.saturating_duration_since(origin).as_nanos();
        u64::try_from(since / self.piece.as_nanos().max(1)).unwrap_or(u64::MAX)
    }

    /// Where a target's probes of a piece are summed up; `None` when the piece is too old.
    fn sums(&mut self, number: u64, place: usize) -> Option<&mut Sums> {
        let newest = self.pieces.back().map_or(number, |piece| piece.number);
        if number.saturating_add(PIECES) <= newest {
            return None;
        }
        let at = self.pieces.partition_point(|piece| piece.number < number);
        if self
            .pieces
            .get(at)
            .is_none_or(|found| found.number != number)
        {
            let targets = Vec::new();
            self.pieces.insert(at, Piece { number, targets });
        }
        let newest = newest.max(number);
        let mut removed = 0;
        while self
            .pieces
            .front()
            .is_some_and(|oldest| oldest.number.saturating_add(PIECES) <= newest)
        {
            self.pieces.pop_front();
            removed += 1;
        }
        let targets = &mut self.pieces.get_mut(at.checked_sub(removed)?)?.targets;
        if targets.len() <= place {
            targets.resize(place + 1, Sums::default());
        }
        targets.get_mut(place)
    }

    /// What was measured over the window.
    pub(super) fn measured(&self) -> Measured {
        self.over(PIECES)
    }

    /// What was measured over the last pieces.
    fn over(&self, pieces: u64) -> Measured {
        let newest = self.pieces.back().map_or(0, |piece| piece.number);
        let mut targets = vec![Sums::default(); self.last.len()];
        for piece in self.pieces.iter().rev() {
            if piece.number.saturating_add(pieces) <= newest {
                break;
            }
            for (sum, found) in targets.iter_mut().zip(&piece.targets) {
                sum.add(found);
            }
        }
        let of_the_uplink = |(place, _): &(usize, &Sums)| !self.aside.has(*place);
        let any = targets
            .iter()
            .enumerate()
            .filter(of_the_uplink)
            .any(|(_, sums)| sums.answered > 0);
        let counted: Vec<&Sums> = targets
            .iter()
            .enumerate()
            .filter(of_the_uplink)
            .map(|(_, sums)| sums)
            .filter(|sums| sums.answered > 0 || !any)
            .collect();
        let lost: u32 = counted.iter().map(|sums| sums.lost).sum();
        let probes: u32 = lost + counted.iter().map(|sums| sums.answered).sum::<u32>();
        Measured {
            probes,
            loss: (probes > 0).then(|| f64::from(lost) / f64::from(probes)),
            latency: counted
                .iter()
                .filter_map(|sums| sums.rtt.checked_div(sums.answered))
                .min(),
            jitter: counted
                .iter()
                .filter_map(|sums| sums.change.checked_div(sums.changes))
                .min(),
        }
    }

    /// Finds out what is bad now.
    pub(super) fn judge(&mut self) {
        if !self.limits.any() {
            self.complaint = None;
            return;
        }
        let back = self.complaint.is_some();
        let young = self.over(PIECES / 2);
        if young.probes < LEAST_PROBES {
            return;
        }
        self.complaint = exceeded(&self.limits, &young, back);
        if back && self.complaint.is_none() {
            self.complaint = exceeded(&self.limits, &self.over(PIECES), back);
        }
    }
}

/// The first limit that is exceeded: the upper one, or the one for coming `back`.
fn exceeded(limits: &QualityLimits, measured: &Measured, back: bool) -> Option<Complaint> {
    fn over<T: PartialOrd + Copy>(
        band: Option<Band<T>>,
        measured: Option<T>,
        back: bool,
    ) -> Option<(T, T)> {
        let band = band?;
        let limit = if back { band.back_at } else { band.above };
        measured
            .filter(|measured| *measured > limit)
            .map(|measured| (measured, limit))
    }
    let may_be_lost = limits.max_loss.map(|band| Band {
        above: band.above.fraction(),
        back_at: band.back_at.fraction(),
    });
    let loss = over(may_be_lost, measured.loss, back)
        .map(|(measured, limit)| Complaint::Loss { measured, limit });
    let latency = || {
        over(limits.max_latency, measured.latency, back)
            .map(|(measured, limit)| Complaint::Latency { measured, limit })
    };
    let jitter = || {
        over(limits.max_jitter, measured.jitter, back)
            .map(|(measured, limit)| Complaint::Jitter { measured, limit })
    };
    loss.or_else(latency).or_else(jitter)
}

fn piece(window: Duration) -> Duration {
    let pieces = u32::try_from(PIECES).unwrap_or(u32::MAX);
    (window / pieces).max(Duration::from_millis(1))
}
