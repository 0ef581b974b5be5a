//! Explains where a flow goes: what is chosen is computed in the loop, what the kernel knows is looked
//! up beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use failover_common::FlowKey;
use failover_common::selection::slot;
use ipnet::IpNet;
use tracing::warn;

use crate::causes::in_one_line;
use crate::config::Affinity;
use crate::control::{Answer, Reply};
use crate::controller::engine::Engine;
use crate::controller::engine::explaining::Chosen;
use crate::controller::remembering::remembered;
use crate::dataplane::ebpf::publish::layout_affinity;
use crate::dataplane::ebpf::table::{FlowTable, TableError};
use crate::explain::{Decider, Explanation, Fate, Question, Remembered, RouteAnswer, TrackedAs};
use crate::family::Family;
use crate::fastpath::access::Access;
use crate::flows::{FlowEntry, Uplinks, counted, entry_of, key_of};
use crate::interface::{InterfaceIndex, InterfaceName};
use crate::kernel::conntrack::{FirstPacket, entry_of as entry_of_connection};
use crate::kernel::next_hop::{NextHops, OwnPacket, PassingPacket};
use crate::mark::MarkMask;
use crate::policy::Facts;
use crate::select::jhash::Hashed;
use crate::uplink::{UplinkId, UplinkName};
use crate::wanted::PickedBy;

/// A question on its way to an answer.
#[derive(Debug)]
pub(super) struct Explaining {
    question: Question,
    picked_by: PickedBy,
    /// Who has the last word about a new flow.
    chosen_by: PickedBy,
    new_flow: Chosen,
    /// What a new flow would get without single uplinks.
    without: BTreeMap<UplinkId, Chosen>,
    /// Uplinks whose flows move when they go down.
    moving: BTreeMap<UplinkId, bool>,
    uplinks: Uplinks,
    marks: MarkMask,
    table: Option<PathBuf>,
    fast_path: Access,
    /// The downlink.
    downlink: Option<InterfaceIndex>,
    /// The usable uplink to whose address the host's own socket is bound.
    bound_to: Option<UplinkName>,
    /// The interfaces that exist.
    interfaces: BTreeMap<InterfaceIndex, InterfaceName>,
    /// Those of uplinks; whether users are behind them, too.
    outward: BTreeMap<InterfaceName, bool>,
}

impl Engine {
    /// Chooses as for the first packet of such a flow. `table` is where the flow table is pinned, and
    /// `fast_path` knows which flows take it.
    ///
    /// # Errors
    /// When nothing says by which downlink it comes in, in words.
    pub(super) fn explain(
        &self,
        mut question: Question,
        table: Option<PathBuf>,
        fast_path: Access,
    ) -> Result<Explaining, String> {
        let downlink = match question.own {
            true => None,
            false => Some(self.downlink_of(&question)?),
        };
        question.interface.clone_from(&downlink);
        let first = first_packet(&question);
        let facts = Facts {
            interface: downlink.clone(),
            source: first.source,
            destination: first.destination,
            protocol: first.protocol,
            source_port: first.source_port,
            port: first.port,
            dscp: question.dscp,
            mark: question.mark & self.config.marks.others(),
            mac: question.mac.filter(|_| !question.own),
        };
        let picked_by = self.picked_by();
        // The programs cannot see marks that the user's own nftables rules set: the table has the last
        // word where rules look at marks.
        let hashed_by = if facts.mark != 0 && self.policy.asks_for_marks() {
            PickedBy::Nftables
        } else {
            picked_by
        };
        let slot_of = |affinity| slot_of(&question, hashed_by, affinity);
        let new_flow = self.choice(&facts, &slot_of, None);
        let ids = self.uplinks.keys();
        let without = ids.map(|id| (*id, self.choice(&facts, &slot_of, Some(*id))));
        let moving = self.uplinks.iter().map(|(id, uplink)| {
            let resets = uplink.config.on_down == crate::config::OnDown::Reset;
            (*id, resets)
        });
        let links = &self.view.links;
        Ok(Explaining {
            picked_by,
            chosen_by: hashed_by,
            new_flow,
            without: without.collect(),
            moving: moving.collect(),
            uplinks: self.names(),
            marks: self.config.marks,
            table,
            fast_path,
            downlink: downlink
                .and_then(|name| links.get(&name))
                .map(|link| link.index),
            bound_to: self.bound_to(&question),
            interfaces: links
                .iter()
                .map(|(name, link)| (link.index, name.clone()))
                .collect(),
            outward: self
                .interfaces()
                .map(|name| (name.clone(), self.config.downlinks.contains(name)))
                .collect(),
            question,
        })
    }

    fn bound_to(&self, question: &Question) -> Option<UplinkName> {
        let family = Family::of(question.source);
        let mut uplinks = self.uplinks.values().filter(|_| question.own);
        let bound = uplinks.find(|uplink| {
            let state = uplink.families.get(family);
            let path = state.path();
            state.is_alive() && path.is_some_and(|path| path.source == question.source)
        });
        bound.map(|uplink| uplink.name.clone())
    }

    /// The downlink that was named, or the one behind which the source is.
    fn downlink_of(&self, question: &Question) -> Result<InterfaceName, String> {
        let downlinks = &self.config.downlinks;
        let names: Vec<&str> = downlinks.iter().map(InterfaceName::as_str).collect();
        let names = names.join(", ");
        if let Some(name) = &question.interface {
            return if downlinks.contains(name) {
                Ok(name.clone())
            } else {
                Err(format!(
                    "{name} is none of the downlinks, which are {names}: rules are for what comes in by these"
                ))
            };
        }
        let mut all = downlinks.iter();
        if let (Some(only), None) = (all.next(), all.next()) {
            return Ok(only.clone());
        }
        let behind = |name: &&InterfaceName| {
            let Some(link) = self.view.links.get(*name) else {
                return false;
            };
            let mut own = self.view.addresses.iter();
            own.any(|own| {
                own.interface == link.index
                    && IpNet::new(own.address, own.prefix_len)
                        .is_ok_and(|net| net.contains(&question.source))
            })
        };
        downlinks.iter().find(behind).cloned().ok_or_else(|| {
            format!(
                "no downlink's network has {}: name the downlink by --iface, one of {names}",
                question.source
            )
        })
    }
}

/// The first packet of the flow, with port 0 where none is said.
fn first_packet(question: &Question) -> FirstPacket {
    FirstPacket {
        protocol: question.protocol,
        source: question.source,
        destination: question.destination,
        source_port: question.source_port.unwrap_or(0),
        port: question.port.unwrap_or(0),
    }
}

/// Whether the question is about one flow: the port that it comes from is said, or does not count.
const fn is_one_flow(question: &Question) -> bool {
    let protocol = question.protocol;
    let by_port = protocol.has_ports() || protocol.has_identifier();
    question.source_port.is_some() || !by_port
}

/// How the programs know it.
fn key(packet: &FirstPacket) -> FlowKey {
    let (from, to) = (
        (packet.source, packet.source_port),
        (packet.destination, packet.port),
    );
    key_of(packet.protocol, from, to)
}

/// The slot of a flow; `None` where the port that it comes from would have to be known.
fn slot_of(question: &Question, picked_by: PickedBy, affinity: Affinity) -> Option<u16> {
    // The kernel's own hash spreads the host's own flows.
    if question.own || affinity == Affinity::Flow && !is_one_flow(question) {
        return None;
    }
    let packet = first_packet(question);
    match picked_by {
        PickedBy::Tc => u16::try_from(slot(&key(&packet), layout_affinity(affinity))).ok(),
        PickedBy::Nftables => {
            let hashed = Hashed {
                source: packet.source,
                destination: packet.destination,
                protocol: packet.protocol,
                source_port: packet.source_port,
                port: packet.port,
            };
            Some(hashed.slot(affinity))
        }
    }
}

impl Explaining {
    /// Looks up what the kernel knows, and answers.
    pub(super) async fn send(self, reply: Reply) {
        let route = self.route().await;
        let remembered = self.remembered().await;
        tokio::task::spawn_blocking(move || {
            let flow = self.table.as_deref().and_then(|bpffs| self.known(bpffs));
            let tracked = self.tracked();
            let explanation = self.join(route, flow, tracked, remembered);
            // Who asked may be gone.
            reply
                .send_blocking(&Answer::Explained(Box::new(explanation)))
                .ok();
        });
    }

    /// What the kernel would do with its first packet, were nobody there to steer it.
    async fn route(&self) -> RouteAnswer {
        let first = first_packet(&self.question);
        let ports = (first.source_port, first.port);
        let ports = first.protocol.has_ports().then_some(ports);
        let mut asked = match NextHops::open() {
            Ok(asked) => asked,
            Err(error) => {
                return RouteAnswer {
                    problem: Some(error.to_string()),
                    ..RouteAnswer::default()
                };
            }
        };
        let found = match (self.question.own, self.downlink) {
            (true, _) => {
                let packet = OwnPacket {
                    source: (!first.source.is_unspecified()).then_some(first.source),
                    destination: first.destination,
                    protocol: first.protocol,
                    ports,
                    mark: self.question.mark,
                };
                asked.of_own(&packet).await
            }
            (false, Some(interface)) => {
                let packet = PassingPacket {
                    interface,
                    source: first.source,
                    destination: first.destination,
                    protocol: first.protocol,
                    ports,
                };
                asked.through(&packet).await
            }
            (false, None) => {
                return RouteAnswer {
                    problem: Some("the downlink does not exist".to_owned()),
                    ..RouteAnswer::default()
                };
            }
        };
        match found {
            Ok(None) => RouteAnswer {
                problem: Some("it is for this host itself".to_owned()),
                ..RouteAnswer::default()
            },
            Ok(Some(hop)) => {
                let interface = self.interfaces.get(&hop.interface).cloned();
                let outward = interface.as_ref().and_then(|name| self.outward.get(name));
                RouteAnswer {
                    // Behind one arm are users, too: only what goes to a router leaves by an uplink.
                    is_uplink: outward
                        .is_some_and(|one_arm| !one_arm || hop.address != first.destination),
                    interface,
                    problem: None,
                }
            }
            Err(error) => RouteAnswer {
                problem: Some(error.to_string()),
                ..RouteAnswer::default()
            },
        }
    }

    /// The uplink that is remembered for a new flow.
    async fn remembered(&self) -> Option<Remembered> {
        let memory = self.new_flow.memory.as_ref()?;
        let ends = (self.question.source, self.question.destination);
        let found = remembered(self.chosen_by, self.table.as_deref(), memory, ends).await;
        let (id, left) = found?;
        Some(Remembered {
            uplink: self.uplinks.get(&id)?.clone(),
            seconds_left: left.as_secs_f64(),
        })
    }

    /// What the programs know of the flow.
    fn known(&self, bpffs: &Path) -> Option<FlowEntry> {
        // The programs see users' flows only.
        if self.question.own || !is_one_flow(&self.question) {
            return None;
        }
        let key = key(&first_packet(&self.question));
        let look = || -> Result<Option<FlowEntry>, TableError> {
            let table = FlowTable::open(bpffs)?;
            let lives = table.lives()?;
            let flow = table.flow(&key)?.filter(|flow| lives.lives(&key, flow));
            Ok(flow.and_then(|flow| {
                let (flow, standing) = counted(
                    flow,
                    lives.now_ns,
                    |flow| self.fast_path.standing(&key, flow),
                    // What was read a moment ago stands where it cannot be read again.
                    || table.flow(&key).ok().flatten(),
                );
                let entry = entry_of(&key, &flow, &self.uplinks, lives.now_ns)?;
                Some(entry.standing(&standing, lives.now_ns))
            }))
        };
        look()
            .inspect_err(
                |error| warn!(error = %in_one_line(error), "cannot look into the flow table"),
            )
            .ok()
            .flatten()
    }

    /// What connection tracking knows of the flow.
    fn tracked(&self) -> Option<TrackedAs> {
        if !is_one_flow(&self.question) {
            return None;
        }
        let packet = first_packet(&self.question);
        let found = entry_of_connection(&packet)
            .inspect_err(
                |error| warn!(error = %in_one_line(error), "cannot look into connection tracking"),
            )
            .ok()
            .flatten()?;
        let ours = found.mark.0 & self.marks.bits();
        let uplink = self
            .uplinks
            .iter()
            .find(|(id, _)| self.marks.flow(**id).0 == ours)
            .map(|(_, name)| name.clone());
        Some(TrackedAs {
            uplink,
            mark: found.mark.0,
            phase: found.phase(),
            translated_to: found.reply.destination,
        })
    }

    /// What decides, of all that is known.
    fn join(
        self,
        route: RouteAnswer,
        flow_table: Option<FlowEntry>,
        conntrack: Option<TrackedAs>,
        remembered: Option<Remembered>,
    ) -> Explanation {
        let Chosen { choice, memory } = &self.new_flow;
        let recalled = |chosen: &Chosen| {
            let remembered = remembered.as_ref().filter(|_| chosen.memory == *memory)?;
            let members = &chosen.choice.pool.members;
            members
                .contains_key(&remembered.uplink)
                .then(|| Fate::Uplink(remembered.uplink.clone()))
        };
        let marked = conntrack
            .as_ref()
            .and_then(|tracked| tracked.uplink.clone());
        let entry = flow_table.as_ref();
        let sure = entry.filter(|entry| entry.confirmed);
        let (decided_by, fate) = if let Some(entry) = sure {
            (Decider::FlowTable, Fate::Uplink(entry.uplink.clone()))
        } else if let Some(uplink) = marked {
            (Decider::Conntrack, Fate::Uplink(uplink))
        } else if let Some(entry) = entry {
            (Decider::FlowTable, Fate::Uplink(entry.uplink.clone()))
        } else if let Some(bound) = &self.bound_to {
            (Decider::Bound, Fate::Uplink(bound.clone()))
        } else if self.question.own && choice.fate == Fate::Dropped {
            (Decider::Rule, Fate::Dropped)
        } else if !route.is_uplink || conntrack.is_some() {
            (Decider::Routes, Fate::Routed)
        } else if let Some(fate) = recalled(&self.new_flow) {
            (Decider::Memory, fate)
        } else if choice.rule.is_some() && choice.pool.of_rule {
            (Decider::Rule, choice.fate.clone())
        } else {
            (Decider::Pool, choice.fate.clone())
        };
        let fate_of = |chosen: &Chosen| {
            let fate = recalled(chosen);
            fate.unwrap_or_else(|| chosen.choice.fate.clone())
        };
        let without = self.without_each(decided_by, &fate, fate_of);
        Explanation {
            mode: self.picked_by.mode().to_owned(),
            question: self.question,
            fate,
            decided_by,
            flow_table,
            conntrack,
            route,
            new_flow: self.new_flow.choice,
            remembered,
            without,
        }
    }

    /// A flow that is on an uplink stays there, unless that is the one which goes down and its flows
    /// are forgotten then.
    fn without_each(
        &self,
        decided_by: Decider,
        fate: &Fate,
        fate_of: impl Fn(&Chosen) -> Fate,
    ) -> BTreeMap<UplinkName, Fate> {
        let fate_without = |id: &UplinkId, name: &UplinkName, chosen: &Chosen| match decided_by {
            Decider::Routes => fate.clone(),
            // Without it, it is bound to nothing that is usable.
            Decider::Bound if self.bound_to.as_ref() != Some(name) => fate.clone(),
            Decider::Bound => fate_of(chosen),
            Decider::Rule | Decider::Pool | Decider::Memory => fate_of(chosen),
            Decider::FlowTable | Decider::Conntrack => match fate {
                Fate::Uplink(own) if own == name && self.moving.get(id) == Some(&true) => {
                    fate_of(chosen)
                }
                stays => stays.clone(),
            },
        };
        self.without
            .iter()
            .filter_map(|(id, chosen)| {
                let name = self.uplinks.get(id)?;
                Some((name.clone(), fate_without(id, name, chosen)))
            })
            .collect()
    }
}
