//! Whose fault it is that a target is silent: its own, or the uplink's.
//!
//! A target that is silent by every uplink at once, while others answer or where it is the only one,
//! is to blame itself: the uplinks are judged without it. So is one that is silent by one uplink
//! alone for a while, as far as enough others are left there. Either is asked on, and counts again
//! when it has answered a few times.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::round::{Outcome, Places, PlanNumber, Round, RoundKind};
use crate::config::Target;
use crate::family::Family;
use crate::uplink::UplinkId;

/// Regular rounds without an answer until a target that is silent by one uplink alone is set aside.
const ALONE: usize = 10;
/// Answers in a row until a target counts again.
const BACK: u16 = 3;
/// Silent rounds that are remembered of a target.
const REMEMBERED: usize = 16;

/// What is asked of an uplink's targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Targets that must answer.
    pub required: u16,
    /// Bad rounds in a row until the uplink is down.
    pub down_after: u16,
}

/// A target that is set aside, or counts again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blamed {
    /// The target.
    pub target: Target,
    /// The family in which it is asked.
    pub family: Family,
    /// The uplink by which alone it is silent; `None`: by all.
    pub uplink: Option<UplinkId>,
    /// Whether it counts again.
    pub back: bool,
}

/// The targets of all uplinks.
#[derive(Clone, Debug, Default)]
pub struct Blame {
    asked: BTreeMap<(Family, UplinkId), Asker>,
    /// Silent by all uplinks.
    everywhere: BTreeSet<(Family, Target)>,
    /// Silent by one.
    alone: BTreeSet<(Family, UplinkId, Target)>,
}

#[derive(Clone, Debug)]
struct Asker {
    plan: PlanNumber,
    asked: Asked,
    targets: Arc<[Target]>,
    courses: Vec<Course>,
}

/// How a target has answered by one uplink.
#[derive(Clone, Debug, Default)]
struct Course {
    last_answered: Option<u64>,
    /// The regular rounds since that it has not answered.
    silent: VecDeque<u64>,
    /// Rounds in a row that it has answered.
    answers: u16,
}

impl Course {
    fn learn(&mut self, sequence: u64, kind: RoundKind, outcome: &Outcome) {
        match outcome {
            Outcome::Outstanding => {}
            outcome if outcome.is_no_evidence() => {}
            Outcome::Answered { .. } => {
                if self.last_answered < Some(sequence) {
                    self.last_answered = Some(sequence);
                    self.answers = self.answers.saturating_add(1);
                }
                self.silent.retain(|silent| *silent > sequence);
            }
            Outcome::Overdue | Outcome::Failed(_) => {
                let new = self.last_answered < Some(sequence) && !self.silent.contains(&sequence);
                if kind == RoundKind::Regular && new {
                    self.answers = 0;
                    self.silent.push_back(sequence);
                    if self.silent.len() > REMEMBERED {
                        self.silent.pop_front();
                    }
                }
            }
        }
    }

    /// As far as it matters for a judgement.
    fn matters(&self) -> (usize, u16) {
        (self.silent.len(), self.answers.min(BACK))
    }

    fn answers_now(&self) -> bool {
        self.silent.is_empty() && self.last_answered.is_some()
    }
}

impl Blame {
    /// Takes in what is known of a round, and returns what has changed by it.
    pub fn learn(
        &mut self,
        uplink: UplinkId,
        family: Family,
        asked: Asked,
        round: &Round,
    ) -> Vec<Blamed> {
        let new = || Asker {
            plan: round.plan,
            asked,
            targets: Arc::clone(&round.targets),
            courses: vec![Course::default(); round.targets.len()],
        };
        let asker = self.asked.entry((family, uplink)).or_insert_with(new);
        if round.plan < asker.plan {
            return Vec::new();
        }
        if round.plan > asker.plan {
            *asker = new();
        }
        asker.asked = asked;
        let mut changed = false;
        for (course, outcome) in asker.courses.iter_mut().zip(&round.outcomes) {
            let before = course.matters();
            course.learn(round.sequence, round.kind, outcome);
            changed |= course.matters() != before;
        }
        if changed {
            self.judge(family)
        } else {
            Vec::new()
        }
    }

    /// Nobody is asked by this uplink any more. Returns what has changed by it.
    pub fn forget(&mut self, uplink: UplinkId, family: Family) -> Vec<Blamed> {
        if self.asked.remove(&(family, uplink)).is_none() {
            return Vec::new();
        }
        self.alone
            .retain(|(of, by, _)| (*of, *by) != (family, uplink));
        self.judge(family)
    }

    /// The targets, by their places, without which an uplink is judged.
    #[must_use]
    pub fn aside(&self, uplink: UplinkId, family: Family) -> Places {
        if self.everywhere.is_empty() && self.alone.is_empty() {
            return Places::NONE;
        }
        let Some(asker) = self.asked.get(&(family, uplink)) else {
            return Places::NONE;
        };
        let targets = asker.targets.iter().enumerate();
        targets
            .filter(|(_, target)| self.is_aside(uplink, family, target))
            .fold(Places::NONE, |places, (place, _)| places.with(place))
    }

    /// The targets without which an uplink is judged.
    pub fn set_aside(
        &self,
        uplink: UplinkId,
        family: Family,
    ) -> impl Iterator<Item = &Target> + use<'_> {
        let asker = self.asked.get(&(family, uplink));
        asker
            .into_iter()
            .flat_map(|asker| asker.targets.iter())
            .filter(move |target| self.is_aside(uplink, family, target))
    }

    fn is_aside(&self, uplink: UplinkId, family: Family, target: &Target) -> bool {
        self.everywhere.contains(&(family, target.clone()))
            || self.alone.contains(&(family, uplink, target.clone()))
    }

    fn of(&self, family: Family) -> impl Iterator<Item = (UplinkId, &Asker)> {
        self.asked
            .iter()
            .filter(move |((of, _), _)| *of == family)
            .map(|((_, uplink), asker)| (*uplink, asker))
    }

    /// Finds out anew who is to blame.
    fn judge(&mut self, family: Family) -> Vec<Blamed> {
        let mut changes = self.judge_everywhere(family);
        changes.extend(self.judge_alone(family));
        changes
    }

    fn judge_everywhere(&mut self, family: Family) -> Vec<Blamed> {
        let targets: BTreeSet<Target> = self
            .of(family)
            .flat_map(|(_, asker)| asker.targets.iter().cloned())
            .filter(|target| !target.is_gateway())
            .collect();
        let only_one = targets.len() == 1;
        let any_answers = self.of(family).any(|(_, asker)| {
            let mut courses = asker.targets.iter().zip(&asker.courses);
            courses.any(|(target, course)| !target.is_gateway() && course.answers_now())
        });
        let mut changes = Vec::new();
        for target in targets {
            let courses: Vec<(&Asker, &Course)> = self
                .of(family)
                .filter_map(|(_, asker)| Some((asker, asker.course(&target)?)))
                .collect();
            let key = (family, target.clone());
            let was = self.everywhere.contains(&key);
            let is = if was {
                !courses.iter().any(|(_, course)| course.answers >= BACK)
            } else {
                // One of them is about to be declared down for it.
                let matters = |(asker, course): &(&Asker, &Course)| {
                    let row = usize::from(asker.asked.down_after).clamp(1, REMEMBERED);
                    course.silent.len() >= row
                };
                courses.len() > 1
                    && (only_one || any_answers)
                    && courses.iter().all(|(_, course)| !course.silent.is_empty())
                    && courses.iter().any(matters)
            };
            if is != was {
                if is {
                    self.everywhere.insert(key);
                } else {
                    self.everywhere.remove(&key);
                }
                changes.push(Blamed {
                    target,
                    family,
                    uplink: None,
                    back: was,
                });
            }
        }
        changes
    }

    fn judge_alone(&mut self, family: Family) -> Vec<Blamed> {
        let mut changes = Vec::new();
        for (uplink, asker) in self.of(family) {
            for (target, course) in asker.targets.iter().zip(&asker.courses) {
                let was = self.alone.contains(&(family, uplink, target.clone()));
                let is = if was {
                    course.answers < BACK
                } else {
                    course.silent.len() >= ALONE
                        && !target.is_gateway()
                        && !self.is_aside(uplink, family, target)
                        && self.can_do_without(uplink, family, asker, target)
                };
                if is != was {
                    changes.push(Blamed {
                        target: target.clone(),
                        family,
                        uplink: Some(uplink),
                        back: was,
                    });
                }
            }
        }
        for change in &changes {
            if let Some(uplink) = change.uplink {
                let key = (family, uplink, change.target.clone());
                if change.back {
                    self.alone.remove(&key);
                } else {
                    self.alone.insert(key);
                }
            }
        }
        changes
    }

    /// Whether all other targets that count answer, and are enough.
    fn can_do_without(
        &self,
        uplink: UplinkId,
        family: Family,
        asker: &Asker,
        target: &Target,
    ) -> bool {
        let others: Vec<&Course> = asker
            .targets
            .iter()
            .zip(&asker.courses)
            .filter(|(other, _)| {
                *other != target && !other.is_gateway() && !self.is_aside(uplink, family, other)
            })
            .map(|(_, course)| course)
            .collect();
        others.len() >= usize::from(asker.asked.required).max(1)
            && others.iter().all(|course| course.answers_now())
    }
}

impl Asker {
    fn course(&self, target: &Target) -> Option<&Course> {
        let place = self.targets.iter().position(|other| other == target)?;
        self.courses.get(place)
    }
}

#[cfg(test)]
#[path = "blame_tests.rs"]
mod tests;
