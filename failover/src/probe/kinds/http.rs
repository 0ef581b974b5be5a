//! A page over HTTP or HTTPS, and what it must be like.

use std::error::Error as _;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, HOST, LOCATION, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::names::Names;
use super::{Answer, tls};
use crate::config::{Endpoint, HttpTarget};
use crate::health::Failure;
use crate::probe::way::{self, Way};

/// How much of a server's headers is kept, and how much of its page is searched.
const MOST_HEADERS: usize = 32 * 1024;
const MOST_BODY: usize = 64 * 1024;
/// How much of the place that one is sent to is told.
const TOLD: usize = 100;

pub(super) async fn ask(
    way: &Way,
    names: &Arc<Names>,
    page: &HttpTarget,
    timeout: Duration,
) -> Answer {
    let server = &page.server;
    let address = names.address(&server.host, timeout).await?;
    let trust = tls::trust(&page.security).await?;
    let begun = Instant::now();
    let connected = way.connect(way.scoped(address, server.port)).await;
    // A host that lets us in and then does not answer is no better than one that does not.
    let mut tried = Tried {
        names,
        server,
        address,
        good: false,
    };
    let stream: TcpStream = connected?;
    match trust {
        None => exchange(stream, page).await?,
        Some(trust) => {
            let stream = tls::connect(&trust, &server.host, stream).await?;
            exchange(stream, page).await?;
        }
    }
    tried.good = true;
    Ok(begun.elapsed())
}

/// Tells at its end whether the server's address is good, also when time runs out.
struct Tried<'a> {
    names: &'a Names,
    server: &'a Endpoint,
    address: std::net::IpAddr,
    good: bool,
}

impl Drop for Tried<'_> {
    fn drop(&mut self) {
        self.names.tried(&self.server.host, self.address, self.good);
    }
}

/// Asks for the page and looks at the answer.
async fn exchange<S>(stream: S, page: &HttpTarget) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MOST_HEADERS)
        .handshake::<_, String>(TokioIo::new(stream))
        .await
        .map_err(|error| failure(&error))?;
    let request = request(page)?;
    let mut answered = pin!(async {
        let response = sender.send_request(request).await;
        judge(page, response.map_err(|error| failure(&error))?).await
    });
    let mut connection = pin!(connection);
    // What ends the connection is told to who waits for the answer, too.
    tokio::select! {
        biased;
        answer = &mut answered => answer,
        _ = &mut connection => answered.await,
    }
}

fn request(page: &HttpTarget) -> Result<Request<String>, Failure> {
    let Endpoint { host, port } = &page.server;
    let host = if *port == page.security.default_port() {
        host.to_string()
    } else {
        format!("{host}:{port}")
    };
    Request::get(page.path.as_str())
        .header(HOST, host)
        .header(USER_AGENT, concat!("failover/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "*/*")
        .header(CONNECTION, "close")
        .body(String::new())
        .map_err(|error| Failure::NotSent(error.to_string()))
}

async fn judge(page: &HttpTarget, response: Response<Incoming>) -> Result<(), Failure> {
    let status = response.status();
    if !page.status.contains(status.as_u16()) {
        let location = response.headers().get(LOCATION);
        return Err(match location {
            Some(location) if status.is_redirection() => Failure::Redirected {
                to: told(location.as_bytes()),
            },
            _ => Failure::Status(status.as_u16()),
        });
    }
    match &page.body {
        None => Ok(()),
        Some(wanted) => find(response.into_body(), wanted.as_bytes()).await,
    }
}

/// What a server says, fit to be shown.
fn told(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut told: String = text
        .chars()
        .filter(|c| !c.is_control())
        .take(TOLD)
        .collect();
    if text.chars().count() > TOLD {
        told.push('…');
    }
    told
}

/// Reads the body until it contains a text.
async fn find(body: Incoming, wanted: &[u8]) -> Result<(), Failure> {
    let mut body = pin!(body);
    let mut seen: Vec<u8> = Vec::new();
    while seen.len() < MOST_BODY {
        let frame = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await;
        let Some(frame) = frame else {
            break;
        };
        let frame = frame.map_err(|error| failure(&error))?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        // It may stand across the seam.
        let from = seen.len().saturating_sub(wanted.len());
        seen.extend_from_slice(data);
        let fresh = seen.get(from..).unwrap_or_default();
        if fresh.windows(wanted.len()).any(|piece| piece == wanted) {
            return Ok(());
        }
    }
    Err(Failure::Content)
}

fn failure(error: &hyper::Error) -> Failure {
    let cause = error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>());
    match cause {
        Some(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => ended(),
        Some(cause) => tls::failure(cause).unwrap_or_else(|| way::failure(cause)),
        None if error.is_incomplete_message() || error.is_closed() || error.is_canceled() => {
            ended()
        }
        None => Failure::NotHttp(error.to_string()),
    }
}

fn ended() -> Failure {
    Failure::NotHttp("the server closed the connection".to_owned())
}
