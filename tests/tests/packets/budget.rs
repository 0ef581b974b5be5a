//! What the kernel's verifier has to do to load each program.

use failover_common::Family;
use failover_tests::programs::Settings;

use crate::gateway::{Gateway, Mark, Outcome, in_family, with_settings};
use crate::trial::SystemTest;

pub(crate) fn trials() -> Vec<SystemTest> {
    let logging = Settings {
        // `debug` (aya_log_common::Level).
        log_level: 4,
        ..Settings::default()
    };
    let name = "programs_with_their_log_switched_on_do_the_same";
    vec![
        in_family("the_verifier_has_little_to_do", Family::Ipv4, within_budget),
        with_settings(name, Family::Ipv4, logging, with_log),
        with_settings(name, Family::Ipv6, logging, with_log),
    ]
}

/// How many instructions the verifier may look at in each program: what that of Linux 6.1 or of 6.18
/// looks at, whichever is more, since each prunes where the other does not, and two fifths more for other
/// kernels and compilers. It stops at a million; what comes near takes long to load.
const BUDGETS: [(&str, u32); 8] = [
    ("fo_arm_in", 139_800),
    ("fo_arm_out", 11_100),
    ("fo_lan_in", 121_800),
    ("fo_lan_in_l3", 70_900),
    ("fo_lan_out", 8_750),
    ("fo_lan_out_l3", 8_670),
    ("fo_wan_in", 19_900),
    ("fo_wan_in_l3", 102),
];

fn within_budget(gateway: &mut Gateway<'_>) -> Outcome {
    let mut names = gateway.programs.names();
    names.sort_unstable();
    assert_eq!(names, BUDGETS.map(|(name, _)| name), "the programs");
    let mut counts = Vec::new();
    for (name, budget) in BUDGETS {
        let count = gateway.programs.verified_instructions(name)?;
        counts.push((name, count, budget));
    }
    let within = counts.iter().all(|(_, count, budget)| count <= budget);
    assert!(
        within,
        "the verifier looked at more instructions than are allowed: {counts:?}"
    );
    Ok(())
}

/// They are verified with more code, and nobody needs to read what they write.
fn with_log(gateway: &mut Gateway<'_>) -> Outcome {
    let ends = gateway.ends();
    for kind in crate::kinds::kinds(gateway.family, ends) {
        let uplink = gateway.chosen(&kind.key)?;
        let mark = gateway.lan_in(&ends.out(kind.ask.clone()))?;
        assert_eq!(mark, Mark::Ask(uplink), "{}", kind.name);
        gateway.lan_out(&ends.back(kind.answer), uplink)?;
        let mark = gateway.lan_in(&ends.out(kind.ask))?;
        assert_eq!(mark, Mark::Sure(uplink), "{}", kind.name);
    }
    Ok(())
}
