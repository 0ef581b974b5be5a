//! Many questions at once over one netlink socket that blocks.
//!
//! The kernel answers while it is asked: when the questions are sent, all answers wait to be read.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkSerializable,
};
use nix::sys::socket::{SockFlag, SockProtocol, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use super::netlink::{
    DATAGRAM, NLMSG_DONE, NLMSG_ERROR, append, error_code, messages, open, receive, send_all,
    time_value,
};

/// How many questions are sent at once. They fit the usual send buffer of 208 kB
/// (`net.core.wmem_default`), and their answers the receive buffer: an answer takes up to a page of it,
/// with what manages it.
pub(super) const BATCH: usize = 512;

/// Bytes of the receive buffer.
const RECEIVE_BUFFER: usize = 4 << 20;

/// How long an answer may usually take to come. All of them are there by then; one that was lost is not
/// waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a listing is begun anew when what it lists changed meanwhile.
const ATTEMPTS: usize = 16;

/// What the kernel says.
pub(super) enum Answer<'a> {
    /// What was asked for.
    Found(NetlinkBuffer<&'a [u8]>),
    /// That it cannot or does not want to. Number nought: that it has done it.
    Refused(io::Error),
}

/// A socket, bound to the network namespace in which it was made.
#[derive(Debug)]
pub(super) struct Questions {
    socket: OwnedFd,
    sequence: u32,
    batch: Vec<u8>,
    buffer: Vec<u8>,
}

impl Questions {
    /// Opens a socket.
    pub(super) fn open(protocol: SockProtocol) -> io::Result<Self> {
        Self::with(open(protocol, SockFlag::empty(), 0, RECEIVE_BUFFER)?)
    }

    /// Opens a socket of a protocol that `nix` has no name for.
    pub(super) fn open_number(protocol: i32) -> io::Result<Self> {
        let family = Domain::from(nix::libc::AF_NETLINK);
        let socket = Socket::new(family, Type::RAW, Some(Protocol::from(protocol)))?;
        Self::with(socket.into())
    }

    fn with(socket: OwnedFd) -> io::Result<Self> {
        let questions = Self {
            socket,
            sequence: 0,
            batch: Vec::new(),
            buffer: vec![0; DATAGRAM],
        };
        questions.with_patience(PATIENCE)
    }

    /// Has an answer take so long.
    pub(super) fn with_patience(self, patience: Duration) -> io::Result<Self> {
        setsockopt(&self.socket, sockopt::ReceiveTimeout, &time_value(patience))?;
        Ok(self)
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Asks questions that the kernel answers one message each. `write` appends one to a batch, with
    /// these flags and this sequence number; `read` has an answer. In the same order.
    pub(super) fn ask<Q, A>(
        &mut self,
        questions: &[Q],
        write: impl Fn(&mut Vec<u8>, &Q, u16, u32),
        mut read: impl FnMut(&Q, Answer<'_>) -> io::Result<A>,
    ) -> io::Result<Vec<A>> {
        let mut all = Vec::with_capacity(questions.len());
        for questions in questions.chunks(BATCH) {
            let asked = all.len() + questions.len();
            self.batch(questions, NLM_F_REQUEST, &write, |place, answer| {
                if let Some(question) = questions.get(place) {
                    all.push(read(question, answer)?);
                }
                Ok(())
            })?;
            // The kernel answers in order, so that nothing but a lost answer can shift the others.
            if all.len() != asked {
                return Err(io::Error::other("an answer of the kernel is missing"));
            }
        }
        Ok(all)
    }

    /// Gives orders of which the kernel tells only failures. `read` has the failures; `Ok(done)` for the
    /// others. In the same order.
    pub(super) fn order<Q, A: Clone>(
        &mut self,
        orders: &[Q],
        done: A,
        write: impl Fn(&mut Vec<u8>, &Q, u16, u32),
        mut read: impl FnMut(&Q, io::Error) -> io::Result<A>,
    ) -> io::Result<Vec<A>> {
        let mut all = Vec::with_capacity(orders.len());
        for orders in orders.chunks(BATCH) {
            let mut outcomes = vec![done.clone(); orders.len()];
            self.batch(
                orders,
                NLM_F_REQUEST | NLM_F_ACK,
                &write,
                |place, answer| {
                    if let (Answer::Refused(error), Some(order), Some(outcome)) =
                        (answer, orders.get(place), outcomes.get_mut(place))
                        && error.raw_os_error() != Some(0)
                    {
                        *outcome = read(order, error)?;
                    }
                    Ok(())
                },
            )?;
            all.append(&mut outcomes);
        }
        Ok(all)
    }

    /// Sends messages at once, the last one with `last_flags`, and reads answers up to that to the last
    /// one, each with the place of its question.
    fn batch<Q>(
        &mut self,
        questions: &[Q],
        last_flags: u16,
        write: impl Fn(&mut Vec<u8>, &Q, u16, u32),
        mut read: impl FnMut(usize, Answer<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let first = self.sequence.wrapping_add(1);
        self.batch.clear();
        for (place, question) in questions.iter().enumerate() {
            let flags = if place + 1 == questions.len() {
                last_flags
            } else {
                NLM_F_REQUEST
            };
            let sequence = self.next_sequence();
            write(&mut self.batch, question, flags, sequence);
        }
        send_all(&self.socket, &self.batch)?;
        let mut ended = questions.is_empty();
        // What is left of a batch that failed has other numbers, also the rest of this one then.
        let mut failure = None;
        while !ended {
            for message in messages(receive(&self.socket, &mut self.buffer)?) {
                let place = message.sequence_number().wrapping_sub(first);
                let Ok(place) = usize::try_from(place) else {
                    continue;
                };
                if place >= questions.len() {
                    continue;
                }
                ended |= place + 1 == questions.len();
                let answer = if message.message_type() == NLMSG_ERROR {
                    Answer::Refused(error_code(message.payload()))
                } else {
                    Answer::Found(message)
                };
                if failure.is_none() {
                    failure = read(place, answer).err();
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Lists what fits a question, as far as `read` makes something of it.
    pub(super) fn list<M: NetlinkSerializable + Clone, T>(
        &mut self,
        question: &M,
        mut read: impl FnMut(NetlinkBuffer<&[u8]>) -> io::Result<Option<T>>,
    ) -> io::Result<Vec<T>> {
        for _ in 0..ATTEMPTS {
            if let Some(found) = self.list_once(question.clone(), &mut read)? {
                return Ok(found);
            }
        }
        Err(io::Error::other(format!(
            "it changed during each of {ATTEMPTS} attempts to read it"
        )))
    }

    /// `None` when it changed meanwhile.
    fn list_once<M: NetlinkSerializable, T>(
        &mut self,
        question: M,
        mut read: impl FnMut(NetlinkBuffer<&[u8]>) -> io::Result<Option<T>>,
    ) -> io::Result<Option<Vec<T>>> {
        let asked = self.next_sequence();
        self.batch.clear();
        append(&mut self.batch, question, NLM_F_REQUEST | NLM_F_DUMP, asked);
        send_all(&self.socket, &self.batch)?;
        let mut found = Vec::new();
        let mut steady = true;
        let mut failure = None;
        loop {
            for message in messages(receive(&self.socket, &mut self.buffer)?) {
                if message.sequence_number() != asked {
                    continue;
                }
                steady &= message.flags() & NLM_F_DUMP_INTR == 0;
                match message.message_type() {
                    NLMSG_DONE | NLMSG_ERROR => {
                        let error = error_code(message.payload());
                        return match error.raw_os_error() {
                            Some(0) => failure.map_or(Ok(steady.then_some(found)), Err),
                            _ => Err(error),
                        };
                    }
                    _ => match read(message) {
                        Ok(read) => found.extend(read),
                        Err(error) => failure = Some(error),
                    },
                }
            }
        }
    }
}
