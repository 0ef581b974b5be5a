//! Downloads by a real client program, `curl`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use failover::family::Family;
use failover_tests::Program;
use failover_tests::{Lab, Node, ProgramSpec, addressing};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::scene::LIMIT;

const PORT: u16 = 8081;

/// What a client has asked for when its request ends.
const END_OF_REQUEST: &[u8] = b"\r\n\r\n";
const LONGEST_REQUEST: usize = 4096;

/// The bytes of a download, of which as many come at once as a slow one brings.
const LENGTH: usize = 200_000;
const PIECE: usize = 50;
const EVERY: Duration = Duration::from_millis(10);

/// Web servers on all addresses of the internet. Downloads take long until they are let go.
pub(crate) struct Servers {
    hurry: Arc<AtomicBool>,
    begun: Arc<AtomicUsize>,
}

impl Servers {
    pub(crate) async fn start(
        lab: &Lab,
        family: Family,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let servers = Self {
            hurry: Arc::default(),
            begun: Arc::default(),
        };
        let node = lab.internet().node();
        for address in addressing::servers(family) {
            let at = SocketAddr::new(address, PORT);
            let listener = node
                .run(move || async move { TcpListener::bind(at).await })
                .await??;
            let (hurry, begun) = (Arc::clone(&servers.hurry), Arc::clone(&servers.begun));
            node.start_task(move || async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (hurry, begun) = (Arc::clone(&hurry), Arc::clone(&begun));
                    tokio::task::spawn_local(async move {
                        // A client that went away needs nothing more.
                        drop(serve(stream, &hurry, &begun).await);
                    });
                }
            })?;
        }
        Ok(servers)
    }

    /// How many downloads have begun so far.
    pub(crate) fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    /// From now on downloads end soon.
    pub(crate) fn hurry(&self) {
        self.hurry.store(true, Ordering::SeqCst);
    }
}

async fn serve(
    mut stream: TcpStream,
    hurry: &AtomicBool,
    begun: &AtomicUsize,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut request = Vec::new();
    while !request.ends_with(END_OF_REQUEST) {
        if request.len() > LONGEST_REQUEST || stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    begun.fetch_add(1, Ordering::SeqCst);
    let mut left = LENGTH;
    while left > 0 {
        let piece = if hurry.load(Ordering::SeqCst) {
            left
        } else {
            // So that it never ends before it is let go.
            tokio::time::sleep(EVERY).await;
            PIECE.min(left.saturating_sub(PIECE))
        };
        stream.write_all(&vec![b'.'; piece]).await?;
        left -= piece;
    }
    Ok(())
}

/// What `curl` says when its connection is reset.
const RESET: &str = "curl: (56)";

/// A download by `curl`, which tries again when its connection is lost.
pub(crate) struct Download(Program);

/// What became of a download.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Downloaded {
    /// How often it was begun anew.
    pub(crate) retries: usize,
    /// The bytes of the last try.
    pub(crate) whole: bool,
}

impl Download {
    pub(crate) async fn start(
        client: &Node,
        from: std::net::IpAddr,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let url = format!("http://{}/", SocketAddr::new(from, PORT));
        let spec = ProgramSpec::new("curl").arguments([
            "--silent",
            "--show-error",
            "--noproxy",
            "*",
            "--write-out",
            "%{stderr}%{size_download}",
            "--retry",
            "3",
            "--retry-all-errors",
            "--retry-delay",
            "1",
            &url,
        ]);
        Ok(Self(client.start(spec).await?))
    }

    pub(crate) async fn end(&self) -> Result<Downloaded, Box<dyn std::error::Error>> {
        let status = self.0.wait(LIMIT).await?;
        let told = self.0.stderr();
        if !status.success() {
            return Err(format!("curl ended with {status}: {told}").into());
        }
        let bytes = told.lines().last().unwrap_or_default();
        Ok(Downloaded {
            retries: told.matches(RESET).count(),
            whole: bytes.parse() == Ok(LENGTH),
        })
    }
}
