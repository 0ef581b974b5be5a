//! Others' nftables and iptables rules as lines that can be searched.

/// The tables that are ours, and are left out.
const OURS: [&str; 2] = ["inet failover", "inet failover_resets"];

/// Chains and flowtables of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Firewall {
    /// Their chains.
    pub chains: Vec<Chain>,
    /// Their flowtables.
    pub flowtables: Vec<Flowtable>,
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Its table, such as `inet filter` or `iptables mangle`.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Where packets meet it, in small letters; none for one that others jump to.
    pub hook: Option<String>,
    /// What no rule decides about is dropped.
    pub drops: bool,
    /// Its rules, as they are listed.
    pub rules: Vec<String>,
}

/// A flowtable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flowtable {
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// The interfaces whose packets it takes past everything else.
    pub devices: Vec<String>,
}

impl Firewall {
    /// Takes in what `nft --stateless list ruleset` prints.
    pub fn add_nftables(&mut self, listing: &str) {
        let mut table = String::new();
        let mut chain: Option<Chain> = None;
        let mut flowtable: Option<Flowtable> = None;
        for line in listing.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["table", family, name, "{", ..] => table = format!("{family} {name}"),
                _ if OURS.contains(&table.as_str()) => {}
                ["chain", name, "{"] => {
                    chain = Some(Chain {
                        table: table.clone(),
                        name: (*name).to_owned(),
                        ..Chain::default()
                    });
                }
                ["flowtable", name, "{"] => {
                    flowtable = Some(Flowtable {
                        table: table.clone(),
                        name: (*name).to_owned(),
                        devices: Vec::new(),
                    });
                }
                ["}"] => {
                    self.chains.extend(chain.take());
                    self.flowtables.extend(flowtable.take());
                }
                ["devices", "=", ..] => {
                    if let Some(flowtable) = &mut flowtable {
                        flowtable.devices = line
                            .split(['{', '}', ',', '=', ' ', '\t', '"'])
                            .filter(|word| !word.is_empty() && *word != "devices")
                            .map(str::to_owned)
                            .collect();
                    }
                }
                ["type", _, "hook", hook, ..] => {
                    if let Some(chain) = &mut chain {
                        chain.hook = Some((*hook).to_owned());
                        chain.drops = line.contains("policy drop");
                    }
                }
                [] => {}
                _ => {
                    if let Some(chain) = &mut chain {
                        chain.rules.push(words.join(" "));
                    }
                }
            }
        }
    }

    /// Takes in what `iptables-save` prints.
    pub fn add_iptables(&mut self, listing: &str) {
        let mut table = String::new();
        let first = self.chains.len();
        for line in listing.lines() {
            if let Some(name) = line.strip_prefix('*') {
                table = format!("iptables {name}");
            } else if let Some(declared) = line.strip_prefix(':') {
                let mut words = declared.split_whitespace();
                let name = words.next().unwrap_or_default().to_owned();
                let policy = words.next().unwrap_or_default();
                self.chains.push(Chain {
                    table: table.clone(),
                    hook: (policy != "-").then(|| name.to_lowercase()),
                    drops: policy == "DROP",
                    name,
                    rules: Vec::new(),
                });
            } else if let Some(rule) = line.strip_prefix("-A ") {
                let name = rule.split_whitespace().next().unwrap_or_default();
                let mut chains = self.chains.iter_mut().skip(first);
                if let Some(chain) = chains.find(|chain| chain.name == name && chain.table == table)
                {
                    chain.rules.push(rule.to_owned());
                }
            }
        }
    }

    /// All rules, with the chain that each is in.
    pub(super) fn rules(&self) -> impl Iterator<Item = (&Chain, &str)> {
        self.chains
            .iter()
            .flat_map(|chain| chain.rules.iter().map(move |rule| (chain, rule.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nftables_without_our_own() {
        let mut firewall = Firewall::default();
        firewall.add_nftables(
            "table inet failover {\n\tchain pick {\n\t\tmeta mark set 0x1\n\t}\n}\n\
             table inet fw {\n\tflowtable fast {\n\t\thook ingress priority filter\n\
             \t\tdevices = { lan0, wan1 }\n\t}\n\n\tchain forward {\n\
             \t\ttype filter hook forward priority filter; policy drop;\n\
             \t\tip protocol tcp flow add @fast\n\t}\n}\n",
        );
        assert_eq!(firewall.chains.len(), 1);
        assert_eq!(firewall.chains[0].hook.as_deref(), Some("forward"));
        assert!(firewall.chains[0].drops);
        assert_eq!(firewall.chains[0].rules, ["ip protocol tcp flow add @fast"]);
        assert_eq!(firewall.flowtables[0].devices, ["lan0", "wan1"]);
    }

    #[test]
    fn iptables() {
        let mut firewall = Firewall::default();
        firewall.add_iptables(
            "*filter\n:FORWARD DROP [0:0]\n:mine - [0:0]\n-A FORWARD -i lan0 -j mine\nCOMMIT\n",
        );
        assert_eq!(firewall.chains[0].hook.as_deref(), Some("forward"));
        assert!(firewall.chains[0].drops && firewall.chains[1].hook.is_none());
        assert_eq!(firewall.chains[0].rules.len(), 1);
    }
}
