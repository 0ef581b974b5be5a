//! The flow table, filled by us as the TC programs would, and read again. The maps are made by
//! `bpftool` and pinned on a BPF file system that vanishes with the test.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use aya::maps::{Array, HashMap, Map, MapData};
use bytemuck::bytes_of;
use failover::dataplane::ebpf::table::{FlowTable, TableError};
use failover_common::{
    Family, Flow, FlowKey, LAYOUT_VERSION, Phase, Reason, Totals, Uplink, UplinkFamily, UplinkState,
};
use libtest_mimic::Trial;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::namespace::{run, trial};

const KEY: usize = size_of::<FlowKey>();
const VALUE: usize = size_of::<Flow>();

/// Entries of the default configuration (`flows.capacity`).
const CAPACITY: u32 = 262_144;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("flow table: every flow is read once", each_once),
        trial(
            "flow table: what makes no sense is left out and counted",
            senseless,
        ),
        trial(
            "flow table: uplinks, clock and totals are as the programs have them",
            beside_it,
        ),
        trial(
            "flow table: who reads it may stop, and says why it cannot be read",
            stops_and_errors,
        ),
        trial("flow table: a full one is read at once", full),
    ]
}

/// Where maps are pinned, for this test alone.
pub(crate) fn bpffs() -> &'static Path {
    let nothing: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(nothing, "/", nothing, private, nothing).unwrap();
    mount(Some("bpf"), "/mnt", Some("bpf"), MsFlags::empty(), nothing).unwrap();
    std::fs::create_dir(folder()).unwrap();
    Path::new("/mnt")
}

fn folder() -> String {
    format!("/mnt/v{LAYOUT_VERSION}")
}

fn make(name: &str, kind: &str, key: usize, value: usize, entries: u32) {
    let folder = folder();
    run(&format!(
        "bpftool map create {folder}/{name} type {kind} key {key} value {value} \
         entries {entries} name {name}"
    ));
}

type Flows = HashMap<MapData, [u8; KEY], [u8; VALUE]>;

fn flows(entries: u32) -> Flows {
    make("flows", "lru_hash", KEY, VALUE, entries);
    let map = MapData::from_pin(format!("{}/flows", folder())).unwrap();
    Map::from_map_data(map).unwrap().try_into().unwrap()
}

fn key(number: u32) -> FlowKey {
    let mut inside = [0; 16];
    inside[..4].copy_from_slice(&number.to_be_bytes());
    FlowKey {
        inside,
        outside: [7; 16],
        inside_port: 1,
        outside_port: 2,
        protocol: 17,
        family: Family::Ipv6,
        reserved: [0; 2],
    }
}

fn flow(number: u32) -> Flow {
    Flow {
        created_ns: 1,
        seen_ns: 2,
        out_packets: u64::from(number),
        out_bytes: 4,
        in_packets: 5,
        in_bytes: 6,
        generation: 1,
        uplink: 1,
        reason: Reason::Hash,
        phase: Phase::Opening,
        confirmed: false,
        out_next: 0,
        sequenced: false,
        ..Flow::begun(1)
    }
}

fn fill(flows: &mut Flows, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let (key, flow) = (key(number), flow(number));
        let key: [u8; KEY] = bytes_of(&key).try_into().unwrap();
        let flow: [u8; VALUE] = bytes_of(&flow).try_into().unwrap();
        flows.insert(key, flow, 0).unwrap();
    }
}

/// How often each flow is read.
fn read(table: &FlowTable) -> BTreeMap<u32, u32> {
    let mut seen = BTreeMap::new();
    table
        .each(|key, flow| {
            let number = u32::from_be_bytes(*key.inside.first_chunk().unwrap());
            assert_eq!(flow.out_packets, u64::from(number));
            *seen.entry(number).or_default() += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    seen
}

async fn each_once() {
    let bpffs = bpffs();
    let mut flows = flows(40_000);
    let table = FlowTable::open(bpffs).unwrap();
    assert_eq!(table.capacity().unwrap(), 40_000);
    assert_eq!(read(&table), BTreeMap::new());
    // A single one, as many as a batch holds, one more, and many batches.
    for count in [1, 4096, 4097, 20_000] {
        fill(&mut flows, 0..count);
        let wanted: BTreeMap<u32, u32> = (0..count).map(|number| (number, 1)).collect();
        assert_eq!(read(&table), wanted, "{count}");
    }
    // What is evicted is gone, and nothing comes twice.
    fill(&mut flows, 20_000..120_000);
    let seen = read(&table);
    assert!(
        seen.len() <= 40_000 && seen.len() > 30_000,
        "{}",
        seen.len()
    );
    assert!(seen.values().all(|times| *times == 1));
}

async fn senseless() {
    let bpffs = bpffs();
    let mut flows = flows(1_000);
    fill(&mut flows, 0..10);
    let mut broken = flow(3);
    broken.phase = Phase::Closing;
    let mut bytes: [u8; VALUE] = bytes_of(&broken).try_into().unwrap();
    // The largest phase is 3.
    bytes[std::mem::offset_of!(Flow, phase)] = 99;
    let key: [u8; KEY] = bytes_of(&key(3)).try_into().unwrap();
    flows.insert(key, bytes, 0).unwrap();
    let table = FlowTable::open(bpffs).unwrap();
    let mut sound = 0;
    let walked = table
        .each(|_, _| {
            sound += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!((walked.entries, walked.senseless, sound), (10, 1, 9));
}

async fn beside_it() {
    let bpffs = bpffs();
    let _flows = flows(10);
    make("uplinks", "array", 4, size_of::<Uplink>(), 128);
    make("totals", "percpu_array", 4, size_of::<Totals>(), 1);
    let family = |generation| UplinkFamily {
        generation,
        state: UplinkState::Up,
        translates: true,
        reserved: [0; 2],
    };
    let uplink = Uplink {
        interface: 7,
        ipv4: family(3),
        ipv6: family(4),
    };
    let map = MapData::from_pin(format!("{}/uplinks", folder())).unwrap();
    let mut uplinks: Array<_, [u8; size_of::<Uplink>()]> =
        Map::from_map_data(map).unwrap().try_into().unwrap();
    let bytes: [u8; size_of::<Uplink>()] = bytes_of(&uplink).try_into().unwrap();
    uplinks.set(9, bytes, 0).unwrap();
    // Each processor has counted one entry and 256 refusals.
    let one =
        "1 0 0 0 0 0 0 0 0 1 0 0 0 0 0 0 ".to_owned() + &"0 ".repeat(size_of::<Totals>() - 16);
    run(&format!(
        "bpftool map update pinned {}/totals key 0 0 0 0 value {one}",
        folder()
    ));
    let table = FlowTable::open(bpffs).unwrap();
    let lives = table.lives().unwrap();
    assert_eq!(lives.uplinks, BTreeMap::from([(9, uplink)]));
    let uptime: f64 = run("cut -d' ' -f1 /proc/uptime").trim().parse().unwrap();
    let now = Duration::from_nanos(lives.now_ns).as_secs_f64();
    assert!(now > 0.0 && now <= uptime + 1.0, "{now} of {uptime}");
    let processors = u64::try_from(aya::util::nr_cpus().unwrap()).unwrap();
    let totals = table.totals().unwrap();
    assert_eq!(totals.entered, processors);
    assert_eq!(totals.refused, 256 * processors);
    assert_eq!(totals.unread, 0);
}

async fn stops_and_errors() {
    let bpffs = bpffs();
    assert!(matches!(
        FlowTable::open(bpffs),
        Err(TableError::Open { .. })
    ));
    let mut flows = flows(1_000);
    fill(&mut flows, 0..100);
    let table = FlowTable::open(bpffs).unwrap();
    let mut seen = 0;
    table
        .each(|_, _| {
            seen += 1;
            if seen == 7 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
        .unwrap();
    assert_eq!(seen, 7);
    assert!(matches!(table.lives(), Err(TableError::Open { .. })));
    assert!(matches!(table.totals(), Err(TableError::Open { .. })));
    // Maps of another layout, at their places.
    make("uplinks", "array", 4, 8, 128);
    assert!(matches!(table.lives(), Err(TableError::Layout { .. })));
    make("totals", "percpu_array", 4, 8, 1);
    assert!(table.totals().is_err());
}

async fn full() {
    let bpffs = bpffs();
    let mut flows = flows(CAPACITY);
    let empty = {
        let table = FlowTable::open(bpffs).unwrap();
        let begin = Instant::now();
        assert_eq!(read(&table), BTreeMap::new());
        begin.elapsed()
    };
    fill(&mut flows, 0..CAPACITY);
    let table = FlowTable::open(bpffs).unwrap();
    let begin = Instant::now();
    let mut sum = 0;
    let walked = table
        .each(|_, flow| {
            sum += flow.out_packets;
            ControlFlow::Continue(())
        })
        .unwrap();
    let taken = begin.elapsed();
    let begin = Instant::now();
    let alone = flows.iter().filter(Result::is_ok).count();
    let one_by_one = begin.elapsed();
    println!(
        "measured: {} entries in {taken:?} ({alone} one by one in {one_by_one:?}), an empty table in {empty:?}",
        walked.entries
    );
    // The kernel evicts a little before the table is full.
    assert!(walked.entries > u64::from(CAPACITY) * 9 / 10, "{walked:?}");
    assert!(sum > 0);
}
