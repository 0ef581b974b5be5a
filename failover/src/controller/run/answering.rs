//! What the loop says to those who ask at the control socket.

use std::path::PathBuf;
use std::time::Instant;

use tracing::info;

use super::{Daemon, moment};
use crate::control::server::Question;
use crate::control::{Answer, Request};
use crate::controller::apply::Kernel;
use crate::controller::asked::NoSuchUplink;
use crate::controller::counts::Counts;
use crate::controller::listing::Listing;
use crate::dataplane::Steering;
use crate::journal::Event;
use crate::wanted::PickedBy;

impl<K: Kernel, S: Steering> Daemon<K, S> {
    /// Answers without waiting for anything but a change of the kernel that is asked for; flows are
    /// counted and listed beside the loop.
    pub(super) async fn answer(&mut self, question: Question) {
        match question.request {
            Request::Status => {
                let mut document = self.engine.status(Instant::now());
                document.problem.clone_from(&self.problem);
                document.notify = self.notifier.status();
                let counts = Counts {
                    marks: self.engine.config().marks,
                    table: self.flow_table(),
                    probes: self
                        .metering
                        .reader()
                        .map(|reader| (reader, self.engine.meters())),
                };
                tokio::spawn(async move {
                    counts.fill_in(&mut document).await;
                    question.reply.finish(&Answer::Status(document)).await;
                });
            }
            Request::Flows { uplink } => {
                let listing = Listing {
                    uplinks: self.engine.names(),
                    surroundings: self.engine.surroundings(),
                    marks: self.engine.config().marks,
                    table: self.flow_table(),
                };
                tokio::spawn(listing.send(uplink, question.reply));
            }
            Request::Explain(asked) => match self.engine.explain(asked, self.flow_table()) {
                Ok(explaining) => {
                    tokio::spawn(explaining.send(question.reply));
                }
                Err(reason) => {
                    tokio::spawn(
                        async move { question.reply.finish(&Answer::Error(reason)).await },
                    );
                }
            },
            Request::Trust { uplink } => {
                let known = NoSuchUplink::unless_among(&self.engine.names(), &uplink);
                let answer = match known {
                    Ok(()) => {
                        let families = self.engine.trust(&uplink, moment());
                        info!(%uplink, "trusted by hand, its failures are forgotten");
                        self.journal.note(Event::Trusted {
                            uplink,
                            families: families.clone(),
                        });
                        Answer::Trusted { families }
                    }
                    Err(unknown) => Answer::Error(unknown.to_string()),
                };
                tokio::spawn(async move { question.reply.finish(&answer).await });
            }
            Request::ByHand { uplink, order } => {
                let answer = self.obey(&uplink, order).await;
                tokio::spawn(async move { question.reply.finish(&answer).await });
            }
            Request::Trace { uplink, step } => self.answer_trace(&uplink, step, question.reply),
            Request::Reload => self.begin_reload(Some(question.reply)),
        }
    }

    /// Where the flow table is pinned, if there is one.
    fn flow_table(&self) -> Option<PathBuf> {
        match self.engine.picked_by() {
            PickedBy::Nftables => None,
            PickedBy::Tc => Some(self.engine.config().bpffs.clone()),
        }
    }
}
