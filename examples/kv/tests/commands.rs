//! What commands answer, word for word as Redis 7.0 does, and what malformed requests get.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "real sockets, and waiting for what a server does by itself"
)]

mod common;

use common::Running;

/// Commands and their replies, one after the other over one connection.
fn holds(script: &[(&str, &str)]) {
    let server = Running::new();
    let mut client = server.client();
    for (words, reply) in script {
        assert_eq!(client.ask(words), *reply, "{words}");
    }
}

const OK: &str = "+OK\r\n";
const NULL: &str = "$-1\r\n";
const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";

#[test]
fn strings() {
    holds(&[
        ("SET a 1", OK),
        ("GET a", "$1\r\n1\r\n"),
        ("get missing", NULL),
        ("SET a 2 NX", NULL),
        ("SET b 2 XX", NULL),
        ("SET a 2 XX GET", "$1\r\n1\r\n"),
        ("INCR a", ":3\r\n"),
        ("INCRBY a 10", ":13\r\n"),
        ("DECR a", ":12\r\n"),
        ("DECRBY a 2", ":10\r\n"),
        ("INCRBYFLOAT a 0.5", "$4\r\n10.5\r\n"),
        ("INCR a", "-ERR value is not an integer or out of range\r\n"),
        ("SET max 9223372036854775807", OK),
        ("INCR max", "-ERR increment or decrement would overflow\r\n"),
        ("APPEND c xy", ":2\r\n"),
        ("APPEND c z", ":3\r\n"),
        ("STRLEN c", ":3\r\n"),
        ("GETRANGE c -2 -1", "$2\r\nyz\r\n"),
        ("SETRANGE c 1 YZ", ":3\r\n"),
        ("GET c", "$3\r\nxYZ\r\n"),
        ("MSET k1 a k2 b", OK),
        ("MGET k1 nope k2", "*3\r\n$1\r\na\r\n$-1\r\n$1\r\nb\r\n"),
        ("MSET k1", "-ERR wrong number of arguments for 'mset' command\r\n"),
        ("MSET k1 a k2", "-ERR wrong number of arguments for 'mset' command\r\n"),
        ("MSETNX k1 z k9 z", ":0\r\n"),
        ("GETDEL k1", "$1\r\na\r\n"),
        ("EXISTS k1 k2 k2", ":2\r\n"),
        ("SETNX k2 x", ":0\r\n"),
        ("SET a b c", "-ERR syntax error\r\n"),
        ("SET a b EX 0", "-ERR invalid expire time in 'set' command\r\n"),
        ("SET a b EX x", "-ERR value is not an integer or out of range\r\n"),
    ]);
}

/// More keys than are looked for at once; among them some that are missing, have ended or hold something else, in every group.
#[test]
fn many_keys_at_once() {
    let server = Running::new();
    let mut client = server.client();
    let mut words = "MGET".to_owned();
    let mut expected = "*50\r\n".to_owned();
    for key in 0..50 {
        words += &format!(" k{key}");
        match key % 7 {
            1 => client.ask(&format!("HSET k{key} f v")),
            2 => client.ask(&format!("SET k{key} v PX 1")),
            3 => String::new(),
            _ => client.ask(&format!("SET k{key} v{key}")),
        };
        expected += &match key % 7 {
            1..=3 => NULL.to_owned(),
            _ => format!("${}\r\nv{key}\r\n", 1 + key.to_string().len()),
        };
    }
    std::thread::sleep(std::time::Duration::from_millis(2));
    assert_eq!(client.ask(&words), expected);
}

#[test]
fn ends_of_keys() {
    holds(&[
        ("SET a 1 EX 100", OK),
        ("TTL a", ":100\r\n"),
        ("SET a 2 KEEPTTL", OK),
        ("TTL a", ":100\r\n"),
        ("PERSIST a", ":1\r\n"),
        ("TTL a", ":-1\r\n"),
        ("TTL nope", ":-2\r\n"),
        ("EXPIRE a 100 XX", ":0\r\n"),
        ("EXPIRE a 100", ":1\r\n"),
        ("EXPIRE a 50 GT", ":0\r\n"),
        ("EXPIREAT a 1", ":1\r\n"),
        ("EXISTS a", ":0\r\n"),
        ("EXPIRETIME a", ":-2\r\n"),
    ]);
    let server = Running::new();
    let mut client = server.client();
    client.ask("SET gone 1 PX 30");
    client.ask("SET kept 1");
    // Nobody asks for it: it goes by itself.
    let since = std::time::Instant::now();
    while client.ask("DBSIZE") != ":1\r\n" {
        assert!(since.elapsed() < common::LONG);
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(client.ask("INFO").contains("expired_keys:1\r\n"));
}

#[test]
fn hashes_lists_sets() {
    holds(&[
        ("HSET h a 1 b 2", ":2\r\n"),
        ("HSET h a 9 c 3", ":1\r\n"),
        ("HGET h a", "$1\r\n9\r\n"),
        ("HGETALL h", "*6\r\n$1\r\na\r\n$1\r\n9\r\n$1\r\nb\r\n$1\r\n2\r\n$1\r\nc\r\n$1\r\n3\r\n"),
        ("HMGET h a x", "*2\r\n$1\r\n9\r\n$-1\r\n"),
        ("HINCRBY h b 5", ":7\r\n"),
        ("HDEL h a b c", ":3\r\n"),
        ("EXISTS h", ":0\r\n"),
        ("RPUSH l 1 2 3", ":3\r\n"),
        ("LPUSH l 0", ":4\r\n"),
        ("LRANGE l 0 -1", "*4\r\n$1\r\n0\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n"),
        ("LINDEX l -1", "$1\r\n3\r\n"),
        ("LSET l 9 x", "-ERR index out of range\r\n"),
        ("LINSERT l BEFORE 2 x", ":5\r\n"),
        ("LREM l 0 x", ":1\r\n"),
        ("LTRIM l 1 2", OK),
        ("LPOP l 2", "*2\r\n$1\r\n1\r\n$1\r\n2\r\n"),
        ("EXISTS l", ":0\r\n"),
        ("LPOP l", NULL),
        ("RPUSH l 1 2", ":2\r\n"),
        ("LMOVE l m LEFT RIGHT", "$1\r\n1\r\n"),
        ("SADD s a b c", ":3\r\n"),
        ("SADD s a", ":0\r\n"),
        ("SADD t b c d", ":3\r\n"),
        ("SISMEMBER s a", ":1\r\n"),
        ("SMISMEMBER s a z", "*2\r\n:1\r\n:0\r\n"),
        ("SINTER s t", "*2\r\n$1\r\nb\r\n$1\r\nc\r\n"),
        ("SDIFF s t", "*1\r\n$1\r\na\r\n"),
        ("SUNIONSTORE u s t", ":4\r\n"),
        ("SCARD u", ":4\r\n"),
        ("SPOP nope", NULL),
        ("GET s", WRONG_TYPE),
        ("LPUSH s x", WRONG_TYPE),
        ("SADD l x", WRONG_TYPE),
        ("HSET l a b", WRONG_TYPE),
        ("INCR l", WRONG_TYPE),
        ("TYPE s", "+set\r\n"),
        ("TYPE nope", "+none\r\n"),
        ("RENAME nope x", "-ERR no such key\r\n"),
        ("RENAME s z", OK),
        ("TYPE z", "+set\r\n"),
    ]);
}

#[test]
fn errors_in_the_words_of_redis() {
    holds(&[
        ("FOO bar baz", "-ERR unknown command 'FOO', with args beginning with: 'bar' 'baz' \r\n"),
        ("GET", "-ERR wrong number of arguments for 'get' command\r\n"),
        ("SELECT 0", OK),
        ("SELECT 1", "-ERR DB index is out of range\r\n"),
        ("EXEC", "-ERR EXEC without MULTI\r\n"),
        ("SCAN x", "-ERR invalid cursor\r\n"),
        ("HELLO 4", "-NOPROTO unsupported protocol version\r\n"),
        ("ZADD z 1 a", "-ERR unknown command 'ZADD', with args beginning with: 'z' '1' 'a' \r\n"),
    ]);
}

#[test]
fn malformed_requests_end_the_connection_with_a_reason() {
    let server = Running::new();
    for (bytes, reply) in [
        (&b"*1\r\n+GET\r\n"[..], "-ERR Protocol error: expected '$', got '+'\r\n"),
        (b"*x\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*1048577\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*1\r\n$-1\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        (b"*1\r\n$536870913\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        (b"GET \"a\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n"),
        (&[b'a'; 70_000], "-ERR Protocol error: too big inline request\r\n"),
        (&[b'*'; 70_000], "-ERR Protocol error: too big mbulk count string\r\n"),
    ] {
        let mut client = server.client();
        client.send(bytes);
        assert_eq!(String::from_utf8_lossy(&client.next().unwrap()), reply);
        assert_eq!(client.next(), None, "the connection is over");
    }
    // A length that never comes costs nothing, and nobody else notices.
    let mut waiting = server.client();
    waiting.send(b"*2\r\n$3\r\nGET\r\n$536870912\r\nabc");
    assert_eq!(server.client().ask("PING"), "+PONG\r\n");
}

#[test]
fn transactions() {
    holds(&[
        ("MULTI", OK),
        ("SET a 1", "+QUEUED\r\n"),
        ("INCR a", "+QUEUED\r\n"),
        ("EXEC", "*2\r\n+OK\r\n:2\r\n"),
        ("MULTI", OK),
        ("NOPE", "-ERR unknown command 'NOPE', with args beginning with: \r\n"),
        ("EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n"),
        ("MULTI", OK),
        ("SET a 9", "+QUEUED\r\n"),
        ("DISCARD", OK),
        ("GET a", "$1\r\n2\r\n"),
    ]);
}

#[test]
fn version_3_has_other_forms() {
    let server = Running::new();
    let mut client = server.client();
    assert!(client.ask("HELLO 3").starts_with("%7\r\n"));
    client.ask("HSET h a 1");
    assert_eq!(client.ask("HGETALL h"), "%1\r\n$1\r\na\r\n$1\r\n1\r\n");
    assert_eq!(client.ask("GET nope"), "_\r\n");
    assert!(client.ask("INFO").starts_with('='));
    client.ask("HELLO 2");
    assert_eq!(client.ask("GET nope"), NULL);
}

#[test]
fn scan_sees_what_stays_while_much_comes_and_goes() {
    let server = Running::new();
    let mut client = server.client();
    for n in 0..500 {
        client.ask(&format!("SET stays:{n} x"));
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut cursor = "0".to_owned();
    for turn in 0.. {
        let reply = client.ask(&format!("SCAN {cursor} COUNT 20 MATCH stays:*"));
        let parts: Vec<&str> = reply.split("\r\n").collect();
        cursor = parts[2].to_owned();
        seen.extend(parts.iter().filter(|part| part.starts_with("stays:")).map(|part| (*part).to_owned()));
        for n in 0..10 {
            client.ask(&format!("SET comes:{turn}:{n} x"));
            client.ask(&format!("DEL comes:{}:{n}", turn - 3));
        }
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(seen.len(), 500);
}

#[test]
fn memory_limits() {
    let server = Running::new();
    let mut client = server.client();
    assert_eq!(client.ask("CONFIG SET maxmemory 1mb"), OK);
    let value = "x".repeat(10_000);
    let mut refused = false;
    for n in 0..200 {
        let reply = client.ask(&format!("SET k{n} {value}"));
        refused |= reply == "-OOM command not allowed when used memory > 'maxmemory'.\r\n";
    }
    assert!(refused);
    assert_eq!(client.ask("GET k0").len(), 10_000 + 10, "reading goes on");
    assert_eq!(client.ask("CONFIG SET maxmemory-policy allkeys-lru"), OK);
    for n in 0..1000 {
        assert_eq!(client.ask("EXISTS k0"), ":1\r\n", "what is used all the time stays");
        assert_eq!(client.ask(&format!("SET m{n} {value}")), OK);
    }
    let info = client.ask("INFO");
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
    assert!(used.parse::<usize>().unwrap() < (1 << 20) + 20_000, "{used}");
}
