//! The gateway that the packets come to, and what a test looks at afterwards.

use std::any::Any;
use std::env;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use failover::dataplane::ebpf::object::EMBEDDED;
use failover_common::lifetime::protocol::UDP;
use failover_common::selection::slot;
use failover_common::{
    Affinity, Counters, Family, Flow, FlowKey, Interface, Lease, Phase, Reason, Role, Totals,
    UplinkCounters, UplinkFamily, UplinkState,
};
use failover_tests::programs::{Context, Loaded, ProgramsError, Settings, Stand, Wiring};
use tokio::sync::OnceCell;

use crate::frames::{Ends, Message, Packet};
use crate::trial::SystemTest;

/// What a test on the gateway's own thread returns; assertions panic.
pub(crate) type Outcome = Result<(), Failure>;

/// Why a test could not be carried out.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// How many uplinks the gateway has.
pub(crate) const UPLINKS: u8 = 3;

/// Bits of marks that belong to others, which every packet carries.
pub(crate) const OTHERS: u32 = 0x00a5_1234;
pub(crate) const MASK: u32 = 0xff00_0000;
const ASK: u32 = 0x8000_0000;

/// Whether what comes in by an uplink in a state tells that its flow is on it.
pub(crate) const TEACHING: [(UplinkState, bool); 6] = [
    (UplinkState::Absent, false),
    (UplinkState::Unknown, true),
    (UplinkState::Up, true),
    (UplinkState::Degraded, true),
    (UplinkState::Down, false),
    (UplinkState::Disabled, false),
];

/// Programs that were just loaded and know nobody, in a gateway with three uplinks that are up and
/// translate; new flows go to one of them, slot by slot.
pub(crate) struct Gateway<'g> {
    pub(crate) programs: &'g mut Loaded,
    pub(crate) wiring: &'g Wiring,
    /// The family that the test is about.
    pub(crate) family: Family,
}

/// Our bits of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// None of them.
    None,
    /// An uplink that the connection mark may overrule.
    Ask(u8),
    /// An uplink that is known to be right.
    Sure(u8),
    /// No uplink may carry it.
    Denied,
}

/// All of a test's families.
pub(crate) const BOTH: [Family; 2] = [Family::Ipv4, Family::Ipv6];

/// A test in both families.
pub(crate) fn both(name: &str, test: fn(&mut Gateway<'_>) -> Outcome) -> Vec<SystemTest> {
    BOTH.map(|family| in_family(name, family, test)).into()
}

/// A test in one family.
pub(crate) fn in_family(
    name: &str,
    family: Family,
    test: fn(&mut Gateway<'_>) -> Outcome,
) -> SystemTest {
    with_settings(name, family, Settings::default(), test)
}

/// A test in one family with other settings.
pub(crate) fn with_settings(
    name: &str,
    family: Family,
    settings: Settings,
    test: fn(&mut Gateway<'_>) -> Outcome,
) -> SystemTest {
    SystemTest::new(named(name, family), move || async move {
        play(common().await?, settings, family, test).await
    })
}

/// A test's name with its family.
pub(crate) fn named(name: &str, family: Family) -> String {
    let family = match family {
        Family::Ipv4 => "ipv4",
        Family::Ipv6 => "ipv6",
    };
    format!("{name}_{family}")
}

/// The gateway of all tests that change nothing about it. Everything it knows of packets is in the
/// maps of programs that are loaded anew for each test.
pub(crate) async fn common() -> Result<&'static Stand, Box<dyn Error>> {
    static COMMON: OnceCell<Stand> = OnceCell::const_new();
    Ok(COMMON.get_or_try_init(|| Stand::new(UPLINKS)).await?)
}

/// Packets may take the fast path, and nobody wants to hear of flows for it: so every packet is looked at for
/// it first, and by the rest of the programs after that.
pub(crate) const PACKETS_ONLY: Lease = Lease {
    packets_until_ns: u64::MAX,
    offers_until_ns: 0,
    last_id: 0,
    reserved: 0,
};

/// Runs a test on the gateway's thread, and brings a failed assertion back from there.
pub(crate) async fn play(
    stand: &Stand,
    settings: Settings,
    family: Family,
    test: impl FnOnce(&mut Gateway<'_>) -> Outcome + Send + 'static,
) -> Result<(), Box<dyn Error>> {
    type Panic = Box<dyn Any + Send>;
    let played = stand
        .with(object()?, settings, move |programs, wiring| {
            programs.set_lease(&PACKETS_ONLY)?;
            let mut gateway = Gateway {
                programs,
                wiring,
                family,
            };
            let played: Result<Outcome, Panic> =
                catch_unwind(AssertUnwindSafe(|| test(&mut gateway)));
            Ok::<_, ProgramsError>(played)
        })
        .await?;
    match played {
        Ok(outcome) => outcome.map_err(|error| error as Box<dyn Error>),
        Err(panic) => resume_unwind(panic),
    }
}

/// The object under test.
pub(crate) fn object() -> Result<Vec<u8>, Box<dyn Error>> {
    match env::var_os("FAILOVER_BPF_OBJECT") {
        Some(path) => std::fs::read(&path)
            .map_err(|error| format!("FAILOVER_BPF_OBJECT={}: {error}", path.display()).into()),
        None => Ok(EMBEDDED.to_vec()),
    }
}

/// A client behind `lan0` and a server beyond the uplinks.
pub(crate) fn ends(family: Family) -> Ends {
    let (inside, outside) = match family {
        Family::Ipv4 => ([198, 18, 0, 10].into(), [203, 0, 113, 11].into()),
        Family::Ipv6 => (
            [0xfd00, 0x18, 0, 0, 0, 0, 0, 0x10].into(),
            [0xfd00, 0x203, 0, 0, 0, 0, 0, 0x11].into(),
        ),
    };
    Ends { inside, outside }
}

impl Gateway<'_> {
    /// The client and the server.
    pub(crate) fn ends(&self) -> Ends {
        ends(self.family)
    }

    /// The index of an uplink's interface; uplinks are counted from 1.
    pub(crate) fn wan(&self, uplink: u8) -> Result<u32, Failure> {
        let index = usize::from(uplink).checked_sub(1);
        let wan = index.and_then(|index| self.wiring.wans.get(index));
        Ok(*wan.ok_or("there is no such uplink")?)
    }

    /// A packet that comes in by `lan0`.
    pub(crate) fn lan_in(&self, packet: &Packet) -> Result<Mark, Failure> {
        self.lan_in_frame(&packet.frame(self.wiring.lan_mac))
    }

    /// A frame that comes in by `lan0`.
    pub(crate) fn lan_in_frame(&self, frame: &[u8]) -> Result<Mark, Failure> {
        let context = Context {
            ifindex: self.wiring.lan,
            ..Context::default()
        };
        mark(self.through("fo_lan_in", frame, context)?)
    }

    /// A packet that came in by an uplink and goes to `lan0`.
    pub(crate) fn lan_out(&self, packet: &Packet, by: u8) -> Result<(), Failure> {
        self.lan_out_from(packet, self.wan(by)?, Mark::None)
    }

    /// The first packet of a connection that came in by an uplink and goes to `lan0`.
    pub(crate) fn lan_out_first(&self, packet: &Packet, by: u8) -> Result<(), Failure> {
        self.lan_out_from(packet, self.wan(by)?, Mark::Ask(by))
    }

    /// A packet that came in by an interface (0: none) and goes to `lan0`, marked already.
    pub(crate) fn lan_out_from(
        &self,
        packet: &Packet,
        from: u32,
        marked: Mark,
    ) -> Result<(), Failure> {
        let context = Context {
            ifindex: self.wiring.lan,
            ingress_ifindex: from,
            mark: match marked {
                Mark::None => 0,
                Mark::Ask(id) => ASK | u32::from(id) << 24,
                Mark::Sure(id) => u32::from(id) << 24,
                Mark::Denied => ASK,
            },
            ..Context::default()
        };
        let after =
            mark(self.through("fo_lan_out", &packet.frame(self.wiring.lan_mac), context)?)?;
        assert_eq!(after, marked, "to users, a mark stays as it is");
        Ok(())
    }

    /// A packet that comes in by an uplink.
    pub(crate) fn wan_in(&self, packet: &Packet, by: u8) -> Result<(), Failure> {
        let context = Context {
            ifindex: self.wan(by)?,
            ..Context::default()
        };
        let after =
            mark(self.through("fo_wan_in", &packet.frame(self.wiring.lan_mac), context)?)?;
        assert_eq!(after, Mark::None, "from providers, nothing is marked");
        Ok(())
    }

    /// Gives a frame to a program, and makes sure that nothing but our bits of the mark changes.
    pub(crate) fn through(
        &self,
        program: &str,
        frame: &[u8],
        context: Context,
    ) -> Result<u32, Failure> {
        let context = Context {
            mark: context.mark | OTHERS,
            ..context
        };
        let run = self.programs.run(program, frame, context, 1)?;
        assert_eq!(run.returned, -1, "{program} passes every packet on");
        assert_eq!(run.frame, frame, "{program} changes no packet");
        assert_eq!(
            run.mark & !MASK,
            OTHERS,
            "{program} leaves others' bits of the mark alone"
        );
        Ok(run.mark)
    }

    /// The uplink that the selection has for a flow, as the gateway was built.
    pub(crate) fn chosen(&self, key: &FlowKey) -> Result<u8, Failure> {
        let place = slot(key, Affinity::Flow) % usize::from(UPLINKS);
        Ok(u8::try_from(place)? + 1)
    }

    /// An entry of the flow table, which must be there.
    pub(crate) fn flow(&self, key: &FlowKey) -> Result<Flow, Failure> {
        let flow = self.programs.flow(key)?;
        Ok(flow.ok_or_else(|| format!("there is no entry for {key:?}"))?)
    }

    /// Asserts that the flow table has these entries and no others.
    pub(crate) fn assert_flows(&self, keys: &[FlowKey]) -> Outcome {
        let mut found = self.programs.flows()?;
        found.sort();
        let mut keys = keys.to_vec();
        keys.sort();
        assert_eq!(found, keys, "the entries of the flow table");
        Ok(())
    }

    /// Asserts what became of packets that no known flow decided.
    pub(crate) fn assert_totals(&self, totals: Totals) -> Outcome {
        assert_eq!(self.programs.totals()?, totals);
        Ok(())
    }

    /// Asserts that an uplink's counters are these.
    pub(crate) fn assert_counters(&self, uplink: u8, counters: UplinkCounters) -> Outcome {
        let found = self.programs.counters(uplink)?;
        assert_eq!(found, counters, "the counters of uplink {uplink}");
        Ok(())
    }

    /// Changes what the programs know of an uplink in the test's family.
    pub(crate) fn change_uplink(
        &mut self,
        id: u8,
        change: impl FnOnce(&mut UplinkFamily),
    ) -> Outcome {
        let mut uplink = self.programs.uplink(id)?;
        change(match self.family {
            Family::Ipv4 => &mut uplink.ipv4,
            Family::Ipv6 => &mut uplink.ipv6,
        });
        Ok(self.programs.set_uplink(id, &uplink)?)
    }

    /// Forgets all flows of an uplink.
    pub(crate) fn raise_generation(&mut self, id: u8) -> Outcome {
        self.change_uplink(id, |family| family.generation += 1)
    }

    /// Sets the state of an uplink.
    pub(crate) fn set_state(&mut self, id: u8, state: UplinkState) -> Outcome {
        self.change_uplink(id, |family| family.state = state)
    }

    /// An uplink translates no more.
    pub(crate) fn without_translation(&mut self, id: u8) -> Outcome {
        self.change_uplink(id, |family| family.translates = false)
    }

    /// Sets what an interface is.
    pub(crate) fn set_role(&mut self, index: u32, role: Role, uplink: u8) -> Outcome {
        let interface = Interface {
            role,
            uplink,
            downlink: 0,
        };
        Ok(self.programs.set_interface(index, &interface)?)
    }

    /// The time as the programs see it, in nanoseconds: that of an entry that was just made.
    pub(crate) fn now_ns(&mut self) -> Result<u64, Failure> {
        let (ends, port) = (self.ends(), 65_432);
        let key = ends.key(UDP, port, port);
        self.lan_in(&ends.out(Message::udp(port, port)))?;
        let now_ns = self.flow(&key)?.created_ns;
        self.programs.remove_flow(&key)?;
        Ok(now_ns)
    }

    /// The entry that the first packet of a flow makes.
    pub(crate) fn opened(&self, uplink: u8, frame_length: usize, like: &Flow) -> Flow {
        Flow {
            // The time is the kernel's.
            created_ns: like.created_ns,
            seen_ns: like.created_ns,
            out_packets: 1,
            out_bytes: length(frame_length),
            in_packets: 0,
            in_bytes: 0,
            generation: 1,
            uplink,
            reason: Reason::Hash,
            phase: Phase::Opening,
            confirmed: false,
            out_next: like.out_next,
            sequenced: like.sequenced,
            until_offer: like.until_offer,
            waits: true,
            ..Flow::begun(like.created_ns)
        }
    }

    /// The same of a flow that takes the place of another one, or begins outside: it was never counted
    /// among those that wait for an answer.
    pub(crate) fn begun_anew(&self, uplink: u8, frame_length: usize, like: &Flow) -> Flow {
        Flow {
            waits: false,
            ..self.opened(uplink, frame_length, like)
        }
    }
}

/// Our bits of a mark.
pub(crate) fn mark(mark: u32) -> Result<Mark, Failure> {
    let id = u8::try_from((mark & MASK & !ASK) >> 24)?;
    match (mark & ASK != 0, id) {
        (false, 0) => Ok(Mark::None),
        (true, 0) => Ok(Mark::Denied),
        (true, id) => Ok(Mark::Ask(id)),
        (false, id) => Ok(Mark::Sure(id)),
    }
}

/// Packets of one length.
pub(crate) fn counted(packets: u64, frame_length: usize) -> Counters {
    Counters {
        packets,
        bytes: packets * length(frame_length),
    }
}

/// A length as the maps hold it.
pub(crate) fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
