//! Threads that serve in a namespace, and a real name server.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::process::{Child, Command};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use simple_dns::{CLASS, Name, Packet, Question, TYPE};
use tokio::sync::oneshot;

use crate::network::{ANSWERING, runtime};
use crate::servers::NAME;

/// A thread that serves; it and what it began end with this value.
pub(crate) struct Serving {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Serves in a namespace from now on.
pub(crate) fn serving<T>(
    namespace: &File,
    begin: impl AsyncFnOnce() -> T + Send + 'static,
) -> Serving {
    let (ready, is_ready) = mpsc::channel();
    let namespace = namespace.try_clone().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        runtime().block_on(async {
            let begun = begin().await;
            ready.send(()).unwrap();
            // An error, since nothing is ever sent.
            stopped.await.unwrap_err();
            drop(begun);
        });
    });
    is_ready
        .recv_timeout(Duration::from_secs(10))
        .expect("the servers begin");
    Serving {
        stop: Some(stop),
        thread: Some(thread),
    }
}

/// A name server; ends with this value, and with the thread that began it.
pub(crate) struct NameServer(Child);

impl Drop for NameServer {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Begins a name server, and waits until it answers.
pub(crate) fn dnsmasq(addresses: &[IpAddr]) -> NameServer {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "dnsmasq", "--keep-in-foreground"]);
    command.args([
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--no-poll",
    ]);
    command.args(["--user=root", "--pid-file=", "--log-facility=/dev/null"]);
    command.args(["--bind-interfaces", "--local=/example/"]);
    command.args(
        addresses
            .iter()
            .map(|address| format!("--listen-address={address}")),
    );
    let [v4, v6] = ANSWERING;
    command.arg(format!("--host-record={NAME},{v4},{v6}"));
    command.arg(format!("--host-record=four.example,{v4}"));
    command.arg(format!("--host-record=six.example,{v6}"));
    let server = command
        .spawn()
        .expect("setpriv and dnsmasq are needed for this test: install dnsmasq-base");
    let server = NameServer(server);
    for address in addresses {
        let any: IpAddr = match address {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).unwrap();
        socket.connect((*address, 53)).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let mut question = Packet::new_query(1);
        question.questions.push(Question::new(
            Name::new(NAME).unwrap(),
            TYPE::A.into(),
            CLASS::IN.into(),
            false,
        ));
        let question = question.build_bytes_vec().unwrap();
        // Until it listens the port is closed, which the socket says at once.
        let answers = || socket.send(&question).is_ok() && socket.recv(&mut [0; 512]).is_ok();
        let begun = Instant::now();
        while !answers() {
            assert!(
                begun.elapsed() < Duration::from_secs(5),
                "dnsmasq answers within 5 s"
            );
            std::thread::yield_now();
        }
    }
    server
}
