//! Configurations that must be refused, and what is said about each.
//!
//! Plain data with no test in it, so that the same table can be run through [`failover::config`]
//! and through the commands.

/// One broken configuration of the table.
pub(crate) struct Row {
    name: &'static str,
    text: &'static str,
    /// What is printed behind the file's name and a colon, a problem a line; source lines stand between.
    problems: &'static [&'static str],
}

/// A broken configuration.
pub(crate) struct Broken {
    /// What it is called; fit for a file name.
    pub(crate) name: String,
    /// The file's content.
    pub(crate) bytes: Vec<u8>,
    /// What is printed behind the file's name and a colon, a problem a line; source lines stand between.
    pub(crate) problems: Vec<String>,
}

impl From<&Row> for Broken {
    fn from(row: &Row) -> Self {
        Self {
            name: row.name.to_owned(),
            bytes: row.text.into(),
            problems: row.problems.iter().copied().map(str::to_owned).collect(),
        }
    }
}

const fn row(name: &'static str, text: &'static str, problems: &'static [&'static str]) -> Row {
    Row {
        name,
        text,
        problems,
    }
}

/// Those that are short enough to be written down.
pub(crate) const TABLE: &[Row] = &[
    row(
        "empty-file",
        "",
        &[
            "1:1: found nothing, allowed: a map with the keys uplinks, downlinks, sets, rules, strategy, mode, nat, probe, flows, fastpath, notify, marks, tables, rule_priority, control, state_dir, bpffs, log, track_file",
        ],
    ),
    row(
        "only-comments",
        "# uplinks:\n",
        &[
            "2:1: found nothing, allowed: a map with the keys uplinks, downlinks, sets, rules, strategy, mode, nat, probe, flows, fastpath, notify, marks, tables, rule_priority, control, state_dir, bpffs, log, track_file",
        ],
    ),
    row(
        "a-word",
        "uplinks\n",
        &[
            "1:1: found `uplinks`, allowed: a map with the keys uplinks, downlinks, sets, rules, strategy, mode, nat, probe, flows, fastpath, notify, marks, tables, rule_priority, control, state_dir, bpffs, log, track_file",
        ],
    ),
    row(
        "no-uplinks-key",
        "downlinks: [eth0]\n",
        &[
            "1:1: key `uplinks`: found nothing, allowed: a map of one uplink or more, such as {fiber: {interface: eth1}}",
        ],
    ),
    row(
        "empty-uplinks",
        "uplinks: {}\ndownlinks: [eth0]\n",
        &[
            "1:10: key `uplinks`: found an empty map, allowed: a map of one uplink or more, such as {fiber: {interface: eth1}}",
        ],
    ),
    row(
        "uplinks-of-nothing",
        "uplinks:\ndownlinks: [eth0]\n",
        &[
            "1:8: key `uplinks`: found nothing, allowed: a map of one uplink or more, such as {fiber: {interface: eth1}}",
        ],
    ),
    row(
        "uplinks-as-a-list",
        "uplinks:\n  - interface: eth1\n",
        &[
            "2:3: key `uplinks`: found a list, allowed: a map of one uplink or more, such as {fiber: {interface: eth1}}",
        ],
    ),
    row(
        "uplink-of-nothing",
        "uplinks:\n  fiber:\n",
        &[
            "2:8: key `uplinks.fiber`: found nothing, allowed: a map with the keys interface, id, gateway, gateway6, source, source6, virtual, virtual6, prefixes6, weight, priority, new_flows, metered, capacity, nat, description, probe, flows",
        ],
    ),
    row(
        "uplink-as-a-word",
        "uplinks:\n  fiber: eth1\n",
        &[
            "2:10: key `uplinks.fiber`: found `eth1`, allowed: a map with the keys interface, id, gateway, gateway6, source, source6, virtual, virtual6, prefixes6, weight, priority, new_flows, metered, capacity, nat, description, probe, flows",
        ],
    ),
    row(
        "unknown-key-at-the-top",
        "uplinks:\n  fiber: {interface: eth1}\ndownlink: [eth0]\n",
        &[
            "3:1: key `downlink`: found an unknown key, allowed: the keys uplinks, downlinks, sets, rules, strategy, mode, nat, probe, flows, fastpath, notify, marks, tables, rule_priority, control, state_dir, bpffs, log, track_file; did you mean `downlinks`?",
        ],
    ),
    row(
        "unknown-key-of-an-uplink",
        "uplinks:\n  fiber:\n    interface: eth1\n    wieght: 3\n",
        &[
            "4:5: key `uplinks.fiber.wieght`: found an unknown key, allowed: the keys interface, id, gateway, gateway6, source, source6, virtual, virtual6, prefixes6, weight, priority, new_flows, metered, capacity, nat, description, probe, flows; did you mean `weight`?",
        ],
    ),
    row(
        "unknown-keys-everywhere",
        "uplinks:\n  fiber: {interface: eth1, probe: {every: 1s}, flows: {affinity: pair}}\n\
         probe: {target: icmp://192.0.2.1}\nflows: {sticky: true}\nmarks: {value: 1}\n\
         tables: {first: 300}\n",
        &[
            "2:36: key `uplinks.fiber.probe.every`: found an unknown key, allowed: the keys targets, interval, timeout, required, down_after, up_after, window, max_loss, max_latency, max_jitter, max_hold, passive, budget",
            "2:56: key `uplinks.fiber.flows.affinity`: found an unknown key, allowed: the keys on_down, on_up",
            "3:9: key `probe.target`: found an unknown key, allowed: the keys targets, interval, timeout, required, down_after, up_after, window, max_loss, max_latency, max_jitter, max_hold, passive, budget; did you mean `targets`?",
            "4:9: key `flows.sticky`: found an unknown key, allowed: the keys affinity, on_down, on_up, mss, capacity",
            "5:9: key `marks.value`: found an unknown key, allowed: the key mask",
            "6:10: key `tables.first`: found an unknown key, allowed: the key base",
        ],
    ),
    row(
        "strategies-that-are-none",
        "uplinks:\n  fiber: {interface: eth1}\n  lte: {interface: wwan0, capacity: 20Mbit, priority: 2}\nstrategy: least-latency\nrules:\n  - {via: [lte], strategy: fastest}\n",
        &[
            "4:11: key `strategy`: found `least-latency`, allowed: weight, least_latency, overflow, {overflow: 80%}, or a map of these by priority, such as {1: least_latency, 2: weight}; did you mean `least_latency`?",
            "6:28: key `rules[0].strategy`: found `fastest`, allowed: weight, least_latency, overflow or a map such as {overflow: 80%}",
        ],
    ),
    row(
        "shares-of-strategies",
        "uplinks:\n  fiber: {interface: eth1}\n  lte: {interface: wwan0, capacity: 20Mbit, priority: 2}\nstrategy: {overflow: 10%}\nrules:\n  - {via: [lte], strategy: {overflow: 80}}\n",
        &[
            "4:22: key `strategy.overflow`: found `10%`, allowed: 20% to 100%, written such as 80%",
            "6:39: key `rules[0].strategy.overflow`: found `80`, allowed: 20% to 100%, written such as 80%",
        ],
    ),
    row(
        "overflow-without-capacity",
        "uplinks:\n  fiber: {interface: eth1}\n  lte: {interface: wwan0, capacity: 20Mbit, priority: 2}\nstrategy: {1: overflow, 2: overflow}\nrules:\n  - {via: [fiber], strategy: overflow}\n  - {via: [fiber, lte], strategy: overflow}\n",
        &[
            "4:15: key `strategy.1`: found `overflow`, allowed: weight or least_latency, or a `capacity` of at least one of its uplinks: without one an uplink is never full",
            "6:30: key `rules[0].strategy`: found `overflow`, allowed: weight or least_latency, or a `capacity` of at least one of its uplinks: without one an uplink is never full",
        ],
    ),
    row(
        "overflow-of-all-without-capacity",
        "uplinks:\n  fiber: {interface: eth1}\nstrategy: {overflow: 80%}\n",
        &[
            "3:11: key `strategy`: found a map, allowed: weight or least_latency, or a `capacity` of at least one of its uplinks: without one an uplink is never full",
        ],
    ),
    row(
        "priorities-of-strategies",
        "uplinks:\n  fiber: {interface: eth1}\n  lte: {interface: wwan0, capacity: 20Mbit, priority: 2}\nstrategy: {1: weight, 3: weight, all: weight}\n",
        &["4:34: key `strategy.all`: found `all`, allowed: a priority, 1 to 65535"],
    ),
    row(
        "priorities-that-no-uplink-has",
        "uplinks:\n  fiber: {interface: eth1}\n  lte: {interface: wwan0, capacity: 20Mbit, priority: 2}\nstrategy: {1: weight, 3: weight}\n",
        &[
            "4:26: key `strategy.3`: found a strategy of a priority that no uplink has, allowed: the priorities of uplinks: 1, 2",
        ],
    ),
    row(
        "capacities",
        "uplinks:\n  a: {interface: eth1, capacity: 100}\n  b: {interface: eth2, capacity: 20mbit}\n  c: {interface: eth3, capacity: 1kbit}\n  d: {interface: eth4, capacity: {down: 5Mbit}}\n",
        &[
            "2:34: key `uplinks.a.capacity`: found `100`, allowed: 8kbit to 1000Gbit, written such as 500kbit, 100Mbit or 1Gbit; a whole number and a unit are needed: kbit, Mbit or Gbit",
            "3:34: key `uplinks.b.capacity`: found `20mbit`, allowed: 8kbit to 1000Gbit, written such as 500kbit, 100Mbit or 1Gbit; a whole number and a unit are needed: kbit, Mbit or Gbit",
            "4:34: key `uplinks.c.capacity`: found `1kbit`, allowed: 8kbit to 1000Gbit, written such as 500kbit, 100Mbit or 1Gbit",
            "5:34: key `uplinks.d.capacity.up`: found nothing, allowed: a rate, such as 100Mbit",
        ],
    ),
    row(
        "capacities-on-interfaces-that-others-use",
        "uplinks:\n  a: {interface: eth1, gateway: 192.0.2.1, capacity: 5Mbit}\n  b: {interface: eth1, gateway: 192.0.2.2}\n  c: {interface: lan0, capacity: 5Mbit}\ndownlinks: [lan0]\n",
        &[
            "2:54: key `uplinks.a.capacity`: found a capacity on `eth1`, the interface of `b` too, allowed: none there: the counters of such an interface do not tell how much the uplink carries",
            "4:34: key `uplinks.c.capacity`: found a capacity on `lan0`, which is a downlink too, allowed: none there: the counters of such an interface do not tell how much the uplink carries",
        ],
    ),
    row(
        "rules-are-no-list",
        "uplinks:\n  fiber: {interface: eth1}\n  lte: {interface: wwan0}\ndownlinks: [lan0]\nrules: {via: fiber}\n",
        &[
            "5:8: key `rules`: found a map, allowed: a list of rules, such as [{name: mail, match: {protocol: tcp, ports: [25]}, via: [fiber]}]",
        ],
    ),
    row(
        "rule-without-via",
        "uplinks:\n  fiber: {interface: eth1}\n  lte: {interface: wwan0}\ndownlinks: [lan0]\nrules:\n  - {name: mail, match: {protocol: tcp}}\n",
        &[
            "6:5: key `rules[0].via`: found nothing, allowed: a list of uplinks in the order of their use, such as [fiber, lte], or a pool with weights, such as {fiber: 3, lte: 1}, or a list of both",
        ],
    ),
    row(
        "rule-via-nobody",
        "uplinks:\n  fiber: {interface: eth1}\n  lte: {interface: wwan0}\ndownlinks: [lan0]\nrules:\n  - {via: []}\n  - {via: {}}\n",
        &[
            "6:11: key `rules[0].via`: found an empty list, allowed: a list of uplinks in the order of their use, such as [fiber, lte], or a pool with weights, such as {fiber: 3, lte: 1}, or a list of both",
            "7:11: key `rules[1].via`: found an empty map, allowed: a list of uplinks in the order of their use, such as [fiber, lte], or a pool with weights, such as {fiber: 3, lte: 1}, or a list of both",
        ],
    ),
    row(
        "rule-via-unknown-uplink",
        "uplinks:\n  fiber: {interface: eth1}\n  lte: {interface: wwan0}\ndownlinks: [lan0]\nrules:\n  - {via: [fibre]}\n  - {via: {lte: 0, dsl: 1}}\n",
        &[
            "6:12: key `rules[0].via[0]`: found `fibre`, allowed: the name of an uplink: fiber, lte; did you mean `fiber`?",
            "7:17: key `rules[1].via.lte`: found `0`, allowed: 1 to 256",
            "7:20: key `rules[1].via.dsl`: found `dsl`, allowed: the name of an uplink: fiber, lte",
        ],
    ),
    row(
        "rule-via-twice",
        "uplinks:\n  fiber: {interface: eth1}\n  lte: {interface: wwan0}\ndownlinks: [lan0]\nrules:\n  - {via: [fiber, {lte: 1, fiber: 2}]}\n",
        &["6:19: key `rules[0].via[1]`: found `fiber` again, allowed: each uplink once"],
    ),
    row(
        "rule-with-unknown-key",
        "uplinks:\n  fiber: {interface: eth1}\n  lte: {interface: wwan0}\ndownlinks: [lan0]\nrules:\n  - {vai: [fiber], via: [fiber], match: {port: 25}}\n",
        &[
            "6:6: key `rules[0].vai`: found an unknown key, allowed: the keys name, match, via, strategy, affinity, otherwise, fastpath; did you mean `via`?",
            "6:42: key `rules[0].match.port`: found an unknown key, allowed: the keys interface, source, destination, protocol, ports, source_ports, dscp, mark, mac; did you mean `ports`?",
        ],
    ),
    row(
        "rule-names-twice",
        "uplinks:\n  fiber: {interface: eth1}\n  lte: {interface: wwan0}\ndownlinks: [lan0]\nrules:\n  - {name: a, via: fiber}\n  - {name: a, via: lte}\n",
        &[
            "7:5: key `rules[1]`: found a rule named `a` again, allowed: a name that no other rule has; the other one is at 6:5",
        ],
    ),
    row(
        "rule-match-wrong-values",
        "uplinks:\n  fiber: {interface: eth1}\n  lte: {interface: wwan0}\ndownlinks: [lan0]\nrules:\n  - name: a\n    via: fiber\n    match:\n      interface: lan1\n      source: [10.0.0.1/24, 10.0.0.9-10.0.0.1, lists, 10.0.0.0/33]\n      destination: []\n      protocol: [tcp, tpc]\n      ports: [0, 80-70, http]\n      dscp: 64\n      mark: 0x01000000\n      mac: 02:00:5e:10:00\n",
        &[
            "9:18: key `rules[0].match.interface`: found `lan1`, allowed: one of `downlinks`: lan0; did you mean `lan0`?",
            "10:16: key `rules[0].match.source[0]`: found `10.0.0.1/24`, allowed: a prefix with no bits set behind it: 10.0.0.0/24",
            "10:29: key `rules[0].match.source[1]`: found `10.0.0.9-10.0.0.1`, allowed: a range whose first address is not behind its last one",
            "10:48: key `rules[0].match.source[2]`: found `lists`, allowed: an address, a prefix or a range, or the name of one of `sets`, which has none",
            "10:55: key `rules[0].match.source[3]`: found `10.0.0.0/33`, allowed: an address (192.0.2.1), a prefix (192.0.2.0/24) or a range (192.0.2.10-192.0.2.19), of IPv4 or IPv6",
            "11:20: key `rules[0].match.destination`: found an empty list, allowed: one value or more; without the key, any",
            "12:23: key `rules[0].match.protocol[1]`: found `tpc`, allowed: a protocol by its name, such as tcp, udp or icmp, or by its number, 0 to 255",
            "13:15: key `rules[0].match.ports[0]`: found `0`, allowed: a port, 1 to 65535, or a range of ports, such as 5000-5999",
            "13:18: key `rules[0].match.ports[1]`: found `80-70`, allowed: a port, 1 to 65535, or a range of ports, such as 5000-5999",
            "13:25: key `rules[0].match.ports[2]`: found `http`, allowed: a port, 1 to 65535, or a range of ports, such as 5000-5999",
            "14:13: key `rules[0].match.dscp`: found `64`, allowed: a DSCP by its name, such as ef, af41 or cs1, or by its number, 0 to 63",
            "15:13: key `rules[0].match.mark`: found `0x01000000`, allowed: a mark, such as 0x10, or a mark and the bits that count, such as 0x10/0xff; none of the bits of `marks.mask` 0xff000000",
            "16:12: key `rules[0].match.mac`: found `02:00:5e:10:00`, allowed: a hardware address, such as 02:00:5e:10:00:01",
        ],
    ),
    row(
        "rule-ports-of-icmp",
        "uplinks:\n  fiber: {interface: eth1}\n  lte: {interface: wwan0}\ndownlinks: [lan0]\nrules:\n  - {via: fiber, match: {protocol: icmp, ports: [8]}}\n",
        &[
            "6:25: key `rules[0].match`: found ports, and the protocol icmp, which has none, allowed: ports of tcp, udp, udplite, sctp and dccp only",
        ],
    ),
    row(
        "rule-otherwise",
        "uplinks:\n  fiber: {interface: eth1}\n  lte: {interface: wwan0}\ndownlinks: [lan0]\nrules:\n  - {via: fiber, otherwise: dorp}\n",
        &[
            "6:29: key `rules[0].otherwise`: found `dorp`, allowed: any or drop; did you mean `drop`?",
        ],
    ),
    row(
        "fastpath",
        "uplinks:\n  fiber: {interface: eth1}\nfastpath: always\nrules:\n  - {via: fiber, fastpath: of}\n",
        &[
            "3:11: key `fastpath`: found `always`, allowed: auto or off",
            "5:28: key `rules[0].fastpath`: found `of`, allowed: auto or off; did you mean `off`?",
        ],
    ),
    row(
        "rules-too-many-masks",
        "uplinks:\n  fiber: {interface: eth1}\n  lte: {interface: wwan0}\ndownlinks: [lan0]\nrules:\n  - {via: fiber, match: {mark: [0x1/0x1, 0x2/0x2, 0x4/0x4, 0x8/0x8, 0x10/0x10]}}\n",
        &[
            "6:3: key `rules`: found 5 different masks of marks, allowed: at most 4 different masks in all rules",
        ],
    ),
    row(
        "sets-wrong",
        "uplinks:\n  fiber: {interface: eth1}\n  lte: {interface: wwan0}\ndownlinks: [lan0]\nsets:\n  1st: [192.0.2.0/24]\n  list: list.txt\n  nets: [192.0.2.0/24, example.org]\n",
        &[
            "6:3: key `sets.1st`: found `1st`, allowed: a name of 1 to 32 of the characters a-z A-Z 0-9 _ -, the first a letter",
            "7:9: key `sets.list`: found `list.txt`, allowed: a list of addresses, prefixes and ranges, or the absolute path of a file with one in each line",
            "8:24: key `sets.nets[1]`: found `example.org`, allowed: an address (192.0.2.1), a prefix (192.0.2.0/24) or a range (192.0.2.10-192.0.2.19), of IPv4 or IPv6",
        ],
    ),
    row(
        "limits-of-quality",
        "uplinks:\n  fiber:\n    interface: eth1\n    probe:\n      window: 500ms\n      \
         max_loss: 25\n      max_latency: {above: 100ms, back_at: 200ms}\n      \
         max_jitter: {back_at: 5ms}\n      max_hold: 25h\n\
         probe: {max_loss: 101%, max_jitter: 0ms}\n",
        &[
            "5:15: key `uplinks.fiber.probe.window`: found `500ms`, allowed: 1s to 1h, written such as 500ms, 2s or 5m",
            "6:17: key `uplinks.fiber.probe.max_loss`: found `25`, allowed: 0% to 100%, written such as 25% or 2.5%; a share is written with its sign: 25%",
            "7:44: key `uplinks.fiber.probe.max_latency.back_at`: found `200ms`, allowed: at most 100ms, as `above`",
            "8:19: key `uplinks.fiber.probe.max_jitter.above`: found nothing, allowed: the limit",
            "9:17: key `uplinks.fiber.probe.max_hold`: found `25h`, allowed: 0s to 24h, written such as 500ms, 2s or 5m",
            "10:19: key `probe.max_loss`: found `101%`, allowed: 0% to 100%, written such as 25% or 2.5%",
            "10:37: key `probe.max_jitter`: found `0ms`, allowed: 1ms to 1m, written such as 500ms, 2s or 5m",
        ],
    ),
    row(
        "what-probes-may-take",
        "uplinks:\n  a: {interface: eth1, probe: {budget: 5mb}}\n  \
         b: {interface: eth2, probe: {budget: 5000000}}\n  \
         c: {interface: eth3, probe: {budget: 5kB}}\n  \
         d: {interface: eth4, probe: {budget: never}}\n\
         probe: {budget: [5MB]}\n",
        &[
            "2:40: key `uplinks.a.probe.budget`: found `5mb`, allowed: auto, none or 10kB to 1000GB, written such as 500kB, 5MB or 1GB; a whole number and a unit are needed: kB, MB or GB",
            "3:40: key `uplinks.b.probe.budget`: found `5000000`, allowed: auto, none or 10kB to 1000GB, written such as 500kB, 5MB or 1GB; a whole number and a unit are needed: kB, MB or GB",
            "4:40: key `uplinks.c.probe.budget`: found `5kB`, allowed: auto, none or 10kB to 1000GB, written such as 500kB, 5MB or 1GB",
            "5:40: key `uplinks.d.probe.budget`: found `never`, allowed: auto, none or 10kB to 1000GB, written such as 500kB, 5MB or 1GB",
            "6:17: key `probe.budget`: found a list, allowed: auto, none or 10kB to 1000GB, written such as 500kB, 5MB or 1GB",
        ],
    ),
    row(
        "what-goes-together-for-how-long",
        "uplinks: {a: {interface: eth1}}\n\
         flows: {affinity: {source: 0s}}\n\
         rules:\n  \
         - {via: a, affinity: {pair: 25h}}\n  \
         - {via: a, affinity: {source: 10}}\n  \
         - {via: a, affinity: {flow: 10m}}\n  \
         - {via: a, affinity: {source: 10m, pair: 10m}}\n  \
         - {via: a, affinity: {}}\n  \
         - {via: a, affinity: 10m}\n  \
         - {via: a, affinity: sorce}\n",
        &[
            "2:28: key `flows.affinity.source`: found `0s`, allowed: 1s to 24h, written such as 500ms, 2s or 5m",
            "4:31: key `rules[0].affinity.pair`: found `25h`, allowed: 1s to 24h, written such as 500ms, 2s or 5m",
            "5:33: key `rules[1].affinity.source`: found `10`, allowed: 1s to 24h, written such as 500ms, 2s or 5m; a whole number and a unit are needed: ms, s, m or h",
            "6:25: key `rules[2].affinity.flow`: found an unknown key, allowed: the keys pair, source",
            "7:24: key `rules[3].affinity`: found a map, allowed: one of pair and source",
            "8:24: key `rules[4].affinity`: found an empty map, allowed: flow, pair, source or a map such as {source: 10m}",
            "9:24: key `rules[5].affinity`: found `10m`, allowed: flow, pair, source or a map such as {source: 10m}",
            "10:24: key `rules[6].affinity`: found `sorce`, allowed: flow, pair, source or a map such as {source: 10m}; did you mean `source`?",
        ],
    ),
    row(
        "what-happens-when-an-uplink-returns",
        "uplinks:\n  a: {interface: eth1, metered: 5, flows: {on_up: mvoe}}\n  \
         b: {interface: eth2, flows: {on_up: {drain: 5}}}\n  \
         c: {interface: eth3, flows: {on_up: {drain: 25h}}}\n  \
         d: {interface: eth4, flows: {on_up: {drain: 999ms}}}\n  \
         e: {interface: eth5, flows: {on_up: {}}}\n  \
         f: {interface: eth6, flows: {on_up: {after: 5m}}}\n  \
         g: {interface: eth7, flows: {on_up: [move]}}\n  \
         h: {interface: eth8, flows: {on_up: 5m}}\n\
         flows: {on_up: drain}\n",
        &[
            "2:33: key `uplinks.a.metered`: found `5`, allowed: true or false",
            "2:51: key `uplinks.a.flows.on_up`: found `mvoe`, allowed: stay, move or a map such as {drain: 5m}; did you mean `move`?",
            "3:47: key `uplinks.b.flows.on_up.drain`: found `5`, allowed: 1s to 24h, written such as 500ms, 2s or 5m; a whole number and a unit are needed: ms, s, m or h",
            "4:47: key `uplinks.c.flows.on_up.drain`: found `25h`, allowed: 1s to 24h, written such as 500ms, 2s or 5m",
            "5:47: key `uplinks.d.flows.on_up.drain`: found `999ms`, allowed: 1s to 24h, written such as 500ms, 2s or 5m",
            "6:39: key `uplinks.e.flows.on_up`: found an empty map, allowed: stay, move or a map such as {drain: 5m}",
            "7:40: key `uplinks.f.flows.on_up.after`: found an unknown key, allowed: the key drain",
            "8:39: key `uplinks.g.flows.on_up`: found a list, allowed: stay, move or a map such as {drain: 5m}",
            "9:39: key `uplinks.h.flows.on_up`: found `5m`, allowed: stay, move or a map such as {drain: 5m}",
            "10:16: key `flows.on_up`: found `drain`, allowed: stay, move or a map such as {drain: 5m}; draining needs a time: {drain: 5m}",
        ],
    ),
    row(
        "where-the-log-goes",
        "uplinks: {a: {interface: b}}\nlog: {to: {file: a.log, size: 10KB, keep: 0, files: 3}}\n",
        &[
            "2:18: key `log.to.file`: found `a.log`, allowed: an absolute path of at most 3840 bytes",
            "2:31: key `log.to.size`: found `10KB`, allowed: 100kB to 1GB, written such as 500kB, 5MB or 1GB; a whole number and a unit are needed: kB, MB or GB",
            "2:43: key `log.to.keep`: found `0`, allowed: 1 to 999",
            "2:46: key `log.to.files`: found an unknown key, allowed: the keys file, size, keep; did you mean `file`?",
        ],
    ),
    row(
        "a-log-that-goes-nowhere",
        "uplinks: {a: {interface: b}}\nlog: {}\n",
        &[
            "2:6: key `log.to`: found nothing, allowed: stderr, journal or a map such as {file: /var/log/failover/failover.log}",
        ],
    ),
    row(
        "no-interface",
        "uplinks:\n  fiber: {weight: 2}\n",
        &[
            "2:10: key `uplinks.fiber.interface`: found nothing, allowed: an interface name: 1 to 15 printable characters without white space, `/`, `:`, `\"`, `\\` or `*`, and not `.` or `..`",
        ],
    ),
    row(
        "no-interface-name",
        "uplinks:\n  fiber: {interface: \"eth 1\"}\ndownlinks: [a/b, 0123456789abcdef]\n",
        &[
            "2:22: key `uplinks.fiber.interface`: found `\"eth 1\"`, allowed: an interface name: 1 to 15 printable characters without white space, `/`, `:`, `\"`, `\\` or `*`, and not `.` or `..`",
            "3:13: key `downlinks[0]`: found `a/b`, allowed: an interface name: 1 to 15 printable characters without white space, `/`, `:`, `\"`, `\\` or `*`, and not `.` or `..`",
            "3:18: key `downlinks[1]`: found `0123456789abcdef`, allowed: an interface name: 1 to 15 printable characters without white space, `/`, `:`, `\"`, `\\` or `*`, and not `.` or `..`",
        ],
    ),
    row(
        "no-uplink-name",
        "uplinks:\n  -fiber: {interface: eth1}\n  \"two words\": {interface: eth2}\n",
        &[
            "2:3: key `uplinks.-fiber`: found `-fiber`, allowed: an uplink name: 1 to 32 of the characters a-z A-Z 0-9 _ - ., the first a letter or a digit",
            "3:3: key `uplinks.two words`: found `two words`, allowed: an uplink name: 1 to 32 of the characters a-z A-Z 0-9 _ - ., the first a letter or a digit",
        ],
    ),
    row(
        "duplicate-uplink",
        "uplinks:\n  fiber: {interface: eth1}\n  lte: {interface: eth2}\n  fiber: {interface: eth3}\n",
        &[
            "4:3: key `uplinks.fiber`: found the same key again, allowed: each key once in its map; the first stands at 2:3",
        ],
    ),
    row(
        "duplicate-key",
        "uplinks:\n  fiber:\n    interface: eth1\n    weight: 1\n    weight: 2\n",
        &[
            "5:5: key `uplinks.fiber.weight`: found the same key again, allowed: each key once in its map; the first stands at 4:5",
        ],
    ),
    row(
        "duplicate-key-at-the-top",
        "uplinks: {fiber: {interface: eth1}}\nmode: auto\nmode: classic\n",
        &[
            "3:1: key `mode`: found the same key again, allowed: each key once in its map; the first stands at 2:1",
        ],
    ),
    row(
        "weights-out-of-range",
        "uplinks:\n  a: {interface: eth1, weight: 0}\n  b: {interface: eth2, weight: 257}\n  \
         c: {interface: eth3, weight: -1}\n  d: {interface: eth4, weight: 1.5}\n",
        &[
            "2:32: key `uplinks.a.weight`: found `0`, allowed: 1 to 256",
            "3:32: key `uplinks.b.weight`: found `257`, allowed: 1 to 256",
            "4:32: key `uplinks.c.weight`: found `-1`, allowed: 1 to 256",
            "5:32: key `uplinks.d.weight`: found `1.5`, allowed: 1 to 256",
        ],
    ),
    row(
        "numbers-as-text",
        "uplinks:\n  a: {interface: eth1, weight: three, priority: \"2\", id: [1]}\n",
        &[
            "2:32: key `uplinks.a.weight`: found `three`, allowed: 1 to 256",
            "2:49: key `uplinks.a.priority`: found `\"2\"`, allowed: 1 to 65535; a number is written without quotes",
            "2:58: key `uplinks.a.id`: found a list, allowed: 1 to 127",
        ],
    ),
    row(
        "priority-zero",
        "uplinks:\n  a: {interface: eth1, priority: 0}\n",
        &["2:34: key `uplinks.a.priority`: found `0`, allowed: 1 to 65535"],
    ),
    row(
        "id-out-of-range",
        "uplinks:\n  a: {interface: eth1, id: 128}\n  b: {interface: eth2, id: 0}\n",
        &[
            "2:28: key `uplinks.a.id`: found `128`, allowed: 1 to 127",
            "3:28: key `uplinks.b.id`: found `0`, allowed: 1 to 127",
        ],
    ),
    row(
        "id-beyond-the-mask",
        "uplinks:\n  a: {interface: eth1, id: 9}\nmarks: {mask: 0x00000f00}\n",
        &[
            "2:28: key `uplinks.a.id`: found `9`, allowed: 1 to 7, as `marks.mask` 0x00000f00 has no room for more",
        ],
    ),
    row(
        "same-id-twice",
        "uplinks:\n  a: {interface: eth1, id: 3}\n  b: {interface: eth2, id: 3}\n",
        &[
            "3:28: key `uplinks.b.id`: found `3`, allowed: an id that no other uplink has; `a` has it at 2:28",
        ],
    ),
    row(
        "too-many-uplinks-for-the-mask",
        "uplinks: {a: {interface: e1}, b: {interface: e2}}\nmarks: {mask: 0x300}\n",
        &[
            "1:10: key `uplinks`: found 2 uplinks, allowed: at most 1, as many as `marks.mask` 0x00000300 can tell apart",
        ],
    ),
    row(
        "mask-with-holes",
        "uplinks: {a: {interface: e1}}\nmarks: {mask: 0xf0f}\n",
        &[
            "2:15: key `marks.mask`: found `0xf0f`, allowed: 2 to 8 bits in one run, such as 0xff000000; 0x00000f0f has holes: the bits must be one run, such as 0xff000000 or 0x00000f00",
        ],
    ),
    row(
        "mask-too-narrow",
        "uplinks: {a: {interface: e1}}\nmarks: {mask: 1}\n",
        &[
            "2:15: key `marks.mask`: found `1`, allowed: 2 to 8 bits in one run, such as 0xff000000; 0x00000001 has too few bits: at least 2 are needed, one for probes and one for the uplink's id",
        ],
    ),
    row(
        "mask-too-wide",
        "uplinks: {a: {interface: e1}}\nmarks: {mask: 0x1ff000000}\n",
        &[
            "2:15: key `marks.mask`: found `0x1ff000000`, allowed: 2 to 8 bits in one run, such as 0xff000000",
        ],
    ),
    row(
        "tables-of-the-system",
        "uplinks: {a: {interface: e1}}\ntables: {base: 200}\n",
        &[
            "2:16: key `tables.base`: found `200`, allowed: 1 to 125 or 256 to 4294901632, so that the 128 tables from there on are neither 0 nor 253 to 255",
        ],
    ),
    row(
        "rules-behind-main",
        "uplinks: {a: {interface: e1}}\nrule_priority: 32766\n",
        &["2:16: key `rule_priority`: found `32766`, allowed: 1 to 32000"],
    ),
    row(
        "no-such-word",
        "uplinks: {a: {interface: e1, nat: no}}\nmode: ebfp\nflows: {affinity: src, on_down: null}\n",
        &[
            "1:35: key `uplinks.a.nat`: found `no`, allowed: masquerade or none; did you mean `none`?",
            "2:7: key `mode`: found `ebfp`, allowed: auto, ebpf or classic; did you mean `ebpf`?",
            "3:19: key `flows.affinity`: found `src`, allowed: flow, pair, source or a map such as {source: 10m}",
            "3:33: key `flows.on_down`: found nothing, allowed: reset or keep",
        ],
    ),
    row(
        "yes-is-a-word",
        "uplinks: {a: {interface: e1, new_flows: yes}}\n",
        &["1:41: key `uplinks.a.new_flows`: found `yes`, allowed: true or false"],
    ),
    row(
        "addresses-of-no-host",
        "uplinks:\n  a:\n    interface: eth1\n    gateway: 0.0.0.0\n    gateway6: ff02::1\n    \
         source: 127.0.0.1\n    source6: fe80::1\n  b: {interface: eth2, gateway: fd00::1, source: auto}\n",
        &[
            "4:14: key `uplinks.a.gateway`: found `0.0.0.0`, allowed: auto or the IPv4 address of a host, such as 198.51.100.1",
            "5:15: key `uplinks.a.gateway6`: found `ff02::1`, allowed: auto or the IPv6 address of a host, such as fd00::1",
            "6:13: key `uplinks.a.source`: found `127.0.0.1`, allowed: the IPv4 address of a host, such as 198.51.100.1",
            "7:14: key `uplinks.a.source6`: found `fe80::1`, allowed: an IPv6 address that is known beyond its link, not one of fe80::/10",
            "8:33: key `uplinks.b.gateway`: found `fd00::1`, allowed: auto or the IPv4 address of a host, such as 198.51.100.1",
            "8:50: key `uplinks.b.source`: found `auto`, allowed: the IPv4 address of a host, such as 198.51.100.1",
        ],
    ),
    row(
        "gateway-is-the-own-source",
        "uplinks: {a: {interface: e1, gateway: 192.0.2.1, source: 192.0.2.1}}\n",
        &[
            "1:39: key `uplinks.a.gateway`: found `192.0.2.1`, allowed: an address that is not this uplink's own source",
        ],
    ),
    row(
        "prefixes",
        "uplinks: {a: {interface: e1, prefixes6: [fd00::1/48, 192.0.2.0/24, fd00:2::/48, fd00:2::/48]}}\n",
        &[
            "1:42: key `uplinks.a.prefixes6[0]`: found `fd00::1/48`, allowed: a prefix with no bits set behind it: fd00::/48",
            "1:54: key `uplinks.a.prefixes6[1]`: found `192.0.2.0/24`, allowed: an IPv6 prefix, such as fd00:1::/56",
        ],
    ),
    row(
        "same-interface-and-gateway",
        "uplinks:\n  a: {interface: eth1, gateway: 192.0.2.1}\n  b: {interface: eth1, gateway: 192.0.2.1}\n",
        &[
            "3:33: key `uplinks.b.gateway`: found `192.0.2.1`, allowed: another gateway than that of `a`, which has the same interface",
        ],
    ),
    row(
        "same-interface-without-gateways",
        "uplinks:\n  a: {interface: eth1}\n  b: {interface: eth1, gateway: 192.0.2.1}\n",
        &[
            "3:18: key `uplinks.b.interface`: found `eth1`, the interface of `a` too, allowed: an interface of its own, or a `gateway` or `gateway6` given for both uplinks",
        ],
    ),
    row(
        "downlink-twice",
        "uplinks: {a: {interface: eth1}}\ndownlinks:\n  - eth0\n  - eth0\n",
        &["4:5: key `downlinks[1]`: found `eth0` again, allowed: each interface once"],
    ),
    row(
        "downlinks-as-text",
        "uplinks: {a: {interface: eth1}}\ndownlinks: eth0\n",
        &[
            "2:12: key `downlinks`: found `eth0`, allowed: a list of interface names, such as [eth0], or [] for none",
        ],
    ),
    row(
        "durations",
        "uplinks: {a: {interface: eth1, probe: {interval: 5ms, timeout: 2m}}}\n\
         probe: {interval: 500, timeout: 1.5s}\n",
        &[
            "1:50: key `uplinks.a.probe.interval`: found `5ms`, allowed: 10ms to 1h, written such as 500ms, 2s or 5m",
            "1:64: key `uplinks.a.probe.timeout`: found `2m`, allowed: 10ms to 1m, written such as 500ms, 2s or 5m",
            "2:19: key `probe.interval`: found `500`, allowed: 10ms to 1h, written such as 500ms, 2s or 5m; a whole number and a unit are needed: ms, s, m or h",
            "2:33: key `probe.timeout`: found `1.5s`, allowed: 10ms to 1m, written such as 500ms, 2s or 5m",
        ],
    ),
    row(
        "targets",
        "uplinks: {a: {interface: eth1, probe: {targets: []}}}\nprobe:\n  targets:\n    \
         - icmp://example.org\n    - 192.0.2.1\n    - icmp://224.0.0.1\n    - [icmp://192.0.2.1]\n",
        &[
            "1:49: key `uplinks.a.probe.targets`: found 0 targets, allowed: a list of 1 to 16 targets, such as [icmp://192.0.2.1]",
            "4:7: key `probe.targets[0]`: found `icmp://example.org`, allowed: icmp://ADDRESS, such as icmp://192.0.2.1 or \"icmp://fd00::1\", the address of one host",
            "5:7: key `probe.targets[1]`: found `192.0.2.1`, allowed: a target: icmp://ADDRESS, tcp://HOST:PORT, http://HOST/PATH, https://HOST/PATH, dns://SERVER/NAME, arp://gateway, exec:/PATH, or a map with `url` or `exec`",
            "6:7: key `probe.targets[2]`: found `icmp://224.0.0.1`, allowed: icmp://ADDRESS, such as icmp://192.0.2.1 or \"icmp://fd00::1\", the address of one host",
            "7:7: key `probe.targets[3]`: found a list, allowed: a target: icmp://ADDRESS, tcp://HOST:PORT, http://HOST/PATH, https://HOST/PATH, dns://SERVER/NAME, arp://gateway, exec:/PATH, or a map with `url` or `exec`",
        ],
    ),
    row(
        "same-target-twice",
        "uplinks: {a: {interface: eth1}}\nprobe: {targets: [icmp://192.0.2.1, icmp://192.0.2.1]}\n",
        &[
            "2:37: key `probe.targets[1]`: found `icmp://192.0.2.1` again, allowed: each target once",
        ],
    ),
    row(
        "targets-in-short",
        "uplinks: {a: {interface: eth1}}\nprobe:\n  targets:\n    \
         - tcp://192.0.2.1\n    - tcp://fd00::1:443\n    - http://example.org:0/\n    \
         - https://example.org/#top\n    - dns://192.0.2.53\n    - arp://192.0.2.1\n    \
         - exec:/bin/ping -c 1\n    - exec:bin/up\n",
        &[
            "4:7: key `probe.targets[0]`: found `tcp://192.0.2.1`, allowed: tcp://HOST:PORT, such as tcp://192.0.2.1:443, \"tcp://[fd00::1]:443\" or tcp://example.org:443; the port is missing",
            "5:7: key `probe.targets[1]`: found `tcp://fd00::1:443`, allowed: tcp://HOST:PORT, such as tcp://192.0.2.1:443, \"tcp://[fd00::1]:443\" or tcp://example.org:443; an IPv6 address stands in brackets, as in [fd00::1]",
            "6:7: key `probe.targets[2]`: found `http://example.org:0/`, allowed: http://HOST/PATH or http://HOST:PORT/PATH, such as http://example.org/; a port is a number from 1 to 65535",
            "7:7: key `probe.targets[3]`: found `https://example.org/#top`, allowed: https://HOST/PATH or https://HOST:PORT/PATH, such as https://example.org/; what follows a # is never sent to a server",
            "8:7: key `probe.targets[4]`: found `dns://192.0.2.53`, allowed: dns://SERVER/NAME or dns://SERVER:PORT/NAME, such as dns://192.0.2.53/example.org",
            "9:7: key `probe.targets[5]`: found `arp://192.0.2.1`, allowed: arp://gateway, the uplink's own gateway",
            "10:7: key `probe.targets[6]`: found `exec:/bin/ping -c 1`, allowed: exec:/PATH, the absolute path of a program, at most 1024 bytes; arguments need the long form: {exec: /PATH, args: [...]}",
            "11:7: key `probe.targets[7]`: found `exec:bin/up`, allowed: exec:/PATH, the absolute path of a program, at most 1024 bytes",
        ],
    ),
    row(
        "targets-at-length",
        "uplinks: {a: {interface: eth1}}\nprobe:\n  targets:\n    \
         - {url: https://example.org/, expect: 204}\n    \
         - {url: http://example.org/, status: 99, body: \"\", ca: /etc/ca.pem}\n    \
         - {url: tcp://192.0.2.1:1, record: A}\n    - {status: 200}\n    \
         - {exec: /bin/true, args: -x, url: x}\n    - {url: dns://192.0.2.53/, record: CNAME}\n",
        &[
            "4:35: key `probe.targets[0].expect`: found an unknown key, allowed: the keys url, status, body, ca, record",
            "5:42: key `probe.targets[1].status`: found `99`, allowed: a status of 200 to 599 or a list of them, such as [200, 204]",
            "5:52: key `probe.targets[1].body`: found an empty text, allowed: a text of one line, 1 to 100 characters",
            "5:60: key `probe.targets[1].ca`: found `/etc/ca.pem`, allowed: this key only where the url begins with https://",
            "6:40: key `probe.targets[2].record`: found `A`, allowed: this key only where the url begins with dns://",
            "7:7: key `probe.targets[3].url`: found nothing, allowed: a target: icmp://ADDRESS, tcp://HOST:PORT, http://HOST/PATH, https://HOST/PATH, dns://SERVER/NAME, arp://gateway, exec:/PATH, or a map with `url` or `exec`",
            "8:31: key `probe.targets[4].args`: found `-x`, allowed: a list of at most 64 texts of at most 1024 bytes, such as [-w, \"3\"]",
            "8:35: key `probe.targets[4].url`: found an unknown key, allowed: the keys exec, args",
            "9:40: key `probe.targets[5].record`: found `CNAME`, allowed: A, AAAA, NS, SOA or TXT",
        ],
    ),
    row(
        "only-the-gateway-is-asked",
        "uplinks: {a: {interface: eth1}}\nprobe: {targets: [arp://gateway]}\n",
        &[
            "2:18: key `probe.targets`: found only arp://gateway, allowed: another target beside arp://gateway, which cannot tell whether the internet is behind the gateway",
        ],
    ),
    row(
        "more-required-than-asked",
        "uplinks: {a: {interface: eth1}}\nprobe: {required: 3}\n",
        &[
            "2:19: key `probe.required`: found `3`, allowed: 1 to 2, as many as there are targets of one family",
        ],
    ),
    row(
        "an-uplink-asks-fewer-than-required",
        "uplinks:\n  a: {interface: eth1, probe: {targets: [icmp://192.0.2.1]}}\nprobe: {required: 2}\n",
        &[
            "2:41: key `uplinks.a.probe.targets`: found only 1 of one family, allowed: 2 or more of one family, as `probe.required` says",
        ],
    ),
    row(
        "counts-of-rounds",
        "uplinks: {a: {interface: eth1}}\nprobe: {down_after: 0, up_after: 1001}\n",
        &[
            "2:21: key `probe.down_after`: found `0`, allowed: 1 to 1000",
            "2:34: key `probe.up_after`: found `1001`, allowed: 1 to 1000",
        ],
    ),
    row(
        "paths",
        "uplinks: {a: {interface: eth1}}\ncontrol: run/control.sock\nstate_dir: /\nbpffs: []\n",
        &[
            "2:10: key `control`: found `run/control.sock`, allowed: an absolute path of at most 107 bytes",
            "3:12: key `state_dir`: found `/`, allowed: an absolute path of at most 3840 bytes",
            "4:8: key `bpffs`: found an empty list, allowed: an absolute path of at most 3840 bytes",
        ],
    ),
    row(
        "descriptions",
        "uplinks: {a: {interface: eth1, description: \"\"}, b: {interface: eth2, description: \"a\\nb\"}}\n",
        &[
            "1:45: key `uplinks.a.description`: found an empty text, allowed: a text of one line, 1 to 100 characters",
            "1:84: key `uplinks.b.description`: found `\"a\\nb\"`, allowed: a text of one line, 1 to 100 characters",
        ],
    ),
    row(
        "tab-as-indentation",
        "uplinks:\n\tfiber: {interface: eth1}\n",
        &["2:2: key `uplinks`: found a tab as indentation, allowed: spaces"],
    ),
    row(
        "wrong-indentation",
        "uplinks:\n  fiber:\n    interface: eth1\n   weight: 2\n",
        &[
            "4:4: key `uplinks`: found what is no YAML (while parsing a block mapping, did not find expected key), allowed: YAML 1.2",
        ],
    ),
    row(
        "bracket-left-open",
        "uplinks: {a: {interface: eth1}}\ndownlinks: [eth0\nmode: auto\n",
        &[
            "3:5: key `downlinks[0]`: found what is no YAML (illegal placement of ':' indicator), allowed: YAML 1.2",
        ],
    ),
    row(
        "two-documents",
        "uplinks: {a: {interface: eth1}}\n---\nuplinks: {b: {interface: eth1}}\n",
        &["3:1: found a second document, allowed: one document, without `---` in its middle"],
    ),
    row(
        "merge-key",
        "uplinks:\n  a: &a {interface: eth1}\n  b:\n    <<: *a\n    weight: 2\n",
        &[
            "4:5: key `uplinks.b`: found a merge key `<<`, allowed: keys written where they belong; `key: *name` can repeat a value",
        ],
    ),
    row(
        "unknown-alias",
        "uplinks:\n  a: {interface: eth1, probe: *fast}\n",
        &[
            "2:31: key `uplinks.a.probe`: found an alias of something that is not there, allowed: `*name` below a value that was given `&name`",
        ],
    ),
    row(
        "tag",
        "uplinks:\n  a: !uplink {interface: eth1}\n",
        &[
            "2:14: key `uplinks.a`: found the tag `!uplink`, allowed: values without a tag of their own",
        ],
    ),
    row(
        "key-that-is-a-list",
        "[uplinks]: 1\n",
        &["1:1: found a key that is no word, allowed: the name of a key"],
    ),
];

/// Those that are made.
pub(crate) fn generated() -> Vec<Broken> {
    let broken = |name: &str, bytes: Vec<u8>, problem: &str| Broken {
        name: name.to_owned(),
        bytes,
        problems: vec![problem.to_owned()],
    };
    let good = "uplinks: {a: {interface: eth1}}\n";

    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..9 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb += &format!("a{level}: &a{level} [{aliases}]\n");
    }
    let nested = format!("uplinks: {}{}\n", "[".repeat(1000), "]".repeat(1000));
    let large = format!("{good}{}", "# 10 MB of comments\n".repeat(500_000));
    let mut latin1 = format!("{good}mode: ").into_bytes();
    latin1.extend(b"\xfcber\n");
    let mut many = String::from("uplinks:\n");
    for n in 1..=128 {
        many += &format!("  u{n}: {{interface: eth{n}}}\n");
    }
    vec![
        broken(
            "alias-bomb",
            bomb.into_bytes(),
            "5:20: key `a4[2][9][8][1][6]`: found aliases that stand for too many values, allowed: 50000 values in all",
        ),
        broken(
            "nested-too-deeply",
            nested.into_bytes(),
            "1:26: key `uplinks[0]`: found lists and maps nested too deeply, allowed: 16 in each other",
        ),
        broken(
            "ten-megabytes",
            large.into_bytes(),
            " found more than 1048576 bytes, allowed: a file of at most 1048576 bytes",
        ),
        broken(
            "not-utf-8",
            latin1,
            "2:7: found the byte 0xfc, which is no UTF-8, allowed: UTF-8",
        ),
        broken(
            "too-many-uplinks",
            many.into_bytes(),
            "2:3: key `uplinks`: found 128 uplinks, allowed: at most 127, as many as `marks.mask` 0xff000000 can tell apart",
        ),
    ]
}
