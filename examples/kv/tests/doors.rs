//! One data set behind three doors at once: what is written at one is read at the others, in pipelines and in messages; what is published
//! reaches subscribers at all of them.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "real sockets, and waiting for what a server does by itself"
)]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;

use common::{LONG, Running};
use kv::resp::command;
use kv::tls::Tls;
use sealane::{Clients, Delivery, Identity, Peer, Socket, Trust};

struct Secure {
    stream: TcpStream,
    tls: Tls,
    plain: Vec<u8>,
}

impl Secure {
    fn connect(server: &Running) -> Self {
        let stream = TcpStream::connect(server.tls).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let tls = Tls::client(&server.certificates.client.client_config().unwrap(), "localhost").unwrap();
        let mut secure = Self { stream, tls, plain: Vec::new() };
        secure.take(0, &mut []);
        while !secure.tls.is_open {
            secure.read();
        }
        secure
    }

    fn take(&mut self, count: usize, read: &mut [u8]) {
        let mut wire = Vec::new();
        self.tls.take(&mut read[..count], &mut self.plain, &mut wire).unwrap();
        self.stream.write_all(&wire).unwrap();
    }

    fn read(&mut self) {
        let mut read = vec![0; 65536];
        let count = self.stream.read(&mut read).unwrap();
        assert!(count > 0);
        self.take(count, &mut read);
    }

    fn ask(&mut self, bytes: &[u8], reply: usize) -> Vec<u8> {
        let mut wire = Vec::new();
        let end = self.tls.seal(bytes, &mut wire, 0).unwrap();
        self.stream.write_all(&wire[..end]).unwrap();
        while self.plain.len() < reply {
            self.read();
        }
        std::mem::take(&mut self.plain)
    }
}

fn socket(server: &Running) -> (Socket, Peer) {
    socket_with(server, true)
}

fn socket_with(server: &Running, helper: bool) -> (Socket, Peer) {
    let own = &server.certificates.client;
    let socket = Socket::builder()
        .trust(Trust::pem(own.authority.as_bytes()).unwrap())
        .identity(Identity::pem(own.certificate.as_bytes(), own.key.as_bytes()).unwrap())
        // Who wants to be told something takes messages, too.
        .serve(Clients::Authenticated)
        .danger_helper_thread(helper)
        .bind("127.0.0.1:0")
        .unwrap();
    let peer = socket.peer(server.sealane, "localhost").unwrap();
    (socket, peer)
}

#[test]
fn what_one_writes_the_others_read() {
    let server = Running::new();
    let mut tcp = server.client();
    let mut tls = Secure::connect(&server);
    let (sealane, peer) = socket(&server);
    assert_eq!(tcp.ask("SET a tcp"), "+OK\r\n");
    assert_eq!(tls.ask(b"GET a\r\nSET b tls\r\n", 14), b"$3\r\ntcp\r\n+OK\r\n");
    let reply = sealane.call(&peer, b"GET a\r\nGET b\r\nSET c sealane\r\nINCR n\r\n").unwrap();
    assert_eq!(&*reply, b"$3\r\ntcp\r\n$3\r\ntls\r\n+OK\r\n:1\r\n");
    assert_eq!(tcp.ask("GET c"), "$7\r\nsealane\r\n");
    assert_eq!(tcp.ask("INCR n"), ":2\r\n");
}

#[test]
fn long_values_pass_every_door() {
    let server = Running::new();
    let value: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let (sealane, peer) = socket(&server);
    let mut set = Vec::new();
    command(&mut set, &[b"SET", b"long", &value]);
    assert_eq!(&*sealane.call(&peer, set).unwrap(), b"+OK\r\n");
    let mut expected = format!("${}\r\n", value.len()).into_bytes();
    expected.extend_from_slice(&value);
    expected.extend_from_slice(b"\r\n");
    assert!(Secure::connect(&server).ask(b"GET long\r\n", expected.len()) == expected);
    assert!(*sealane.call(&peer, b"GET long\r\n").unwrap() == *expected);
    // More replies than any buffer holds, to one that reads late.
    let mut tcp = server.client();
    tcp.send(&b"GET long\r\n".repeat(40));
    for _ in 0..40 {
        assert!(tcp.next().unwrap() == expected);
    }
}

#[test]
fn messages_hold_whole_commands() {
    let server = Running::new();
    let (sealane, peer) = socket(&server);
    let call = |bytes: &[u8]| String::from_utf8_lossy(&sealane.call(&peer, bytes).unwrap()).into_owned();
    assert_eq!(call(b"PING\r\n*1\r\n$4\r\nPI"), "+PONG\r\n-ERR Protocol error: the message ends within a command\r\n");
    assert_eq!(call(b"*x\r\n"), "-ERR Protocol error: invalid multibulk length\r\n");
    assert_eq!(call(b"MULTI\r\nSET a 1\r\n"), "+OK\r\n+QUEUED\r\n");
    // A transaction ends with its message.
    assert_eq!(call(b"EXEC\r\n"), "-ERR EXEC without MULTI\r\n");
    assert_eq!(call(b"MULTI\r\nSET a 1\r\nINCR a\r\nEXEC\r\n"), "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n:2\r\n");
    // What a session chose stays with it.
    assert!(call(b"HELLO 3\r\n").starts_with("%7\r\n"));
    assert_eq!(call(b"GET nope\r\n"), "_\r\n");
    let (other, there) = socket(&server);
    assert_eq!(&*other.call(&there, b"GET nope\r\n").unwrap(), b"$-1\r\n");
}

/// Clients that ask for much and take nothing wait for themselves alone; when they take it after all, it is there.
#[test]
fn who_does_not_read_stalls_nobody() {
    let server = Running::new();
    let (reader, there) = socket(&server);
    let mut set = Vec::new();
    command(&mut set, &[b"SET", b"long", &vec![7; 6_000_000]]);
    assert_eq!(&*reader.call(&there, set).unwrap(), b"+OK\r\n");
    // Nobody polls their sockets, and each asks for twice what it may have under way.
    let idle: Vec<(Socket, Vec<_>)> = (0..6)
        .map(|_| {
            let (idle, peer) = socket_with(&server, false);
            idle.connect(&peer).unwrap();
            let ids = (0..12).map(|n| idle.send(&peer, b"GET long\r\n", n).unwrap()).collect();
            (idle, ids)
        })
        .collect();
    let expected = reader.call(&there, b"GET long\r\n").unwrap().len();
    for n in 1..=100 {
        assert_eq!(&*reader.call(&there, b"INCR n\r\n").unwrap(), format!(":{n}\r\n").as_bytes());
    }
    assert!(server.client().ask("GET long").len() > 6_000_000);
    for (idle, ids) in &idle {
        for id in ids {
            assert_eq!(idle.wait(*id).unwrap().len(), expected);
        }
    }
}

#[test]
fn published_everywhere() {
    let server = Running::new();
    let mut tcp = server.client();
    let mut tls = Secure::connect(&server);
    let (sealane, peer) = socket(&server);
    assert_eq!(tcp.ask("SUBSCRIBE news"), "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
    let joined = b"*3\r\n$10\r\npsubscribe\r\n$2\r\nn*\r\n:1\r\n";
    assert_eq!(tls.ask(b"PSUBSCRIBE n*\r\n", joined.len()), joined);
    sealane.call(&peer, b"SUBSCRIBE news\r\n").unwrap();
    assert_eq!(server.client().ask("PUBLISH news hi"), ":3\r\n");
    let message = "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n";
    assert_eq!(String::from_utf8_lossy(&tcp.next().unwrap()), message);
    let by_pattern = b"*4\r\n$8\r\npmessage\r\n$2\r\nn*\r\n$4\r\nnews\r\n$2\r\nhi\r\n";
    while tls.plain.len() < by_pattern.len() {
        tls.read();
    }
    assert_eq!(tls.plain, by_pattern);
    match sealane.recv_timeout(LONG).unwrap() {
        Some(Delivery::OneWay(came)) => assert_eq!(String::from_utf8_lossy(&came.payload), message),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        tcp.ask("GET a"),
        "-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context\r\n"
    );
    drop(tcp);
    // Who is gone is not counted.
    let since = std::time::Instant::now();
    while server.client().ask("PUBLISH news again") != ":2\r\n" {
        assert!(since.elapsed() < LONG);
    }
}

#[test]
fn strangers_stay_outside() {
    let server = Running::new();
    // TLS without a certificate, and Sealane without one.
    let mut stream = TcpStream::connect(server.tls).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(b"GET a\r\n").unwrap();
    let mut read = Vec::new();
    let _ = stream.read_to_end(&mut read);
    assert!(!read.starts_with(b"$"), "{read:?}");
    let trust = Trust::pem(server.certificates.client.authority.as_bytes()).unwrap();
    let nobody = Socket::builder().trust(trust).anonymous().bind("127.0.0.1:0").unwrap();
    let peer = nobody.peer(server.sealane, "localhost").unwrap();
    assert!(nobody.call(&peer, b"GET a\r\n").is_err());
    assert_eq!(server.client().ask("PING"), "+PONG\r\n");
}
