//! Targets that are servers, against real ones: what is an answer, and what each failure is called.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use failover::config::{self, Target};
use failover::family::Family;
use failover::health::{DnsFailure, Failure, Outcome};
use failover::probe::ProbePlan;

use crate::network::{ANSWERING, Network, REFUSED, SILENT, provider};
use crate::servers::{
    Authority, EXPIRED_PORT, FOREIGN_PORT, MUTE_PORT, NAME, ODD_DNS_PORT, SECURE_PORT,
};
use crate::{NEVER, next, plan, plans, prober, whole};

/// Longer than a server takes on a busy machine; only silence takes as long.
pub(crate) const PATIENT: Duration = Duration::from_secs(3);
pub(crate) const SHORT: Duration = Duration::from_millis(300);

/// The target that a text of the configuration means.
pub(crate) fn target(text: &str) -> Target {
    let text = format!(
        "uplinks: {{a: {{interface: wan1}}}}\nprobe:\n  targets:\n    - {text}\n    - icmp://192.0.2.99\n"
    );
    let config = config::parse(&text).unwrap_or_else(|wrong| panic!("{wrong}"));
    let uplink = config.uplinks.into_values().next().unwrap();
    uplink.probe.targets.into_iter().next().unwrap()
}

/// A host as it stands in a URL.
pub(crate) fn host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// A plan that asks one target once.
pub(crate) fn once(network: &Network, place: usize, text: &str, timeout: Duration) -> ProbePlan {
    ProbePlan {
        targets: vec![target(text)],
        interval: NEVER,
        gateway: Some(provider(1)[place]),
        ..plan(network.index("wan1"), place, &[], timeout)
    }
}

/// What comes of asking once by a plan.
pub(crate) async fn asked(plan: ProbePlan) -> Outcome {
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

pub(crate) fn network_with_servers(authority: &Authority) -> Network {
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
pub(crate) struct Written(pub(crate) PathBuf);

impl Written {
    pub(crate) fn new(name: &str, text: &str) -> Self {
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
