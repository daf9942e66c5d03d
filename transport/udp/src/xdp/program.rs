//! The program that the kernel runs for each frame of an interface: datagrams to one address and port go to our queues, all else its
//! usual way.
//!
//! Owns its instructions, written by hand, and how they get into the kernel (bpf(2)). Refuses to look into datagrams.

#![expect(unsafe_code, reason = "bpf(2) takes pointers in numbers")]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::{c_int, c_long};

const MAP_CREATE: c_int = 0;
const MAP_UPDATE: c_int = 2;
const PROGRAM_LOAD: c_int = 5;
const LINK_CREATE: c_int = 28;
/// A table of AF_XDP sockets by number.
const TYPE_XSKMAP: u32 = 17;
const TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
/// In the driver, before the kernel makes a packet of it.
const IN_DRIVER: u32 = 1 << 2;
/// After that, for every driver.
const GENERIC: u32 = 1 << 1;
/// The verdict "its usual way".
const PASS: i32 = 2;
/// The helper `bpf_redirect_map`.
const REDIRECT_MAP: i32 = 51;

/// The program on its interface, as long as this lives.
#[derive(Debug)]
pub(crate) struct Attached {
    _link: OwnedFd,
    _sockets: OwnedFd,
    /// Runs in the driver.
    pub(crate) in_driver: bool,
}

/// Makes an empty table of sockets. Fails where nothing of this is allowed.
pub(crate) fn table(count: u32) -> io::Result<OwnedFd> {
    // Type, sizes of key and value, entries, flags.
    bpf(MAP_CREATE, &mut [pair(TYPE_XSKMAP, 4), pair(4, count), 0, 0, 0, 0, 0, 0, 0, 0])
}

/// Redirects datagrams to `local` that come by this interface in frames of at most `frame_max` bytes to the socket of their queue, and
/// those of queues without one their usual way.
pub(crate) fn attach(
    interface: u32,
    local: SocketAddr,
    frame_max: i32,
    sockets: &[BorrowedFd<'_>],
) -> io::Result<Attached> {
    let table = table(sockets.len() as u32)?;
    for (queue, socket) in (0_u32..).zip(sockets) {
        let value = socket.as_raw_fd() as u32;
        let (key_at, value_at) = (&raw const queue as u64, &raw const value as u64);
        call(MAP_UPDATE, &mut [table.as_raw_fd() as u64, key_at, value_at, 0])?;
    }
    let code = instructions(local, frame_max, table.as_raw_fd());
    let licence = c"MIT";
    let mut load = [0; 16];
    load[0] = pair(TYPE_XDP, code.len() as u32);
    load[1] = code.as_ptr() as u64;
    load[2] = licence.as_ptr() as u64;
    // After log, version, flags, name and device: what it will be attached to.
    load[8] = pair(0, ATTACH_XDP);
    let program = bpf(PROGRAM_LOAD, &mut load)?;
    let link =
        |mode| bpf(LINK_CREATE, &mut [pair(program.as_raw_fd() as u32, interface), pair(ATTACH_XDP, mode), 0, 0]);
    match link(IN_DRIVER) {
        Ok(link) => Ok(Attached { _link: link, _sockets: table, in_driver: true }),
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Err(error),
        Err(_) => Ok(Attached { _link: link(GENERIC)?, _sockets: table, in_driver: false }),
    }
}

/// Two numbers of the attributes, as they lie in memory.
const fn pair(first: u32, second: u32) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

/// The attributes are given as words: numbers of 32 bits by [`pair`], pointers as they are.
fn call(command: c_int, attributes: &mut [u64]) -> io::Result<c_int> {
    let len = size_of_val(attributes);
    // SAFETY: the attributes are live and given with their length; what pointers in them point to is live in the caller, and the kernel
    // checks all else that they say.
    let done: c_long = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), len) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done as c_int) }
}

fn bpf(command: c_int, attributes: &mut [u64]) -> io::Result<OwnedFd> {
    let fd = call(command, attributes)?;
    // SAFETY: these commands give a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// One instruction: what it does, registers, an offset, a number.
const fn instruction(code: u8, to: u8, from: u8, offset: i16, number: i32) -> u64 {
    let ([a, b], [c, d, e, f]) = (offset.to_ne_bytes(), number.to_ne_bytes());
    let registers = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
    u64::from_ne_bytes([code, registers, a, b, c, d, e, f])
}

// What instructions do: loads by width, additions, jumps.
const LOAD_BYTE: u8 = 0x71;
const LOAD_HALF: u8 = 0x69;
const LOAD_WORD: u8 = 0x61;
const LOAD_TABLE: u8 = 0x18;
const MOVE: u8 = 0xbf;
const MOVE_NUMBER: u8 = 0xb7;
const ADD_NUMBER: u8 = 0x07;
const AND_NUMBER: u8 = 0x57;
const JUMP_GREATER: u8 = 0x2d;
/// Of 32 bits: a number with its highest bit set is not taken as negative.
const JUMP_NOT_NUMBER: u8 = 0x56;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

/// Where a field of a frame stands, how it is loaded, and what it must be.
type Field = (u8, i16, i32);

/// The program. Registers: 2 and 3 are the frame's begin and end, 6 the context, 4 and 5 are scratch.
fn instructions(local: SocketAddr, frame_max: i32, table: c_int) -> Vec<u64> {
    let half = |bytes: [u8; 2]| i32::from(u16::from_ne_bytes(bytes));
    let word = |bytes: &[u8]| i32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let port = half(local.port().to_be_bytes());
    let mut fields: Vec<Field> = Vec::new();
    let headers = match local.ip() {
        IpAddr::V4(ip) => {
            fields.extend([(LOAD_HALF, 12, half([0x08, 0x00])), (LOAD_BYTE, 14, 0x45), (LOAD_BYTE, 23, 17)]);
            fields.extend([(LOAD_WORD, 30, word(&ip.octets())), (LOAD_HALF, 36, port)]);
            42
        }
        IpAddr::V6(ip) => {
            fields.extend([(LOAD_HALF, 12, half([0x86, 0xdd])), (LOAD_BYTE, 20, 17)]);
            fields.extend((0..4).map(|i| (LOAD_WORD, 38 + 4 * i as i16, word(&ip.octets()[4 * i..]))));
            fields.push((LOAD_HALF, 56, port));
            62
        }
    };
    let begin = [instruction(MOVE, 6, 1, 0, 0), instruction(LOAD_WORD, 2, 1, 0, 0), instruction(LOAD_WORD, 3, 1, 4, 0)];
    // Longer than our frames: a train in one piece, which the kernel hands over better than we could.
    let mut tests = vec![
        instruction(MOVE, 4, 2, 0, 0),
        instruction(ADD_NUMBER, 4, 0, 0, frame_max),
        instruction(JUMP_GREATER, 3, 4, 0, 0),
        instruction(MOVE, 4, 2, 0, 0),
        instruction(ADD_NUMBER, 4, 0, 0, headers),
        instruction(JUMP_GREATER, 4, 3, 0, 0),
    ];
    for (load, offset, value) in fields {
        tests.extend([instruction(load, 5, 2, offset, 0), instruction(JUMP_NOT_NUMBER, 5, 0, 0, value)]);
    }
    if local.is_ipv4() {
        // A fragment, of which the first has ports and the others have none.
        tests.extend([
            instruction(LOAD_HALF, 5, 2, 20, 0),
            instruction(AND_NUMBER, 5, 0, 0, half([0x3f, 0xff])),
            instruction(JUMP_NOT_NUMBER, 5, 0, 0, 0),
        ]);
    }
    let redirect = [
        // The table's descriptor stands in a number of two instructions.
        instruction(LOAD_TABLE, 1, 1, 0, table),
        0,
        instruction(LOAD_WORD, 2, 6, 16, 0),
        instruction(MOVE_NUMBER, 3, 0, 0, PASS),
        instruction(CALL, 0, 0, 0, REDIRECT_MAP),
        instruction(EXIT, 0, 0, 0, 0),
    ];
    let pass = [instruction(MOVE_NUMBER, 0, 0, 0, PASS), instruction(EXIT, 0, 0, 0, 0)];
    // Every test that fails jumps to the end.
    let end = tests.len() + redirect.len();
    for (at, test) in tests.iter_mut().enumerate() {
        let [code, registers, _, _, number @ ..] = test.to_ne_bytes();
        if matches!(code, JUMP_GREATER | JUMP_NOT_NUMBER) {
            let [a, b] = ((end - at - 1) as i16).to_ne_bytes();
            let [c, d, e, f] = number;
            *test = u64::from_ne_bytes([code, registers, a, b, c, d, e, f]);
        }
    }
    [&begin[..], &tests, &redirect, &pass].concat()
}
