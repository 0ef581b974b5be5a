//! A judgement that puts down what it is told, and what it says to that, while somebody wants to know.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use crate::config::Target;
use crate::family::Family;
use crate::health::{
    Health, KeptDamping, LinkLoss, Machine, Places, Round, Thresholds, Traffic, Transition,
};
use crate::replay::format::{Entry, Known, Observation};

/// A machine, and what it was told since that was last taken away.
#[derive(Debug)]
pub struct Recorded {
    family: Family,
    machine: Machine,
    /// Who was asked by the last round.
    targets: Arc<[Target]>,
    /// The uplink has a way in this family, and is probed.
    present: bool,
    tape: Option<Vec<Entry>>,
}

impl Deref for Recorded {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.machine
    }
}

impl Recorded {
    /// A machine that nobody wants to know of yet.
    #[must_use]
    pub fn new(family: Family, thresholds: Thresholds, initial: Health) -> Self {
        Self {
            family,
            machine: Machine::new(thresholds, initial),
            targets: Arc::from([]),
            present: false,
            tape: None,
        }
    }

    /// From now on what it is told is put down. Returns what it knows by now.
    pub fn record(&mut self) -> Known {
        self.tape = Some(Vec::new());
        Known {
            targets: Arc::clone(&self.targets),
            present: self.present,
            machine: self.machine.clone(),
        }
    }

    /// Nobody wants to know any more.
    pub fn stop(&mut self) {
        self.tape = None;
    }

    /// What was put down since this was last asked; `None` when nothing is put down.
    pub fn take(&mut self) -> Option<Vec<Entry>> {
        self.tape.as_mut().map(std::mem::take)
    }

    /// See [`Machine::round`].
    pub fn round(&mut self, now: Instant, round: &Round) -> Option<Transition> {
        if !Arc::ptr_eq(&self.targets, &round.targets) && self.targets != round.targets {
            self.note(now, || Observation::Targets(round.targets.to_vec()));
        }
        self.targets = Arc::clone(&round.targets);
        self.note(now, || Observation::of(round));
        let said = self.machine.round(now, round);
        self.said(said)
    }

    /// See [`Machine::set_aside`].
    pub fn set_aside(&mut self, now: Instant, aside: Places) -> Option<Transition> {
        if self.machine.judges_without() == aside {
            return None;
        }
        self.note(now, || Observation::Aside(aside));
        let said = self.machine.set_aside(now, aside);
        self.said(said)
    }

    /// See [`Machine::traffic`].
    pub fn traffic(&mut self, now: Instant, news: Traffic) {
        self.note(now, || Observation::Traffic(news));
        self.machine.traffic(now, news);
    }

    /// See [`Machine::forgive`].
    pub fn forgive(&mut self, now: Instant) -> Option<Transition> {
        self.note(now, || Observation::Forgiven);
        let said = self.machine.forgive(now);
        self.said(said)
    }

    /// See [`Machine::resume_damping`].
    pub fn resume_damping(&mut self, kept: &KeptDamping, now: Instant, wall: Timestamp) {
        self.machine.resume_damping(kept, now, wall);
    }

    /// See [`Machine::link_lost`].
    pub fn link_lost(&mut self, now: Instant, why: &LinkLoss) -> Option<Transition> {
        // At every look it is told again.
        if self.machine.link_loss() == Some(why) {
            return None;
        }
        self.note(now, || Observation::LinkLost(why.clone()));
        let said = self.machine.link_lost(now, why.clone());
        self.said(said)
    }

    /// See [`Machine::link_back`].
    pub fn link_back(&mut self, now: Instant) {
        if self.machine.link_loss().is_some() {
            self.note(now, || Observation::LinkBack);
            self.machine.link_back(now);
        }
    }

    /// See [`Machine::path_changed`].
    pub fn path_changed(&mut self, now: Instant) {
        self.note(now, || Observation::PathChanged);
        self.machine.path_changed(now);
    }

    /// See [`Machine::set_thresholds`].
    pub fn set_thresholds(&mut self, now: Instant, thresholds: Thresholds) {
        if self.machine.thresholds() != thresholds {
            self.note(now, || Observation::Thresholds(thresholds));
            self.machine.set_thresholds(thresholds);
        }
    }

    /// Forgets everything.
    pub fn begin_anew(&mut self, now: Instant, thresholds: Thresholds, initial: Health) {
        self.note(now, || Observation::Anew(thresholds, initial));
        self.machine = Machine::new(thresholds, initial);
    }

    /// Whether the uplink has a way in this family, and is probed: what is not so is in no state.
    pub fn set_present(&mut self, now: Instant, present: bool) {
        if std::mem::replace(&mut self.present, present) != present {
            self.note(now, || Observation::Present(present));
        }
    }

    fn said(&mut self, transition: Option<Transition>) -> Option<Transition> {
        if let Some(said) = &transition {
            self.note(said.at, || {
                Observation::Verdict(said.from, said.to, said.reason.to_string())
            });
        }
        transition
    }

    fn note(&mut self, now: Instant, what: impl FnOnce() -> Observation) {
        if let Some(tape) = &mut self.tape {
            tape.push(Entry::new(now, self.family, what()));
        }
    }
}
