use super::*;
use serde::Deserialize;
#[derive(Deserialize)]
struct F {
    uplinks: BTreeMap<UplinkName, U>,
    #[serde(default)]
    downlinks: BTreeSet<InterfaceName>,
    #[serde(default)]
    probe: P,
    control: Option<PathBuf>,
    state_dir: Option<PathBuf>,
    bpffs: Option<PathBuf>,
}
#[derive(Deserialize)]
struct U {
    interface: InterfaceName,
    id: Option<UplinkId>,
    weight: Option<u16>,
    priority: Option<u32>,
    flows: Option<Fl>,
}
#[derive(Deserialize)]
struct Fl {
    on_down: String,
}
#[derive(Deserialize, Default)]
struct P {
    targets: Option<Vec<String>>,
}
#[allow(missing_docs)]
pub fn parse(t: &str) -> Result<Config, String> {
    let f: F = serde_yaml::from_str(t).map_err(|e| e.to_string())?;
    let targets: Vec<Target> = f
        .probe
        .targets
        .unwrap_or_default()
        .iter()
        .map(|t| Target::Icmp(t.trim_start_matches("icmp://").parse().unwrap()))
        .collect();
    Ok(Config {
        uplinks: f
            .uplinks
            .into_iter()
            .map(|(n, u)| {
                (
                    n,
                    UplinkConfig {
                        interface: u.interface,
                        id: u.id,
                        gateway: None,
                        gateway6: None,
                        source: None,
                        source6: None,
                        prefixes6: None,
                        weight: u.weight.unwrap_or(1),
                        priority: u.priority.unwrap_or(1),
                        new_flows: true,
                        nat: Nat::Masquerade,
                        description: None,
                        probe: ProbeConfig {
                            targets: targets.clone(),
                            interval: Duration::from_millis(500),
                            timeout: Duration::from_secs(1),
                            required: 1,
                            down_after: 3,
                            up_after: 5,
                        },
                        on_down: if u.flows.is_some_and(|f| f.on_down == "keep") {
                            OnDown::Keep
                        } else {
                            OnDown::Reset
                        },
                        on_up: OnUp::Stay,
                    },
                )
            })
            .collect(),
        downlinks: f.downlinks,
        mode: ModeSetting::Auto,
        affinity: Affinity::Flow,
        marks: MarkMask::DEFAULT,
        base_table: 300,
        rule_priority: 1000,
        control: f.control.unwrap_or("/run/failover/control.sock".into()),
        state_dir: f.state_dir.unwrap_or("/var/lib/failover".into()),
        bpffs: f.bpffs.unwrap_or_default(),
    })
}
#[allow(missing_docs)]
pub fn load(p: &std::path::Path) -> Result<Config, String> {
    parse(&std::fs::read_to_string(p).map_err(|e| e.to_string())?)
}
