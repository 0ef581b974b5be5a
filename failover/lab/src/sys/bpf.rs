//! `bpf(2)` for programs that are written instruction by instruction, which aya does not load, for the
//! maps that they use, and for a way to run programs that aya does not know.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::libc;

/// Commands and types (`enum bpf_cmd`, `bpf_map_type`, `bpf_prog_type` in include/uapi/linux/bpf.h).
const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const PROG_LOAD: libc::c_int = 5;
const OBJ_PIN: libc::c_int = 6;
const PROG_TEST_RUN: libc::c_int = 10;
const PROG_TYPE_SCHED_CLS: u32 = 3;
/// The packet is one that hardware has summed up (`BPF_F_TEST_SKB_CHECKSUM_COMPLETE`).
const SUMMED: u32 = 1 << 2;

/// The beginning of `union bpf_attr` for [`PROG_LOAD`].
#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// For [`MAP_CREATE`].
#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

/// For [`MAP_UPDATE_ELEM`].
#[repr(C)]
struct MapUpdate {
    map_fd: u32,
    reserved: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// For [`OBJ_PIN`].
#[repr(C)]
struct ObjPin {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// For [`PROG_TEST_RUN`].
#[repr(C)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    /// What follows is asked to be zero.
    rest: u32,
}

/// What the verifier said, where it refused a program.
const LOG: usize = 64 * 1024;

/// Loads a TC program.
pub fn load_classifier(instructions: &[u64]) -> io::Result<OwnedFd> {
    let license = c"GPL";
    let mut log = vec![0_u8; LOG];
    let mut attributes = ProgLoad {
        prog_type: PROG_TYPE_SCHED_CLS,
        insn_cnt: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        insns: address(instructions.as_ptr()),
        license: address(license.as_ptr()),
        log_level: 1,
        log_size: u32::try_from(LOG).map_err(io::Error::other)?,
        log_buf: address(log.as_mut_ptr()),
        kern_version: 0,
        prog_flags: 0,
    };
    // SAFETY: the hazard is an address or length that is wrong: instructions, licence and log are
    // alive during the call and as long as is said.
    let loaded = unsafe { bpf(PROG_LOAD, &mut attributes) };
    loaded.and_then(owned).map_err(|error| {
        let said = String::from_utf8_lossy(&log);
        let said = said.trim_end_matches(['\0', '\n']);
        io::Error::new(error.kind(), format!("{error}; the verifier says:\n{said}"))
    })
}

/// What a map is (`enum bpf_map_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// A hash table.
    Hash,
    /// Values by number.
    Array,
    /// Programs by number.
    Programs,
    /// A hash table where what was not used for long makes room.
    LeastRecentlyUsed,
}

/// Makes a map; sizes are in bytes.
pub fn map(kind: MapKind, key: u32, value: u32, entries: u32) -> io::Result<OwnedFd> {
    let mut attributes = MapCreate {
        map_type: match kind {
            MapKind::Hash => 1,
            MapKind::Array => 2,
            MapKind::Programs => 3,
            MapKind::LeastRecentlyUsed => 9,
        },
        key_size: key,
        value_size: value,
        max_entries: entries,
    };
    // SAFETY: there is no address in it.
    owned(unsafe { bpf(MAP_CREATE, &mut attributes) }?)
}

/// Makes an array of programs with one place.
pub fn program_array() -> io::Result<OwnedFd> {
    map(MapKind::Programs, 4, 4, 1)
}

/// Puts a program into the one place of an array.
pub fn put_program(array: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let (key, value) = (0_u32, descriptor(program)?);
    let mut attributes = MapUpdate {
        map_fd: descriptor(array)?,
        reserved: 0,
        key: address(&raw const key),
        value: address(&raw const value),
        flags: 0,
    };
    // SAFETY: the hazard is a key or value that is shorter than the map's: both are four bytes, and
    // alive during the call.
    unsafe { bpf(MAP_UPDATE_ELEM, &mut attributes) }.map(drop)
}

/// Gives a TC program a packet that hardware has summed up, with a `struct __sk_buff`. Returns what it
/// returned and the packet afterwards.
///
/// # Errors
/// `EBADMSG` where the sum is not that of the packet afterwards, `EINVAL` where the kernel
/// knows no such packets.
pub fn run_summed(
    program: BorrowedFd<'_>,
    packet: &[u8],
    context: &[u8],
) -> io::Result<(u32, Vec<u8>)> {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(io::Error::other);
    let mut after = vec![0_u8; packet.len()];
    let mut attributes = TestRun {
        prog_fd: descriptor(program)?,
        retval: 0,
        data_size_in: length(packet)?,
        data_size_out: length(packet)?,
        data_in: address(packet.as_ptr()),
        data_out: address(after.as_mut_ptr()),
        repeat: 1,
        duration: 0,
        ctx_size_in: length(context)?,
        ctx_size_out: 0,
        ctx_in: address(context.as_ptr()),
        ctx_out: 0,
        flags: SUMMED,
        cpu: 0,
        batch_size: 0,
        rest: 0,
    };
    // SAFETY: the hazard is an address or length that is wrong: both packets and the context are alive
    // during the call and as long as is said.
    unsafe { bpf(PROG_TEST_RUN, &mut attributes) }?;
    Ok((attributes.retval, after))
}

/// Gives a program or a map a name on a BPF file system.
pub fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = ObjPin {
        pathname: address(path.as_ptr()),
        bpf_fd: descriptor(object)?,
        file_flags: 0,
    };
    // SAFETY: the path ends with a zero byte and is alive during the call.
    unsafe { bpf(OBJ_PIN, &mut attributes) }.map(drop)
}

/// The call itself.
///
/// # Safety
/// `attributes` must be what the command takes, and the addresses in it valid for it.
unsafe fn bpf<A>(command: libc::c_int, attributes: &mut A) -> io::Result<libc::c_int> {
    // SAFETY: the kernel reads and writes no more bytes than it is told, which is the size of the
    // structure, and takes what is missing for zero; the addresses are by the caller's promise.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<A>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    libc::c_int::try_from(result).map_err(io::Error::other)
}

fn owned(descriptor: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: the hazard is a descriptor that somebody else closes. The kernel has just given it to
    // us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn descriptor(of: BorrowedFd<'_>) -> io::Result<u32> {
    u32::try_from(of.as_raw_fd()).map_err(io::Error::other)
}

/// An address as the kernel takes it.
fn address<T>(pointer: *const T) -> u64 {
    u64::try_from(pointer.addr()).unwrap_or_default()
}
