//! Where daemons of a lab keep their maps and links.

use failover::dataplane::ebpf::pins::Pins;

use crate::lab::Lab;

/// The daemon's own view of the lab's folder on the BPF file system.
pub trait Pinning {
    /// Where daemons of this lab pin maps and links, unless a test has their configuration name
    /// another folder.
    fn pins(&self) -> Pins;
}

impl Pinning for Lab {
    fn pins(&self) -> Pins {
        Pins::new(&self.pin_folder())
    }
}
