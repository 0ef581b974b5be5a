//! The eBPF object in the kernel: it loads, sees every packet, and changes none.
//!
//! `FAILOVER_BPF_OBJECT` names the object to test; without it, it is the embedded one.

mod cable;

use std::borrow::Cow;
use std::net::UdpSocket;
use std::time::Duration;
use std::{env, fs};

use aya::programs::{SchedClassifier, TcAttachType, TestRun, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use failover::dataplane::ebpf::load::{Hook, Programs};
use failover::dataplane::ebpf::object::EMBEDDED;
use failover::interface::InterfaceName;
use failover_common::{Counters, Direction};
use libtest_mimic::{Arguments, Failed, Trial};

use cable::{Cable, INTERFACE};

/// How many packets go each way.
const PACKETS: u64 = 500;
/// What is in them.
const PAYLOAD: [u8; 100] = [0x5a; 100];
/// Their headers: Ethernet, IPv4, UDP.
const HEADERS: u64 = 14 + 20 + 8;
/// What one direction must have counted.
const EXPECTED: Counters = Counters {
    packets: PACKETS,
    bytes: PACKETS * (PAYLOAD.len() as u64 + HEADERS),
};
/// How long to wait for a packet before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many instructions the verifier may look at in each program. It stops at a million; what
/// comes near takes long to load, and fails on kernels whose verifier prunes less.
const BUDGETS: [(&str, u32); 2] = [("failover_in", 100), ("failover_out", 100)];

/// What programs return so that others see the packet too.
const PASS_ON: u32 = u32::MAX;

fn main() {
    let arguments = Arguments::from_args();
    let trials = vec![
        trial("tcx_counts_every_packet_and_passes_it_on", || {
            counts_and_passes_on(Hook::Tcx)
        }),
        trial("clsact_counts_every_packet_and_passes_it_on", || {
            counts_and_passes_on(Hook::Clsact)
        }),
        trial(
            "programs_that_come_later_see_every_packet_too",
            later_programs_see_too,
        ),
        trial(
            "nothing_hangs_on_the_interface_after_the_end",
            nothing_stays,
        ),
        trial("a_missing_interface_is_named", names_the_interface),
        trial("packet_and_mark_stay_as_they_are", changes_nothing),
        trial("the_verifier_has_little_to_do", keeps_within_budget),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}

/// A test that says so when it is not root, instead of failing somewhere on the way.
fn trial(name: &str, test: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Trial {
    Trial::test(name, || {
        if nix::unistd::geteuid().is_root() {
            test()
        } else {
            Err("this loads programs into the kernel and needs root: run `cargo xtask test`".into())
        }
    })
}

fn object() -> Result<Cow<'static, [u8]>, Failed> {
    match env::var_os("FAILOVER_BPF_OBJECT") {
        Some(path) => fs::read(&path)
            .map(Cow::Owned)
            .map_err(|error| format!("FAILOVER_BPF_OBJECT={}: {error}", path.display()).into()),
        None => Ok(Cow::Borrowed(EMBEDDED)),
    }
}

fn interface() -> Result<InterfaceName, Failed> {
    Ok(INTERFACE.parse()?)
}

fn counts_and_passes_on(hook: Hook) -> Result<(), Failed> {
    let cable = Cable::new()?;
    cable.near.within(|| {
        let mut programs = Programs::load(&object()?)?;
        for direction in Direction::ALL {
            programs.attach_by(hook, &interface()?, direction)?;
        }
        ask_and_answer(&cable)?;
        for direction in Direction::ALL {
            expect(&direction, &programs.counters(direction)?, &EXPECTED)?;
        }
        Ok(())
    })
}

fn later_programs_see_too() -> Result<(), Failed> {
    let cable = Cable::new()?;
    cable.near.within(|| {
        let mut first = Programs::load(&object()?)?;
        let mut second = Programs::load(&object()?)?;
        let hooks = [
            first.attach(&interface()?, Direction::Ingress)?,
            second.attach(&interface()?, Direction::Ingress)?,
        ];
        expect(&"the hooks that were taken", &hooks, &[best_hook()?; 2])?;
        ask_and_answer(&cable)?;
        expect(&"first", &first.counters(Direction::Ingress)?, &EXPECTED)?;
        expect(&"second", &second.counters(Direction::Ingress)?, &EXPECTED)
    })
}

fn nothing_stays() -> Result<(), Failed> {
    Cable::new()?.near.within(|| {
        let attached = || -> Result<usize, Failed> {
            let (_, incoming) = SchedClassifier::query_tcx(INTERFACE, TcAttachType::Ingress)?;
            let (_, outgoing) = SchedClassifier::query_tcx(INTERFACE, TcAttachType::Egress)?;
            Ok(incoming.len() + outgoing.len())
        };
        let mut programs = Programs::load(&object()?)?;
        for direction in Direction::ALL {
            programs.attach_by(Hook::Tcx, &interface()?, direction)?;
        }
        expect(&"attached while loaded", &attached()?, &2)?;
        drop(programs);
        expect(&"attached afterwards", &attached()?, &0)
    })
}

fn names_the_interface() -> Result<(), Failed> {
    Cable::new()?.near.within(|| {
        let mut programs = Programs::load(&object()?)?;
        for hook in [Hook::Tcx, Hook::Clsact] {
            let said = match programs.attach_by(hook, &"absent0".parse()?, Direction::Ingress) {
                Ok(()) => return Err("attached to an interface that does not exist".into()),
                Err(error) => error.to_string(),
            };
            if !said.contains("absent0") {
                return Err(format!("the message does not name the interface: {said}").into());
            }
        }
        Ok(())
    })
}

fn changes_nothing() -> Result<(), Failed> {
    let frame: Vec<u8> = (0..=u8::MAX).collect();
    // The mark stands behind length and type of the packet (struct __sk_buff, linux/bpf.h).
    let mut context = [0_u8; 192];
    if let Some(mark) = context.get_mut(8..12) {
        mark.copy_from_slice(&0x1234_5678_u32.to_ne_bytes());
    }
    for_each_program(|name, program| {
        let (mut frame_out, mut context_out) = (vec![0; frame.len()], [0_u8; 192]);
        let result = program.test_run(TestRunOptions {
            data_in: Some(&frame),
            data_out: Some(&mut frame_out),
            ctx_in: Some(&context),
            ctx_out: Some(&mut context_out),
            ..TestRunOptions::default()
        })?;
        expect(&(name, "return value"), &result.return_value, &PASS_ON)?;
        expect(&(name, "packet"), &frame_out, &frame)?;
        expect(
            &(name, "mark"),
            &context_out.get(8..12),
            &context.get(8..12),
        )
    })
}

fn keeps_within_budget() -> Result<(), Failed> {
    let mut seen = Vec::new();
    for_each_program(|name, program| {
        let (_, budget) = BUDGETS
            .into_iter()
            .find(|(known, _)| *known == name)
            .ok_or_else(|| format!("{name} has no budget"))?;
        let count = program
            .info()?
            .verified_instruction_count()
            .ok_or("this kernel does not count (Linux 5.16 does)")?;
        if count > budget {
            return Err(format!(
                "{name}: the verifier looked at {count} instructions, {budget} are allowed"
            )
            .into());
        }
        seen.push(name.to_owned());
        Ok(())
    })?;
    seen.sort();
    expect(
        &"programs in the object",
        &seen,
        &BUDGETS.map(|(name, _)| name.to_owned()).to_vec(),
    )
}

/// Loads every program of the object, whatever the loader of the daemon knows of it.
fn for_each_program(
    mut work: impl FnMut(&str, &SchedClassifier) -> Result<(), Failed>,
) -> Result<(), Failed> {
    let logging_off = 0_u8;
    let mut ebpf: Ebpf = EbpfLoader::new()
        .override_global("AYA_LOG_LEVEL", &logging_off, true)
        .load(&object()?)?;
    for (name, program) in ebpf.programs_mut() {
        let program: &mut SchedClassifier = program.try_into()?;
        program.load()?;
        work(name, program)?;
    }
    Ok(())
}

/// The far end asks, one packet after the other, and the near end answers each.
fn ask_and_answer(cable: &Cable) -> Result<(), Failed> {
    let socket = |address| -> Result<UdpSocket, Failed> {
        let socket = UdpSocket::bind((address, 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    };
    let near = cable.near.within(|| socket(cable.near.address))?;
    let far = cable.far.within(|| socket(cable.far.address))?;
    let mut received = [0; PAYLOAD.len()];
    for packet in 0..PACKETS {
        far.send_to(&PAYLOAD, near.local_addr()?)?;
        let (_, from) = near
            .recv_from(&mut received)
            .map_err(|error| format!("question {packet} did not arrive: {error}"))?;
        near.send_to(&received, from)?;
        far.recv(&mut received)
            .map_err(|error| format!("answer {packet} did not arrive: {error}"))?;
        expect(&"what came back", &received, &PAYLOAD)?;
    }
    Ok(())
}

/// What this kernel should get: TCX came with Linux 6.6.
fn best_hook() -> Result<Hook, Failed> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    Ok(if version >= (6, 6) {
        Hook::Tcx
    } else {
        Hook::Clsact
    })
}

fn expect<T: PartialEq + std::fmt::Debug>(
    what: &impl std::fmt::Debug,
    found: &T,
    expected: &T,
) -> Result<(), Failed> {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{what:?}: found {found:?}, expected {expected:?}").into())
    }
}
