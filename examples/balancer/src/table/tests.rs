//! The table alone: packets made up byte by byte, and time as it is wanted.

use super::*;
use proptest::prelude::*;
use std::time::Duration;
use wire::bytes::Writer;
use wire::data::record_header;
use wire::handshake::{FLAG_CLIENT, HandshakeFields, HandshakePacket, Level, Method};
use wire::header::PacketType;
use wire::ids::{MessageId, RecordNumber};
use wire::reset::{RESET_LEN, ResetPacket};

const CLIENT: SessionId = SessionId::new(1, 0xc11e << 40);
const SERVER: SessionId = SessionId::new(2, 0x5e72 << 40);

fn at(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// A moment; which one does not matter.
fn start() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn table(limits: Limits) -> Table {
    Table::new(&[at(1), at(2)], limits)
}

fn handshake(flags: u8, receiver: SessionId, sender: SessionId) -> Vec<u8> {
    let (method, level) = (Method::Tls, Level::Initial);
    let fields = HandshakeFields { sender, method, level, number: 0, echo: 0, echo_age: 0, offset: 0, acks: [0; 2] };
    let mut bytes = vec![0; 1_232];
    let header = HandshakePacket::header(flags, receiver, CLIENT);
    HandshakePacket::emit(&header, &fields, b"", 0, &mut Writer::new(&mut bytes));
    bytes
}

/// A DATA packet with a record of each of these messages.
fn data(session: SessionId, steer: u16, rpcs: &[(Side, u64)]) -> Vec<u8> {
    let header = Header { kind: PacketType::Data, flags: 0, epoch: 0, priority: 0, steer, segment: 0, session };
    let mut bytes = vec![0; DATA_HEADER_LEN + rpcs.len() * (13 + 32)];
    let mut w = Writer::new(&mut bytes);
    wire::data::emit_header(&mut w, &header, 10 * rpcs.len() as u32);
    for (began, sequence) in rpcs {
        let number = RecordNumber::new(MessageId::new(RpcId::new(*began, *sequence), 0), 0);
        w.put(&record_header(number, 16));
        w.put(&[0; 32]);
    }
    bytes
}

fn reset(session: SessionId) -> Vec<u8> {
    let mut bytes = vec![0; RESET_LEN];
    ResetPacket::emit(session, &[7; 16], &mut bytes);
    bytes
}

/// A session that both sides know, and the server that it is at.
fn session(table: &mut Table, now: Instant, client: SessionId, server: SessionId) -> usize {
    let steered = table.steer(now, at(1000), &handshake(FLAG_CLIENT, SessionId::NONE, client)).unwrap();
    assert!(!steered.proven);
    table.pass_back(now, steered.backend, &handshake(0, client, server)).unwrap();
    let again = table.steer(now, at(1000), &handshake(FLAG_CLIENT, server, client)).unwrap();
    assert_eq!(again, Steered { proven: true, ..steered });
    steered.backend
}

fn under_way(table: &Table) -> [u64; 2] {
    [0, 1].map(|at| table.backends[at].under_way)
}

/// [P-3.1] [P-9.2] Messages begin and are answered by id, in both directions, each lane for itself.
#[test]
fn messages_are_counted_by_their_ids() {
    let (now, mut table) = (start(), table(Limits::default()));
    let backend = session(&mut table, now, CLIENT, SERVER);
    assert_eq!(backend, 0);
    let (client, server) = (Side::Client, Side::Server);
    let up = |table: &mut Table, steer, rpcs: &[_]| {
        assert_eq!(table.steer(now, at(1000), &data(SERVER, steer, rpcs)).map(|to| to.backend), Ok(0));
    };
    let down = |table: &mut Table, steer, rpcs: &[_]| {
        assert_eq!(table.pass_back(now, 0, &data(CLIENT, steer, rpcs)), Ok(()));
    };
    up(&mut table, 0, &[(client, 0), (client, 1)]);
    up(&mut table, 0, &[(client, 1)]);
    assert_eq!(under_way(&table), [2, 0]);
    // The same sequence in the lane of the server's second shard is another message; its answer has the lane turned round.
    up(&mut table, 0x0001, &[(client, 1)]);
    assert_eq!(under_way(&table), [3, 0]);
    down(&mut table, 0x0100, &[(client, 1)]);
    down(&mut table, 0, &[(client, 0)]);
    // An answer to what was not seen is none.
    down(&mut table, 0, &[(client, 9)]);
    assert_eq!(under_way(&table), [1, 0]);
    // The server begins one too.
    down(&mut table, 0, &[(server, 0)]);
    assert_eq!(under_way(&table), [2, 0]);
    up(&mut table, 0, &[(server, 0)]);
    assert_eq!(under_way(&table), [1, 0]);
    let seen = &table.backends[0];
    assert_eq!((seen.messages, seen.answered, &seen.shards), (4, 3, &BTreeMap::from([(0, 3), (1, 1)])));
    assert_eq!(table.messages, 1);
    // With a message under way at the first server, the next session is the second's.
    assert_eq!(session(&mut table, now, SessionId::new(3, 0), SessionId::new(4, 0)), 1);
}

/// What is silent is forgotten, each in its time, with everything that was kept for it.
#[test]
fn the_silent_are_forgotten() {
    let (now, limits) = (start(), Limits::default());
    let mut table = table(limits);
    session(&mut table, now, CLIENT, SERVER);
    table.steer(now, at(1000), &data(SERVER, 0, &[(Side::Client, 0)])).unwrap();
    let stranger = handshake(FLAG_CLIENT, SessionId::NONE, SessionId::new(9, 0));
    let steered = table.steer(now, at(1001), &stranger).unwrap();
    assert_eq!((steered.backend, table.unproven, table.sessions.len()), (1, 1, 2));
    table.sweep(now + limits.message_idle);
    assert_eq!((under_way(&table), table.messages, table.sessions.len()), ([0, 0], 0, 2));
    // Repeats do not prolong what proves nothing.
    let later = now + limits.unproven;
    table.steer(later, at(1001), &stranger).unwrap();
    table.sweep(later);
    assert_eq!((table.unproven, table.sessions.len(), table.names.len()), (0, 1, 1));
    table.sweep(now + limits.session_idle - Duration::from_millis(1));
    table.steer(later, at(1000), &data(SERVER, 0, &[(Side::Client, 1)])).expect("it is still known");
    table.sweep(later + limits.session_idle);
    assert_eq!((table.messages, table.sessions.len(), table.names.len()), (0, 0, 0));
    assert!(table.backends.iter().all(|seen| (seen.under_way, seen.sessions_now) == (0, 0)));
    assert_eq!(table.steer(later, at(1000), &data(SERVER, 0, &[(Side::Client, 2)])), Err(UNKNOWN));
}

/// [P-2.1] [P-5.5] A server speaks for its own sessions only, and takes no name from another session; what has no business in a direction
/// does not pass.
#[test]
fn who_may_say_what() {
    let (now, mut table) = (start(), table(Limits::default()));
    session(&mut table, now, CLIENT, SERVER);
    let other = SessionId::new(3, 0);
    assert_eq!(table.steer(now, at(2000), &handshake(FLAG_CLIENT, SessionId::NONE, other)).unwrap().backend, 1);
    assert_eq!(table.pass_back(now, 1, &handshake(0, CLIENT, SessionId::new(8, 0))), Err(UNKNOWN));
    assert_eq!(table.pass_back(now, 1, &handshake(FLAG_CLIENT, other, SERVER)), Err(WRONG_WAY));
    assert_eq!(table.steer(now, at(2000), &handshake(0, SERVER, other)), Err(WRONG_WAY));
    // The second server gives its session a name that is taken: it stays whose it was.
    table.pass_back(now, 1, &handshake(0, other, SERVER)).unwrap();
    assert_eq!(table.steer(now, at(3000), &data(SERVER, 0, &[])), Err("truncated"));
    assert_eq!(table.steer(now, at(3000), &data(SERVER, 0, &[(Side::Client, 0)])).unwrap().backend, 0);
    assert_eq!(table.address_changes, 1);
    // RESETs name a session as the packets did that they answer: each end's by the other's name.
    assert_eq!(table.pass_back(now, 0, &reset(SERVER)), Ok(()));
    assert_eq!(table.pass_back(now, 1, &reset(SERVER)), Err(UNKNOWN));
    assert_eq!(table.steer(now, at(1000), &reset(CLIENT)).unwrap(), Steered { backend: 0, proven: false });
    assert_eq!(table.steer(now, at(1000), &reset(SERVER)), Err(UNKNOWN));
}

/// A server that does not answer gets no more than one session in the time that it may take, whatever the others have to do.
#[test]
fn a_silent_server_is_spared() {
    let (now, limits) = (start(), Limits::default());
    let mut table = table(limits);
    let flight = |client| handshake(FLAG_CLIENT, SessionId::NONE, client);
    assert_eq!(table.steer(now, at(1000), &flight(CLIENT)).unwrap().backend, 0);
    for slot in 0..10 {
        let (client, server) = (SessionId::new(slot, 1 << 30), SessionId::new(slot, 1 << 40));
        assert_eq!(session(&mut table, now, client, server), 1);
        table.steer(now, at(1000), &data(server, 0, &[(Side::Client, 0)])).unwrap();
    }
    assert_eq!((table.backends[0].unanswered, table.backends[1].unanswered), (1, 0));
    table.sweep(now + limits.unproven);
    assert_eq!(table.backends[0].unanswered, 0);
    assert_eq!(table.steer(now, at(1000), &flight(CLIENT)).unwrap().backend, 0, "it is tried again");
    assert_eq!(table.steer(now, at(1000), &flight(SessionId::new(11, 1 << 30))).unwrap().backend, 1);
}

/// Of the names that a server gives, the one that the client says is never pushed out, and there are never more than a few.
#[test]
fn a_name_in_use_stays() {
    let (now, mut table) = (start(), table(Limits::default()));
    session(&mut table, now, CLIENT, SERVER);
    for slot in 100..200 {
        table.pass_back(now, 0, &handshake(0, CLIENT, SessionId::new(slot, 0))).unwrap();
    }
    assert_eq!(table.names.len(), NAMES);
    let packet = |name| data(name, 0, &[(Side::Client, 0)]);
    assert!(table.steer(now, at(1000), &packet(SERVER)).is_ok());
    assert!(table.steer(now, at(1000), &packet(SessionId::new(199, 0))).is_ok());
    assert_eq!(table.steer(now, at(1000), &packet(SessionId::new(100, 0))), Err(UNKNOWN));
}

/// Messages beyond what is counted are carried.
#[test]
fn counting_is_bounded() {
    let (now, mut table) = (start(), table(Limits { messages: 10, ..Limits::default() }));
    session(&mut table, now, CLIENT, SERVER);
    for sequence in 0..20 {
        table.steer(now, at(1000), &data(SERVER, 0, &[(Side::Client, sequence)])).unwrap();
    }
    assert_eq!((under_way(&table), table.backends[0].packets_to), ([10, 0], 22));
}

proptest! {
    /// Any bytes, from either side: nothing is remembered but first packets of clients, and no count goes astray.
    #[test]
    fn any_bytes(packets in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..200), 0x11u8..0x16), 0..40)) {
        let (now, mut table) = (start(), table(Limits::default()));
        session(&mut table, now, CLIENT, SERVER);
        for (up, mut bytes, first) in packets {
            if let [head, flags, _, priority, ..] = &mut bytes[..] {
                (*head, *flags, *priority) = (first, 0, *priority & 7);
            }
            if let Some(rest) = bytes.get_mut(6..16) {
                rest[..2].fill(0);
                rest[2..].copy_from_slice(&if up { SERVER } else { CLIENT }.as_u64().to_be_bytes());
            }
            let _ = if up { table.steer(now, at(1000), &bytes).map(drop) } else { table.pass_back(now, 0, &bytes) };
        }
        prop_assert_eq!(table.sessions.len(), 1);
        prop_assert!(table.names.len() <= NAMES);
        prop_assert_eq!(under_way(&table), [table.messages as u64, 0]);
        table.sweep(now + Limits::default().session_idle);
        prop_assert_eq!((table.sessions.len(), table.names.len(), table.messages, under_way(&table)), (0, 0, 0, [0, 0]));
    }
}
