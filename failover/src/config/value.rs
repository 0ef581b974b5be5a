//! Reading single values: numbers, words, durations, names, addresses and paths.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::Ipv6Net;

use super::section::{Read, Value, did_you_mean};
use super::tree::Content;
use super::written::{written, written_size};
use crate::interface::InterfaceName;
use crate::load::Rate;

/// A whole number of a range.
pub(super) fn integer<T>(value: &Value<'_>, range: RangeInclusive<T>) -> Read<T>
where
    T: TryFrom<i128> + PartialOrd + fmt::Display,
{
    if let Content::Integer(number) = value.node.content
        && let Ok(number) = T::try_from(number)
        && range.contains(&number)
    {
        return Ok(number);
    }
    let quoted = matches!(&value.node.content, Content::Text(text) if text.parse::<i128>().is_ok());
    Err(value
        .problem(format!("{} to {}", range.start(), range.end()))
        .hint(quoted.then(|| "a number is written without quotes".to_owned()))
        .into())
}

/// `true` or `false`.
pub(super) fn boolean(value: &Value<'_>) -> Read<bool> {
    match value.node.content {
        Content::Bool(answer) => Ok(answer),
        _ => Err(value.problem("true or false").into()),
    }
}

/// One of a few words.
pub(super) fn word<T: Copy>(value: &Value<'_>, words: &[(&'static str, T)]) -> Read<T> {
    let known: Vec<&'static str> = words.iter().map(|(word, _)| *word).collect();
    let allowed = match known.as_slice() {
        [] => String::new(),
        [only] => format!("only {only}"),
        [others @ .., last] => format!("{} or {last}", others.join(", ")),
    };
    word_or(value, words, &allowed)
}

/// One of a few words, where `allowed` says what else there may be.
pub(super) fn word_or<T: Copy>(
    value: &Value<'_>,
    words: &[(&'static str, T)],
    allowed: &str,
) -> Read<T> {
    let found = value.spelled();
    if let Some((_, meaning)) = words.iter().find(|(word, _)| Some(*word) == found) {
        return Ok(*meaning);
    }
    let known: Vec<&'static str> = words.iter().map(|(word, _)| *word).collect();
    let hint = found.and_then(|found| did_you_mean(found, &known));
    Err(value.problem(allowed).hint(hint).into())
}

/// A time of a range, a whole number of `ms`, `s`, `m` or `h`.
pub(super) fn duration(value: &Value<'_>, range: RangeInclusive<Duration>) -> Read<Duration> {
    let parsed = value.spelled().and_then(parse_duration);
    if let Some(duration) = parsed
        && range.contains(&duration)
    {
        return Ok(duration);
    }
    let hint = matches!(value.node.content, Content::Integer(_) | Content::Float)
        .then(|| "a whole number and a unit are needed: ms, s, m or h".to_owned());
    Err(value
        .problem(format!(
            "{} to {}, written such as 500ms, 2s or 5m",
            written(*range.start()),
            written(*range.end())
        ))
        .hint(hint)
        .into())
}

fn parse_duration(text: &str) -> Option<Duration> {
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
    with_unit(text, &units).map(Duration::from_millis)
}

/// A whole number with one of these units, in the smallest.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(unit_at)?;
    let (_, worth) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*worth)
}

/// A number of bytes of a range, a whole number of `kB`, `MB`, `GB`, `KiB`, `MiB` or `GiB`.
pub(super) fn size(value: &Value<'_>, otherwise: &str, range: RangeInclusive<u64>) -> Read<u64> {
    if let Some(bytes) = value.spelled().and_then(parse_size)
        && range.contains(&bytes)
    {
        return Ok(bytes);
    }
    let unitless = matches!(value.node.content, Content::Integer(_) | Content::Float);
    let wrong_case = value.spelled().is_some_and(|text| {
        let units = ["kb", "mb", "gb", "kib", "mib", "gib"];
        parse_size(text).is_none() && units.iter().any(|unit| text.to_lowercase().ends_with(unit))
    });
    let hint = (unitless || wrong_case)
        .then(|| "a whole number and a unit are needed: kB, MB or GB".to_owned());
    Err(value
        .problem(format!(
            "{otherwise}{} to {}, written such as 500kB, 5MB or 1GB",
            written_size(*range.start()),
            written_size(*range.end())
        ))
        .hint(hint)
        .into())
}

fn parse_size(text: &str) -> Option<u64> {
    let units = [
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
    ];
    with_unit(text, &units)
}

/// Bits per second of a range, a whole number of `kbit`, `Mbit` or `Gbit`.
pub(super) fn rate(value: &Value<'_>, range: RangeInclusive<u64>) -> Read<u64> {
    let units = [
        ("kbit", 1_000),
        ("Mbit", 1_000_000),
        ("Gbit", 1_000_000_000),
    ];
    let parsed = value.spelled().and_then(|text| with_unit(text, &units));
    if let Some(bits) = parsed
        && range.contains(&bits)
    {
        return Ok(bits);
    }
    let unitless = matches!(value.node.content, Content::Integer(_) | Content::Float);
    let hint = (unitless || parsed.is_none())
        .then(|| "a whole number and a unit are needed: kbit, Mbit or Gbit".to_owned());
    Err(value
        .problem(format!(
            "{} to {}, written such as 500kbit, 100Mbit or 1Gbit",
            Rate(*range.start()),
            Rate(*range.end())
        ))
        .hint(hint)
        .into())
}

/// What an interface's name may be.
pub(super) const INTERFACE_NAME: &str = "an interface name: 1 to 15 printable characters without \
     white space, `/`, `:`, `\"`, `\\` or `*`, and not `.` or `..`";

/// The name of an interface.
pub(super) fn interface(value: &Value<'_>) -> Read<InterfaceName> {
    value
        .spelled()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| value.problem(INTERFACE_NAME).into())
}

/// A text of a line that people read.
pub(super) fn line_of_text(value: &Value<'_>) -> Read<String> {
    value
        .spelled()
        .filter(|text| {
            !text.trim().is_empty()
                && text.chars().count() <= 100
                && !text.chars().any(char::is_control)
        })
        .map(str::to_owned)
        .ok_or_else(|| {
            value
                .problem("a text of one line, 1 to 100 characters")
                .into()
        })
}

/// An address that one host has: what a packet can be sent to, and come from, over a network.
pub(super) const fn is_host4(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first != 0 && first != 127 && first < 224
}

/// The same of IPv6, addresses of one link (`fe80::/10`) included.
pub(super) const fn is_host6(address: Ipv6Addr) -> bool {
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.to_ipv4_mapped().is_some())
}

/// Whether an address means something only with an interface.
pub(super) const fn is_link_local6(address: Ipv6Addr) -> bool {
    address.is_unicast_link_local()
}

/// An IPv4 address of a host.
pub(super) fn host4(value: &Value<'_>, otherwise: &str) -> Read<Ipv4Addr> {
    value
        .spelled()
        .and_then(|text| text.parse().ok())
        .filter(|address| is_host4(*address))
        .ok_or_else(|| {
            let allowed = format!("{otherwise}the IPv4 address of a host, such as 198.51.100.1");
            value.problem(allowed).into()
        })
}

/// An IPv6 address of a host.
pub(super) fn host6(value: &Value<'_>, otherwise: &str) -> Read<Ipv6Addr> {
    value
        .spelled()
        .and_then(|text| text.parse().ok())
        .filter(|address| is_host6(*address))
        .ok_or_else(|| {
            let allowed = format!("{otherwise}the IPv6 address of a host, such as fd00::1");
            value.problem(allowed).into()
        })
}

/// An IPv6 address of a host that other links know.
pub(super) fn global6(value: &Value<'_>) -> Read<Ipv6Addr> {
    let address = host6(value, "")?;
    if is_link_local6(address) {
        return Err(value
            .problem("an IPv6 address that is known beyond its link, not one of fe80::/10")
            .into());
    }
    Ok(address)
}

/// `auto`, or an address that `read` reads.
pub(super) fn auto_or<T>(
    value: &Value<'_>,
    read: impl FnOnce(&Value<'_>, &str) -> Read<T>,
) -> Read<Option<T>> {
    if value.spelled() == Some("auto") {
        Ok(None)
    } else {
        read(value, "auto or ").map(Some)
    }
}

/// An IPv6 prefix, its host bits zero.
pub(super) fn prefix6(value: &Value<'_>) -> Read<Ipv6Net> {
    const ALLOWED: &str = "an IPv6 prefix, such as fd00:1::/56";
    let net: Ipv6Net = value
        .spelled()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| value.problem(ALLOWED))?;
    if net.trunc() == net {
        Ok(net)
    } else {
        Err(value
            .problem(format!(
                "a prefix with no bits set behind it: {}",
                net.trunc()
            ))
            .into())
    }
}

/// An absolute path below `/`, of a length in bytes.
pub(super) fn path(value: &Value<'_>, longest: usize) -> Read<PathBuf> {
    value
        .spelled()
        .filter(|text| {
            text.starts_with('/')
                && !text.trim_matches('/').is_empty()
                && text.len() <= longest
                && !text.chars().any(char::is_control)
        })
        .map(PathBuf::from)
        .ok_or_else(|| {
            value
                .problem(format!("an absolute path of at most {longest} bytes"))
                .into()
        })
}
