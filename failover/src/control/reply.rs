//! The way of answers from whoever has them to the one connection that waits for them.

use tokio::sync::mpsc;

use crate::control::Answer;

/// Answers that wait for the client to take them. Who has more waits too.
const WAITING: usize = 2;

/// Where answers go. The conversation ends when it is dropped.
#[derive(Debug)]
pub struct Reply(mpsc::Sender<Vec<u8>>);

/// The answers, as lines.
#[derive(Debug)]
pub struct Lines(mpsc::Receiver<Vec<u8>>);

/// The client takes no more answers: it went away, or was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HungUp;

impl Reply {
    /// A way for answers, and its other end.
    #[must_use]
    pub fn new() -> (Self, Lines) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), Lines(receiver))
    }

    /// Sends the only answer, or the last. A client that went away needs none.
    pub async fn finish(self, answer: &Answer) {
        self.0.send(line(answer)).await.ok();
    }

    /// Sends one more answer, and waits for room; for threads outside of the runtime.
    ///
    /// # Errors
    /// When nobody waits for it.
    pub fn send_blocking(&self, answer: &Answer) -> Result<(), HungUp> {
        self.0.blocking_send(line(answer)).map_err(|_| HungUp)
    }
}

impl Lines {
    /// The next line; `None` when there are no more.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        self.0.recv().await
    }
}

/// An answer as it is sent.
fn line(answer: &Answer) -> Vec<u8> {
    let written = serde_json::to_vec(answer).or_else(|error| {
        serde_json::to_vec(&Answer::Error(format!("cannot write the answer: {error}")))
    });
    // An error that cannot be written either ends the conversation with an empty line.
    let mut line = written.unwrap_or_default();
    line.push(b'\n');
    line
}
