//! Two blocking sockets of ctnetlink: one lists entries while the other changes them.
//!
//! So a table of any size is gone through in bounded memory.

use std::io;
use std::os::fd::OwnedFd;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};
use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::conntrack::{ConntrackAttribute, ConntrackMessage};
use nix::errno::Errno;
use nix::sys::socket::{SockFlag, SockProtocol, setsockopt, sockopt};
use nix::sys::time::TimeVal;

use super::message::{Entry, append};
use crate::kernel::netlink::{
    DATAGRAM, NLMSG_DONE, NLMSG_ERROR, error_code, messages, open, receive, send_all,
};

/// How long the kernel may take for one message, in seconds: a deletion by mark walks the whole
/// table, 165 ms for half a million entries.
const PATIENCE: i64 = 60;

/// Bytes of changes that are sent at once. All answers to them must fit the receive buffer.
const BATCH: usize = 16 * 1024;

/// Bytes of each receive buffer.
const RECEIVE_BUFFER: usize = 1 << 20;

pub(super) struct Session {
    lister: OwnedFd,
    changer: OwnedFd,
    sequence: u32,
}

/// What is to be done with an entry.
pub(super) enum Verdict {
    Leave,
    Change(ConntrackMessage),
    /// Nobody wants to know of any further entry.
    Stop,
}

impl Session {
    pub(super) fn open() -> io::Result<Self> {
        let socket = || {
            let flags = SockFlag::empty();
            let socket = open(SockProtocol::NetlinkNetFilter, flags, 0, RECEIVE_BUFFER)?;
            setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(PATIENCE, 0))?;
            Ok::<_, io::Error>(socket)
        };
        Ok(Self {
            lister: socket()?,
            changer: socket()?,
            sequence: 0,
        })
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Sends one order for entries of a family, and waits until it is done.
    pub(super) fn order(
        &mut self,
        family: NetfilterProtoFamily,
        message: ConntrackMessage,
    ) -> io::Result<()> {
        let mut batch = Batch::default();
        let sequence = self.next_sequence();
        batch.add(message, family, sequence);
        self.flush(&mut batch).map(|_| ())
    }

    /// Asks for the entry that has these attributes, and reads it; `None` when there is none.
    pub(super) fn ask<T>(
        &mut self,
        family: NetfilterProtoFamily,
        key: Vec<ConntrackAttribute>,
        read: impl Fn(&Entry<'_>) -> Option<T>,
    ) -> io::Result<Option<T>> {
        let asked = self.next_sequence();
        let mut question = Vec::new();
        let message = ConntrackMessage::Get(key);
        append(&mut question, message, family, NLM_F_REQUEST, asked);
        send_all(&self.lister, &question)?;
        let mut buffer = vec![0; DATAGRAM];
        loop {
            for message in messages(receive(&self.lister, &mut buffer)?) {
                if message.sequence_number() != asked {
                    continue;
                }
                if message.message_type() != NLMSG_ERROR {
                    return Ok(Entry::parse(message.payload()).and_then(|entry| read(&entry)));
                }
                let error = error_code(message.payload());
                return match error.raw_os_error() {
                    Some(errno) if errno == Errno::ENOENT as i32 => Ok(None),
                    _ => Err(error),
                };
            }
        }
    }

    /// Lists the entries of a family that fit `filter` and does with each what `decide` says.
    /// Returns how many were changed; those that vanish meanwhile do not count.
    pub(super) fn each(
        &mut self,
        family: NetfilterProtoFamily,
        filter: Vec<ConntrackAttribute>,
        mut decide: impl FnMut(&Entry<'_>) -> Verdict,
    ) -> io::Result<usize> {
        let asked = self.next_sequence();
        let mut question = Vec::new();
        append(
            &mut question,
            ConntrackMessage::Get(filter),
            family,
            NLM_F_REQUEST | NLM_F_DUMP,
            asked,
        );
        send_all(&self.lister, &question)?;
        let mut buffer = vec![0; DATAGRAM];
        let mut batch = Batch::default();
        let mut changed = 0;
        let mut done = false;
        while !done {
            let datagram = receive(&self.lister, &mut buffer)?;
            for message in messages(datagram) {
                // What is left of a listing that was given up.
                if message.sequence_number() != asked {
                    continue;
                }
                match message.message_type() {
                    NLMSG_DONE | NLMSG_ERROR => {
                        let error = error_code(message.payload());
                        if error.raw_os_error() != Some(0) {
                            return Err(error);
                        }
                        done = true;
                    }
                    _ => {
                        let Some(entry) = Entry::parse(message.payload()) else {
                            continue;
                        };
                        match decide(&entry) {
                            Verdict::Leave => {}
                            Verdict::Change(change) => {
                                let sequence = self.next_sequence();
                                batch.add(change, entry.family(), sequence);
                            }
                            Verdict::Stop => {
                                return self.flush(&mut batch).map(|last| changed + last);
                            }
                        }
                    }
                }
            }
            if batch.bytes.len() >= BATCH || done {
                changed += self.flush(&mut batch)?;
            }
        }
        Ok(changed)
    }

    /// Sends a batch; returns how many of its messages were carried out.
    fn flush(&mut self, batch: &mut Batch) -> io::Result<usize> {
        let Some((first, last)) = batch.sequences else {
            return Ok(0);
        };
        batch.acknowledge_last();
        let bytes = std::mem::take(batch).bytes;
        let sent = last.wrapping_sub(first) + 1;
        send_all(&self.changer, &bytes)?;
        let mut gone = 0;
        let mut failure = None;
        let mut buffer = vec![0; DATAGRAM];
        let mut done = false;
        while !done {
            for message in messages(receive(&self.changer, &mut buffer)?) {
                let number = message.sequence_number();
                // What is left of a batch that was given up.
                if message.message_type() != NLMSG_ERROR || number.wrapping_sub(first) >= sent {
                    continue;
                }
                done |= number == last;
                let error = error_code(message.payload());
                match error.raw_os_error() {
                    Some(0) => {}
                    Some(errno) if errno == Errno::ENOENT as i32 => gone += 1,
                    _ => failure = Some(error),
                }
            }
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(usize::try_from(sent - gone).unwrap_or(usize::MAX)),
        }
    }
}

/// Changes that are sent at once. Only the last is acknowledged: the kernel works through them in
/// order, and failures are told anyway.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    sequences: Option<(u32, u32)>,
    last: usize,
}

impl Batch {
    fn add(&mut self, message: ConntrackMessage, family: NetfilterProtoFamily, sequence: u32) {
        let first = self.sequences.map_or(sequence, |(first, _)| first);
        self.sequences = Some((first, sequence));
        self.last = self.bytes.len();
        append(&mut self.bytes, message, family, NLM_F_REQUEST, sequence);
    }

    fn acknowledge_last(&mut self) {
        /// Offset of `nlmsg_flags`.
        const FLAGS: usize = 6;
        let flags = (NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes();
        if let Some(place) = self.bytes.get_mut(self.last + FLAGS..self.last + FLAGS + 2) {
            place.copy_from_slice(&flags);
        }
    }
}
