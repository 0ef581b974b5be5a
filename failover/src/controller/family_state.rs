//! What the engine keeps of one uplink in one family.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::by_hand::ByHand;
use crate::config::{ProbeConfig, Target, UplinkConfig};
use crate::controller::held_addresses::{ADDRESS_GRACE, HeldAddresses};
use crate::discover::{
    Gateways, Missing, Path, Reachability, addresses_of, is_link_local, network, reachability,
};
use crate::family::Family;
use crate::health::{Damping, Health, Hold, LinkLoss, Measured, Thresholds, Transition};
use crate::network::NetworkView;
use crate::replay::Recorded;
use crate::select::Standing;
use crate::status::State;

/// For how long a gateway counts that was learnt from a route which is gone: DHCP clients (such as
/// busybox's, at every renewal) take the default route out and put it in again. Where it is gone for
/// good, probes through the uplink still say whether it works.
const ROUTE_GRACE: Duration = Duration::from_secs(2);

/// One uplink in one family.
#[derive(Debug)]
pub(super) struct FamilyState {
    family: Family,
    gateways: Gateways,
    machine: Recorded,
    /// Nobody is asked in this family, so health follows the link.
    unprobed: bool,
    /// When the last round was sent that was answered.
    answered: Option<Instant>,
    pub(super) reachability: Reachability,
    /// The family is spoken here, as far as is known: what is never spoken is absent and not down
    /// when the interface is not there. IPv4 is taken for spoken until shown otherwise, so that an
    /// uplink whose interface does not exist yet is down.
    spoken: bool,
    /// The source of the last path: what its flows are translated to.
    last_source: Option<IpAddr>,
    /// The addresses that its flows may have.
    pub(super) held: HeldAddresses,
    /// Since when the path's gateway is told by nobody.
    routeless: Option<Instant>,
    /// Since when the path's source is gone, and no other path is there.
    sourceless: Option<Instant>,
    /// The user takes it out: it is as good as dead, whatever its probes say.
    retired: bool,
    /// What is done about the uplink by hand.
    pub(super) by_hand: Option<ByHand>,
}

/// What a new look at the network changed.
#[derive(Debug, Default)]
pub(super) struct PathNews {
    /// The way of its packets is another.
    pub(super) changed: bool,
    /// The verdict changed with the link.
    pub(super) transition: Option<Transition>,
    /// Flows may have these addresses, which the uplink has no more.
    pub(super) former_addresses: Vec<IpAddr>,
}

impl FamilyState {
    pub(super) fn new(
        family: Family,
        config: &UplinkConfig,
        gateways: Gateways,
        initial: Health,
        view: &NetworkView,
    ) -> Self {
        let reachability = reachability(config, gateways, family, view);
        Self {
            family,
            gateways,
            machine: Recorded::new(family, Thresholds::from(&config.probe), initial),
            unprobed: targets(&config.probe, family).next().is_none(),
            answered: None,
            spoken: family == Family::Ipv4
                || initial != Health::Unknown
                || reachability.path().is_some(),
            last_source: reachability.path().map(|path| path.source),
            held: HeldAddresses::default(),
            reachability,
            routeless: None,
            sourceless: None,
            retired: false,
            by_hand: None,
        }
    }

    /// Follows other settings of the same uplink on the same interface; `same_way`: neither the
    /// gateway nor the source is another. Its verdict stays, and so does what is known of its probes
    /// as long as the same are sent.
    pub(super) fn reconfigure(
        &mut self,
        config: &UplinkConfig,
        gateways: Gateways,
        same_way: bool,
        view: &NetworkView,
        now: Instant,
    ) -> PathNews {
        let thresholds = Thresholds::from(&config.probe);
        let unprobed = targets(&config.probe, self.family).next().is_none();
        if std::mem::replace(&mut self.unprobed, unprobed) && !unprobed {
            // What was up because nobody was asked is up until somebody is.
            self.machine.begin_anew(now, thresholds, Health::Up);
        } else {
            self.machine.set_thresholds(now, thresholds);
        }
        let same_way = same_way && self.gateways == gateways;
        self.gateways = gateways;
        if same_way {
            return self.look(config, view, now);
        }
        // What the user took out of the file is no route that comes back in a moment.
        let new = reachability(config, gateways, self.family, view);
        self.take(new, config, view, now)
    }

    /// From now on it is as good as dead.
    pub(super) const fn retire(&mut self) {
        self.retired = true;
    }

    /// Whether the user takes it out.
    pub(super) const fn is_retired(&self) -> bool {
        self.retired
    }

    /// Whether it is out of use by hand, whatever its probes say.
    pub(super) fn is_disabled(&self) -> bool {
        self.by_hand.is_some_and(|by_hand| by_hand.disables())
    }

    pub(super) fn machine(&mut self) -> &mut Recorded {
        &mut self.machine
    }

    /// The round-trip time, and what was measured over the window.
    pub(super) fn measured(&self) -> (Option<Duration>, Measured) {
        match self.reachability {
            Reachability::Path(_) => (self.machine.rtt(), self.machine.measured()),
            Reachability::Absent(_) | Reachability::LinkDown(_) => (None, Measured::default()),
        }
    }

    /// Whether it is held back though it answers.
    pub(super) fn hold(&self, now: Instant) -> Option<Hold> {
        self.machine.hold(now)
    }

    /// What it has to answer for.
    pub(super) fn damping(&self) -> &Damping {
        self.machine.damping()
    }

    /// Looks at the network anew.
    pub(super) fn look(
        &mut self,
        config: &UplinkConfig,
        view: &NetworkView,
        now: Instant,
    ) -> PathNews {
        let new = reachability(config, self.gateways, self.family, view);
        if let Reachability::Absent(missing) = &new
            && self.is_renewed(*missing, config, view, now)
        {
            return PathNews::default();
        }
        self.take(new, config, view, now)
    }

    /// Whether what is missing of the path is expected back.
    fn is_renewed(
        &mut self,
        missing: Missing,
        config: &UplinkConfig,
        view: &NetworkView,
        now: Instant,
    ) -> bool {
        let link = view.links.get(&config.interface);
        let Some(path) = self.reachability.path_mut() else {
            return false;
        };
        let Some(link) = link.filter(|link| link.works() && link.index == path.interface) else {
            return false;
        };
        // Another uplink may have the same address; a source that the configuration gives is
        // anywhere.
        let given = match self.family {
            Family::Ipv4 => config.source.is_some(),
            Family::Ipv6 => config.source6.is_some(),
        };
        path.sourced = missing == Missing::Gateway
            && view.addresses.iter().any(|own| {
                own.address == path.source && (given || own.interface == path.interface)
            });
        path.stranded = path.gateway.is_some_and(|gateway| {
            let mut on_link = addresses_of(view, link, self.family);
            !is_link_local(gateway) && !on_link.any(|own| network(own).contains(&gateway))
        });
        if path.sourced {
            self.sourceless = None;
            now < *self.routeless.get_or_insert(now) + ROUTE_GRACE
        } else {
            self.routeless = None;
            now < *self.sourceless.get_or_insert(now) + ADDRESS_GRACE
        }
    }

    fn take(
        &mut self,
        new: Reachability,
        config: &UplinkConfig,
        view: &NetworkView,
        now: Instant,
    ) -> PathNews {
        let mut news = PathNews::default();
        self.routeless = None;
        self.sourceless = None;
        let mut old = std::mem::replace(&mut self.reachability, new);
        if let Some(old) = old.path_mut() {
            news.changed = !old.sourced || old.stranded;
            old.sourced = true;
            old.stranded = false;
        }
        news.changed |= old != self.reachability;
        match &self.reachability {
            Reachability::LinkDown(loss) => {
                self.spoken |= *loss == LinkLoss::NoCarrier;
                if self.spoken {
                    news.transition = self.machine.link_lost(now, loss);
                }
            }
            Reachability::Absent(_) => self.machine.link_back(now),
            Reachability::Path(path) => {
                self.machine.link_back(now);
                if old.path().is_some_and(|old| old != path) {
                    self.machine.path_changed(now);
                }
                self.spoken = true;
                let former = self.last_source.replace(path.source);
                if let Some(link) = view.links.get(&config.interface) {
                    news.former_addresses = self.held.look(link, path, former, view, now);
                }
            }
        }
        self.machine.set_present(now, self.is_judged());
        news
    }

    /// Whether what the machine says is the state.
    fn is_judged(&self) -> bool {
        self.found() != State::Absent && !self.unprobed
    }

    /// When it must be looked at again though nothing changes until then.
    pub(super) fn look_again(&self) -> Option<Instant> {
        let route = self.routeless.map(|since| since + ROUTE_GRACE);
        let source = self.sourceless.map(|since| since + ADDRESS_GRACE);
        // What is expected back is seen to first.
        let complete = self.path().is_some() && route.is_none() && source.is_none();
        let held = self.held.look_again().filter(|_| complete);
        [route, source, held].into_iter().flatten().min()
    }

    pub(super) fn standing(&self) -> Standing {
        match self.reachability {
            _ if self.is_disabled() => Standing::Pathless,
            Reachability::Path(Path { sourced: true, .. }) => Standing::Routed(self.health()),
            Reachability::Path(_) | Reachability::Absent(_) | Reachability::LinkDown(_) => {
                Standing::Pathless
            }
        }
    }

    /// Packets of this family get through, as far as is known, or will in a moment.
    pub(super) fn is_alive(&self) -> bool {
        let works = matches!(
            self.health(),
            Health::Up | Health::Degraded | Health::Unknown
        );
        self.path().is_some() && works && !self.is_disabled()
    }

    /// The last round of probes was not answered, whatever the verdict still is.
    pub(super) fn is_doubtful(&self) -> bool {
        self.machine.is_doubtful()
    }

    /// A round that was sent then was answered.
    pub(super) fn note_answer(&mut self, sent_at: Instant) {
        self.answered = self.answered.max(Some(sent_at));
    }

    /// Whether something was answered that was asked at this moment or later; nobody can tell where
    /// nothing is asked.
    pub(super) fn has_answered_since(&self, moment: Instant) -> bool {
        self.unprobed || self.answered.is_some_and(|answered| answered >= moment)
    }

    /// Since when probes are not answered.
    pub(super) fn silent_since(&self) -> Option<Instant> {
        self.machine.silent_since()
    }

    /// The last round of probes was answered, whatever the verdict still is.
    pub(super) fn answers(&self) -> bool {
        matches!(self.reachability, Reachability::Path(_)) && self.machine.answers()
    }

    /// Whether its verdict may be another one soon.
    pub(super) fn is_in_question(&self) -> bool {
        match self.health() {
            Health::Unknown => true,
            Health::Up | Health::Degraded => self.is_doubtful(),
            Health::Down => self.answers(),
        }
    }

    pub(super) fn health(&self) -> Health {
        if self.retired {
            Health::Down
        } else if self.unprobed {
            Health::Up
        } else {
            self.machine.health()
        }
    }

    pub(super) fn state(&self) -> State {
        match self.found() {
            State::Absent => State::Absent,
            _ if self.is_disabled() => State::Disabled,
            found => found,
        }
    }

    /// Its state if nothing is done by hand.
    fn found(&self) -> State {
        match &self.reachability {
            Reachability::Absent(_) => State::Absent,
            Reachability::LinkDown(_) if self.spoken => State::Down,
            Reachability::LinkDown(_) => State::Absent,
            Reachability::Path(_) => match self.health() {
                Health::Unknown => State::Unknown,
                Health::Up => State::Up,
                Health::Degraded => State::Degraded,
                Health::Down => State::Down,
            },
        }
    }

    pub(super) fn reason(&self, now: Instant) -> String {
        let found = self.reason_found(now);
        match self.by_hand {
            Some(by_hand) if self.found() != State::Absent => format!("{by_hand}; {found}"),
            _ => found,
        }
    }

    fn reason_found(&self, now: Instant) -> String {
        match &self.reachability {
            Reachability::Absent(missing) => missing.to_string(),
            Reachability::LinkDown(loss) => loss.to_string(),
            Reachability::Path(_) if self.unprobed => {
                format!("not probed: no {} target", self.family)
            }
            Reachability::Path(_) => self.machine.reason(now).to_string(),
        }
    }

    /// The address that it has now, or had last.
    pub(super) const fn last_source(&self) -> Option<IpAddr> {
        self.last_source
    }

    /// Whether an address is the uplink's own, or expected back.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.held.has(address)
    }

    pub(super) fn path(&self) -> Option<&Path> {
        self.reachability.path()
    }
}

/// The targets of one family. The gateway alone is not asked: its answer proves nothing.
pub(super) fn targets(probe: &ProbeConfig, family: Family) -> impl Iterator<Item = &Target> {
    let asked = move |target: &&Target| target.is_asked_in(family);
    let proof = probe
        .targets
        .iter()
        .filter(asked)
        .any(|target| !target.is_gateway());
    probe.targets.iter().filter(asked).filter(move |_| proof)
}
