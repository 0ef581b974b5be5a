//! More flows than the table has room for.

use failover_common::lifetime::protocol::UDP;
use failover_common::{Family, Totals};
use failover_tests::programs::Settings;

use crate::frames::Message;
use crate::gateway::{BOTH, Gateway, Mark, Outcome, with_settings};
use crate::trial::SystemTest;

pub(crate) fn trials() -> Vec<SystemTest> {
    let settings = Settings {
        capacity: CAPACITY,
        ..Settings::default()
    };
    let trial = |family: Family| {
        let name = "a_full_table_makes_room_for_new_flows";
        with_settings(name, family, settings, overfull)
    };
    BOTH.map(trial).into()
}

const CAPACITY: u32 = 2048;
const FLOWS: u16 = 30_000;

fn overfull(gateway: &mut Gateway<'_>) -> Outcome {
    let ends = gateway.ends();
    for port in 1..=FLOWS {
        let key = ends.key(UDP, port, 53);
        let mark = gateway.lan_in(&ends.out(Message::udp(port, 53)))?;
        assert_eq!(mark, Mark::Ask(gateway.chosen(&key)?), "flow {port}");
        assert!(
            gateway.programs.flow(&key)?.is_some(),
            "flow {port} was not entered"
        );
    }
    let entries = gateway.programs.flows()?.len();
    let room = usize::try_from(CAPACITY)?;
    assert!(
        entries <= room && entries >= room / 2,
        "{entries} entries in a table of {CAPACITY}"
    );
    gateway.assert_totals(Totals {
        entered: FLOWS.into(),
        ..Totals::default()
    })
}
