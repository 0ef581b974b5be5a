//! What holds for any text: reading never panics, and what is written down is what is read.

use std::fmt::Write as _;

use failover::config::parse;
use proptest::prelude::*;

/// What a generated uplink says, each key only where there is a value.
#[derive(Clone, Debug)]
struct Said {
    weight: Option<u16>,
    priority: Option<u32>,
    new_flows: Option<bool>,
    gateway: Option<[u8; 2]>,
    nat: Option<bool>,
    interval: Option<u64>,
    down_after: Option<u16>,
    description: Option<String>,
}

prop_compose! {
    fn said()(
        weight in proptest::option::of(1_u16..=256),
        priority in proptest::option::of(1_u32..=65_535),
        new_flows in proptest::option::of(any::<bool>()),
        gateway in proptest::option::of(any::<[u8; 2]>()),
        nat in proptest::option::of(any::<bool>()),
        interval in proptest::option::of(10_u64..=3_600_000),
        down_after in proptest::option::of(1_u16..=1000),
        description in proptest::option::of("[a-zA-Z#:'\"\\\\{}\\[\\],&*!|>%@` é]{0,40}[a-z]"),
    ) -> Said {
        Said { weight, priority, new_flows, gateway, nat, interval, down_after, description }
    }
}

impl Said {
    /// The uplink as YAML, in block or in flow style.
    fn yaml(&self, number: usize, flow: bool) -> String {
        let mut keys = vec![format!("interface: eth{number}")];
        keys.extend(self.weight.map(|n| format!("weight: {n}")));
        keys.extend(self.priority.map(|n| format!("priority: {n:#x}")));
        keys.extend(self.new_flows.map(|b| format!("new_flows: {b}")));
        keys.extend(
            self.gateway
                .map(|[a, b]| format!("gateway: 198.18.{a}.{b}")),
        );
        keys.extend(self.nat.map(|b| {
            let word = if b { "masquerade" } else { "none" };
            format!("nat: {word}")
        }));
        keys.extend(
            self.description
                .as_ref()
                .map(|text| format!("description: '{}'", text.replace('\'', "''"))),
        );
        let mut probe = Vec::new();
        probe.extend(self.interval.map(|n| format!("interval: {n}ms")));
        probe.extend(self.down_after.map(|n| format!("down_after: {n}")));
        if !probe.is_empty() {
            keys.push(format!("probe: {{{}}}", probe.join(", ")));
        }
        if flow {
            format!("  up-{number}: {{{}}}\n", keys.join(", "))
        } else {
            format!("  up-{number}:\n    {}\n", keys.join("\n    "))
        }
    }
}

/// Pieces that configurations are made of, in an order that makes no sense.
fn shuffled_pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "uplinks",
        "downlinks",
        "probe",
        "flows",
        "marks",
        "mask",
        "interface",
        "weight",
        "id",
        "targets",
        "required",
        "icmp://192.0.2.1",
        "eth0",
        "0",
        "-1",
        "0xff",
        "1e9",
        "5m",
        "true",
        "null",
        "~",
        ": ",
        ":\n",
        ":\n  ",
        ":\n    ",
        "\n",
        "\n  ",
        "\n    ",
        ", ",
        "- ",
        "{",
        "}",
        "[",
        "]",
        "&a ",
        "*a",
        "!!int ",
        "<<",
        "'",
        "\"",
        "|\n",
        ">\n",
        "#",
        "---\n",
        "...\n",
        "\t",
        "\r\n",
        "?",
        " ",
        "é",
        "\u{0}",
        "\u{85}",
    ]);
    proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC*") {
        prop_assert!(parse(&text).map_err(|error| error.to_string()).is_err());
    }

    #[test]
    fn no_order_of_pieces_makes_it_panic(text in shuffled_pieces()) {
        if let Err(error) = parse(&text) {
            prop_assert!(!error.problems().is_empty());
            prop_assert!(error.to_string().contains("found "));
        }
    }

    #[test]
    fn no_damage_to_a_good_file_makes_it_panic(
        said in said(),
        flow in any::<bool>(),
        damage in any::<proptest::sample::Index>(),
        with in "\\PC{0,3}",
    ) {
        let mut text = format!("uplinks:\n{}downlinks: [lan0]\n", said.yaml(0, flow));
        let places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        text.replace_range(places[damage.index(places.len())].., &with);
        if let Err(error) = parse(&text) {
            prop_assert!(error.to_string().contains("found "));
        }
    }

    #[test]
    fn what_is_written_is_what_is_read(
        uplinks in proptest::collection::vec((said(), any::<bool>()), 1..20),
        downlinks in proptest::collection::btree_set("lan[0-9]{1,3}", 0..5),
        base in 256_u32..=4_294_967_168,
        affinity in prop::sample::select(vec!["flow", "pair", "source", "{pair: 90s}", "{source: 10m}"]),
    ) {
        let mut text = String::from("uplinks:\n");
        for (number, (said, flow)) in uplinks.iter().enumerate() {
            text += &said.yaml(number, *flow);
        }
        let names: Vec<&str> = downlinks.iter().map(String::as_str).collect();
        write!(
            text,
            "downlinks: [{}]\ntables: {{base: {base}}}\nflows: {{affinity: {affinity}}}\n",
            names.join(", ")
        ).unwrap();
        let config = parse(&text).map_err(|error| TestCaseError::fail(error.to_string()))?;

        prop_assert_eq!(config.uplinks.len(), uplinks.len());
        for (number, (said, _)) in uplinks.iter().enumerate() {
            let name = format!("up-{number}").parse().unwrap();
            let uplink = &config.uplinks[&name];
            let nat = format!("{:?}", uplink.nat);
            let gateway = said.gateway.map(|[a, b]| [198, 18, a, b].into());
            prop_assert_eq!(uplink.interface.as_str(), format!("eth{number}"));
            prop_assert_eq!(uplink.weight, said.weight.unwrap_or(1));
            prop_assert_eq!(uplink.priority, said.priority.unwrap_or(1));
            prop_assert_eq!(uplink.new_flows, said.new_flows.unwrap_or(true));
            prop_assert_eq!(uplink.gateway, gateway);
            prop_assert_eq!(nat, if said.nat.unwrap_or(true) { "Masquerade" } else { "None" });
            prop_assert_eq!(
                uplink.probe.interval.as_millis(),
                u128::from(said.interval.unwrap_or(500))
            );
            prop_assert_eq!(uplink.probe.down_after, said.down_after.unwrap_or(3));
            prop_assert_eq!(&uplink.description, &said.description);
        }
        let read: Vec<&str> = config.downlinks.iter().map(|name| name.as_str()).collect();
        prop_assert_eq!(read, names);
        prop_assert_eq!(config.base_table, base);
        prop_assert_eq!(config.affinity.to_string(), affinity);
    }
}
