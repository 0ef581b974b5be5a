//! Programs of the user's that count what passes, by TCX and as filters.

use aya::programs::TcAttachType;
use failover::dataplane::ebpf::object::EMBEDDED;
use failover_common::Counters as Count;
use failover_tests::programs::{Counter, Order, ProgramsError};
use failover_tests::{Lab, ProgramSpec};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Counting programs, in the order in which they were attached. Those by TCX are gone with this.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    all: Vec<(String, Counter)>,
}

fn side(name: &str) -> TcAttachType {
    if name == "egress" {
        TcAttachType::Egress
    } else {
        TcAttachType::Ingress
    }
}

impl Counters {
    /// Attaches one by TCX.
    pub(crate) async fn tcx(
        &mut self,
        lab: &Lab,
        interface: &str,
        at: &'static str,
        order: Order,
    ) -> Result<()> {
        let gateway = lab.gateway().node();
        let index = gateway.interface_index(interface).await?;
        let name = interface.to_owned();
        let counter = gateway
            .run(move || async move {
                let mut counter = Counter::new(EMBEDDED, index)?;
                counter.attach(&name, side(at), order)?;
                Ok::<_, ProgramsError>(counter)
            })
            .await??;
        self.all
            .push((format!("{interface} {at}: TCX, {order:?}"), counter));
        Ok(())
    }

    /// Attaches one as a filter of a priority, as a user does with `tc`.
    pub(crate) async fn filter(
        &mut self,
        lab: &Lab,
        interface: &str,
        at: &str,
        priority: u16,
    ) -> Result<()> {
        let gateway = lab.gateway().node();
        let index = gateway.interface_index(interface).await?;
        let pin = lab.bpffs().join(format!("user{}", self.all.len()));
        let mut counter = Counter::new(EMBEDDED, index)?;
        counter.pin(&pin)?;
        let command = format!(
            "tc filter add dev {interface} {at} pref {priority} handle 1 bpf da pinned {}",
            pin.display()
        );
        gateway.must(ProgramSpec::line(&command)).await?;
        std::fs::remove_file(&pin)?;
        self.all.push((
            format!("{interface} {at}: filter of priority {priority}"),
            counter,
        ));
        Ok(())
    }

    /// What has passed each so far.
    pub(crate) fn passed(&self) -> Result<Vec<(String, Count)>> {
        self.all
            .iter()
            .map(|(name, counter)| Ok((name.clone(), counter.passed()?)))
            .collect()
    }
}
