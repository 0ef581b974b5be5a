//! From a configuration to a daemon at work: takes the lock, opens the edge, brings the kernel into
//! the wanted state, and only then answers on the control socket.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::causes::in_one_line;
use crate::config::Config;
use crate::control::server::{self, ListenError, Question};
use crate::controller::apply::{Applier, Kernel};
use crate::controller::apply_error::ApplyErrors;
use crate::controller::engine::{Engine, Moment};
use crate::controller::metering::Metering;
use crate::controller::reloading::Reloading;
use crate::controller::remembered::Remembered;
use crate::controller::run::{Daemon, Inputs};
use crate::controller::set_files::SetFiles;
use crate::dataplane::ebpf::EbpfError;
use crate::dataplane::{self, Steering};
use crate::identity::{self, IdentityError};
use crate::interface::{InterfaceIndex, InterfaceName};
use crate::journal::{Event, Journal};
use crate::kernel::conntrack::{ConntrackError, Ctnetlink};
use crate::kernel::linux::LinuxKernel;
use crate::kernel::network::{NetworkObserver, ObserveError};
use crate::kernel::nftables::{Nft, NftError};
use crate::kernel::routing::{NetlinkRouting, RoutingError};
use crate::kernel::sysctl::ProcSys;
use crate::kernel::watch::{self, Watch, WatchError};
use crate::network::NetworkView;
use crate::policy::conflicts;
use crate::policy::loading::{self, NoSets};
use crate::probe::Prober;
use crate::resets::Resets;
use crate::service::Service;
use crate::state::{LockError, StateLock, Store, StoreError};
use crate::uplink::{UplinkId, UplinkName};
use crate::wanted::dataplane::{Attachment, attachments as dataplane_of};

/// Reports of probes that wait for the loop; one that lags behind loses no verdict, since a round
/// is told whole each time.
const REPORTS: usize = 1024;
/// Questions that wait for the loop.
const QUESTIONS: usize = 16;
/// How long the journal may take for its last events.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Why the daemon does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// eBPF or nothing was asked for.
    #[error(
        "`mode: ebpf` is not possible here: {}; `mode: auto` goes on in classic mode then",
        in_one_line(.0)
    )]
    NoEbpf(EbpfError),
    /// The state folder is in use, or cannot be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// What is kept over restarts cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A set of addresses cannot be had.
    #[error(transparent)]
    Sets(#[from] NoSets),
    /// Uplinks cannot be told apart.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// nft is missing.
    #[error(transparent)]
    Nft(#[from] NftError),
    /// A netlink socket cannot be had.
    #[error(transparent)]
    Routing(#[from] RoutingError),
    /// A netlink socket cannot be had.
    #[error(transparent)]
    Conntrack(#[from] ConntrackError),
    /// The network cannot be looked at.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// Changes cannot be noticed.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// The kernel did not take the first selection.
    #[error("cannot bring the kernel into the wanted state")]
    Apply(#[source] ApplyErrors),
    /// The kernel did not give everything back.
    #[error("cannot take everything out of the kernel")]
    Clean(#[source] ApplyErrors),
    /// The control socket cannot be made.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Signals cannot be waited for.
    #[error("cannot wait for signals")]
    Signals(#[source] std::io::Error),
}

/// Runs the daemon until SIGTERM or SIGINT. What it put into the kernel stays. `file` is where the
/// configuration came from, an absolute path: from there it comes again on SIGHUP.
///
/// # Errors
/// When it cannot start; once it works it goes on.
pub async fn start(config: Config, file: PathBuf) -> Result<(), StartError> {
    // From the beginning on, since without a handler it would end the daemon.
    let hangup = signal(SignalKind::hangup()).map_err(StartError::Signals)?;
    let _lock = StateLock::take(&config.state_dir)?;
    let store = Store::new(&config.state_dir);
    let (journal, writing) = Journal::start(&config.state_dir);

    let ids = store.ids()?;
    let identities = identity::assign(&config.given_ids(), &ids, config.marks)?;
    // A full disk does not keep a daemon from starting that has nothing new to write.
    if identities.remembered != ids {
        store.keep_ids(&identities.remembered)?;
    }
    let sets = loading::begin(&config, &store)?;
    for conflict in conflicts::told(&config, &sets.sets, &file) {
        warn!("{conflict}");
    }
    let remembered = Remembered::load(&store);

    let mut kernel = open_kernel()?;
    kernel.nft.remember_in(store.clone());
    let resets = Resets::start(kernel.nft.beside());
    let metering = Metering::by(kernel.nft.beside());
    let Watch {
        changes,
        neighbours,
        table,
    } = watch::start(kernel.routing.port())?;
    kernel.nft.spare(table);
    let mut observer = NetworkObserver::open()?;
    observer.set_filter(neighbours);
    observer.follow_neighbours(config.mixed_interfaces());
    let view = observer.view().await?;
    // Before anything is put into the kernel, since it can fail; answered when all is in place.
    let control = config.control.clone();
    let listener = server::listen(&control)?;
    let interfaces = attachments(&config, &identities.ids, &view);
    let mut steering = match dataplane::choose(&config, &store, &interfaces, &journal).await {
        Ok(steering) => steering,
        Err(reason) => {
            server::forget(&control);
            return Err(StartError::NoEbpf(reason));
        }
    };
    let picked_by = steering.picked_by();
    let traffic = steering.traffic();
    let fast_path = steering.fast_path();
    let applier = Applier::new(kernel, steering, store.clone(), config.marks)?;
    let now = Moment {
        at: std::time::Instant::now(),
        wall: Timestamp::now(),
    };
    let mut engine = Engine::new(
        config,
        picked_by,
        &identities.ids,
        &remembered.health,
        view,
        now,
    );
    engine.take_sets(sets);
    engine.resume_damping(&remembered.damping, now);
    engine.resume_meters(&remembered.meters);
    engine.resume_drains(&remembered.drains, now);
    engine.resume_rule_drains(&remembered.rule_drains, now);
    engine.resume_by_hand(&remembered.by_hand, now);
    engine.resume_addresses(&remembered.addresses, now.at);

    let (reports_in, reports) = mpsc::channel(REPORTS);
    let (questions_in, questions) = mpsc::channel(QUESTIONS);
    let prober = Prober::new(reports_in, traffic.witness.clone());
    let set_files = SetFiles::start(store.clone());
    set_files.follow(engine.config());
    let reloading = Reloading::new(file, store.clone());
    let mut daemon = Daemon::new(engine, applier, observer, prober, resets, store, reloading)
        .following(set_files)
        .having_kept(remembered)
        .metering(metering)
        .noting(journal.clone())
        .telling(Service::of_environment())
        .asking(traffic.witness)
        .with_fast_path(fast_path);
    let inputs = Inputs {
        changes,
        reports,
        traffic: traffic.news,
        questions,
        hangup,
    };
    journal.note(Event::Started {
        mode: picked_by.mode().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        interrupted: false,
    });
    let socket = (listener, control.as_path());
    let worked = work(&mut daemon, inputs, socket, questions_in).await;
    let reason = worked.as_ref().err().map(|error| in_one_line(error));
    journal.note(Event::Stopped { reason });
    daemon.finish_telling().await;
    writing.finish(LAST_WORDS);
    worked
}

/// Brings the kernel into the wanted state, and works and answers until told to stop.
async fn work<K: Kernel, S: Steering>(
    daemon: &mut Daemon<K, S>,
    inputs: Inputs,
    (listener, control): (UnixListener, &Path),
    questions: mpsc::Sender<Question>,
) -> Result<(), StartError> {
    if let Err(errors) = daemon.begin().await {
        server::forget(control);
        return Err(StartError::Apply(errors));
    }
    let server = tokio::spawn(server::serve(listener, questions));
    info!(control = %control.display(), "ready: the first selection is in the kernel");

    let stop = told_to_stop()?;
    daemon.work(inputs, stop).await;

    server.abort();
    server::forget(control);
    info!("stopped; the last selection stays in the kernel, `failover clean` takes it out");
    Ok(())
}

/// Where programs are to hang, of what exists at the start.
fn attachments(
    config: &Config,
    ids: &BTreeMap<UplinkName, UplinkId>,
    view: &NetworkView,
) -> BTreeMap<InterfaceIndex, Attachment> {
    let uplinks: Vec<(UplinkId, &InterfaceName)> = config
        .uplinks
        .iter()
        .filter_map(|(name, uplink)| Some((*ids.get(name)?, &uplink.interface)))
        .collect();
    dataplane_of(&uplinks, config.downlinks.iter(), |name| {
        let link = view.links.get(name).filter(|link| !link.port)?;
        Some((link.index, link.layer))
    })
}

/// The whole edge; nothing is changed by opening it.
///
/// # Errors
/// When a part is missing.
pub fn open_kernel() -> Result<LinuxKernel, StartError> {
    Ok(LinuxKernel {
        nft: Nft::find()?,
        routing: NetlinkRouting::open()?,
        conntrack: Ctnetlink::open()?,
        settings: ProcSys::default(),
    })
}

fn told_to_stop() -> Result<impl Future<Output = ()>, StartError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Signals)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
