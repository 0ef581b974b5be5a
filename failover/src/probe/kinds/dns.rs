//! One question to a name server over UDP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;

use super::Answer;
use super::message::{Answered, MOST, Query};
use super::names::Names;
use crate::config::DnsTarget;
use crate::health::{DnsFailure, Failure};
use crate::probe::way::{self, Way};

pub(super) async fn ask(
    way: &Way,
    names: &Arc<Names>,
    to: &DnsTarget,
    timeout: Duration,
) -> Answer {
    let address = names.address(&to.server.host, timeout).await?;
    let server: SocketAddr = way.scoped(address, to.server.port);
    let query = Query::new(&to.name, to.record);
    let begun = Instant::now();
    let socket = way.datagrams(server).await?;
    let answered = exchange(&socket, &query).await?;
    if answered.records || answered.truncated {
        Ok(begun.elapsed())
    } else {
        Err(Failure::Dns(DnsFailure::NoRecord))
    }
}

/// Asks over a socket that is connected to the server, so that the kernel lets in nothing that came
/// from elsewhere, and waits until the server has answered.
pub(super) async fn exchange(socket: &UdpSocket, query: &Query) -> Result<Answered, Failure> {
    let question = query
        .bytes()
        .map_err(|error| Failure::NotSent(error.to_string()))?;
    socket
        .send(&question)
        .await
        .map_err(|error| way::failure(&error))?;
    let mut buffer = vec![0; MOST];
    loop {
        let length = socket
            .recv(&mut buffer)
            .await
            .map_err(|error| way::failure(&error))?;
        let bytes = buffer.get(..length).unwrap_or_default();
        if let Some(answer) = query.answer(bytes) {
            return answer.map_err(Failure::Dns);
        }
    }
}
