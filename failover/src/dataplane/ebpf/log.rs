//! Passes on what the programs log: a line for each new flow, while the daemon logs at that level.

use aya::Ebpf;
use aya_log::EbpfLogger;
use tracing::{Level, debug, enabled, warn};

use crate::sys;

/// Whether the programs are to log: what they would log is shown.
#[must_use]
pub fn is_wanted() -> bool {
    enabled!(Level::DEBUG)
}

/// Begins to pass on what the programs log; to be called before they are loaded.
pub(super) fn follow(ebpf: &mut Ebpf) {
    let opened = EbpfLogger::init_with_logger(ebpf, Journal)
        .map_err(|error| error.to_string())
        .and_then(|logger| {
            let descriptor = std::os::fd::AsFd::as_fd(&logger)
                .try_clone_to_owned()
                .and_then(sys::register)
                .map_err(|error| error.to_string())?;
            Ok((logger, descriptor))
        });
    let (mut logger, ring) = match opened {
        Ok(opened) => opened,
        Err(reason) => {
            warn!(reason, "new flows are not logged");
            return;
        }
    };
    tokio::spawn(async move {
        while let Ok(mut filled) = ring.readable().await {
            logger.flush();
            filled.clear_ready();
        }
    });
}

/// The daemon's own log, as the library that reads the programs' log wants it.
#[derive(Debug)]
struct Journal;

impl ::log::Log for Journal {
    fn enabled(&self, _metadata: &::log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &::log::Record<'_>) {
        debug!("{}", record.args());
    }

    fn flush(&self) {}
}
