//! Calls and connections over UDP whose clients keep their port: a phone that registers and is called
//! by the server (as with SIP), and a connection with an id that the server follows to the client's
//! new address once that has answered from there (as with QUIC, RFC 9000, section 9).

use std::collections::HashMap;
use std::net::SocketAddr;

use failover::family::Family;
use failover_tests::daemon::State;
use failover_tests::{Lab, patient};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::Outcome;
use crate::case::Case;
use crate::scene::{PATIENT, Scene, THREE};
use crate::service::connect_udp;

const PORT: u16 = 5060;
const CLIENTS: u8 = 60;

/// What is in a datagram, before the number of the client.
const REGISTER: u8 = b'R';
const REGISTERED: u8 = b'r';
const CALL: u8 = b'C';
const CALLED: u8 = b'c';
const CHALLENGE: u8 = b'?';
const RESPONSE: u8 = b'!';
const DATA: u8 = b'D';
const ECHO: u8 = b'd';

/// After a failover the first packet of each client is enough: the server answers, calls it, and
/// follows it to its new address.
pub(crate) async fn go_on(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(3), THREE).await?;
    let internet = scene.lab.internet();
    let at = internet.serve_udp(family, PORT, serve).await?;

    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        clients.push(Client::open(scene, number, at).await?);
    }
    for client in &clients {
        client.register_and_be_called().await?;
        client.send_data().await?;
    }
    let before = seen_by_server(&clients).await?;
    let lost = scene.uplink(2)?.gateway_address(family).ok_or("none")?;
    let moving = before.iter().filter(|address| address.ip() == lost).count();
    assert!((5..55).contains(&moving), "{moving} of {CLIENTS} by wan2");

    scene.uplink(2)?.black_hole().await?;
    scene.until_state(2, family, State::Down).await?;
    for client in &clients {
        client.register_and_be_called().await?;
        client.send_data().await?;
    }
    // What came twice would be taken for an answer here.
    let after = seen_by_server(&clients).await?;
    for (number, (before, after)) in before.iter().zip(&after).enumerate() {
        if before.ip() == lost {
            assert_ne!(after.ip(), lost, "client {number}");
        } else {
            assert_eq!(before, after, "client {number}");
        }
    }
    scene.expect_no_strays_since(None)
}

/// By which address the server sees each client.
async fn seen_by_server(clients: &[Client]) -> Result<Vec<SocketAddr>, Box<dyn std::error::Error>> {
    let mut seen = Vec::new();
    for client in clients {
        seen.push(client.register_and_be_called().await?);
    }
    Ok(seen)
}

struct Client {
    number: u8,
    socket: UdpSocket,
}

impl Client {
    async fn open(
        scene: &Scene,
        number: u8,
        server: SocketAddr,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let node = scene.client()?.node();
        let socket = node.run(move || connect_udp(server)).await??;
        Ok(Self { number, socket })
    }

    /// Registers by one packet, is told by which address it is seen, and is called there.
    async fn register_and_be_called(&self) -> Result<SocketAddr, Box<dyn std::error::Error>> {
        self.send(REGISTER).await?;
        let told = self.expect(REGISTERED).await?;
        self.expect(CALL).await?;
        self.send(CALLED).await?;
        Ok(std::str::from_utf8(&told)?.parse()?)
    }

    /// Sends data by one packet; where the server sees it at a new address, answers from there first.
    async fn send_data(&self) -> Outcome {
        self.send(DATA).await?;
        let (mut kind, _) = self.receive().await?;
        if kind == CHALLENGE {
            self.send(RESPONSE).await?;
            (kind, _) = self.receive().await?;
        }
        assert_eq!(kind, ECHO, "client {}", self.number);
        Ok(())
    }

    async fn send(&self, kind: u8) -> Outcome {
        self.socket.send(&[kind, self.number]).await?;
        Ok(())
    }

    async fn expect(&self, kind: u8) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
        let (found, rest) = self.receive().await?;
        assert_eq!(found, kind, "client {}", self.number);
        Ok(rest)
    }

    async fn receive(&self) -> Result<(u8, Vec<u8>), Box<dyn std::error::Error>> {
        let mut packet = [0; 128];
        let received = timeout(patient(PATIENT), self.socket.recv(&mut packet)).await;
        let length = received.map_err(|_| format!("client {} hears nothing", self.number))??;
        let (kind, rest) = packet.split_first().ok_or("empty")?;
        let (number, rest) = rest.split_first().ok_or("empty")?;
        assert_eq!(*number, self.number, "for another client");
        let rest = rest.get(..length.saturating_sub(2)).unwrap_or_default();
        Ok((*kind, rest.to_vec()))
    }
}

/// Knows clients by their number and follows them.
async fn serve(socket: UdpSocket) {
    let mut paths: HashMap<u8, SocketAddr> = HashMap::new();
    let mut packet = [0; 128];
    while let Ok((_, peer)) = socket.recv_from(&mut packet).await {
        let [kind, number, ..] = packet;
        let mut answers = Vec::new();
        match kind {
            REGISTER => {
                answers.push([&[REGISTERED, number][..], peer.to_string().as_bytes()].concat());
                answers.push(vec![CALL, number]);
            }
            DATA if paths.get(&number) == Some(&peer) => answers.push(vec![ECHO, number]),
            DATA => answers.push(vec![CHALLENGE, number]),
            RESPONSE => {
                paths.insert(number, peer);
                answers.push(vec![ECHO, number]);
            }
            _ => {}
        }
        for answer in answers {
            // Who is gone needs no answer.
            drop(socket.send_to(&answer, peer).await);
        }
    }
}
