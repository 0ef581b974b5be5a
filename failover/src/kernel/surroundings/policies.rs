//! Whether there are IPsec policies.

use std::io;

use netlink_packet_core::{NetlinkSerializable, NlasIterator};
use nix::errno::Errno;

use crate::kernel::netlink::append;
use crate::kernel::questions::{Answer, Questions};

/// `NETLINK_XFRM` (`include/uapi/linux/netlink.h`).
const NETLINK_XFRM: i32 = 6;
// `include/uapi/linux/xfrm.h`.
const XFRM_MSG_GETSPDINFO: u16 = 0x25;
const XFRMA_SPD_INFO: u16 = 1;
/// Flags that stand before the attributes, both ways.
const FLAGS: usize = 4;
/// How many numbers of `struct xfrmu_spdinfo` count policies of the host: in, out, forward. Behind them
/// stand those of sockets.
const COUNTED: usize = 3;

/// Counts policies.
#[derive(Debug, Default)]
pub(super) struct Policies {
    questions: Option<Questions>,
}

impl Policies {
    /// Whether there is any. A kernel that knows no IPsec has none.
    pub(super) fn are_there(&mut self) -> io::Result<bool> {
        let questions = match &mut self.questions {
            Some(questions) => questions,
            none => match Questions::open_number(NETLINK_XFRM) {
                Ok(opened) => none.insert(opened),
                Err(error) if error.raw_os_error() == Some(Errno::EPROTONOSUPPORT as i32) => {
                    return Ok(false);
                }
                Err(error) => return Err(error),
            },
        };
        let answers = questions.ask(
            &[()],
            |batch, (), flags, sequence| append(batch, SpdInfo, flags, sequence),
            |(), answer| match answer {
                Answer::Found(message) => {
                    counts_any(message.payload()).ok_or_else(|| io::Error::from(Errno::EBADMSG))
                }
                Answer::Refused(error) => Err(error),
            },
        )?;
        Ok(answers.contains(&true))
    }
}

/// Asks how many policies there are.
struct SpdInfo;

impl NetlinkSerializable for SpdInfo {
    fn message_type(&self) -> u16 {
        XFRM_MSG_GETSPDINFO
    }

    fn buffer_len(&self) -> usize {
        FLAGS
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.fill(0);
    }
}

/// Whether an answer counts any policy; `None` if it is none.
fn counts_any(payload: &[u8]) -> Option<bool> {
    let counts = NlasIterator::new(payload.get(FLAGS..)?)
        .filter_map(Result::ok)
        .find(|attribute| attribute.kind() == XFRMA_SPD_INFO)?;
    let counted = counts.value().get(..COUNTED * size_of::<u32>())?;
    Some(counted.iter().any(|byte| *byte != 0))
}
