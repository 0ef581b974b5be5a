//! Each kind of target against a real server: what is an answer, and what each failure is called.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use failover::config::{self, Target};
use failover::family::Family;
use failover::health::{DnsFailure, ExecFailure, Failure, Outcome};
use failover::probe::ProbePlan;

use crate::network::{ANSWERING, Network, REFUSED, SILENT, provider};
use crate::servers::{
    Authority, EXPIRED_PORT, FOREIGN_PORT, MUTE_PORT, NAME, ODD_DNS_PORT, SECURE_PORT,
};
use crate::{NEVER, next, open_descriptors, plan, plans, prober, whole, within_5_s};

/// Longer than a server takes on a busy machine; only silence takes as long.
const PATIENT: Duration = Duration::from_secs(3);
const SHORT: Duration = Duration::from_millis(300);

/// The target that a text of the configuration means.
fn target(text: &str) -> Target {
    let text = format!(
        "uplinks: {{a: {{interface: wan1}}}}\nprobe:\n  targets:\n    - {text}\n    - icmp://192.0.2.99\n"
    );
    let config = config::parse(&text).unwrap_or_else(|wrong| panic!("{wrong}"));
    let uplink = config.uplinks.into_values().next().unwrap();
    uplink.probe.targets.into_iter().next().unwrap()
}

/// A host as it stands in a URL.
fn host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// A plan that asks one target once.
fn once(network: &Network, place: usize, text: &str, timeout: Duration) -> ProbePlan {
    ProbePlan {
        targets: vec![target(text)],
        interval: NEVER,
        gateway: Some(provider(1)[place]),
        ..plan(network.index("wan1"), place, &[], timeout)
    }
}

/// What comes of asking once by a plan.
async fn asked(plan: ProbePlan) -> Outcome {
    let (mut prober, mut reports) = prober();
    prober.set_plans(plans(plan));
    let round = next(&mut reports, whole).await;
    round.outcomes[0].clone()
}

/// Asks once for each text and compares.
fn check(network: &Network, place: usize, expected: &[(String, Option<Failure>)]) {
    for (text, failure) in expected {
        let timeout = if *failure == Some(Failure::Timeout) {
            SHORT
        } else {
            PATIENT
        };
        let plan = once(network, place, text, timeout);
        let outcome = network.on_gateway(async || asked(plan).await);
        match (&outcome, failure) {
            (Outcome::Answered { rtt }, None) => assert!(*rtt < PATIENT, "{text}: {rtt:?}"),
            (Outcome::Failed(found), Some(failure)) => assert_eq!(found, failure, "{text}"),
            _ => panic!("{text}: {outcome:?} and not {failure:?}"),
        }
    }
    let (through, astray) = network.probes();
    assert!(through > 0);
    assert_eq!(astray, 0, "every packet leaves by wan1 with the mark");
}

fn network_with_servers(authority: &Authority) -> Network {
    let network = Network::new();
    network.serve(authority);
    network
}

pub(crate) fn tcp(place: usize) {
    let network = network_with_servers(&Authority::new("the test's own"));
    let at = |address: [IpAddr; 2], port: u16| format!("\"tcp://{}:{port}\"", host(address[place]));
    check(
        &network,
        place,
        &[
            (at(ANSWERING, MUTE_PORT), None),
            (at(ANSWERING, 9), Some(Failure::Refused)),
            (at(REFUSED, 9), Some(Failure::Refused)),
            (at(SILENT, MUTE_PORT), Some(Failure::Timeout)),
        ],
    );
}

pub(crate) fn http(place: usize) {
    let network = network_with_servers(&Authority::new("the test's own"));
    let server = host(ANSWERING[place]);
    let url = |path: &str| format!("\"http://{server}/{path}\"");
    let long = |path: &str, more: &str| format!("{{url: {}, {more}}}", url(path));
    let ended = || Failure::NotHttp("the server closed the connection".to_owned());
    let away = || Failure::Redirected {
        to: "http://portal.example/login".to_owned(),
    };
    check(
        &network,
        place,
        &[
            (url("ok"), None),
            (url("empty"), None),
            (long("empty", "status: 204"), None),
            (long("ok", "status: [204]"), Some(Failure::Status(200))),
            (long("ok", "body: all is well"), None),
            (long("split", "body: is well"), None),
            (long("ok", "body: all is bad"), Some(Failure::Content)),
            (url("missing"), Some(Failure::Status(404))),
            (long("missing", "status: [200, 404]"), None),
            (url("broken"), Some(Failure::Status(500))),
            (url("away"), Some(away())),
            (long("away", "status: 302"), None),
            (url("closed"), Some(ended())),
            (url("reset"), Some(Failure::Reset)),
            (
                format!("\"http://{server}:{MUTE_PORT}/\""),
                Some(Failure::Timeout),
            ),
            (format!("\"http://{server}:9/\""), Some(Failure::Refused)),
        ],
    );
    let garbage = once(&network, place, &url("garbage"), PATIENT);
    let outcome = network.on_gateway(async || asked(garbage).await);
    assert!(
        matches!(outcome, Outcome::Failed(Failure::NotHttp(_))),
        "{outcome:?}"
    );
}

/// A file of its own, gone at its end.
struct Written(PathBuf);

impl Written {
    fn new(name: &str, text: &str) -> Self {
        let name = format!("failover-probe-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

pub(crate) fn https(place: usize) {
    let authority = Authority::new("the test's own");
    let network = network_with_servers(&authority);
    let server = host(ANSWERING[place]);
    let trusted = Written::new(&format!("{place}.pem"), &authority.pem());
    let other = Written::new(
        &format!("{place}-other.pem"),
        &Authority::new("another").pem(),
    );
    let empty = Written::new(&format!("{place}-empty.pem"), "");
    let url = |port: u16, path: &str, ca: &Path| {
        let ca = ca.display();
        format!("{{url: \"https://{server}:{port}/{path}\", ca: {ca}}}")
    };
    let tls = |why: &str| Some(Failure::Tls(why.to_owned()));
    let untrusted = "the certificate is from an authority that is not trusted: a captive portal?";
    let lacking = |path: &Path| {
        let path = path.display();
        let why = format!("no certificate can be read from {path}: it has none");
        Some(Failure::NotSent(why))
    };
    check(
        &network,
        place,
        &[
            (url(SECURE_PORT, "ok", &trusted.0), None),
            (
                url(SECURE_PORT, "missing", &trusted.0),
                Some(Failure::Status(404)),
            ),
            (
                url(EXPIRED_PORT, "ok", &trusted.0),
                tls("the certificate has expired (or this host's clock is wrong)"),
            ),
            (
                url(FOREIGN_PORT, "ok", &trusted.0),
                tls("the certificate is for another name: a captive portal?"),
            ),
            (url(SECURE_PORT, "ok", &other.0), tls(untrusted)),
            (
                url(80, "ok", &trusted.0),
                tls("what the server speaks is not TLS"),
            ),
            (url(MUTE_PORT, "ok", &trusted.0), Some(Failure::Timeout)),
            (url(SECURE_PORT, "ok", &empty.0), lacking(&empty.0)),
        ],
    );
}

pub(crate) fn dns(place: usize) {
    let network = network_with_servers(&Authority::new("the test's own"));
    let server = host(ANSWERING[place]);
    let silent = host(SILENT[place]);
    let real = |name: &str| format!("\"dns://{server}/{name}\"");
    let odd = |name: &str| format!("\"dns://{server}:{ODD_DNS_PORT}/{name}.example\"");
    let no = |failure| Some(Failure::Dns(failure));
    check(
        &network,
        place,
        &[
            (real(NAME), None),
            (format!("{{url: {}, record: AAAA}}", real(NAME)), None),
            (
                format!("{{url: {}, record: AAAA}}", real("four.example")),
                no(DnsFailure::NoRecord),
            ),
            (real("nobody.example"), no(DnsFailure::NxDomain)),
            (real("elsewhere.test"), no(DnsFailure::Refused)),
            (odd("good"), None),
            (odd("servfail"), no(DnsFailure::ServFail)),
            (odd("formerr"), no(DnsFailure::FormErr)),
            (odd("notimp"), no(DnsFailure::NotImp)),
            (odd("garbled"), no(DnsFailure::Garbled)),
            (odd("late"), no(DnsFailure::Refused)),
            (odd("other"), no(DnsFailure::Refused)),
            (odd("silent"), Some(Failure::Timeout)),
            (format!("\"dns://{server}:9/\""), Some(Failure::Refused)),
            (format!("\"dns://{silent}/{NAME}\""), Some(Failure::Timeout)),
        ],
    );
}

/// Names are resolved through the uplink, and what they stand for is asked there.
pub(crate) fn names(place: usize) {
    let network = network_with_servers(&Authority::new("the test's own"));
    let family = Family::ALL[place];
    let silent = format!("nameserver {}\n", SILENT[place]);
    let answering = format!("nameserver {}\n", ANSWERING[place]);
    let ask = |resolvers: &str, name: &str| {
        let plan = once(
            &network,
            place,
            &format!("tcp://{name}:{MUTE_PORT}"),
            PATIENT,
        );
        network.with_resolvers(resolvers, async || asked(plan).await)
    };
    for resolvers in [answering.clone(), format!("{silent}{answering}")] {
        let outcome = ask(&resolvers, NAME);
        assert!(
            matches!(outcome, Outcome::Answered { .. }),
            "{resolvers}: {outcome:?}"
        );
    }
    let unknown = ask(&answering, "nobody.example");
    assert_eq!(
        unknown,
        Outcome::Failed(Failure::Resolve {
            name: "nobody.example".to_owned(),
            why: "the name server says NXDOMAIN: there is no such name".to_owned(),
        })
    );
    let unanswered = ask(&silent, NAME);
    assert_eq!(
        unanswered,
        Outcome::Failed(Failure::Resolve {
            name: NAME.to_owned(),
            why: format!(
                "{}: no answer in time",
                std::net::SocketAddr::new(SILENT[place], 53)
            ),
        })
    );
    // A name that has addresses of the other family only says nothing about this one.
    let missing = ask(&answering, ["six.example", "four.example"][place]);
    let failure = Failure::NoAddress {
        name: ["six.example", "four.example"][place].to_owned(),
        family,
    };
    assert!(failure.is_no_evidence());
    assert_eq!(missing, Outcome::Failed(failure));
    let (through, astray) = network.probes();
    assert!(through > 0);
    assert_eq!(astray, 0, "every packet leaves by wan1 with the mark");
}

/// The uplink does not lead to a resolver that is this host or a neighbour on another interface: it is
/// asked directly, the target is not.
pub(crate) fn local_resolver(place: usize) {
    let network = network_with_servers(&Authority::new("the test's own"));
    let resolver = network.resolver_on_gateway();
    let neighbour = provider(2)[place].to_string();
    for (address, directly) in [("127.0.0.1", 0), (neighbour.as_str(), 1)] {
        let before = network.probes();
        let text = format!("tcp://{NAME}:{MUTE_PORT}");
        let plan = once(&network, place, &text, PATIENT);
        let resolvers = format!("nameserver {address}\n");
        let outcome = network.with_resolvers(&resolvers, async || asked(plan).await);
        assert!(
            matches!(outcome, Outcome::Answered { .. }),
            "{address}: {outcome:?}"
        );
        let (through, astray) = network.probes();
        assert!(through > before.0);
        assert_eq!(astray - before.1, directly, "{address}: questions by wan2");
    }
    drop(resolver);
}

pub(crate) fn gateway(place: usize) {
    let network = Network::new();
    network.count_neighbour_discovery();
    let ask = |timeout: Duration, gateway: Option<IpAddr>, interface: &str| {
        let plan = ProbePlan {
            gateway,
            interface: interface.parse().unwrap(),
            index: network.index(interface),
            ..once(&network, place, "arp://gateway", timeout)
        };
        network.on_gateway(async || asked(plan).await)
    };
    let before = network.neighbour_discovery();
    let answered = ask(PATIENT, Some(provider(1)[place]), "wan1");
    assert!(matches!(answered, Outcome::Answered { .. }), "{answered:?}");
    let after = network.neighbour_discovery();
    assert_eq!(
        (after.0 - before.0, after.1 - before.1),
        (1, 0),
        "one question, by wan1 alone"
    );

    let nobody: IpAddr = ["198.18.1.77", "fd00:1::77"][place].parse().unwrap();
    let silent = ask(SHORT, Some(nobody), "wan1");
    assert_eq!(silent, Outcome::Failed(Failure::Timeout));
    let none = ask(PATIENT, None, "wan1");
    let not_sent = |why: &str| Outcome::Failed(Failure::NotSent(why.to_owned()));
    assert_eq!(none, not_sent("no gateway on wan1"));
    network.tunnel("tun1");
    let what = ["ARP", "neighbour discovery"][place];
    let tunnel = ask(PATIENT, Some(provider(1)[place]), "tun1");
    assert_eq!(tunnel, not_sent(&format!("no {what} on tun1")));
}

/// The gateway answers again after its interface was gone: each question that fails makes a new socket.
pub(crate) fn gateway_returns(place: usize) {
    let network = Network::new();
    let plan = ProbePlan {
        interval: Duration::from_millis(50),
        ..once(&network, place, "arp://gateway", SHORT)
    };
    network.on_gateway(async || {
        let (mut prober, mut reports) = prober();
        prober.set_plans(plans(plan));
        next(&mut reports, |round| round.answered() == 1).await;
        network.set_up("wan1", false);
        next(&mut reports, |round| whole(round) && round.answered() == 0).await;
        network.set_up("wan1", true);
        if place == 1 {
            // The kernel takes the addresses of an interface that is set down.
            network.add_source(1);
        }
        next(&mut reports, |round| round.answered() == 1).await;
    });
}

/// A process of this name that has not ended. Names are unique to the test.
fn is_running(word: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let own = entry.file_name().to_str() == Some(&std::process::id().to_string());
        let words = String::from_utf8_lossy(&line);
        !own && words.split('\0').any(|found| found == word)
    })
}

/// Whether a child of this process has ended and nobody has asked how.
fn has_zombies() -> bool {
    let parent = std::process::id().to_string();
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let text = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let facts = text.rsplit(')').next().unwrap_or_default();
        let mut facts = facts.split_whitespace();
        facts.next() == Some("Z") && facts.next() == Some(&parent)
    })
}

async fn until_none_runs(word: &str) {
    within_5_s("the program and what it began are killed", async {
        while is_running(word) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

fn shell(script: &str) -> String {
    format!("{{exec: /bin/sh, args: [-c, \"{script}\"]}}")
}

pub(crate) fn exec(place: usize) {
    let network = Network::new();
    let family = ["ipv4", "ipv6"][place];
    let facts = format!(
        "[ $FAILOVER_UPLINK = fiber ] && [ $FAILOVER_INTERFACE = wan1 ] && \
         [ $FAILOVER_FAMILY = {family} ] && [ $FAILOVER_SOURCE = {} ] && \
         [ $FAILOVER_GATEWAY = {} ] && [ $FAILOVER_MARK = 0x81000000 ]",
        crate::source(1)[place],
        provider(1)[place],
    );
    let missing = "/nowhere/at-all";
    let not_run = format!("{missing}: No such file or directory (os error 2)");
    let no = |failure| Some(Failure::Exec(failure));
    for (text, failure) in [
        ("exec:/bin/true".to_owned(), None),
        (shell(&facts), None),
        (shell("exit 3"), no(ExecFailure::Exit(3))),
        (shell("kill -9 $$"), no(ExecFailure::Signal(9))),
        (format!("exec:{missing}"), no(ExecFailure::NotRun(not_run))),
    ] {
        let plan = once(&network, place, &text, PATIENT);
        let outcome = network.on_gateway(async || asked(plan).await);
        match failure {
            None => assert!(
                matches!(outcome, Outcome::Answered { .. }),
                "{text}: {outcome:?}"
            ),
            Some(failure) => assert_eq!(outcome, Outcome::Failed(failure), "{text}"),
        }
    }
}

pub(crate) fn exec_hangs(place: usize) {
    let network = Network::new();
    let seconds = |number: u32| format!("{}.{}{place}", 600 + number, std::process::id());
    let (hangs, forks, leaves) = (seconds(1), seconds(2), seconds(3));
    for (script, word, answered) in [
        (format!("exec sleep {hangs}"), &hangs, false),
        (format!("sleep {forks} & wait"), &forks, false),
        (format!("sleep {leaves} & exit 0"), &leaves, true),
    ] {
        let plan = once(&network, place, &shell(&script), SHORT);
        network.on_gateway(async || {
            let begun = Instant::now();
            match asked(plan).await {
                Outcome::Answered { .. } => assert!(answered, "{script}"),
                Outcome::Failed(failure) => {
                    assert_eq!((failure, answered), (Failure::Timeout, false), "{script}");
                    assert!(begun.elapsed() >= SHORT);
                }
                Outcome::Outstanding | Outcome::Overdue => panic!("{script}: a whole round"),
            }
            until_none_runs(word).await;
        });
    }
}

/// While a program runs no other is begun, and all rounds are told what it says.
pub(crate) fn exec_one_at_a_time(place: usize) {
    let network = Network::new();
    let runs = Written::new(&format!("runs-{place}"), "");
    let path = runs.0.display().to_string();
    let script = format!("echo begin >> {path}; sleep 0.3; echo end >> {path}");
    let plan = ProbePlan {
        interval: Duration::from_millis(50),
        ..once(&network, place, &shell(&script), PATIENT)
    };
    network.on_gateway(async || {
        let (mut prober, mut reports) = prober();
        prober.set_plans(plans(plan));
        let mut answered = 0;
        while answered < 8 {
            let round = next(&mut reports, whole).await;
            assert_eq!(round.answered(), 1, "{round:?}");
            answered += 1;
        }
    });
    let text = std::fs::read_to_string(&runs.0).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for (place, line) in lines.iter().enumerate() {
        assert_eq!(
            *line,
            ["begin", "end"][place % 2],
            "one after the other: {lines:?}"
        );
    }
    let begun = lines.iter().filter(|line| **line == "begin").count();
    assert!(begun < 8, "{begun} runs for 8 rounds and more");
}

/// Plans that end in the middle of every kind leave nothing open.
pub(crate) fn dropped() {
    let authority = Authority::new("the test's own");
    let network = network_with_servers(&authority);
    let trusted = Written::new("dropped.pem", &authority.pem());
    let server = host(ANSWERING[0]);
    let word = format!("700.{}", std::process::id());
    let texts = [
        format!("tcp://{}:1", host(SILENT[0])),
        format!("http://{server}:{MUTE_PORT}/"),
        format!(
            "{{url: https://{server}:{MUTE_PORT}/, ca: {}}}",
            trusted.0.display()
        ),
        format!("dns://{}/{NAME}", host(SILENT[0])),
        "arp://gateway".to_owned(),
        shell(&format!("sleep {word}")),
    ];
    let kinds: Vec<Target> = texts.iter().map(|text| target(text)).collect();
    let mut whole = once(&network, 0, "icmp://192.0.2.1", NEVER);
    whole.targets.extend(kinds);
    network.on_gateway(async || {
        let (mut prober, mut reports) = prober();
        let tasks = || {
            tokio::runtime::Handle::current()
                .metrics()
                .num_alive_tasks()
        };
        let mut turn = async |prober: &mut failover::probe::Prober, number: u64| {
            let timeout = NEVER + Duration::from_millis(number);
            prober.set_plans(plans(ProbePlan {
                timeout,
                ..whole.clone()
            }));
            let plan = prober.plan_number(whole.uplink, whole.family).unwrap();
            next(&mut reports, |round| {
                round.plan == plan && round.answered() == 2
            })
            .await;
            prober.set_plans(std::collections::BTreeMap::new());
            within_5_s("all tasks end", async {
                while tasks() > 0 {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            until_none_runs(&word).await;
        };
        turn(&mut prober, 0).await;
        let descriptors = open_descriptors();
        for number in 1..=20 {
            turn(&mut prober, number).await;
        }
        within_5_s("no child of ours is left as a zombie", async {
            while has_zombies() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        within_5_s("all descriptors are closed", async {
            while open_descriptors() > descriptors {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    });
}
