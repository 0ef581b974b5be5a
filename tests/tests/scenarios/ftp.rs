//! File transfers by FTP: the connection for the data, which the kernel's helper knows to belong to
//! that of the commands, goes by the same uplink. With `curl` as the client.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use failover::family::Family;
use failover_tests::{Lab, Node, ProgramSpec, addressing};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::Outcome;
use crate::case::Case;
use crate::scene::{LIMIT, THREE};
use crate::service::connect;

const PORT: u16 = 21;
const CONTENT: &[u8] = b"the whole file\n";
/// Transfers of each kind.
const TRANSFERS: usize = 12;

/// The user's own rules, which have the kernel's helper listen to FTP.
const HELPER: &str = r#"
table inet users_own {
    ct helper for_ftp { type "ftp" protocol tcp; }
    chain listen {
        type filter hook prerouting priority filter;
        tcp dport 21 ct helper set "for_ftp"
    }
}
"#;

/// For each transfer, by which addresses the server saw the client: for the commands and the data.
type Seen = Arc<Mutex<Vec<(IpAddr, IpAddr)>>>;

/// Files come from several servers by all uplinks, whoever opens the connection for the data.
pub(crate) async fn transfers(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(3), THREE).await?;
    scene.lab.gateway().node().nft(HELPER).await?;
    let servers = addressing::servers(family);
    let seen = Seen::default();
    for server in &servers {
        start(scene.lab.internet().node(), *server, &seen).await?;
    }
    let client = scene.client()?.node();
    let mut running = Vec::new();
    for server in servers.iter().cycle().take(TRANSFERS) {
        for mode in [&["--ftp-pasv"][..], &["--ftp-port", "-"]] {
            let url = format!("ftp://{}/file", SocketAddr::new(*server, PORT));
            let spec = ProgramSpec::new("curl")
                .arguments(["--silent", "--show-error", "--noproxy", "*"])
                .arguments(mode.iter().copied())
                .arguments([url]);
            running.push(client.start(spec).await?);
        }
    }
    for transfer in running {
        let status = transfer.wait(LIMIT).await?;
        let (file, told) = (transfer.stdout(), transfer.stderr());
        assert!(status.success(), "curl ended with {status}: {told}");
        assert_eq!(file.as_bytes(), CONTENT);
    }
    let seen = seen.lock().map_err(|_| "the server broke off")?.clone();
    assert_eq!(seen.len(), 2 * TRANSFERS);
    let apart: Vec<_> = seen
        .iter()
        .filter(|(commands, data)| commands != data)
        .collect();
    assert!(
        apart.is_empty(),
        "commands and data by two uplinks: {apart:?}"
    );
    let mut uplinks: Vec<_> = seen.iter().map(|(commands, _)| commands).collect();
    uplinks.sort_unstable();
    uplinks.dedup();
    assert!(uplinks.len() > 1, "all by {uplinks:?}");
    scene.expect_no_strays_since(None)
}

async fn start(node: &Node, at: IpAddr, seen: &Seen) -> Outcome {
    let listener = node
        .run(move || async move { TcpListener::bind((at, PORT)).await })
        .await??;
    let seen = Arc::clone(seen);
    node.start_task(move || async move {
        while let Ok((stream, _)) = listener.accept().await {
            let seen = Arc::clone(&seen);
            tokio::task::spawn_local(async move {
                // A client that went away needs nothing more.
                drop(session(stream, &seen).await);
            });
        }
    })?;
    Ok(())
}

/// How the data are to go.
enum Data {
    /// The client comes here.
    Passive(TcpListener),
    /// It waits there.
    Active(SocketAddr),
}

/// Serves one client (RFC 959, and RFC 2428 for addresses of both families).
async fn session(stream: TcpStream, seen: &Seen) -> io::Result<()> {
    let (own, peer) = (stream.local_addr()?, stream.peer_addr()?);
    let (read, write) = stream.into_split();
    let write = Rc::new(RefCell::new(Some(write)));
    let say = |line: String| {
        let write = Rc::clone(&write);
        async move {
            let taken = write.borrow_mut().take();
            let mut taken = taken.ok_or(io::ErrorKind::BrokenPipe)?;
            let said = taken.write_all(format!("{line}\r\n").as_bytes()).await;
            write.replace(Some(taken));
            said
        }
    };
    say("220 ready".to_owned()).await?;
    let mut lines = BufReader::new(read).lines();
    let mut data = None;
    while let Some(line) = lines.next_line().await? {
        let (command, rest) = line.split_once(' ').unwrap_or((line.as_str(), ""));
        match command {
            "USER" => say("331 and the password?".to_owned()).await?,
            "PASS" => say("230 welcome".to_owned()).await?,
            "PWD" => say("257 \"/\"".to_owned()).await?,
            "CWD" | "TYPE" => say("200 so be it".to_owned()).await?,
            "SIZE" => say(format!("213 {}", CONTENT.len())).await?,
            "EPSV" => {
                let listener = TcpListener::bind((own.ip(), 0)).await?;
                let port = listener.local_addr()?.port();
                data = Some(Data::Passive(listener));
                say(format!("229 come here (|||{port}|)")).await?;
            }
            "EPRT" => {
                // `|1|198.18.11.2|5000|`
                let mut parts = rest.split('|').skip(2);
                let address = parts.next().and_then(|text| text.parse().ok());
                let port = parts.next().and_then(|text| text.parse().ok());
                let at: Option<(IpAddr, u16)> = address.zip(port);
                data = at.map(|at| Data::Active(at.into()));
                say("200 there it will be".to_owned()).await?;
            }
            "RETR" => {
                let Some(how) = data.take() else {
                    say("425 where?".to_owned()).await?;
                    continue;
                };
                say("150 here it comes".to_owned()).await?;
                let (mut sent, by) = match how {
                    Data::Passive(listener) => {
                        let (stream, by) = listener.accept().await?;
                        (stream, by.ip())
                    }
                    Data::Active(at) => (connect(Some(own.ip()), at).await?, at.ip()),
                };
                sent.write_all(CONTENT).await?;
                sent.shutdown().await?;
                if let Ok(mut seen) = seen.lock() {
                    seen.push((peer.ip(), by));
                }
                say("226 that was it".to_owned()).await?;
            }
            "QUIT" => return say("221 bye".to_owned()).await,
            _ => say("502 what?".to_owned()).await?,
        }
    }
    Ok(())
}
