//! Marks of others that meet our bits.

use super::Finding;
use super::facts::Host;
use super::firewall::Chain;

/// What a rule of a firewall does with marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Writes this value to these bits.
    Sets(u32, u32),
    /// Looks for this value in these bits.
    Looks(u32, u32),
}

pub(super) fn check(host: &Host) -> Vec<Finding> {
    let ours = host.config.marks.bits();
    let other = format!(
        "have it use other bits, or set `marks.mask` to bits that nobody uses (now {ours:#010x})"
    );
    let mut findings = Vec::new();
    for rule in &host.rules {
        let Some((value, mask)) = rule.mark else {
            continue;
        };
        if meets(value, mask, ours) {
            findings.push(Finding::problem(
                "marks-overlap",
                format!(
                    "the {} rule {} looks at the mark {value:#x}/{mask:#x}, whose bits are ours",
                    rule.family, rule.priority
                ),
                format!("ip rule show pref {}; {other}", rule.priority),
            ));
        }
    }
    let rules = host.firewall.iter().flat_map(|firewall| firewall.rules());
    for (chain, rule) in rules {
        for used in uses(rule) {
            let place = place(chain);
            match used {
                Use::Looks(value, mask) if meets(value, mask, ours) => {
                    findings.push(Finding::problem(
                        "marks-overlap",
                        format!("{place}: `{rule}` looks at bits of the mark that are ours"),
                        other.clone(),
                    ));
                }
                Use::Sets(value, mask) if value & mask & ours != 0 => {
                    findings.push(Finding::problem(
                        "marks-overlap",
                        format!("{place}: `{rule}` sets bits of the mark that are ours"),
                        other.clone(),
                    ));
                }
                Use::Sets(_, mask) if mask & ours != 0 => findings.push(Finding::notice(
                    "marks-cleared",
                    format!(
                        "{place}: `{rule}` writes the whole mark, and so takes away which uplink the \
                         packet goes by"
                    ),
                    format!(
                        "have it change its own bits only: `meta mark set meta mark & {ours:#010x} | \
                         VALUE` in nftables, `--set-xmark VALUE/{:#010x}` in iptables",
                        !ours
                    ),
                )),
                _ => {}
            }
        }
    }
    findings
}

/// Whether who looks for this value means our bits. Who looks at the whole mark for a value without
/// them never means our packets.
const fn meets(value: u32, mask: u32, ours: u32) -> bool {
    mask & ours != 0 && (mask != u32::MAX || value & ours != 0)
}

fn place(chain: &Chain) -> String {
    format!("table {}, chain {}", chain.table, chain.name)
}

/// What a rule does with marks, as far as its text says.
fn uses(rule: &str) -> Vec<Use> {
    let words: Vec<&str> = rule.split_whitespace().collect();
    let mut found = Vec::new();
    let mut before = "";
    for (position, word) in words.iter().enumerate() {
        let rest = words.get(position..).unwrap_or_default();
        // What a mark is set to is looked at there.
        if before != "set" {
            found.extend(in_nftables(rest).or_else(|| in_iptables(rest)));
        }
        before = word;
    }
    found
}

fn in_nftables(words: &[&str]) -> Option<Use> {
    match words {
        ["meta" | "ct", "mark", "set", value, rest @ ..] => match number(value) {
            Some(value) => Some(Use::Sets(value, u32::MAX)),
            None => computed(value, rest),
        },
        ["meta" | "ct", "mark", "&" | "and", mask, rest @ ..] => {
            let mask = number(mask)?;
            let value = rest.iter().take(2).find_map(|word| number(word));
            Some(Use::Looks(value.unwrap_or(0), mask))
        }
        ["meta" | "ct", "mark", "==" | "!=", value, ..] | ["meta" | "ct", "mark", value, ..] => {
            let Some((value, bits)) = value.split_once('/') else {
                return Some(Use::Looks(number(value)?, u32::MAX));
            };
            // nft writes what looks at the first bits only as a prefix.
            let bits: u32 = bits.parse().ok()?;
            let mask = !u32::MAX.checked_shr(bits).unwrap_or(0);
            Some(Use::Looks(number(value)?, mask))
        }
        _ => None,
    }
}

/// What is written where a mark is made of one that is there: `meta mark & KEPT | VALUE`, in the
/// words of nft and of iptables' rules, which leave out `meta`.
fn computed(first: &str, rest: &[&str]) -> Option<Use> {
    let operations = match (first, rest) {
        ("mark", operations) | ("meta" | "ct", ["mark", operations @ ..]) => operations,
        _ => return None,
    };
    let (mut kept, mut value) = (u32::MAX, 0);
    let mut any = false;
    for pair in operations.chunks(2) {
        let &[operator, operand] = pair else { break };
        let Some(operand) = number(operand) else {
            break;
        };
        match operator {
            // iptables' rules are listed with this last, and mean it first.
            "&" | "and" => kept &= operand,
            "|" | "or" => value |= operand,
            "^" | "xor" => value ^= operand,
            _ => break,
        }
        any = true;
    }
    // From one mark to the other as a whole: our bits are the same in both.
    any.then_some(Use::Sets(value, !kept | value))
}

fn in_iptables(words: &[&str]) -> Option<Use> {
    let both = |text: &str| match text.split_once('/') {
        Some((value, mask)) => Some((number(value)?, number(mask)?)),
        None => Some((number(text)?, u32::MAX)),
    };
    match words {
        ["--set-xmark" | "--set-mark", value, ..] => {
            let (value, mask) = both(value)?;
            Some(Use::Sets(value, mask | value))
        }
        ["--or-mark", value, ..] => {
            let value = number(value)?;
            Some(Use::Sets(value, value))
        }
        ["--mark", value, ..] => {
            let (value, mask) = both(value)?;
            Some(Use::Looks(value, mask))
        }
        _ => None,
    }
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rules_do_with_marks() {
        for (rule, expected) in [
            (
                "iif lan0 meta mark set 0x01000000",
                vec![Use::Sets(0x0100_0000, u32::MAX)],
            ),
            (
                "meta mark set meta mark & 0xff04ffff | 0x00040000",
                vec![Use::Sets(0x0004_0000, 0x00ff_0000)],
            ),
            (
                "meta mark set mark and 0xffffff xor 0x2000000",
                vec![Use::Sets(0x0200_0000, 0xff00_0000)],
            ),
            (
                "ct mark set ct mark xor 0x2000000 and 0xffffff",
                vec![Use::Sets(0x0200_0000, 0xff00_0000)],
            ),
            (
                "meta mark set mark and 0xffff00ff",
                vec![Use::Sets(0, 0xff00)],
            ),
            (
                "meta mark set ct mark and 0xff",
                vec![Use::Sets(0, 0xffff_ff00)],
            ),
            ("ct mark set meta mark", vec![]),
            ("meta mark set ct mark", vec![]),
            (
                "meta mark & 0x00ff0000 == 0x00040000 accept",
                vec![Use::Looks(0x0004_0000, 0x00ff_0000)],
            ),
            (
                "ct mark and 0xff000000 != 0x00000000 return",
                vec![Use::Looks(0, 0xff00_0000)],
            ),
            (
                "meta mark 0x01000000/8 accept",
                vec![Use::Looks(0x0100_0000, 0xff00_0000)],
            ),
            (
                "meta mark 0x0000ca6c accept",
                vec![Use::Looks(0xca6c, u32::MAX)],
            ),
            (
                "PREROUTING -i lan0 -j MARK --set-xmark 0x100/0x3f00",
                vec![Use::Sets(0x100, 0x3f00)],
            ),
            (
                "PREROUTING -j CONNMARK --restore-mark --nfmask 0x3f00 --ctmask 0x3f00",
                vec![],
            ),
            (
                "FORWARD -m mark --mark 0x1000000/0xff000000 -j DROP",
                vec![Use::Looks(0x0100_0000, 0xff00_0000)],
            ),
        ] {
            assert_eq!(uses(rule), expected, "{rule}");
        }
    }
}
