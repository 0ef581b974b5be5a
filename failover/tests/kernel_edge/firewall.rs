//! Our nftables table, compared with what `nft` lists.

use std::fmt::Write;
use std::time::{Duration, Instant};

use failover::kernel::Firewall;
use failover::kernel::nftables::Nft;
use failover::state::Store;
use libtest_mimic::Trial;

use super::namespace::{run, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "nftables: the table is replaced whole, others are left alone",
            replaced_whole,
        ),
        trial("nftables: any change by others is noticed", intact),
        trial(
            "nftables: a refusal names the line, and changes nothing",
            refused,
        ),
        trial(
            "nftables: what packets noted stays when the table changes",
            noted,
        ),
        trial(
            "nftables: what others changed is put right, also by the next daemon",
            tampered,
        ),
        trial("nftables: what a large table costs", large),
    ]
}

async fn replaced_whole() {
    run("nft add table inet other; nft add chain inet other c; nft add table ip failover");
    let others = || run("nft list table inet other; nft list table ip failover");
    let before = others();
    let mut nft = Nft::find().unwrap();
    // Not there: no error.
    nft.remove().await.unwrap();
    for name in ["first", "second"] {
        nft.replace(&format!(
            "table inet failover {{\n chain {name} {{ accept; }}\n}}"
        ))
        .await
        .unwrap();
        let listed = run("nft list table inet failover");
        assert_eq!(listed.matches("chain").count(), 1, "{listed}");
        assert!(listed.contains(name), "{listed}");
    }
    nft.remove().await.unwrap();
    nft.remove().await.unwrap();
    assert_eq!(others(), before);
    assert!(!run("nft list tables").contains("inet failover"));
}

async fn intact() {
    let ruleset = "table inet failover {
        set asked { typeof ip saddr . udp sport; size 65535; flags dynamic,timeout; timeout 1m; }
        map uplinks { type mark : verdict; elements = { 0x1 : accept } }
        chain c { counter; ip saddr { 192.0.2.1, 192.0.2.2 } drop; }
    }";
    let mut nft = Nft::find().unwrap();
    assert!(!nft.intact().await.unwrap(), "never replaced");
    for command in [
        "nft flush ruleset",
        "nft delete table inet failover",
        "nft add rule inet failover c drop",
        "nft flush chain inet failover c",
        "nft add element inet failover uplinks '{ 0x2 : drop }'",
        "nft delete element inet failover uplinks '{ 0x1 }'",
        "nft add chain inet failover d",
    ] {
        nft.replace(ruleset).await.unwrap();
        assert!(nft.intact().await.unwrap());
        // What packets do: no change.
        run("nft add element inet failover asked '{ 192.0.2.9 . 53 }'");
        assert!(nft.intact().await.unwrap());
        run(command);
        assert!(!nft.intact().await.unwrap(), "`{command}`");
    }
}

/// A table with some uplinks, written as the daemon writes it.
fn table_of(uplinks: &[u32]) -> String {
    let mut text = String::from("table inet failover {\n");
    for uplink in uplinks {
        writeln!(
            text,
            "  chain to_{uplink} {{\n    ct mark set {uplink}\n  }}"
        )
        .unwrap();
    }
    text.push_str("  map slots {\n    type mark : verdict\n    elements = { ");
    for uplink in uplinks {
        write!(text, "{uplink} : goto to_{uplink}, ").unwrap();
    }
    text.push_str("}\n  }\n");
    text.push_str(
        "  map asked {
    type ipv4_addr . inet_service : ipv4_addr
    size 100
    flags dynamic,timeout
    timeout 1m
  }
  chain in {
    type filter hook input priority 0; policy accept;
    meta mark vmap @slots
  }
}
",
    );
    text
}

async fn noted() {
    const NOTE: &str = "nft add element inet failover asked '{ 192.0.2.9 . 53 : 198.18.11.2 }'";
    const NOTED: &str = "192.0.2.9 . 53";
    let listed = || run("nft list table inet failover");
    // Chains that stay are listed before those that came later.
    let stateless = || {
        let text = run("nft --stateless list table inet failover");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    let mut nft = Nft::find().unwrap();
    nft.replace(&table_of(&[1, 2])).await.unwrap();
    let two = stateless();
    run(NOTE);
    for uplinks in [&[1, 2][..], &[2, 3], &[1, 2, 3], &[3]] {
        nft.replace(&table_of(uplinks)).await.unwrap();
        let text = listed();
        assert!(text.contains(NOTED), "{text}");
        for uplink in 1..=3 {
            let wanted = if uplinks.contains(&uplink) { 2 } else { 0 };
            let found = text.matches(&format!("to_{uplink}")).count();
            assert_eq!(found, wanted, "to_{uplink} in {text}");
        }
        assert_eq!(text.matches("vmap @slots").count(), 1, "{text}");
        assert!(nft.intact().await.unwrap());
    }

    // Also by a daemon that knows nothing of the one before, and what others put there goes.
    run("nft add chain inet failover theirs; nft add rule inet failover in accept");
    let mut next = Nft::find().unwrap();
    next.replace(&table_of(&[1, 2])).await.unwrap();
    assert!(listed().contains(NOTED));
    run("nft flush map inet failover asked");
    assert_eq!(stateless(), two);

    // What cannot be refilled is replaced whole.
    run("nft add counter inet failover theirs");
    next.replace(&table_of(&[1, 2])).await.unwrap();
    assert!(next.intact().await.unwrap());
    run("nft delete table inet failover");
    next.replace(&table_of(&[1, 2])).await.unwrap();
    assert_eq!(stateless(), two);
}

async fn tampered() {
    let folder = std::env::temp_dir().join(format!("failover-table-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let of_a_daemon = || {
        let mut nft = Nft::find().unwrap();
        nft.remember_in(Store::new(&folder));
        nft
    };
    let rules = || run("nft list chain inet failover in");
    let facts = || Store::new(&folder).table().unwrap();
    let is_kept = async |ruleset: &str| {
        let begin = Instant::now();
        while facts().ruleset != ruleset {
            assert!(begin.elapsed() < Duration::from_secs(10), "never kept");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let [two, three] = [table_of(&[1, 2]), table_of(&[1, 2, 3])];
    let mut nft = of_a_daemon();
    nft.replace(&two).await.unwrap();
    assert!(nft.intact().await.unwrap());
    is_kept(&two).await;

    // What stays is emptied by somebody just before the rest is replaced.
    run("nft flush chain inet failover in");
    nft.replace(&three).await.unwrap();
    assert!(!nft.intact().await.unwrap());
    nft.replace(&three).await.unwrap();
    assert!(nft.intact().await.unwrap());
    assert!(rules().contains("vmap @slots"), "{}", rules());
    is_kept(&three).await;

    // The next daemon leaves alone what is in place, and only that.
    let mut next = of_a_daemon();
    next.replace(&three).await.unwrap();
    assert!(next.intact().await.unwrap());
    run("nft flush chain inet failover in");
    let mut next = of_a_daemon();
    next.replace(&three).await.unwrap();
    assert!(next.intact().await.unwrap());
    assert!(rules().contains("vmap @slots"), "{}", rules());
    std::fs::remove_dir_all(&folder).unwrap();
}

async fn refused() {
    let mut nft = Nft::find().unwrap();
    nft.replace("table inet failover {\n chain good { }\n}")
        .await
        .unwrap();
    let error = nft
        .replace("table inet failover {\n chain bad {\n  meta nonsense 5\n }\n}")
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("in this line: meta nonsense 5"), "{error}");
    assert!(error.contains("syntax error"), "{error}");
    assert!(run("nft list table inet failover").contains("chain good"));
}

async fn large() {
    let mut ruleset = String::from("table inet failover {\n");
    for uplink in 1..=3 {
        writeln!(ruleset, "chain u{uplink} {{ ct mark set {uplink}; }}").unwrap();
    }
    for family in ["four", "six"] {
        writeln!(
            ruleset,
            "map {family} {{ typeof numgen inc mod 1021 : verdict; elements = {{"
        )
        .unwrap();
        for slot in 0..1021 {
            write!(ruleset, "{slot} : goto u{}, ", slot % 3 + 1).unwrap();
        }
        ruleset.push_str("} }\n");
    }
    ruleset.push_str(
        "chain pick { meta nfproto ipv4 numgen random mod 1021 vmap @four
                      meta nfproto ipv6 numgen random mod 1021 vmap @six; }\n}",
    );
    let mut replace = Duration::MAX;
    let mut intact = Duration::MAX;
    for _ in 0..5 {
        // Nothing would be written if it were known to be in place.
        let mut nft = Nft::find().unwrap();
        let begin = Instant::now();
        nft.replace(&ruleset).await.unwrap();
        replace = replace.min(begin.elapsed());
        assert!(nft.intact().await.unwrap());
        let begin = Instant::now();
        assert!(nft.intact().await.unwrap());
        intact = intact.min(begin.elapsed());
    }
    println!("measured: 2 maps of 1021 slots: replace() {replace:?}, intact() {intact:?}");
}
