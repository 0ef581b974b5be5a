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
    all: Vec<(Place, String, Counter)>,
}

/// An interface and its side.
type Place = (String, String);

/// What passed one of them.
#[derive(Clone, Debug)]
pub(crate) struct Passed {
    /// Where it is.
    pub(crate) place: Place,
    /// How it hangs there.
    pub(crate) name: String,
    /// What passed it.
    pub(crate) count: Count,
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
        let place = (interface.to_owned(), at.to_owned());
        let name = format!("{interface} {at}: TCX, {order:?}");
        self.all.push((place, name, counter));
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
        let place = (interface.to_owned(), at.to_owned());
        let name = format!("{interface} {at}: filter of priority {priority}");
        self.all.push((place, name, counter));
        Ok(())
    }

    /// What has passed each so far.
    pub(crate) fn passed(&self) -> Result<Vec<Passed>> {
        self.all
            .iter()
            .map(|(place, name, counter)| {
                Ok(Passed {
                    place: place.clone(),
                    name: name.clone(),
                    count: counter.passed()?,
                })
            })
            .collect()
    }
}
