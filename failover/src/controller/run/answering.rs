//! What the loop says to those who ask at the control socket.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tracing::info;

use super::{Daemon, moment};
use crate::config::FastPathSetting;
use crate::control::server::Question;
use crate::control::{Answer, Request};
use crate::controller::apply::Kernel;
use crate::controller::asked::NoSuchUplink;
use crate::controller::counts::Counts;
use crate::controller::explaining::Explaining;
use crate::controller::flushing::Flushing;
use crate::controller::listing::Listing;
use crate::dataplane::Steering;
use crate::explain;
use crate::fastpath::access::{Absence, Access};
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
                    fast_path: self.fast_path(),
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
                    fast_path: self.fast_path(),
                };
                tokio::spawn(listing.send(uplink, question.reply));
            }
            Request::Explain(asked) => match self.explain(asked) {
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
            Request::Flush => {
                let flushing = Flushing {
                    fast_path: self.fast_path(),
                    journal: self.journal.clone(),
                };
                tokio::spawn(flushing.send(question.reply));
            }
            Request::Trace { uplink, step } => self.answer_trace(&uplink, step, question.reply),
            Request::Reload => self.begin_reload(Some(question.reply)),
        }
    }

    fn explain(&self, asked: explain::Question) -> Result<Explaining, String> {
        let engine = &self.engine;
        engine.explain(asked, self.flow_table(), self.fast_path())
    }

    /// The fast path, or why there is none.
    fn fast_path(&self) -> Access {
        match (&self.fast_path, self.engine.picked_by()) {
            (_, PickedBy::Nftables) => Access::Absent(Absence::Classic),
            (Some(fast_path), PickedBy::Tc) => Access::There(Arc::clone(fast_path)),
            (None, PickedBy::Tc) => Access::Absent(match self.engine.config().fast_path {
                FastPathSetting::Off => Absence::Off,
                FastPathSetting::Auto => Absence::NotSetUp,
            }),
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
