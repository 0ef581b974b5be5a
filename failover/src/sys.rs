//! What libraries have no safe form for: two promises about descriptors, the address of a packet
//! socket, the width of a terminal, reading a map of the kernel in batches, arrays of the kernel in this
//! process's memory, the wait for all processors, and the numbers of programs on an interface. The only
//! module of the daemon with unsafe code.
#![expect(
    unsafe_code,
    reason = "tokio and surge-ping have no safe form of their calls, socket2 and aya have none at all of the others"
)]

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::AtomicU64;

use aya::maps::{MapData, MapType};
use nix::errno::Errno;
use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use socket2::{SockAddr, SockAddrStorage};
use surge_ping::AsyncSocket;
use tokio::io::unix::AsyncFd;

/// Gives a socket that does not block to the present runtime.
pub(crate) fn register(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the hazard is a descriptor that is closed, and taken by another file, while the
    // runtime still polls it. An `OwnedFd` is open until it is dropped, its number never changes,
    // and `AsyncFd` owns it and takes it out of the poll before it drops it.
    unsafe { AsyncFd::register(socket) }.map_err(io::Error::from)
}

/// Calls `work` with the descriptor of a ping client's socket, to set options that the client has no
/// words for: it gives out only the descriptor's number.
pub(crate) fn lend<T>(socket: &AsyncSocket, work: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
    let number: RawFd = socket.get_native_sock();
    // SAFETY: the hazard is a descriptor that is closed, and perhaps given to another file, while it
    // is borrowed. `socket` owns it (through an `Arc`) and is borrowed for as long as `work` runs;
    // nothing takes the descriptor out of it.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    work(descriptor)
}

/// The family of packet sockets as addresses hold it, and the length of their addresses.
const AF_PACKET: libc::sa_family_t = 17;
const PACKET_ADDRESS_LENGTH: libc::socklen_t = 20;
const _: () = assert!(AF_PACKET as libc::c_int == libc::AF_PACKET);
const _: () = assert!(PACKET_ADDRESS_LENGTH as usize == size_of::<libc::sockaddr_ll>());

/// The address of the host that has this hardware address, or of the other end where there are none,
/// on an interface, for packets of an Ethernet protocol number (`struct sockaddr_ll`, packet(7)).
pub(crate) fn packet_address(interface: u32, protocol: u16, hardware: Option<[u8; 6]>) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: the hazard is a structure that is larger than the storage, or has another alignment.
    // The storage is made for addresses of every family, `sockaddr_ll` among them, and all bytes of
    // it are initialised; any of them are a valid `sockaddr_ll`.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = AF_PACKET;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = interface.cast_signed();
    if let Some(hardware) = hardware {
        address.sll_halen = 6;
        for (place, byte) in address.sll_addr.iter_mut().zip(hardware) {
            *place = byte;
        }
    }
    // SAFETY: the hazard is a length that reaches beyond what was written, or a family that does not
    // fit it. It is that of the structure that was just filled in.
    unsafe { SockAddr::new(storage, PACKET_ADDRESS_LENGTH) }
}

/// Characters in a line of a terminal (`TIOCGWINSZ`, tty_ioctl(4)); `None` for what is none, and for
/// one that does not know.
pub(crate) fn terminal_columns(terminal: BorrowedFd<'_>) -> Option<usize> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the hazard is a write past `size`. The kernel writes one `struct winsize`, which it is,
    // or, where the descriptor is no terminal, nothing; `size` outlives the call, and any numbers in it
    // are valid. The descriptor is open while it is borrowed.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    Errno::result(result).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// Waits until all that runs in the kernel right now without being able to sleep, such as every TC
/// program on any processor, has ended (`MEMBARRIER_CMD_GLOBAL`, membarrier(2), which is a
/// `synchronize_rcu` in kernel/sched/membarrier.c).
///
/// # Errors
/// What the kernel says; `EINVAL` where processors run without a timer tick (`nohz_full`).
pub(crate) fn wait_for_processors() -> io::Result<()> {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: the call takes numbers alone, and touches no memory of this process.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    Ok(Errno::result(result).map(|_| ())?)
}

/// `BPF_PROG_QUERY` of `enum bpf_cmd`, and `BPF_TCX_INGRESS` of `enum bpf_attach_type`
/// (`include/uapi/linux/bpf.h`).
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_TCX_INGRESS: u32 = 46;
/// Programs that may hang at one place (`MPROG_MAX_NUM`, `include/linux/bpf_mprog.h`: 64).
const MOST_HANGING: usize = 64;

/// The part of `union bpf_attr` that is for queries, in `include/uapi/linux/bpf.h`.
#[repr(C)]
struct QueryAttributes {
    target_ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    count: u32,
    reserved: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// The numbers of the programs that hang by TCX where packets come in by an interface, in the order in
/// which they run. To know more of them takes more privileges than to ask for that.
///
/// # Errors
/// `EINVAL` from a kernel without TCX; otherwise what the kernel says.
pub(crate) fn hanging_programs(interface: u32) -> io::Result<Vec<u32>> {
    let mut ids = [0_u32; MOST_HANGING];
    let address = ids.as_mut_ptr().expose_provenance();
    let mut attributes = QueryAttributes {
        target_ifindex: interface,
        attach_type: BPF_TCX_INGRESS,
        query_flags: 0,
        attach_flags: 0,
        prog_ids: u64::try_from(address).map_err(io::Error::other)?,
        count: u32::try_from(MOST_HANGING).map_err(io::Error::other)?,
        reserved: 0,
        prog_attach_flags: 0,
        link_ids: 0,
        link_attach_flags: 0,
        revision: 0,
    };
    // SAFETY: the hazard is a write past a buffer. The kernel writes at most `count` numbers of 32 bits to
    // `prog_ids`, which has room for so many, nothing to the places that are nought, and of `attributes`
    // it changes `count` and `revision`. Both outlive the call, and any numbers in them are valid.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_QUERY,
            &raw mut attributes,
            size_of::<QueryAttributes>(),
        )
    };
    Errno::result(result)?;
    let count = usize::try_from(attributes.count).map_err(io::Error::other)?;
    Ok(ids.into_iter().take(count).collect())
}

/// An array of the kernel (`BPF_MAP_TYPE_ARRAY` with `BPF_F_MMAPABLE`) in this process's memory, as
/// words of 64 bits. Programs read and write it at any time.
#[derive(Debug)]
pub(crate) struct MappedArray {
    words: NonNull<AtomicU64>,
    count: usize,
    per_entry: usize,
}

// SAFETY: the hazard is memory that only one thread may touch. It is shared with programs on all
// processors anyway, and is read and written by atomic operations alone.
unsafe impl Send for MappedArray {}
// SAFETY: likewise.
unsafe impl Sync for MappedArray {}

impl MappedArray {
    /// Maps an array whose values have this length in bytes.
    ///
    /// # Errors
    /// When it has another length, is another kind of map, or the kernel refuses.
    pub(crate) fn new(map: &MapData, value: usize) -> io::Result<Self> {
        let info = map.info().map_err(io::Error::other)?;
        let found = usize::try_from(info.value_size()).map_err(io::Error::other)?;
        let entries = usize::try_from(info.max_entries()).map_err(io::Error::other)?;
        if found != value
            || !value.is_multiple_of(size_of::<u64>())
            || !matches!(info.map_type(), Ok(MapType::Array))
        {
            return Err(Errno::EINVAL.into());
        }
        let length = NonZeroUsize::new(value.saturating_mul(entries)).ok_or(Errno::EINVAL)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the hazard is a mapping over memory that is in use. No place is asked for, so that the
        // kernel takes one that is free.
        let words = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, map.fd(), 0) };
        Ok(Self {
            words: words?.cast(),
            count: length.get() / size_of::<u64>(),
            per_entry: value / size_of::<u64>(),
        })
    }

    /// The words of an entry; none beyond the end.
    pub(crate) fn entry(&self, index: u32) -> &[AtomicU64] {
        // SAFETY: the hazard is memory that is not mapped, or is written by others than atomically. The
        // kernel mapped exactly so many words, at the beginning of a page, until this is dropped, and it
        // does not shorten an array. Programs write aligned words of at most 64 bits, which the kernel
        // compiles to single instructions.
        let words = unsafe { slice::from_raw_parts(self.words.as_ptr(), self.count) };
        usize::try_from(index)
            .ok()
            .and_then(|index| index.checked_mul(self.per_entry))
            .and_then(|first| words.get(first..first.checked_add(self.per_entry)?))
            .unwrap_or_default()
    }

    /// How many entries there are.
    pub(crate) const fn entries(&self) -> usize {
        self.count / self.per_entry
    }
}

impl Drop for MappedArray {
    fn drop(&mut self) {
        // SAFETY: the hazard is memory that is still in use. References to it live no longer than this.
        let unmapped = unsafe { munmap(self.words.cast(), self.count * size_of::<u64>()) };
        // It cannot fail for what was mapped so.
        let _unmapped = unmapped;
    }
}

/// `BPF_MAP_LOOKUP_BATCH` of `enum bpf_cmd` (`include/uapi/linux/bpf.h`).
const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;

/// The part of `union bpf_attr` that is for batches, in `include/uapi/linux/bpf.h`. Addresses are
/// 64 bits wide on every machine.
#[repr(C)]
struct BatchAttributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// A bucket of a hash map, from which on it is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket(u32);

/// What a batch brought.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    /// How many keys and values were written, from the beginning of the buffers.
    pub(crate) count: usize,
    /// Where to read on; `None` at the end of the map.
    pub(crate) next: Option<Bucket>,
}

/// Reads entries of a hash map of the kernel, bucket by bucket: as many as fit `keys` and `values`,
/// one after the other without gaps. Linux 5.6.
///
/// # Errors
/// `ENOSPC` when not even one bucket fits; `EINVAL` for a map of another type; otherwise what the
/// kernel says.
pub(crate) fn read_batch(
    map: &MapData,
    from: Option<Bucket>,
    keys: &mut [u8],
    values: &mut [u8],
) -> io::Result<Batch> {
    let info = map.info().map_err(io::Error::other)?;
    // Values of other types are written once per processor, and positions may be keys.
    if !matches!(info.map_type(), Ok(MapType::Hash | MapType::LruHash)) {
        return Err(Errno::EINVAL.into());
    }
    let size = |bytes: u32| usize::try_from(bytes).map_err(io::Error::other);
    let (key_size, value_size) = (size(info.key_size())?, size(info.value_size())?);
    let whole = |buffer: &[u8], size| buffer.len().checked_div(size).unwrap_or(0);
    let room = whole(keys, key_size).min(whole(values, value_size));
    let address = |pointer: *mut u8| u64::try_from(pointer.expose_provenance());
    let mut position = from.map(|Bucket(number)| number);
    let mut next = 0_u32;
    let in_batch = position
        .as_mut()
        .map(|number| address((&raw mut *number).cast()))
        .transpose()
        .map_err(io::Error::other)?;
    let mut attributes = BatchAttributes {
        in_batch: in_batch.unwrap_or(0),
        out_batch: address((&raw mut next).cast()).map_err(io::Error::other)?,
        keys: address(keys.as_mut_ptr()).map_err(io::Error::other)?,
        values: address(values.as_mut_ptr()).map_err(io::Error::other)?,
        count: u32::try_from(room).unwrap_or(u32::MAX),
        map_fd: u32::try_from(map.fd().as_fd().as_raw_fd()).map_err(io::Error::other)?,
        elem_flags: 0,
        flags: 0,
    };
    // SAFETY: the hazard is a write past a buffer. The kernel writes at most `count` keys and as many
    // values, each of the size that it says this very map has, which never changes; `count` of them
    // fit each buffer, as was just computed. (A hash map's values are written as long as they are,
    // once.) Of a hash map the position is 4 bytes, read from `position` and written to `next`. Of
    // `attributes` it changes `count`. All of these outlive the call, are borrowed by nobody else,
    // and hold no invalid bytes whatever is written; the descriptor is open while `map` is borrowed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_MAP_LOOKUP_BATCH,
            &raw mut attributes,
            size_of::<BatchAttributes>(),
        )
    };
    let ended = match Errno::result(result) {
        Ok(_) => false,
        Err(Errno::ENOENT) => true,
        Err(errno) => return Err(errno.into()),
    };
    Ok(Batch {
        count: size(attributes.count)?,
        next: (!ended).then_some(Bucket(next)),
    })
}
