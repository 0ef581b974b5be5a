//! Mail that must leave by one provider and else not at all, with `curl` as the client and a server
//! that speaks SMTP (RFC 5321).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use failover::family::Family;
use failover_tests::daemon::State;
use failover_tests::{Lab, Node, ProgramSpec, Protocol, addressing};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::Outcome;
use crate::case::Case;
use crate::coming_from::PAGE;
use crate::scene::{LIMIT, Scene};

const PORT: u16 = 25;
/// How many letters are sent each time.
const LETTERS: usize = 6;
/// For how long a client tries to connect that must not get through, in seconds.
const TRIES: &str = "2";

/// From which addresses letters came, and what was in them.
type Letters = Arc<Mutex<Vec<(IpAddr, String)>>>;

/// All mail leaves by the first provider; while that is dead none leaves, and all else goes by the
/// second one.
pub(crate) async fn by_one_provider(case: &Case, family: Family) -> Outcome {
    let scene = case.prepare(Lab::builder()).await?;
    scene
        .run_daemon(&PAGE.block("fault_tolerant_router", "yaml", 1)?)
        .await?;
    for number in [1, 2] {
        scene.until_state(number, family, State::Up).await?;
    }
    let letters = Letters::default();
    let server = addressing::servers(family)
        .first()
        .copied()
        .ok_or("no server")?;
    start(scene.lab.internet().node(), server, &letters).await?;

    for from in senders(scene)? {
        send(scene, from, server, true).await?;
    }
    by_the_first(scene, &letters, 2 * LETTERS).await?;
    let others = scene.new_flows(Protocol::Tcp, family, 60).await?;
    assert!(others.on(2) > others.on(1), "by weight: {others}");

    scene.uplink(1)?.black_hole().await?;
    scene.until_state(1, family, State::Down).await?;
    for from in senders(scene)? {
        send(scene, from, server, false).await?;
    }
    by_the_first(scene, &letters, 2 * LETTERS).await?;
    let others = scene.new_flows(Protocol::Tcp, family, 60).await?;
    assert_eq!(others.on(2), 60, "{others}");

    scene.uplink(1)?.heal().await?;
    scene.until_state(1, family, State::Up).await?;
    for from in senders(scene)? {
        send(scene, from, server, true).await?;
    }
    by_the_first(scene, &letters, 4 * LETTERS).await
}

/// A user, and the router's own mail server.
fn senders(scene: &Scene) -> Result<[&Node; 2], Box<dyn std::error::Error>> {
    Ok([scene.client()?.node(), scene.lab.gateway().node()])
}

/// So many letters came, all from the first provider's address. Who sends one is done before the server
/// has put it down.
async fn by_the_first(scene: &Scene, letters: &Letters, count: usize) -> Outcome {
    let came = || letters.lock().map(|letters| letters.clone());
    scene
        .eventually("all letters are put down", || async {
            Ok(came().is_ok_and(|letters| letters.len() >= count))
        })
        .await?;
    let letters = came().map_err(|_| "the server broke off")?;
    assert_eq!(letters.len(), count);
    for (from, letter) in letters {
        assert_eq!(scene.lab.uplink_of(from), Some(1), "from {from}: {letter}");
        assert!(letter.contains("Subject: hello"), "{letter}");
    }
    Ok(())
}

/// Sends letters at once; `arrives`: whether they get through.
async fn send(scene: &Scene, from: &Node, server: IpAddr, arrives: bool) -> Outcome {
    let file = scene.lab.files().join("letter.txt");
    std::fs::write(&file, "Subject: hello\r\n\r\nDear all\r\n")?;
    let mut running = Vec::new();
    for _ in 0..LETTERS {
        let url = format!("smtp://{}/client.example", SocketAddr::new(server, PORT));
        let spec = ProgramSpec::new("curl")
            .arguments(["--silent", "--show-error", "--noproxy", "*"])
            .arguments(["--mail-from", "a@client.example"])
            .arguments(["--mail-rcpt", "b@server.example"])
            .arguments(["--upload-file"])
            .arguments([&file])
            .arguments(
                (!arrives)
                    .then_some(["--connect-timeout", TRIES])
                    .into_iter()
                    .flatten(),
            )
            .arguments([url]);
        running.push(from.start(spec).await?);
    }
    for letter in running {
        let status = letter.wait(LIMIT).await?;
        let told = letter.stderr();
        assert_eq!(
            status.success(),
            arrives,
            "curl ended with {status}: {told}"
        );
    }
    Ok(())
}

async fn start(node: &Node, at: IpAddr, letters: &Letters) -> Outcome {
    let listener = node
        .run(move || async move { TcpListener::bind((at, PORT)).await })
        .await??;
    let letters = Arc::clone(letters);
    node.start_task(move || async move {
        while let Ok((stream, peer)) = listener.accept().await {
            let letters = Arc::clone(&letters);
            tokio::task::spawn_local(async move {
                if let Ok(Some(letter)) = receive(stream).await
                    && let Ok(mut letters) = letters.lock()
                {
                    letters.push((peer.ip(), letter));
                }
            });
        }
    })?;
    Ok(())
}

/// Takes one letter.
async fn receive(stream: TcpStream) -> io::Result<Option<String>> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 server.example\r\n").await?;
    let mut letter = None;
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(letter);
        }
        let word = line.trim_end().to_ascii_uppercase();
        let answer: &[u8] = match word.split([' ', ':']).next() {
            Some("DATA") => {
                stream.write_all(b"354 go on\r\n").await?;
                letter = Some(content(&mut stream).await?);
                b"250 taken\r\n"
            }
            Some("QUIT") => {
                stream.write_all(b"221 bye\r\n").await?;
                return Ok(letter);
            }
            _ => b"250 good\r\n",
        };
        stream.write_all(answer).await?;
    }
}

/// The lines of a letter, up to the one with a dot alone.
async fn content(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut letter = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 || line.trim_end() == "." {
            return Ok(letter);
        }
        letter.push_str(&line);
    }
}
