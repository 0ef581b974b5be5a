//! Traces of uplinks: begun and ended at the control socket, and fed with what the engine puts down.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::{info, warn};

use super::{Daemon, moment};
use crate::control::{Answer, Reply, TraceStep};
use crate::controller::apply::Kernel;
use crate::controller::asked::NoSuchUplink;
use crate::dataplane::Steering;
use crate::replay::{Given, NotTraced, Stopped};
use crate::uplink::UplinkName;

/// How long the last lines of a trace may take.
const LAST_LINES: Duration = Duration::from_secs(1);

impl<K: Kernel, S: Steering> Daemon<K, S> {
    /// Hands on what the engine put down since.
    pub(super) fn trace(&mut self) {
        let now = moment();
        for uplink in self.traces.names() {
            let Some(entries) = self.engine.take_recorded(&uplink) else {
                warn!(%uplink, "the uplink is not there any more, or is another one now");
                self.traces.stop(&uplink);
                continue;
            };
            if self.traces.write(&uplink, entries) == Given::WantsBegin
                && let Some(begin) = self.engine.record(&uplink, now)
            {
                self.traces.begin(begin);
            }
            if self.traces.is_over(&uplink, now.at) {
                self.engine.stop_recording(&uplink);
                self.traces.stop(&uplink);
            }
        }
    }

    /// Has all that was put down written.
    pub(super) fn end_traces(&mut self) {
        self.trace();
        self.traces.finish(LAST_LINES);
    }

    /// Begins or ends a trace.
    pub(super) fn answer_trace(&mut self, uplink: &UplinkName, step: TraceStep, reply: Reply) {
        self.trace();
        let known = NoSuchUplink::unless_among(&self.engine.names(), uplink);
        let done = known.map_err(|unknown| unknown.to_string());
        let done = done.and_then(|()| match step {
            TraceStep::Start { time } => self.start_trace(uplink, time),
            TraceStep::Stop => {
                self.engine.stop_recording(uplink);
                Ok(Done::Stopped(self.traces.stop(uplink)))
            }
        });
        tokio::spawn(async move {
            let answer = match done {
                Ok(done) => done.answer().await,
                Err(refusal) => Answer::Error(refusal),
            };
            reply.finish(&answer).await;
        });
    }

    fn start_trace(&mut self, uplink: &UplinkName, time: Option<Duration>) -> Result<Done, String> {
        let now = moment();
        let until = time.and_then(|time| now.at.checked_add(time));
        let file = self.traces.file_of(uplink);
        if self.traces.is_running(uplink) {
            self.traces.set_end(uplink, until);
            return Ok(Done::GoesOn(file));
        }
        let Some(begin) = self.engine.record(uplink, now) else {
            return Err(format!("there is no uplink `{uplink}` any more"));
        };
        info!(%uplink, file = %file.display(), "a trace begins");
        match self.traces.start(begin, until) {
            Ok(opened) => Ok(Done::Started(file, opened)),
            Err(error) => {
                self.engine.stop_recording(uplink);
                Err(error.to_string())
            }
        }
    }
}

/// What was done about a trace.
enum Done {
    Started(PathBuf, oneshot::Receiver<Result<(), NotTraced>>),
    GoesOn(PathBuf),
    Stopped(Stopped),
}

impl Done {
    /// Waits for the disk, and says what came of it.
    async fn answer(self) -> Answer {
        let (file, running) = match self {
            Self::GoesOn(file) => (file, true),
            Self::Started(file, opened) => match opened.await {
                Ok(Ok(())) => (file, false),
                Ok(Err(error)) => return Answer::Error(error.to_string()),
                Err(_) => return Answer::Error("the thread that writes it broke off".to_owned()),
            },
            Self::Stopped(stopped) => {
                let file = stopped.file.clone();
                let waited = tokio::task::spawn_blocking(move || stopped.wait(LAST_LINES));
                (file, waited.await.unwrap_or(true))
            }
        };
        Answer::Traced { file, running }
    }
}
