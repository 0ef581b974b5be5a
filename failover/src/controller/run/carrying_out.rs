//! From a decision to the kernel: what was decided is carried out, tried again where that failed, and
//! told to those whom it concerns.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::{Daemon, moment};
use crate::controller::apply::Kernel;
use crate::controller::apply_error::ApplyErrors;
use crate::controller::uplink::Notice;
use crate::dataplane::Steering;
use crate::flows::LostConnection;
use crate::health::Blamed;
use crate::interface::InterfaceName;
use crate::journal::Event;
use crate::status::State;

/// After this time the dead uplink's flows are forgotten once more, for packets that were between
/// routing and confirmation when it was done first.
const SECOND_DELETION: Duration = Duration::from_millis(200);

impl<K: Kernel, S: Steering> Daemon<K, S> {
    /// Decides and carries out at once, whatever is due.
    pub(in crate::controller) async fn carry_out(&mut self) {
        if self.decide() {
            self.timers.retry.settled();
        }
        if self.suspect {
            self.try_apply().await;
        }
    }

    /// Has those neighbours told and read whose hardware addresses count.
    fn follow_neighbours(&mut self) {
        match self.observer.have_told(&self.engine.mixed_links()) {
            Ok(false) => {}
            Ok(true) => {
                let names = self.engine.config().mixed_interfaces();
                self.observer.follow_neighbours(names);
                self.look_soon();
            }
            // What is read every now and then tells it later.
            Err(error) => warn!(%error, "cannot have changes of neighbours told"),
        }
    }

    pub(super) async fn try_apply(&mut self) {
        let applied = self.apply().await;
        self.note(applied);
    }

    /// Notes how carrying out went; what failed is tried again.
    pub(super) fn note(&mut self, applied: Result<(), ApplyErrors>) {
        match applied {
            Ok(()) => {
                if self.problem.take().is_some() {
                    info!("the kernel is in the wanted state again");
                    self.journal.note(Event::Solved);
                }
                self.timers.retry.settled();
            }
            Err(errors) => {
                let problem = errors.to_string();
                if self.problem.as_ref() != Some(&problem) {
                    error!(%problem, "the kernel is not in the wanted state; trying again");
                    let reason = problem.clone();
                    self.journal.note(Event::Problem { reason });
                }
                self.problem = Some(problem);
                self.timers.retry.failed(Instant::now());
            }
        }
    }

    /// Returns whether there is something to be done that was not decided before.
    pub(super) fn decide(&mut self) -> bool {
        self.untold = true;
        self.follow_neighbours();
        let decision = self.engine.decide(moment());
        for notice in self.engine.take_hand_notices() {
            notice.tell();
            self.journal.note(Event::from(notice));
        }
        for notice in self.engine.take_notices() {
            tell(&notice);
            self.journal.note(Event::from(notice));
        }
        for notice in self.engine.take_drain_notices() {
            notice.tell();
            self.journal.note(Event::from(notice));
        }
        for blamed in self.engine.take_blamed() {
            self.tell_of_target(&blamed);
        }
        let news = decision.wanted != self.wanted || !decision.forget.is_subset(&self.forget);
        self.suspect |= news || !decision.forget.is_empty();
        self.wanted = decision.wanted;
        self.forget = decision.forget;
        news
    }

    fn tell_of_target(&self, blamed: &Blamed) {
        let Blamed {
            target,
            family,
            uplink,
            back,
        } = blamed;
        let uplink = uplink.and_then(|id| self.engine.names().remove(&id));
        let by = uplink
            .as_ref()
            .map_or_else(|| "all uplinks".to_owned(), ToString::to_string);
        if *back {
            info!(%target, %family, by, "a target answers again, and counts again");
        } else {
            warn!(%target, %family, by, "a target is silent by its own fault, and is set aside");
        }
        self.journal.note(Event::Target {
            target: target.to_string(),
            family: *family,
            uplink,
            aside: !back,
        });
    }

    pub(super) async fn apply(&mut self) -> Result<(), ApplyErrors> {
        let interfaces: BTreeSet<InterfaceName> = self.engine.interfaces().cloned().collect();
        let engine = &self.engine;
        self.applier
            .look_around(engine.surroundings(), engine.keeping(&self.forget));
        let applied = self
            .applier
            .apply(&self.wanted, &interfaces, &self.forget)
            .await;
        self.tell_clients();
        if let Err(errors) = &applied
            && !errors.only_of_programs()
        {
            return applied;
        }
        self.suspect = applied.is_err();
        self.engine.forgotten(&self.forget);
        if !self.forget.is_empty() {
            self.again.append(&mut self.forget);
            self.timers.second_deletion = Some(Instant::now() + SECOND_DELETION);
        }
        applied
    }

    /// Has the clients of connections told that were forgotten.
    pub(super) fn tell_clients(&mut self) {
        let connections = self.applier.take_connections();
        if connections.is_empty() {
            return;
        }
        let surroundings = self.engine.surroundings();
        let lost = connections
            .iter()
            .filter_map(|flow| LostConnection::of(flow, &surroundings))
            .collect();
        self.resets.tell(lost, self.engine.outside());
    }

    pub(in crate::controller) fn remember(&mut self) {
        self.remembered.keep(&self.engine, &self.store, moment());
    }
}

fn tell(notice: &Notice) {
    let Notice {
        uplink,
        family,
        from,
        to,
        reason,
    } = notice;
    let (from, to) = (from.as_str(), to.as_str());
    if matches!(notice.to, State::Down | State::Absent) {
        warn!(%uplink, %family, from, to, reason, "uplink changed its state");
    } else {
        info!(%uplink, %family, from, to, reason, "uplink changed its state");
    }
}
