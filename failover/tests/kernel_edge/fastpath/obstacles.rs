//! Programs and filters of others are found where packets would not come to them any more.

use aya::EbpfLoader;
use aya::programs::links::LinkOrder;
use aya::programs::tc::{SchedClassifierLinkId, TcAttachOptions, TcAttachType};
use aya::programs::{ProgramError, SchedClassifier};
use failover::dataplane::ebpf::object::EMBEDDED;
use failover::fastpath::edge::Surroundings;
use failover::interface::InterfaceIndex;
use libtest_mimic::Trial;

use super::kernel;
use crate::flow_table::bpffs;
use crate::namespace::{index, run, trial, uplinks};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "fast path: filters and programs of others behind ours are in the way",
            in_the_way,
        ),
        trial(
            "fast path: nftables chains on the interface itself are in the way",
            chains,
        ),
        trial("fast path: IPsec policies are seen", policies),
    ]
}

/// A program that passes everything on, in a kernel of its own maps.
struct Loaded {
    ebpf: aya::Ebpf,
    name: &'static str,
}

impl Loaded {
    fn new(name: &'static str) -> Self {
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("FLOWS", 16)
            .load(EMBEDDED)
            .unwrap();
        let program: &mut SchedClassifier = ebpf.program_mut(name).unwrap().try_into().unwrap();
        program.load().unwrap();
        Self { ebpf, name }
    }

    fn program(&mut self) -> &mut SchedClassifier {
        self.ebpf
            .program_mut(self.name)
            .unwrap()
            .try_into()
            .unwrap()
    }

    fn id(&mut self) -> u32 {
        self.program().info().unwrap().id()
    }

    fn attach(&mut self, order: LinkOrder) -> Result<SchedClassifierLinkId, ProgramError> {
        self.program().attach_with_options(
            "wan1",
            TcAttachType::Ingress,
            TcAttachOptions::TcxOrder(order),
        )
    }
}

async fn in_the_way() {
    uplinks();
    let wan1 = index("wan1");
    let mut kernel = kernel();
    let mut ours = Loaded::new("fo_wan_in");
    let own = [ours.id()];
    let mut obstacle = || kernel.obstacle(wan1, &own).unwrap();
    assert_eq!(obstacle(), None);
    run("tc qdisc add dev wan1 clsact");
    assert_eq!(obstacle(), None);
    let some = |what: &str| Some(format!("{what} on wan1"));
    // By a filter: those of a later preference are in the way.
    let pin = bpffs().join("ours");
    ours.program().pin(&pin).unwrap();
    run(&format!(
        "tc filter add dev wan1 ingress pref 102 handle 1 bpf da pinned {}",
        pin.display()
    ));
    assert_eq!(obstacle(), None);
    run("tc filter add dev wan1 ingress pref 50 u32 match u32 0 0 flowid :1");
    assert_eq!(obstacle(), None);
    run("tc filter add dev wan1 egress pref 200 u32 match u32 0 0 flowid :1");
    assert_eq!(obstacle(), None);
    run("tc filter add dev wan1 ingress pref 200 bpf bytecode '1,6 0 0 0,'");
    assert_eq!(obstacle(), some("tc filters of others (bpf)"));
    run("tc filter del dev wan1 ingress pref 200; tc filter del dev wan1 ingress pref 102");
    // By TCX: every filter is in the way.
    match ours.attach(LinkOrder::last()) {
        Ok(_) => {
            assert_eq!(obstacle(), some("tc filters of others (u32)"));
            run("tc qdisc del dev wan1 clsact");
            assert_eq!(obstacle(), None);
            let mut theirs = Loaded::new("fo_lan_in");
            let before = theirs.attach(LinkOrder::first()).unwrap();
            assert_eq!(obstacle(), None);
            theirs.program().detach(before).unwrap();
            theirs.attach(LinkOrder::last()).unwrap();
            assert_eq!(obstacle(), some("an eBPF program of others (fo_lan_in)"));
            // Those of other interfaces are not asked about.
            assert_eq!(kernel.obstacle(index("wan2"), &own).unwrap(), None);
        }
        // Before Linux 6.6.
        Err(error) => println!("no TCX: {error}"),
    }
    // The older place for filters, and an interface that is gone.
    run("tc qdisc add dev wan2 ingress
         tc filter add dev wan2 parent ffff: u32 match u32 0 0 flowid :1");
    assert_eq!(
        kernel.obstacle(index("wan2"), &own).unwrap(),
        Some("tc filters of others (u32) on wan2".to_owned())
    );
    assert_eq!(kernel.obstacle(InterfaceIndex(9999), &own).unwrap(), None);
}

async fn chains() {
    uplinks();
    let mut kernel = kernel();
    let mut obstacle = || kernel.obstacle(index("wan1"), &[]).unwrap();
    // Those of other hooks and other interfaces see what they always see.
    for chain in [
        "inet routed { chain seen { type filter hook forward priority 0; }; chain plain { }; }",
        "netdev other { chain seen { type filter hook ingress device wan2 priority 0; }; }",
    ] {
        run(&format!("nft 'table {chain}'"));
        assert_eq!(obstacle(), None, "{chain}");
    }
    for (family, devices) in [
        ("netdev", "device wan1"),
        ("netdev", "devices = { wan2, wan1 }"),
        ("inet", "device wan1"),
    ] {
        run(&format!(
            "nft 'table {family} early {{ chain seen {{ type filter hook ingress {devices} priority 0; }}; }}'"
        ));
        let wanted = "an nftables chain of others on wan1 (early seen)".to_owned();
        assert_eq!(obstacle(), Some(wanted), "{family} {devices}");
        run(&format!("nft delete table {family} early"));
        assert_eq!(obstacle(), None);
    }
}

async fn policies() {
    let mut kernel = kernel();
    assert!(!kernel.has_ipsec_policies().unwrap());
    for (source, destination) in [
        ("198.18.0.0/24", "203.0.113.0/24"),
        ("fd00:18::/64", "fd00:77::/64"),
    ] {
        for direction in ["in", "out", "fwd"] {
            let policy = format!("src {source} dst {destination} dir {direction}");
            // A kernel without IPsec has no policies, and takes none.
            if std::panic::catch_unwind(|| run(&format!("ip xfrm policy add {policy}"))).is_err() {
                println!("no IPsec here");
                return;
            }
            assert!(kernel.has_ipsec_policies().unwrap(), "{policy}");
            run(&format!("ip xfrm policy delete {policy}"));
            assert!(!kernel.has_ipsec_policies().unwrap(), "{policy}");
        }
    }
}
