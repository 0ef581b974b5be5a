//! A TCP connection, closed as soon as it stands.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Answer;
use super::names::Names;
use crate::config::Endpoint;
use crate::probe::way::Way;

pub(super) async fn ask(way: &Way, names: &Arc<Names>, to: &Endpoint, timeout: Duration) -> Answer {
    let address = names.address(&to.host, timeout).await?;
    let begun = Instant::now();
    let connected = way.connect(way.scoped(address, to.port)).await;
    names.tried(&to.host, address, connected.is_ok());
    connected.map(|_| begun.elapsed())
}
