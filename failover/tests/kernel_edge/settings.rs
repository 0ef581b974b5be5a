//! Kernel settings, compared with what the kernel does by them.

use failover::kernel::Sysctls;
use failover::kernel::sysctl::ProcSys;
use libtest_mimic::Trial;

use super::namespace::{run, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial(
        "settings: an interface with dots in its name is set, and only it",
        dotted,
    )]
}

async fn dotted() {
    run("ip link add wan1.5 type veth peer name isp1");
    let mut settings = ProcSys::default();
    let key = "net/ipv4/conf/wan1.5/rp_filter";
    let shown = || run("cat /proc/sys/net/ipv4/conf/*/rp_filter");
    assert_eq!(settings.read(key).unwrap().as_deref(), Some("0"));
    let before = shown();
    settings.write(key, "2").unwrap();
    assert_eq!(settings.read(key).unwrap().as_deref(), Some("2"));
    assert_eq!(shown().matches('2').count(), 1);
    settings.write(key, "0").unwrap();
    assert_eq!(shown(), before);
    let error = settings.write(key, "nonsense").unwrap_err().to_string();
    assert!(
        error.contains("wan1.5/rp_filter to `nonsense`: Invalid argument"),
        "{error}"
    );
}
