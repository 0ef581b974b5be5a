//! The generator: prepared frames, sent by a thread that stays on one processor.
//!
//! Over veth interfaces whoever sends a frame also carries it: its softirq runs at the end of the
//! system call's work on that frame, through the gateway and to where it is dropped, before the next
//! frame is begun. So the time from one frame to the next is what all of that costs one processor.
//! The clock is the monotonic one, because kernels differ in whether they count softirqs as the
//! thread's time. What other programs take of the processor falls on few of the batches that are timed
//! one by one, and so not on the median.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, sendmmsg};
use nix::unistd::Pid;
use tokio::sync::oneshot;

use super::frames::Frames;
use super::statistics::median;
use crate::error::LabError;
use crate::node::{Node, frame_sender};

/// How many frames are sent by one system call, and timed as one.
const BATCH: usize = 64;

/// Sends by one interface of a node.
#[derive(Debug)]
pub(super) struct Generator {
    socket: Arc<OwnedFd>,
    processor: usize,
}

/// What was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// How many frames.
    pub(super) frames: u64,
    /// For each of them, in the batch in the middle, in nanoseconds.
    pub(super) cost: f64,
}

impl Generator {
    /// A generator that works on this processor.
    pub(super) async fn by(
        node: &Node,
        interface: &str,
        processor: usize,
    ) -> Result<Self, LabError> {
        let index = node.interface_index(interface).await?;
        let made = node.run(move || async move { frame_sender(index) });
        let socket = made.await?.map_err(LabError::io(format!(
            "open a packet socket on {interface} of node {}",
            node.name()
        )))?;
        Ok(Self {
            socket: Arc::new(socket),
            processor,
        })
    }

    /// Sends all frames again and again, until it is this many; each frame once at least.
    pub(super) async fn send(&self, frames: &Arc<Frames>, count: usize) -> Result<Sent, LabError> {
        let (frames, socket) = (Arc::clone(frames), Arc::clone(&self.socket));
        apart("generator", self.processor, move || {
            send_all(&socket, &frames, count)
        })
        .await
    }
}

/// Does work on a thread of its own that stays on a processor.
pub(super) async fn apart<T: Send + 'static>(
    name: &str,
    processor: usize,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, LabError> {
    let what = || format!("do the work of the {name}");
    let (answer, answered) = oneshot::channel();
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let done = stay_on(Pid::from_raw(0), processor).and_then(|()| work());
            // Nobody waits any more: nobody wants the result.
            answer.send(done).ok();
        })
        .map_err(LabError::io(what()))?;
    answered
        .await
        .map_err(|closed| LabError::io(what())(io::Error::other(closed)))?
        .map_err(LabError::io(what()))
}

/// The first and the last of the processors that this program may use.
pub(super) fn processors() -> io::Result<(usize, usize)> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let mut usable = (0..CpuSet::count()).filter(|number| allowed.is_set(*number) == Ok(true));
    let first = usable.next().unwrap_or_default();
    Ok((first, usable.next_back().unwrap_or(first)))
}

/// Has a thread, by its number, or the one that asks, by 0, run on one processor.
pub(super) fn stay_on(thread: Pid, processor: usize) -> io::Result<()> {
    let mut only = CpuSet::new();
    only.set(processor)?;
    Ok(sched_setaffinity(thread, &only)?)
}

fn send_all(socket: &OwnedFd, frames: &Frames, count: usize) -> io::Result<Sent> {
    let slices: Vec<[IoSlice<'_>; 1]> = frames.each().map(|frame| [IoSlice::new(frame)]).collect();
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let nobody = [None; BATCH];
    let mut sent = 0;
    let mut costs = Vec::new();
    while sent < count {
        for batch in slices.chunks(BATCH) {
            let began = Instant::now();
            let addresses = nobody.get(..batch.len()).unwrap_or_default();
            let results = sendmmsg(
                socket.as_raw_fd(),
                &mut headers,
                batch,
                addresses,
                [],
                MsgFlags::empty(),
            )?;
            let taken = results.count();
            let took = began.elapsed();
            if taken != batch.len() {
                let text = format!("the kernel took {taken} of {} frames", batch.len());
                return Err(io::Error::other(text));
            }
            sent += taken;
            // A short one costs more per frame, for the system call.
            if taken == BATCH || slices.len() < BATCH {
                costs.push(per_frame(took, taken));
            }
        }
    }
    Ok(Sent {
        frames: u64::try_from(sent).unwrap_or(u64::MAX),
        cost: median(&costs).unwrap_or_default(),
    })
}

fn per_frame(took: Duration, frames: usize) -> f64 {
    let frames = u32::try_from(frames).unwrap_or(u32::MAX);
    took.as_secs_f64() * 1e9 / f64::from(frames.max(1))
}
