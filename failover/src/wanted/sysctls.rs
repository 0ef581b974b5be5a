//! Kernel settings that steering needs.
//!
//! Strict reverse-path filtering drops answers that come in by another uplink than the one that the
//! kernel would itself use towards their source, which is the normal case with several uplinks. The
//! kernel takes the larger of `all` and the interface's own value (`IN_DEV_RPFILTER` in
//! `include/linux/inetdevice.h`): 0 is off, 1 strict, 2 loose. So 2 on the interface is what turns
//! strict off, and where the filter is off it stays off.
//!
//! Where users and gateways are behind the same interface the kernel would tell users by ICMP
//! redirects to send to the gateway themselves, past us. It sends them when `all` or the interface
//! itself says so (`IN_DEV_TX_REDIRECTS`, same file), so both are set to 0; other interfaces go on as
//! their own value says.

use crate::interface::InterfaceName;

/// The key for all interfaces.
pub const RP_FILTER_ALL: &str = "net/ipv4/conf/all/rp_filter";

/// The key of one interface's reverse-path filter; parts are separated by `/`, since an interface's
/// name may contain dots.
#[must_use]
pub fn rp_filter_key(interface: &InterfaceName) -> String {
    format!("net/ipv4/conf/{interface}/rp_filter")
}

/// The interface that a key is about; none for what concerns all of them.
#[must_use]
pub fn interface_of(key: &str) -> Option<&str> {
    let mut parts = key.split('/');
    match (parts.next()?, parts.next()?, parts.next()?, parts.next()?) {
        ("net", "ipv4" | "ipv6", "conf", "all" | "default") => None,
        ("net", "ipv4" | "ipv6", "conf", interface) => Some(interface),
        _ => None,
    }
}

/// The key that lets all interfaces send redirects.
pub const SEND_REDIRECTS_ALL: &str = "net/ipv4/conf/all/send_redirects";

/// The key that lets one interface send redirects.
#[must_use]
pub fn send_redirects_key(interface: &InterfaceName) -> String {
    format!("net/ipv4/conf/{interface}/send_redirects")
}

/// Whether a key is about redirects.
#[must_use]
pub fn is_of_redirects(key: &str) -> bool {
    key.ends_with("/send_redirects")
}

/// What a key of redirects must be set to where none may be sent; `None` when it may stay.
#[must_use]
pub fn send_redirects(found: &str) -> Option<&'static str> {
    (found.trim() != "0").then_some("0")
}

/// What an uplink's interface's filter must be set to; `None` when it may stay.
#[must_use]
pub fn rp_filter(all: &str, own: &str) -> Option<&'static str> {
    let strict = |value: &str| value.trim() == "1";
    let loose = |value: &str| value.trim() == "2";
    let effective_strict = (strict(all) || strict(own)) && !loose(all) && !loose(own);
    effective_strict.then_some("2")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_its_interface() {
        let interface = "ppp0.1".parse().unwrap();
        assert_eq!(interface_of(&rp_filter_key(&interface)), Some("ppp0.1"));
        for key in [RP_FILTER_ALL, "net/ipv4/tcp_fwmark_accept", ""] {
            assert_eq!(interface_of(key), None, "{key}");
        }
    }

    #[test]
    fn redirects_are_switched_off_once() {
        assert_eq!(send_redirects("1"), Some("0"));
        assert_eq!(send_redirects("0\n"), None);
    }

    #[test]
    fn only_strict_filtering_is_changed() {
        for (all, own, wanted) in [
            ("0", "0", None),
            ("0", "1", Some("2")),
            ("1", "0", Some("2")),
            ("1", "1", Some("2")),
            ("1", "2", None),
            ("2", "0", None),
            ("2", "1", None),
        ] {
            assert_eq!(rp_filter(all, own), wanted, "all={all} own={own}");
        }
    }
}
