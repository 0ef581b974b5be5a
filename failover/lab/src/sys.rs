//! The raw system calls of the lab, for which there is no safe wrapper.
#![expect(
    unsafe_code,
    reason = "pre_exec, PR_SET_SECCOMP, packet sockets, TUNSETIFF, SIOCETHTOOL, AsyncFd::register and bpf(2) have no safe form; everything else goes through nix and socket2"
)]

pub mod bpf;

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid, getppid};
use tokio::io::unix::AsyncFd;
use tokio::process::Command;

/// Makes the kernel kill the child when the thread that starts it ends, whatever the reason.
///
/// The thread, not the process, is what the kernel looks at: start children from threads that live
/// as long as the children may.
pub fn die_with_parent(command: &mut Command) {
    let parent = getpid();
    // SAFETY: the hazard is a call between fork and exec that takes a lock which another thread
    // held at the fork (memory allocation, for one). The closure makes two system calls, prctl and
    // getppid, and builds an error from a number; none of them allocates or locks.
    unsafe {
        command.pre_exec(move || arm(parent));
    }
}

fn arm(parent: Pid) -> io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    // The parent may have died between fork and prctl; then no signal would come any more.
    if getppid() == parent {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::ESRCH))
    }
}

/// A step of a filter of system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterStep {
    /// Takes the number of the call.
    LoadCall,
    /// Takes the lower half of the call's first argument.
    LoadFirstArgument,
    /// Leaves out so many steps unless what was taken is this.
    SkipUnless(u32, u8),
    /// The call fails with this error.
    Refuse(u16),
    /// The call is made.
    Allow,
}

impl FilterStep {
    /// Classic BPF over `struct seccomp_data` (include/uapi/linux/seccomp.h).
    fn instruction(self) -> libc::sock_filter {
        const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
        const JUMP: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
        /// Where the number of the call and the lower half of its first argument stand.
        const CALL: u32 = 0;
        const ARGUMENT: u32 = if cfg!(target_endian = "big") { 20 } else { 16 };
        let (code, skip, value) = match self {
            Self::LoadCall => (LOAD, 0, CALL),
            Self::LoadFirstArgument => (LOAD, 0, ARGUMENT),
            Self::SkipUnless(value, count) => (JUMP, count, value),
            Self::Refuse(errno) => (RETURN, 0, libc::SECCOMP_RET_ERRNO | u32::from(errno)),
            Self::Allow => (RETURN, 0, libc::SECCOMP_RET_ALLOW),
        };
        libc::sock_filter {
            // All codes fit.
            code: u16::try_from(code).unwrap_or(u16::MAX),
            jt: 0,
            jf: skip,
            k: value,
        }
    }
}

/// Puts the child, and all that it starts, behind a filter of system calls.
pub fn filter_calls(command: &mut Command, steps: &[FilterStep]) {
    let mut instructions: Vec<_> = steps.iter().map(|step| step.instruction()).collect();
    // SAFETY: the hazard is, as above, a call between fork and exec that takes a lock. The closure
    // makes one system call and builds an error from a number.
    unsafe {
        command.pre_exec(move || install(&mut instructions));
    }
}

fn install(instructions: &mut [libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(instructions.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: instructions.as_mut_ptr(),
    };
    // SAFETY: the hazard is a read past the instructions. `len` is their number, and the kernel
    // copies them before the call returns.
    let result = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// How many packets an AF_PACKET socket lost since it was asked last (`PACKET_STATISTICS`, which
/// resets the counts).
pub fn packets_lost(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut statistics = MaybeUninit::<libc::tpacket_stats>::zeroed();
    let size = size_of::<libc::tpacket_stats>();
    let mut length = libc::socklen_t::try_from(size).map_err(io::Error::other)?;
    // SAFETY: the hazard is a write past the buffer. `length` is the size of `statistics`, the
    // kernel writes at most that much, and both outlive the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            statistics.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the hazard is reading memory that was never written. It was zeroed, and all bit
    // patterns are valid for its two integers.
    let statistics = unsafe { statistics.assume_init() };
    Ok(statistics.tp_drops)
}

/// Has an AF_PACKET socket send by one interface (`Documentation/networking/packet_mmap.rst`).
pub fn bind_packet_socket(socket: BorrowedFd<'_>, interface: u32) -> io::Result<()> {
    // SAFETY: the hazard is reading memory that was never written. It is zeroed, and all bit
    // patterns are valid for `sockaddr_ll`, which holds integers.
    let mut address = unsafe { MaybeUninit::<libc::sockaddr_ll>::zeroed().assume_init() };
    address.sll_family = libc::c_ushort::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
    address.sll_ifindex = libc::c_int::try_from(interface).map_err(io::Error::other)?;
    let size = size_of::<libc::sockaddr_ll>();
    let length = libc::socklen_t::try_from(size).map_err(io::Error::other)?;
    // SAFETY: the hazard is a read past the address. `length` is its size, and it outlives the call.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Has each frame for an AF_PACKET socket begin with a `struct virtio_net_hdr` (`PACKET_VNET_HDR`,
/// include/uapi/linux/virtio_net.h), which says how it is laid out in memory.
pub fn expect_layout(socket: BorrowedFd<'_>) -> io::Result<()> {
    /// include/uapi/linux/if_packet.h
    const PACKET_VNET_HDR: libc::c_int = 15;
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of_val(&on)).map_err(io::Error::other)?;
    // SAFETY: the hazard is a read past the value. `length` is its size, and it outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            PACKET_VNET_HDR,
            (&raw const on).cast(),
            length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Makes the open `/dev/net/tun` an interface of that name, whose packets come without a header of
/// their own (`TUNSETIFF`, `Documentation/networking/tuntap.rst`).
pub fn attach_tun(device: &File, interface: &str) -> io::Result<()> {
    let mut request = request(interface)?;
    let flags = libc::IFF_TUN | libc::IFF_NO_PI;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).map_err(io::Error::other)?;
    // SAFETY: the hazard is an access past the request. The kernel reads and writes one `ifreq`,
    // which is what it is given, and which outlives the call.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// What an interface may leave to others, or do for them (include/uapi/linux/ethtool.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    /// It cuts long segments of TCP into packets (`ETHTOOL_STSO`).
    Tso,
    /// Long packets are cut just before it (`ETHTOOL_SGSO`).
    Gso,
    /// Packets are put together just behind it (`ETHTOOL_SGRO`).
    Gro,
}

/// For [`set_offload`] (`struct ethtool_value`).
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// Switches an offload of an interface, in the namespace in which the socket was made.
pub fn set_offload(
    socket: BorrowedFd<'_>,
    interface: &str,
    offload: Offload,
    on: bool,
) -> io::Result<()> {
    /// include/uapi/linux/sockios.h
    const SIOCETHTOOL: libc::Ioctl = 0x8946;
    let mut value = EthtoolValue {
        command: match offload {
            Offload::Tso => 0x1f,
            Offload::Gso => 0x24,
            Offload::Gro => 0x2c,
        },
        data: on.into(),
    };
    let mut request = request(interface)?;
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the hazard is an access past the request or the value. The kernel reads one `ifreq` and
    // the structure that belongs to the command, which is what they are; both outlive the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A request about an interface.
fn request(interface: &str) -> io::Result<libc::ifreq> {
    // SAFETY: the hazard is reading memory that was never written. It is zeroed, and all bit
    // patterns are valid for `ifreq`, which holds integers, arrays of them and a null pointer.
    let mut request = unsafe { MaybeUninit::<libc::ifreq>::zeroed().assume_init() };
    // The last byte stays 0.
    let room = request.ifr_name.len().saturating_sub(1);
    if interface.len() > room {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    Ok(request)
}

/// Waits for an open file from now on as for a socket; to be called within a runtime.
pub fn watch(file: File) -> io::Result<AsyncFd<File>> {
    // SAFETY: the hazard is a descriptor that is closed, and perhaps given out anew, while it is
    // still registered. The file owns its descriptor, nothing of the lab takes it out of the
    // `AsyncFd`, and that deregisters it before it closes it.
    let registered = unsafe { AsyncFd::register(file) };
    Ok(registered?)
}
