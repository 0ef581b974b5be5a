//! Connections to servers, by whatever way this host's own traffic takes now.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use crate::config::{Endpoint, Host, Identity, Security};
use crate::notify::failure::NotSent;
use crate::probe::tls;

/// How many questions for names may be open. The system's resolver cannot be broken off, and waits
/// long for a name server that is behind a dead uplink.
const LOOKUPS: usize = 4;
static OPEN_LOOKUPS: Semaphore = Semaphore::const_new(LOOKUPS);

/// How long the next address waits for the one before it.
const STAGGER: Duration = Duration::from_millis(300);

/// What all connections are.
pub(super) trait Stream:
    AsyncRead + AsyncWrite + Send + Sync + Unpin + std::fmt::Debug
{
}
impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin + std::fmt::Debug> Stream for S {}

/// Connects. Takes as long as the network does: who calls this limits the time.
pub(super) async fn connect(server: &Endpoint) -> Result<TcpStream, NotSent> {
    let Endpoint { host, port } = server;
    let addresses = match host {
        Host::Address(address) => vec![SocketAddr::new(*address, *port)],
        Host::Name(name) => resolve(name.as_str(), *port).await?,
    };
    let mut waiting = addresses.into_iter();
    let mut tries = JoinSet::new();
    let mut last = None;
    loop {
        match waiting.next() {
            Some(address) => {
                tries.spawn(TcpStream::connect(address));
            }
            None if tries.is_empty() => break,
            None => {}
        }
        let more = waiting.len() > 0;
        tokio::select! {
            joined = tries.join_next() => match joined {
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(Ok(Err(error))) => last = Some(error.to_string()),
                Some(Err(error)) => last = Some(error.to_string()),
                None => {}
            },
            () = tokio::time::sleep(STAGGER), if more => {}
        }
    }
    let why = last.unwrap_or_else(|| "the name has no address".to_owned());
    Err(NotSent::yet(format!("cannot connect to {server}: {why}")))
}

/// The same, as a TLS connection where that is wanted.
pub(super) async fn connect_securely(
    server: &Endpoint,
    security: &Security,
    identity: Option<&Identity>,
) -> Result<Box<dyn Stream>, NotSent> {
    let trust = match identity {
        None => tls::trust(security).await?,
        Some(identity) => tls::trust_as(security, identity.clone()).await?,
    };
    let stream = connect(server).await?;
    Ok(match trust {
        None => Box::new(stream),
        Some(trust) => Box::new(tls::connect(&trust, &server.host, stream).await?),
    })
}

/// Asks the system in a thread that nobody has to wait for.
async fn resolve(name: &str, port: u16) -> Result<Vec<SocketAddr>, NotSent> {
    let failed =
        |why: &dyn std::fmt::Display| NotSent::yet(format!("cannot resolve {name}: {why}"));
    let permit = OPEN_LOOKUPS
        .acquire()
        .await
        .map_err(|error| failed(&error))?;
    let (told, answer) = oneshot::channel();
    let asked = name.to_owned();
    thread::Builder::new()
        .name("resolver".to_owned())
        .spawn(move || {
            let found: io::Result<Vec<SocketAddr>> = (asked.as_str(), port)
                .to_socket_addrs()
                .map(Iterator::collect);
            // Whoever asked may have gone.
            told.send(found).ok();
            drop(permit);
        })
        .map_err(|error| failed(&error))?;
    match answer.await {
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(error)) => Err(failed(&error)),
        Err(error) => Err(failed(&error)),
    }
}

/// The name of this host.
pub(super) fn host_name() -> Arc<str> {
    let read = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match read.trim() {
        "" => "this host".into(),
        name => name.into(),
    }
}
