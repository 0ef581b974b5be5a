//! Whether packets leave as the rules say: a lab with a real daemon that has random rules, and packets
//! that are counted where they leave.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use failover::config::Config;
use failover::flows::Protocol;
use failover::policy::{Facts, Rule};

use super::expected::{Expected, Model};
use super::explained::{explained, uplinks};
use super::surroundings::{HOP_LIMIT, surroundings};
use super::watch::Watch;
use super::{Packets, Parameters, RandomRules, frames, own};
use crate::addressing::targets_in_yaml;
use crate::chance::Chance;
use crate::daemon::{Daemon, Failover, Mode, State};
use crate::error::LabError;
use crate::eventually::patient;
use crate::lab::Lab;
use crate::node::Layout;

/// The uplinks, all but the last of the best priority.
const UPLINKS: &str = "uplinks:
  one: {interface: wan1, id: 1, weight: 3}
  two: {interface: wan2, id: 2, weight: 2}
  three: {interface: wan3, id: 3}
  four: {interface: wan4, id: 4, priority: 2}
downlinks: [lan0, lan1]
";
const NAMES: [&str; 4] = ["one", "two", "three", "four"];
const DOWNLINKS: [&str; 2] = ["lan0", "lan1"];
/// The interface of a client.
const CLIENT: &str = "eth0";
/// How many packets are under way at once: fewer than a processor's queue for received packets holds
/// (`net.core.netdev_max_backlog`).
const AT_ONCE: usize = 250;
/// How long packets may take.
const ARRIVED_WITHIN: Duration = Duration::from_secs(3);
/// How long the daemon may take to see what befalls an uplink.
const SEEN_WITHIN: Duration = Duration::from_secs(30);
/// So many values of a configuration are in its own file.
const INLINE: usize = 20_000;
/// How many wrong packets are told.
const TOLD: usize = 10;

/// A lab with a daemon that has random rules.
#[derive(Debug)]
pub struct Agreement {
    lab: Lab,
    daemon: Daemon,
    config: Config,
    rules: Vec<Rule>,
    watches: Vec<Watch>,
    routers: BTreeMap<&'static str, [u8; 6]>,
    ready_after: Duration,
    down: Vec<u8>,
    sent: u32,
    flows: HashSet<OwnFlow>,
    /// The daemon is asked first, and held to what it says.
    explained: bool,
}

/// How large the rules are.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// How many rules.
    pub rules: usize,
    /// How many prefixes.
    pub prefixes: usize,
    /// In how many named sets.
    pub sets: usize,
}

impl Size {
    /// As many as there may be.
    pub const MOST: Self = Self {
        rules: 1_000,
        prefixes: 50_000,
        sets: 30,
    };
}

/// What came of packets.
#[derive(Clone, Debug, Default)]
pub struct Compared {
    /// How many were sent.
    pub sent: usize,
    /// By how many different rules they were decided.
    pub rules: usize,
    /// How many were decided by none.
    pub unmatched: usize,
    /// How many had to be dropped.
    pub dropped: usize,
    /// Those that went elsewhere than they may, a line each.
    pub wrong: Vec<String>,
}

impl Compared {
    /// Adds what came of other packets; rules that decided about both count once.
    pub fn and(&mut self, other: Self) {
        self.sent += other.sent;
        self.rules = self.rules.max(other.rules);
        self.unmatched += other.unmatched;
        self.dropped += other.dropped;
        self.wrong.extend(other.wrong);
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            sent,
            rules,
            unmatched,
            dropped,
            wrong,
        } = self;
        write!(
            f,
            "{sent} packets, {rules} rules decided, {unmatched} of none, {dropped} dropped, {} wrong",
            wrong.len()
        )?;
        wrong
            .iter()
            .take(TOLD)
            .try_for_each(|line| write!(f, "\n  {line}"))
    }
}

impl Agreement {
    /// Builds the lab and starts the daemon with the rules of a seed; all uplinks are up.
    ///
    /// # Errors
    /// When the lab cannot be built, or the daemon is not ready in time.
    pub async fn begin(
        size: Size,
        mode: Mode,
        seed: u64,
        binary: Option<&Path>,
    ) -> Result<Self, LabError> {
        let lab = Lab::builder()
            .uplinks(4)
            .downlinks([1, 1])
            .capture(false)
            .build()
            .await?;
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let random = RandomRules::draw(
            &Parameters {
                rules: size.rules,
                prefixes: size.prefixes,
                sets: size.sets,
                uplinks: names(&NAMES),
                downlinks: names(&DOWNLINKS),
            },
            seed,
        );
        let folder = (size.prefixes > INLINE).then_some(lab.files());
        if let Some(folder) = folder {
            for (name, text) in random.files() {
                let path = folder.join(name);
                std::fs::write(&path, text)
                    .map_err(LabError::io(format!("write {}", path.display())))?;
            }
        }
        let text = format!(
            "{UPLINKS}mode: {mode}\nprobe: {{targets: {}, max_hold: 0s}}\n{}",
            targets_in_yaml(),
            random.yaml(folder)
        );
        let config = failover::config::parse(&text).map_err(|error| LabError::Layout {
            reason: error.to_string(),
        })?;
        let rules = random.resolve(&config);
        surroundings(&lab, &Packets::new(&rules, &[], 0)).await?;
        own::prepare(lab.gateway().node()).await?;
        let mut watches = Vec::new();
        for uplink in lab.uplinks() {
            watches.push(Watch::open(uplink).await?);
        }
        let mut routers = BTreeMap::new();
        for name in DOWNLINKS {
            let address = lab.gateway().node().hardware_address(name).await?;
            routers.insert(name, address);
        }
        let start = Instant::now();
        let daemon = Failover::chosen(&lab, binary, &text)?.run().await?;
        let ready_after = start.elapsed();
        let agreement = Self {
            lab,
            daemon,
            config,
            rules,
            watches,
            routers,
            ready_after,
            down: Vec::new(),
            sent: 0,
            flows: HashSet::new(),
            explained: false,
        };
        agreement.until_seen().await?;
        Ok(agreement)
    }

    /// Before each packet the daemon is asked where it will go, and the packet must go there.
    #[must_use]
    pub const fn explained(mut self) -> Self {
        self.explained = true;
        self
    }

    /// The rules, with the addresses of their sets.
    #[must_use]
    pub fn rules(&self) -> Vec<Rule> {
        self.rules.clone()
    }

    /// The lab.
    #[must_use]
    pub const fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The daemon.
    #[must_use]
    pub const fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// How long the daemon took until it was ready.
    #[must_use]
    pub const fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// Random packets for rules.
    #[must_use]
    pub fn packets(rules: &[Rule], seed: u64) -> Packets<'_> {
        Packets::new(rules, &DOWNLINKS.map(str::to_owned), seed)
    }

    /// An uplink loses its carrier, and the daemon knows it.
    ///
    /// # Errors
    /// When the daemon does not see it in time.
    pub async fn fail(&mut self, uplink: u8) -> Result<(), LabError> {
        self.lab.uplink(uplink)?.carrier_loss().await?;
        self.down.push(uplink);
        self.until_seen().await
    }

    /// Waits until the daemon says of each uplink how it is.
    async fn until_seen(&self) -> Result<(), LabError> {
        let seen = |status: &crate::daemon::Status| {
            status.uplinks.iter().all(|uplink| {
                let states = [uplink.ipv4.state, uplink.ipv6.state];
                if self.down.contains(&uplink.id) {
                    states.iter().all(|state| *state == State::Down)
                } else {
                    states.iter().all(|state| *state == State::Up)
                }
            })
        };
        let what = "the daemon knows how the uplinks are";
        self.daemon.wait_until(what, SEEN_WITHIN, seen).await?;
        Ok(())
    }

    /// Sends so many packets and compares where they leave with what the model says.
    ///
    /// # Errors
    /// When frames cannot be sent, or what left was not all seen.
    pub async fn compare(
        &mut self,
        packets: &mut Packets<'_>,
        count: usize,
    ) -> Result<Compared, LabError> {
        let model = Model::new(&self.config, &self.rules, &self.down);
        let marks = packets.marks().to_vec();
        let mut expected: BTreeMap<u32, (Facts, Expected)> = BTreeMap::new();
        let mut seen: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        let mut left = count;
        let mut arrived = true;
        while left > 0 && arrived {
            let mut drawn: Vec<Facts> = packets
                .by_ref()
                .filter(|facts| !own::is_own(facts.source) && self.flows.insert(flow_of(facts)))
                .take(left.min(AT_ONCE))
                .collect();
            left = left.saturating_sub(drawn.len());
            if left == 0 {
                drawn.extend(last_ones(packets, &model));
            }
            let mut awaited = BTreeSet::new();
            let mut frames: BTreeMap<&str, Vec<Vec<u8>>> = BTreeMap::new();
            for facts in drawn {
                self.sent += 1;
                let number = self.sent;
                let hop_limit = marks.iter().position(|mark| *mark == facts.mark);
                let hop_limit = hop_limit.and_then(|at| u8::try_from(at).ok());
                let hop_limit = HOP_LIMIT.saturating_add(hop_limit.unwrap_or_default());
                let interface = facts.interface.as_ref().map_or("", |name| name.as_str());
                if let Some((name, router)) = self.routers.get_key_value(interface) {
                    let frame = frames::frame(&facts, hop_limit, *router, number);
                    frames.entry(name).or_default().push(frame);
                }
                let mut answer = model.expected(&facts);
                if self.explained {
                    self.narrow(&facts, number, &mut answer)?;
                }
                if !answer.uplinks.is_empty() {
                    awaited.insert(number);
                }
                expected.insert(number, (facts, answer));
            }
            for (client, name) in (1..).zip(DOWNLINKS) {
                let node = self.lab.client(client)?.node();
                let frames = frames.remove(name).unwrap_or_default();
                node.send_frames(CLIENT, Layout::Linear, frames).await?;
            }
            arrived = self.until_left(&awaited, &mut seen).await?;
        }
        Ok(compared(&model, &expected, &seen))
    }

    /// Has the router itself send so many packets, and compares likewise.
    ///
    /// # Errors
    /// When they cannot be sent, or what left was not all seen.
    pub async fn compare_own(&mut self, count: usize, seed: u64) -> Result<Compared, LabError> {
        let model = Model::new(&self.config, &self.rules, &self.down);
        let rules = own::reachable(&self.rules);
        let mut packets = Self::packets(&rules, seed);
        let mut chance = Chance::from_seed(seed);
        let mut expected: BTreeMap<u32, (Facts, Expected)> = BTreeMap::new();
        let mut seen: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        let mut arrived = true;
        while expected.len() < count && arrived {
            let mut awaited = BTreeSet::new();
            let mut batch = Vec::new();
            // The last one leaves: when it is seen, nothing is under way any more.
            let mut last_leaves = false;
            while batch.len() < AT_ONCE || !last_leaves {
                let Some(facts) = packets.next() else {
                    break;
                };
                let facts = own::own(facts, &mut chance);
                if !self.flows.insert(flow_of(&facts)) {
                    continue;
                }
                self.sent += 1;
                let answer = model.expected(&facts);
                last_leaves = !answer.uplinks.is_empty();
                if last_leaves {
                    awaited.insert(self.sent);
                }
                batch.push((facts.clone(), self.sent));
                expected.insert(self.sent, (facts, answer));
            }
            own::send(self.lab.gateway().node(), batch).await?;
            arrived = self.until_left(&awaited, &mut seen).await?;
        }
        Ok(compared(&model, &expected, &seen))
    }

    /// Leaves only what the daemon says of a packet.
    fn narrow(&self, packet: &Facts, number: u32, may: &mut Expected) -> Result<(), LabError> {
        let [.., low, lowest] = number.to_be_bytes();
        let control = self.daemon.failover().control();
        let said = explained(control, packet, u16::from_be_bytes([low, lowest]))?;
        let id_of = |name: &str| {
            let position = NAMES.iter().position(|known| *known == name)?;
            u8::try_from(position + 1).ok()
        };
        match uplinks(&said, id_of) {
            Some(said) if said.is_subset(&may.uplinks) => {
                may.uplinks = said;
                Ok(())
            }
            _ => Err(LabError::Layout {
                reason: format!(
                    "may leave by {:?}: {packet:?}; explained as {said:?}",
                    may.uplinks
                ),
            }),
        }
    }

    /// Waits until packets have left; false when they have not in time.
    async fn until_left(
        &self,
        awaited: &BTreeSet<u32>,
        seen: &mut BTreeMap<u32, Vec<u8>>,
    ) -> Result<bool, LabError> {
        let start = Instant::now();
        let limit = patient(ARRIVED_WITHIN);
        loop {
            for watch in &self.watches {
                for number in watch.take()? {
                    seen.entry(number).or_default().push(watch.uplink());
                }
            }
            if awaited.iter().all(|number| seen.contains_key(number)) {
                return Ok(true);
            }
            if start.elapsed() > limit {
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Ends the daemon, and returns its log.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn end(self) -> Result<String, LabError> {
        self.daemon.terminate().await
    }
}

/// What is one flow where the router's own meets those of users behind the translation: there the
/// source is no difference.
type OwnFlow = (IpAddr, Protocol, u16, u16);

const fn flow_of(facts: &Facts) -> OwnFlow {
    (
        facts.destination,
        facts.protocol,
        facts.source_port,
        facts.port,
    )
}

/// Packets that leave, one by each downlink: when they are seen, nothing that was sent before is under
/// way any more.
fn last_ones(packets: &mut Packets<'_>, model: &Model) -> Vec<Facts> {
    let leaves = |facts: &Facts| !model.expected(facts).uplinks.is_empty();
    let by = |facts: &Facts, name| facts.interface.as_ref().is_some_and(|i| i.as_str() == name);
    DOWNLINKS
        .into_iter()
        .filter_map(|name| packets.find(|facts| by(facts, name) && leaves(facts)))
        .collect()
}

fn compared(
    model: &Model,
    expected: &BTreeMap<u32, (Facts, Expected)>,
    seen: &BTreeMap<u32, Vec<u8>>,
) -> Compared {
    let mut compared = Compared {
        sent: expected.len(),
        ..Compared::default()
    };
    let mut rules = BTreeSet::new();
    for (number, (facts, expected)) in expected {
        match expected.rule {
            Some(rule) => {
                rules.insert(rule);
            }
            None => compared.unmatched += 1,
        }
        compared.dropped += usize::from(expected.uplinks.is_empty());
        let left: &[u8] = seen.get(number).map_or(&[], Vec::as_slice);
        let right = match left {
            [] => expected.uplinks.is_empty(),
            [only] => expected.uplinks.contains(only),
            _ => false,
        };
        if !right {
            let rule = model.name(expected.rule);
            let may = &expected.uplinks;
            compared.wrong.push(format!(
                "left by {left:?}, may by {may:?} ({rule}): {facts:?}"
            ));
        }
    }
    compared.rules = rules.len();
    compared
}
