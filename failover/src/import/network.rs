//! `OpenWrt`'s `/etc/config/network`: which device is behind an interface's name.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::uci::{self, NotUci, Section};

/// What is known of the interfaces of a file.
#[derive(Debug, Default)]
pub(super) struct Network {
    pub(super) interfaces: BTreeMap<String, Interface>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Interface {
    /// Its device, where the file says it.
    pub(super) device: Option<String>,
    /// Its own address, where it is a fixed private one and no gateway is said: users are behind it.
    pub(super) is_local: bool,
}

impl Network {
    pub(super) fn read(text: &str) -> Result<Self, NotUci> {
        let sections = uci::read(text)?;
        let interfaces = sections
            .iter()
            .filter(|section| section.kind == "interface")
            .filter_map(|section| Some((section.name?.to_owned(), interface(section))))
            .filter(|(name, _)| name != "loopback")
            .collect();
        Ok(Self { interfaces })
    }

    /// The device of an interface. One that is named `@other` is that of the other.
    pub(super) fn device(&self, name: &str) -> Option<&str> {
        let mut name = name;
        // Aliases of aliases end somewhere, or are a loop.
        for _ in 0..=self.interfaces.len() {
            let device = self.interfaces.get(name)?.device.as_deref()?;
            match device.strip_prefix('@') {
                Some(other) => name = other,
                None => return Some(device),
            }
        }
        None
    }
}

fn interface(section: &Section<'_>) -> Interface {
    let word = |key: &str| section.option(key).map(|option| option.value);
    let name = section.name.unwrap_or_default();
    let proto = word("proto").unwrap_or_default();
    let said = word("device").or_else(|| word("ifname"));
    let device = if proto.starts_with("ppp") {
        Some(format!("{proto}-{name}"))
    } else if proto == "wireguard" {
        Some(name.to_owned())
    } else if matches!(proto, "qmi" | "mbim" | "ncm" | "modemmanager" | "3g") {
        // The device is that of the modem, not of its network interface.
        None
    } else if word("type") == Some("bridge") {
        Some(format!("br-{name}"))
    } else {
        // Several devices in one interface are bridged.
        said.map(|said| match said.split_once(' ') {
            Some(_) => format!("br-{name}"),
            None => said.to_owned(),
        })
    };
    let private = word("ipaddr")
        .and_then(|address| address.split('/').next())
        .and_then(|address| address.parse::<Ipv4Addr>().ok())
        .is_some_and(|address| address.is_private());
    Interface {
        device,
        is_local: proto == "static" && private && word("gateway").is_none(),
    }
}
