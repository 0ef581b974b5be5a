//! A network namespace for one test, and the programs that look at it from outside of our code.

use std::future::Future;
use std::io::Write;
use std::panic::resume_unwind;
use std::process::{Command, Stdio};
use std::time::Duration;

use failover::interface::InterfaceIndex;
use libtest_mimic::Trial;
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

/// How long anything that must happen may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A test that runs alone in a namespace of its own.
pub(crate) fn trial<F>(name: &str, test: fn() -> F) -> Trial
where
    F: Future<Output = ()> + 'static,
{
    Trial::test(name, move || {
        // The namespace is the thread's, and ends with it and the sockets made in it.
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap_or_else(|error| {
                panic!("this test makes a network namespace, which needs root: {error}")
            });
            run("ip link set lo up");
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(async {
                    tokio::time::timeout(6 * PATIENCE, test())
                        .await
                        .expect("the test did not end");
                });
        });
        thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        Ok(())
    })
}

/// Runs a command line in the namespace, and returns what it prints.
pub(crate) fn run(line: &str) -> String {
    let output = Command::new("sh")
        .args(["-ec", line])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "`{line}` failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command line in the namespace with `input` as its standard input.
pub(crate) fn feed(line: &str, input: &str) {
    let mut child = Command::new("sh")
        .args(["-ec", line])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success(), "`{line}` failed");
}

/// What an `ip -j` command prints.
pub(crate) fn ip(arguments: &str) -> Vec<Value> {
    let text = run(&format!("ip -d -j {arguments}"));
    if text.trim().is_empty() {
        return Vec::new();
    }
    match serde_json::from_str(&text).unwrap() {
        Value::Array(values) => values,
        other => panic!("`ip {arguments}` printed {other}"),
    }
}

/// The index of an interface.
pub(crate) fn index(name: &str) -> InterfaceIndex {
    let link = &ip(&format!("link show {name}"))[0];
    InterfaceIndex(u32::try_from(link["ifindex"].as_u64().unwrap()).unwrap())
}

/// Two uplinks `wan1` and `wan2` with addresses of both families, and `ppp1` and `ppp2`, which need
/// no gateway. The other ends are up. None has a link-local address: those change for seconds.
pub(crate) fn uplinks() {
    for (name, peer) in [
        ("wan1", "isp1"),
        ("wan2", "isp2"),
        ("ppp1", "bras1"),
        ("ppp2", "bras2"),
    ] {
        run(&format!(
            "ip link add {name} type veth peer name {peer}
             ip link set {name} addrgenmode none
             ip link set {peer} addrgenmode none up"
        ));
    }
    run("ip link set ppp1 arp off; ip link set ppp2 arp off");
    for (name, number) in [("wan1", 11), ("wan2", 12), ("ppp1", 13), ("ppp2", 14)] {
        run(&format!(
            "ip link set {name} up;
             ip address add 198.18.{number}.2/24 dev {name};
             ip address add fd00:{number}::2/64 dev {name} nodad"
        ));
    }
}
