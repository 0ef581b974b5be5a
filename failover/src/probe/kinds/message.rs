//! Questions to name servers and their answers, as bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};
use simple_dns::{SimpleDnsError, header_buffer};

use super::icmp::identifier;
use crate::config::{DomainName, RecordType};
use crate::health::DnsFailure;

/// Bytes of a message's header, and the fewest of a record (RFC 1035, section 4.1).
const HEADER: usize = 12;
const SMALLEST_RECORD: usize = 11;

/// The most bytes of an answer: no extension is asked for that would allow more (RFC 1035, section
/// 4.2.1), but some send more.
pub(super) const MOST: usize = 4096;

/// A question, with the number that its answer must bear.
#[derive(Clone, Debug)]
pub(super) struct Query {
    id: u16,
    name: DomainName,
    record: RecordType,
}

/// What a name server says to a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answered {
    /// Whether there is any record.
    pub(super) records: bool,
    /// Whether there are more than fit.
    pub(super) truncated: bool,
    /// The addresses among the records.
    pub(super) addresses: Vec<IpAddr>,
    /// How long they hold, by the shortest lived of them.
    pub(super) lifetime: Duration,
}

impl Query {
    pub(super) fn new(name: &DomainName, record: RecordType) -> Self {
        Self {
            id: identifier::random(),
            name: name.clone(),
            record,
        }
    }

    pub(super) fn bytes(&self) -> Result<Vec<u8>, SimpleDnsError> {
        let mut packet = Packet::new_query(self.id);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        packet.questions.push(Question::new(
            Name::new(self.name.as_str())?,
            self.kind(),
            QCLASS::CLASS(CLASS::IN),
            false,
        ));
        packet.build_bytes_vec()
    }

    const fn kind(&self) -> QTYPE {
        QTYPE::TYPE(match self.record {
            RecordType::A => TYPE::A,
            RecordType::Aaaa => TYPE::AAAA,
            RecordType::Ns => TYPE::NS,
            RecordType::Soa => TYPE::SOA,
            RecordType::Txt => TYPE::TXT,
        })
    }

    /// Reads what came from the server; `None` for what is no answer to this question, as a late one
    /// to another.
    pub(super) fn answer(&self, bytes: &[u8]) -> Option<Result<Answered, DnsFailure>> {
        if header_buffer::id(bytes).ok()? != self.id {
            return None;
        }
        if !is_plausible(bytes) {
            return Some(Err(DnsFailure::Garbled));
        }
        let Ok(packet) = Packet::parse(bytes) else {
            return Some(Err(DnsFailure::Garbled));
        };
        if !packet.has_flags(PacketFlag::RESPONSE) {
            return None;
        }
        let ours = |question: &Question<'_>| {
            Name::new(self.name.as_str()).is_ok_and(|name| name == question.qname)
                && question.qtype == self.kind()
        };
        let failed = refusal(packet.rcode());
        // Who refuses may leave the question out.
        let fits = match packet.questions.as_slice() {
            [question] => ours(question),
            [] => failed.is_some(),
            _ => false,
        };
        if !fits {
            return None;
        }
        Some(failed.map_or_else(|| Ok(read(&packet)), Err))
    }
}

/// Whether as many records as the header promises can be in it: memory is set aside for them.
fn is_plausible(bytes: &[u8]) -> bool {
    let records = [
        header_buffer::answers(bytes),
        header_buffer::name_servers(bytes),
        header_buffer::additional_records(bytes),
    ];
    let records: usize = records
        .into_iter()
        .map(|count| count.map_or(usize::MAX, usize::from))
        .fold(0, usize::saturating_add);
    let room = bytes.len().saturating_sub(HEADER);
    header_buffer::questions(bytes).is_ok_and(|count| count <= 1)
        && records <= room / SMALLEST_RECORD
}

fn refusal(code: RCODE) -> Option<DnsFailure> {
    Some(match code {
        RCODE::NoError => return None,
        RCODE::FormatError => DnsFailure::FormErr,
        RCODE::ServerFailure => DnsFailure::ServFail,
        RCODE::NameError => DnsFailure::NxDomain,
        RCODE::NotImplemented => DnsFailure::NotImp,
        RCODE::Refused => DnsFailure::Refused,
        other => DnsFailure::Other(u8::try_from(other as u16).unwrap_or(u8::MAX)),
    })
}

fn read(packet: &Packet<'_>) -> Answered {
    let mut shortest = u32::MAX;
    let mut addresses = Vec::new();
    for record in &packet.answers {
        shortest = shortest.min(record.ttl);
        match &record.rdata {
            RData::A(found) => addresses.push(Ipv4Addr::from(found.address).into()),
            RData::AAAA(found) => addresses.push(Ipv6Addr::from(found.address).into()),
            _ => {}
        }
    }
    Answered {
        records: !packet.answers.is_empty(),
        truncated: packet.has_flags(PacketFlag::TRUNCATION),
        addresses,
        lifetime: Duration::from_secs(shortest.into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Target;

    fn query() -> Query {
        let text =
            "uplinks: {a: {interface: eth1}}\nprobe: {targets: [dns://192.0.2.53/example.org]}\n";
        let config = crate::config::parse(text).unwrap();
        let uplink = config.uplinks.into_values().next().unwrap();
        match &uplink.probe.targets[0] {
            Target::Dns(question) => Query::new(&question.name, question.record),
            other => panic!("{other}"),
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_noise_is_no_answer(
            noise in proptest::collection::vec(any::<u8>(), 0..200),
            kept in 0_usize..40,
        ) {
            let query = query();
            // The beginning of a good answer, then noise.
            let mut bytes = query.bytes().unwrap();
            bytes[2] |= 0x80;
            bytes.truncate(kept);
            bytes.extend(noise);
            if let Some(Ok(answered)) = query.answer(&bytes) {
                prop_assert!(bytes.len() >= 29, "shorter than the question: {answered:?}");
            }
        }
    }

    #[test]
    fn a_header_that_promises_more_than_there_is_room_for_is_garbled() {
        let query = query();
        let mut bytes = query.bytes().unwrap();
        bytes[2] |= 0x80;
        bytes[6..8].fill(0xff);
        assert_eq!(query.answer(&bytes), Some(Err(DnsFailure::Garbled)));
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        let (query, mut other) = (query(), query());
        other.id = query.id.wrapping_add(1);
        for question in [&query, &other] {
            let mut bytes = question.bytes().unwrap();
            bytes[2] |= 0x80;
            assert_eq!(query.answer(&bytes).is_some(), question.id == query.id);
            // A question is no answer, though it bears the number.
            assert_eq!(query.answer(&question.bytes().unwrap()), None);
        }
    }
}
