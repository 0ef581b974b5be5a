//! Watching for the moment from which new flows get through.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::{Answer, Host, Traffic};
use crate::error::LabError;
use crate::eventually::within;

impl Host {
    /// Opens one new flow after the other, each `every` later than the one before and without
    /// waiting for its answer, until one gets an answer that is `wanted`, and returns that. Of
    /// `traffic` the count means nothing here; its time limit is how long each flow is waited for.
    ///
    /// # Errors
    /// [`LabError::NotInTime`] when there is none within `limit`.
    pub async fn first_answer(
        &self,
        traffic: Traffic,
        every: Duration,
        limit: Duration,
        wanted: impl Fn(&Answer) -> bool,
    ) -> Result<Answer, LabError> {
        let one = Traffic {
            count: 1,
            ..traffic
        };
        let what = format!("a new {traffic} flow gets the answer that is waited for");
        let watch = async {
            let mut open = tokio::task::JoinSet::new();
            let mut next = interval(every);
            next.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = next.tick() => {
                        let host = self.clone();
                        open.spawn(async move { host.burst(one).await });
                    }
                    Some(Ok(asked)) = open.join_next() => {
                        let answer = asked?.into_iter().flatten().find(|answer| wanted(answer));
                        if let Some(answer) = answer {
                            return Ok(answer);
                        }
                    }
                }
            }
        };
        within(&what, limit, watch).await?
    }
}
