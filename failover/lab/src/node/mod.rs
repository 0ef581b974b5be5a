//! A node: an anonymous network namespace, held by a thread that works in it.
//!
//! The namespace exists as long as the thread, its sockets and the programs started from it; it has
//! no name anywhere, so it vanishes with the process.

mod frames;
pub(crate) mod links;
mod program;
mod refusal;
pub(crate) mod search;
mod settled;
mod sysctl;

use std::fmt;
use std::fs::File;
use std::future::Future;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use nix::sched::{CloneFlags, unshare};
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;

use crate::error::LabError;

pub use frames::{Layout, frame_sender};
pub use program::{Output, Program, ProgramSpec};
pub use refusal::{BpfCommand, Refusal};

type LocalFuture = Pin<Box<dyn Future<Output = ()>>>;
type Task = Box<dyn FnOnce() -> LocalFuture + Send>;

/// A network namespace with its thread. Clones are the same node; with the last one the thread
/// ends, the programs started in it are killed and the namespace vanishes.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    /// `/proc/PID/ns/net` of the thread, kept open.
    namespace: File,
    netlink: rtnetlink::Handle,
    tasks: Option<mpsc::UnboundedSender<Task>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread tells once it is ready.
struct Ready {
    namespace: File,
    netlink: rtnetlink::Handle,
}

impl Node {
    /// Makes a namespace with nothing in it but the loopback interface, which is up.
    ///
    /// # Errors
    /// When the kernel refuses a namespace or a thread.
    pub async fn new(name: impl Into<String>) -> Result<Self, LabError> {
        let name = name.into();
        let (ready, is_ready) = oneshot::channel();
        let (tasks, queue) = mpsc::unbounded_channel();
        let thread = thread::Builder::new()
            .name(name.clone())
            .spawn(move || live(ready, queue))
            .map_err(LabError::io(format!("start the thread of node {name}")))?;
        let Ready { namespace, netlink } = is_ready
            .await
            .map_err(|_closed| LabError::NodeGone { node: name.clone() })??;
        let node = Self {
            inner: Arc::new(Inner {
                name,
                namespace,
                netlink,
                tasks: Some(tasks),
                thread: Some(thread),
            }),
        };
        node.set_up("lo").await?;
        Ok(node)
    }

    /// What the node is called in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// A path by which other programs reach the namespace, as in `nsenter --net=PATH`. It is valid
    /// as long as the node.
    #[must_use]
    pub fn namespace_path(&self) -> PathBuf {
        PathBuf::from(format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            self.namespace_fd()
        ))
    }

    pub(crate) fn namespace_fd(&self) -> RawFd {
        self.inner.namespace.as_raw_fd()
    }

    /// The connection to the kernel's rtnetlink in its namespace.
    pub fn netlink(&self) -> &rtnetlink::Handle {
        &self.inner.netlink
    }

    /// Runs a future on the node's thread: sockets that it makes belong to the namespace, and
    /// `/proc/sys/net` shows the namespace's settings. When the returned future is dropped, the one
    /// on the thread is too.
    ///
    /// # Errors
    /// When the node's thread has ended, or the future panicked.
    pub async fn run<T, F, Fut>(&self, make: F) -> Result<T, LabError>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        let (mut answer, answered) = oneshot::channel();
        self.send(Box::new(move || {
            let work = make();
            Box::pin(async move {
                tokio::select! {
                    result = work => {
                        // Nobody waits any more: nobody wants the result.
                        answer.send(result).ok();
                    }
                    () = answer.closed() => {}
                }
            })
        }))?;
        answered.await.map_err(|_closed| self.gone())
    }

    /// Starts a future on the node's thread and leaves it there; it ends with the node at the
    /// latest.
    ///
    /// # Errors
    /// When the node's thread has ended.
    pub fn start_task<F, Fut>(&self, make: F) -> Result<(), LabError>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        self.send(Box::new(move || Box::pin(make())))
    }

    fn send(&self, task: Task) -> Result<(), LabError> {
        match &self.inner.tasks {
            Some(tasks) => tasks.send(task).map_err(|_closed| self.gone()),
            None => Err(self.gone()),
        }
    }

    pub(crate) fn gone(&self) -> LabError {
        LabError::NodeGone {
            node: self.name().to_owned(),
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("name", &self.name())
            .field("namespace", &self.namespace_path())
            .finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        drop(self.tasks.take());
        // The last clone may have been held by a task of the thread itself, which cannot wait for
        // its own end.
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!(node = self.name, "the thread of the node panicked");
        }
    }
}

/// The life of a node's thread.
fn live(ready: oneshot::Sender<Result<Ready, LabError>>, mut queue: mpsc::UnboundedReceiver<Task>) {
    let (runtime, namespace) = match enter_new_namespace() {
        Ok(entered) => entered,
        Err(error) => {
            // Nobody waits for a node that is not wanted any more.
            ready.send(Err(error)).ok();
            return;
        }
    };
    let local = LocalSet::new();
    local.block_on(&runtime, async move {
        // The socket is made here, so it belongs to the new namespace.
        match rtnetlink::new_connection() {
            Ok((connection, netlink, _events)) => {
                tokio::task::spawn_local(connection);
                let told = ready.send(Ok(Ready { namespace, netlink }));
                if told.is_err() {
                    return;
                }
            }
            Err(source) => {
                let what = "open a netlink socket".to_owned();
                ready.send(Err(LabError::Io { what, source })).ok();
                return;
            }
        }
        while let Some(task) = queue.recv().await {
            tokio::task::spawn_local(task());
        }
    });
}

fn enter_new_namespace() -> Result<(tokio::runtime::Runtime, File), LabError> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| match errno {
        nix::Error::EPERM => LabError::NotRoot,
        other => LabError::Io {
            what: "make a network namespace".to_owned(),
            source: other.into(),
        },
    })?;
    let namespace = File::open("/proc/thread-self/ns/net")
        .map_err(LabError::io("open the new network namespace"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(LabError::io("start a runtime"))?;
    Ok((runtime, namespace))
}
