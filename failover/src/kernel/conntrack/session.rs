//! Two blocking sockets of ctnetlink: one lists entries while the other changes them.
//!
//! So a table of any size is gone through in bounded memory.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST};
use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::conntrack::{ConntrackAttribute, ConntrackMessage};
use nix::errno::Errno;
use nix::sys::socket::{SockFlag, SockProtocol, setsockopt, sockopt};

use super::message::{Entry, append};
use crate::kernel::netlink::{
    DATAGRAM, NLMSG_DONE, NLMSG_ERROR, error_code, messages, open, receive, send_all, time_value,
};
use crate::kernel::questions::{Answer, BATCH, Questions};

/// How long the kernel may take for one message: a deletion by mark walks the whole table, 165 ms for
/// half a million entries.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes of the lister's receive buffer.
const RECEIVE_BUFFER: usize = 1 << 20;

pub(super) struct Session {
    lister: OwnedFd,
    changer: Questions,
    /// The number of the last listing.
    sequence: u32,
}

/// What an entry's family is and what is to be done with it.
type Change = (NetfilterProtoFamily, ConntrackMessage);

/// What is to be done with an entry.
pub(super) enum Verdict {
    Leave,
    Change(ConntrackMessage),
    /// Nobody wants to know of any further entry.
    Stop,
}

impl Session {
    pub(super) fn open() -> io::Result<Self> {
        let netfilter = SockProtocol::NetlinkNetFilter;
        let lister = open(netfilter, SockFlag::empty(), 0, RECEIVE_BUFFER)?;
        setsockopt(&lister, sockopt::ReceiveTimeout, &time_value(PATIENCE))?;
        Ok(Self {
            lister,
            changer: Questions::open(netfilter)?.with_patience(PATIENCE)?,
            sequence: 0,
        })
    }

    /// Sends one order for entries of a family, and waits until it is done.
    pub(super) fn order(
        &mut self,
        family: NetfilterProtoFamily,
        message: ConntrackMessage,
    ) -> io::Result<()> {
        self.change(&[(family, message)]).map(drop)
    }

    /// Asks for the entry that has these attributes, and reads it; `None` when there is none.
    pub(super) fn ask<T>(
        &mut self,
        family: NetfilterProtoFamily,
        key: Vec<ConntrackAttribute>,
        read: impl Fn(&Entry<'_>) -> Option<T>,
    ) -> io::Result<Option<T>> {
        let question = (family, ConntrackMessage::Get(key));
        let found = self
            .changer
            .ask(&[question], write, |_, answer| match answer {
                Answer::Found(found) => {
                    Ok(Entry::parse(found.payload()).and_then(|entry| read(&entry)))
                }
                Answer::Refused(error) if is_gone(&error) => Ok(None),
                Answer::Refused(error) => Err(error),
            })?;
        Ok(found.into_iter().next().flatten())
    }

    /// Lists the entries of a family that fit `filter` and does with each what `decide` says.
    /// Returns how many were changed; those that vanish meanwhile do not count.
    pub(super) fn each(
        &mut self,
        family: NetfilterProtoFamily,
        filter: Vec<ConntrackAttribute>,
        mut decide: impl FnMut(&Entry<'_>) -> Verdict,
    ) -> io::Result<usize> {
        self.sequence = self.sequence.wrapping_add(1);
        let asked = self.sequence;
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
        let mut changes = Vec::new();
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
                            Verdict::Change(change) => changes.push((entry.family(), change)),
                            Verdict::Stop => {
                                return self.change(&changes).map(|last| changed + last);
                            }
                        }
                    }
                }
            }
            if changes.len() >= BATCH || done {
                changed += self.change(&changes)?;
                changes.clear();
            }
        }
        Ok(changed)
    }

    /// Returns how many entries were changed: those that are gone meanwhile are not.
    fn change(&mut self, changes: &[Change]) -> io::Result<usize> {
        let there = self.changer.order(changes, true, write, |_, error| {
            if is_gone(&error) {
                Ok(false)
            } else {
                Err(error)
            }
        })?;
        Ok(there.into_iter().filter(|there| *there).count())
    }
}

fn write(batch: &mut Vec<u8>, (family, message): &Change, flags: u16, sequence: u32) {
    append(batch, message.clone(), *family, flags, sequence);
}

fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ENOENT as i32)
}
