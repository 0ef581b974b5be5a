//! Sends all flows of the fast path back to the stack, for `failover flush`: on a thread of its own.

use tracing::{info, warn};

use crate::control::{Answer, Reply};
use crate::fastpath::access::Access;
use crate::journal::{Event, Journal};

/// A flush that was asked for.
#[derive(Debug)]
pub(super) struct Flushing {
    pub(super) fast_path: Access,
    /// Where it is noted if it sent any flow back.
    pub(super) journal: Journal,
}

impl Flushing {
    /// Does it, and says what came of it.
    pub(super) async fn send(self, reply: Reply) {
        let flushed = tokio::task::spawn_blocking(move || self.flush()).await;
        let answer = flushed.unwrap_or_else(|error| Answer::Error(error.to_string()));
        reply.finish(&answer).await;
    }

    fn flush(&self) -> Answer {
        match self.fast_path.flush() {
            Ok(flows) => {
                info!(flows, "the fast path was flushed by hand");
                if flows > 0 {
                    self.journal.note(Event::Flushed { flows });
                }
                Answer::Flushed { flows }
            }
            Err(reason) => {
                warn!("the fast path cannot be flushed: {reason}");
                Answer::Error(reason)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fastpath::access::Absence;
    use crate::fastpath::fake::FakeFastPath;

    /// What is answered, and what is noted.
    async fn flushed(fast_path: Access) -> (Answer, Option<Event>) {
        let journal = Journal::nowhere();
        let mut notes = journal.listen();
        let (reply, mut lines) = Reply::new();
        Flushing { fast_path, journal }.send(reply).await;
        let line = lines.next().await.unwrap();
        let noted = notes.try_recv().ok().map(|noted| noted.event);
        (serde_json::from_slice(&line).unwrap(), noted)
    }

    #[tokio::test]
    async fn who_flushes_is_told_how_many_flows_went_back() {
        assert_eq!(
            flushed(FakeFastPath::flushing(Ok(7))).await,
            (
                Answer::Flushed { flows: 7 },
                Some(Event::Flushed { flows: 7 })
            )
        );
        assert_eq!(
            flushed(FakeFastPath::flushing(Ok(0))).await,
            (Answer::Flushed { flows: 0 }, None)
        );
    }

    #[tokio::test]
    async fn what_is_in_the_way_is_told_and_nothing_is_noted() {
        for (fast_path, reason) in [
            (
                FakeFastPath::flushing(Err("the map `pairs` is gone".to_owned())),
                "the map `pairs` is gone",
            ),
            (
                Access::Absent(Absence::Classic),
                "classic mode has no fast path",
            ),
        ] {
            let told = Answer::Error(reason.to_owned());
            assert_eq!(flushed(fast_path).await, (told, None));
        }
    }
}
