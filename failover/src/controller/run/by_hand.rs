//! What operators do about uplinks by hand: carried out and written down before it is answered.

use super::{Daemon, moment};
use crate::by_hand::Order;
use crate::causes::in_one_line;
use crate::control::{Answer, Obeyed};
use crate::controller::apply::Kernel;
use crate::dataplane::Steering;
use crate::status::State;
use crate::uplink::UplinkName;

impl<K: Kernel, S: Steering> Daemon<K, S> {
    /// Does it, and says what came of it.
    pub(super) async fn obey(&mut self, uplink: &UplinkName, order: Order) -> Answer {
        let obeyed = match self.engine.by_hand(uplink, order, moment()) {
            Ok(obeyed) => obeyed,
            Err(refusal) => return Answer::Error(refusal.to_string()),
        };
        self.carry_out().await;
        self.prober.set_plans(self.engine.probe_plans());
        let kept = self.remembered.keep_by_hand(&self.engine, &self.store);
        self.remember();
        Answer::ByHand(Obeyed {
            before: obeyed.before,
            now: obeyed.now,
            state: self.engine.state_of(uplink).unwrap_or(State::Absent),
            irreplaceable: self.engine.irreplaceable(uplink),
            unkept: kept.err().map(|error| in_one_line(&error)),
            problem: self.problem.clone(),
        })
    }
}
