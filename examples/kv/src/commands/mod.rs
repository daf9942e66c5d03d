//! Owns the table of commands on data: name, arity, what they touch, and the function that runs them. What is missing stands in
//! `missing`. Commands about a client (its version, its subscriptions, its transaction) are the engine's.

mod hashes;
pub(crate) mod keys;
mod lists;
pub mod missing;
mod sets;
mod strings;

use std::borrow::Cow;

use crate::resp::{Args, Out, command, integer};
use crate::store::Store;
use crate::value::Value;

/// Why a command failed: the text of its error, code first.
pub type Fail = Cow<'static, str>;

pub(crate) const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";
pub(crate) const NOT_INTEGER: &str = "ERR value is not an integer or out of range";
pub(crate) const NOT_FLOAT: &str = "ERR value is not a valid float";
pub(crate) const SYNTAX: &str = "ERR syntax error";
pub(crate) const NO_KEY: &str = "ERR no such key";
pub(crate) const OUT_OF_RANGE: &str = "ERR index out of range";
pub(crate) const OVERFLOW: &str = "ERR increment or decrement would overflow";

/// One command that runs.
#[derive(Debug)]
pub struct Call<'a> {
    /// What it works on.
    pub store: &'a mut Store,
    /// Its arguments, the name first.
    pub args: Args<'a>,
    /// Where its reply goes.
    pub out: &'a mut Out,
    /// What a log should say instead of the command itself.
    pub instead: Option<Vec<u8>>,
}

impl<'a> Call<'a> {
    fn arg(&self, index: usize) -> &'a [u8] {
        self.args.at(index)
    }

    fn int(&self, index: usize) -> Result<i64, Fail> {
        integer(self.arg(index)).ok_or(Cow::Borrowed(NOT_INTEGER))
    }

    /// Something changed.
    fn changed(&mut self) {
        self.store.dirty += 1;
    }

    /// A log should say this instead.
    fn say(&mut self, args: &[&[u8]]) {
        command(self.instead.get_or_insert_default(), args);
    }

    fn text(&mut self, key: &[u8]) -> Result<Option<&[u8]>, Fail> {
        match self.store.read(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(WRONG_TYPE.into()),
        }
    }
}

/// How a command behaves.
pub mod flags {
    /// It may change something.
    pub const WRITE: u8 = 1;
    /// It may take memory.
    pub const GROWS: u8 = 2;
    /// It is about the client or the server, and the engine runs it.
    pub const ADMIN: u8 = 4;
    /// It may run while the client is subscribed in version 2 of the protocol.
    pub const SUBSCRIBED: u8 = 8;
}

/// What runs a command.
#[derive(Clone, Copy, Debug)]
pub enum Run {
    /// A function on data.
    Data(fn(&mut Call<'_>) -> Result<(), Fail>),
    /// The engine.
    Engine,
}

/// A command.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// In lower case.
    pub name: &'static str,
    /// How many arguments, the name included; a negative number is the least.
    pub arity: i32,
    /// See [`flags`].
    pub flags: u8,
    /// First and last argument that is a key, and the step between them; a negative last counts from the end.
    pub keys: (i32, i32, i32),
    /// What runs it.
    pub run: Run,
}

impl Command {
    /// Whether it has this flag.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether so many arguments are right.
    pub fn takes(&self, count: usize) -> bool {
        if self.arity < 0 { count >= self.arity.unsigned_abs() as usize } else { count == self.arity as usize }
    }

    /// Which arguments are keys.
    pub fn key_indexes(&self, count: usize) -> impl Iterator<Item = usize> + use<> {
        let (first, last, step) = self.keys;
        let last = if last < 0 { count as i32 + last } else { last };
        let none = first == 0;
        (first.max(1)..=last).step_by(step.max(1) as usize).filter(move |_| !none).map(|at| at as usize)
    }
}

use flags::{ADMIN, GROWS, SUBSCRIBED, WRITE};

const GROW: u8 = WRITE | GROWS;
const ONE: (i32, i32, i32) = (1, 1, 1);
const ALL: (i32, i32, i32) = (1, -1, 1);
const TWO: (i32, i32, i32) = (1, 2, 1);
const NONE: (i32, i32, i32) = (0, 0, 0);

macro_rules! commands {
    ($($name:literal $arity:literal $flags:expr, $keys:expr, $run:expr;)*) => {
        &[$(Command { name: $name, arity: $arity, flags: $flags, keys: $keys, run: $run },)*]
    };
}

/// All commands, in the order of their names.
pub static COMMANDS: &[Command] = commands! {
    "append" 3 GROW, ONE, Run::Data(strings::append);
    "auth" -2 ADMIN, NONE, Run::Engine;
    "bgrewriteaof" 1 ADMIN, NONE, Run::Engine;
    "client" -2 ADMIN, NONE, Run::Engine;
    "command" -1 ADMIN, NONE, Run::Engine;
    "config" -2 ADMIN, NONE, Run::Engine;
    "copy" -3 GROW, TWO, Run::Data(keys::copy);
    "dbsize" 1 0, NONE, Run::Data(keys::dbsize);
    "decr" 2 GROW, ONE, Run::Data(strings::decr);
    "decrby" 3 GROW, ONE, Run::Data(strings::decrby);
    "del" -2 WRITE, ALL, Run::Data(keys::del);
    "discard" 1 ADMIN, NONE, Run::Engine;
    "echo" 2 ADMIN, NONE, Run::Engine;
    "exec" 1 ADMIN, NONE, Run::Engine;
    "exists" -2 0, ALL, Run::Data(keys::exists);
    "expire" -3 WRITE, ONE, Run::Data(keys::expire);
    "expireat" -3 WRITE, ONE, Run::Data(keys::expireat);
    "expiretime" 2 0, ONE, Run::Data(keys::expiretime);
    "flushall" -1 WRITE, NONE, Run::Data(keys::flushall);
    "flushdb" -1 WRITE, NONE, Run::Data(keys::flushall);
    "get" 2 0, ONE, Run::Data(strings::get);
    "getdel" 2 WRITE, ONE, Run::Data(strings::getdel);
    "getex" -2 WRITE, ONE, Run::Data(strings::getex);
    "getrange" 4 0, ONE, Run::Data(strings::getrange);
    "getset" 3 GROW, ONE, Run::Data(strings::getset);
    "hdel" -3 WRITE, ONE, Run::Data(hashes::hdel);
    "hello" -1 ADMIN, NONE, Run::Engine;
    "hexists" 3 0, ONE, Run::Data(hashes::hexists);
    "hget" 3 0, ONE, Run::Data(hashes::hget);
    "hgetall" 2 0, ONE, Run::Data(hashes::hgetall);
    "hincrby" 4 GROW, ONE, Run::Data(hashes::hincrby);
    "hincrbyfloat" 4 GROW, ONE, Run::Data(hashes::hincrbyfloat);
    "hkeys" 2 0, ONE, Run::Data(hashes::hkeys);
    "hlen" 2 0, ONE, Run::Data(hashes::hlen);
    "hmget" -3 0, ONE, Run::Data(hashes::hmget);
    "hmset" -4 GROW, ONE, Run::Data(hashes::hset);
    "hscan" -3 0, ONE, Run::Data(hashes::hscan);
    "hset" -4 GROW, ONE, Run::Data(hashes::hset);
    "hsetnx" 4 GROW, ONE, Run::Data(hashes::hsetnx);
    "hstrlen" 3 0, ONE, Run::Data(hashes::hstrlen);
    "hvals" 2 0, ONE, Run::Data(hashes::hvals);
    "incr" 2 GROW, ONE, Run::Data(strings::incr);
    "incrby" 3 GROW, ONE, Run::Data(strings::incrby);
    "incrbyfloat" 3 GROW, ONE, Run::Data(strings::incrbyfloat);
    "info" -1 ADMIN, NONE, Run::Engine;
    "keys" 2 0, NONE, Run::Data(keys::keys);
    "lindex" 3 0, ONE, Run::Data(lists::lindex);
    "linsert" 5 GROW, ONE, Run::Data(lists::linsert);
    "llen" 2 0, ONE, Run::Data(lists::llen);
    "lmove" 5 GROW, TWO, Run::Data(lists::lmove);
    "lpop" -2 WRITE, ONE, Run::Data(lists::lpop);
    "lpush" -3 GROW, ONE, Run::Data(lists::lpush);
    "lpushx" -3 GROW, ONE, Run::Data(lists::lpushx);
    "lrange" 4 0, ONE, Run::Data(lists::lrange);
    "lrem" 4 WRITE, ONE, Run::Data(lists::lrem);
    "lset" 4 GROW, ONE, Run::Data(lists::lset);
    "ltrim" 4 WRITE, ONE, Run::Data(lists::ltrim);
    "mget" -2 0, ALL, Run::Data(strings::mget);
    "mset" -3 GROW, (1, -1, 2), Run::Data(strings::mset);
    "msetnx" -3 GROW, (1, -1, 2), Run::Data(strings::msetnx);
    "multi" 1 ADMIN, NONE, Run::Engine;
    "persist" 2 WRITE, ONE, Run::Data(keys::persist);
    "pexpire" -3 WRITE, ONE, Run::Data(keys::pexpire);
    "pexpireat" -3 WRITE, ONE, Run::Data(keys::pexpireat);
    "pexpiretime" 2 0, ONE, Run::Data(keys::pexpiretime);
    "ping" -1 ADMIN | SUBSCRIBED, NONE, Run::Engine;
    "psetex" 4 GROW, ONE, Run::Data(strings::psetex);
    "psubscribe" -2 ADMIN | SUBSCRIBED, NONE, Run::Engine;
    "pttl" 2 0, ONE, Run::Data(keys::pttl);
    "publish" 3 ADMIN, NONE, Run::Engine;
    "pubsub" -2 ADMIN, NONE, Run::Engine;
    "punsubscribe" -1 ADMIN | SUBSCRIBED, NONE, Run::Engine;
    "quit" -1 ADMIN | SUBSCRIBED, NONE, Run::Engine;
    "randomkey" 1 0, NONE, Run::Data(keys::randomkey);
    "rename" 3 WRITE, TWO, Run::Data(keys::rename);
    "renamenx" 3 WRITE, TWO, Run::Data(keys::renamenx);
    "reset" 1 ADMIN | SUBSCRIBED, NONE, Run::Engine;
    "rpop" -2 WRITE, ONE, Run::Data(lists::rpop);
    "rpoplpush" 3 GROW, TWO, Run::Data(lists::rpoplpush);
    "rpush" -3 GROW, ONE, Run::Data(lists::rpush);
    "rpushx" -3 GROW, ONE, Run::Data(lists::rpushx);
    "sadd" -3 GROW, ONE, Run::Data(sets::sadd);
    "scan" -2 0, NONE, Run::Data(keys::scan);
    "scard" 2 0, ONE, Run::Data(sets::scard);
    "sdiff" -2 0, ALL, Run::Data(sets::sdiff);
    "sdiffstore" -3 GROW, ALL, Run::Data(sets::sdiffstore);
    "select" 2 ADMIN, NONE, Run::Engine;
    "set" -3 GROW, ONE, Run::Data(strings::set);
    "setex" 4 GROW, ONE, Run::Data(strings::setex);
    "setnx" 3 GROW, ONE, Run::Data(strings::setnx);
    "setrange" 4 GROW, ONE, Run::Data(strings::setrange);
    "sinter" -2 0, ALL, Run::Data(sets::sinter);
    "sinterstore" -3 GROW, ALL, Run::Data(sets::sinterstore);
    "sismember" 3 0, ONE, Run::Data(sets::sismember);
    "smembers" 2 0, ONE, Run::Data(sets::smembers);
    "smismember" -3 0, ONE, Run::Data(sets::smismember);
    "smove" 4 WRITE, TWO, Run::Data(sets::smove);
    "spop" -2 WRITE, ONE, Run::Data(sets::spop);
    "srandmember" -2 0, ONE, Run::Data(sets::srandmember);
    "srem" -3 WRITE, ONE, Run::Data(sets::srem);
    "sscan" -3 0, ONE, Run::Data(sets::sscan);
    "strlen" 2 0, ONE, Run::Data(strings::strlen);
    "subscribe" -2 ADMIN | SUBSCRIBED, NONE, Run::Engine;
    "substr" 4 0, ONE, Run::Data(strings::getrange);
    "sunion" -2 0, ALL, Run::Data(sets::sunion);
    "sunionstore" -3 GROW, ALL, Run::Data(sets::sunionstore);
    "time" 1 ADMIN, NONE, Run::Engine;
    "touch" -2 0, ALL, Run::Data(keys::exists);
    "ttl" 2 0, ONE, Run::Data(keys::ttl);
    "type" 2 0, ONE, Run::Data(keys::kind);
    "unlink" -2 WRITE, ALL, Run::Data(keys::del);
    "unsubscribe" -1 ADMIN | SUBSCRIBED, NONE, Run::Engine;
};

/// Longest name of a command.
const NAME_BYTES_MAX: usize = 16;

/// The command of this name, in either case.
pub fn find(name: &[u8]) -> Option<&'static Command> {
    let mut lower = [0; NAME_BYTES_MAX];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    // The two that nearly all commands are.
    let at = COMMANDS.binary_search_by(|command| command.name.as_bytes().cmp(lower)).ok()?;
    Some(&COMMANDS[at])
}

/// From `start` to `stop` of a sequence of so many, both counted from its end when negative: what Redis means by a range.
fn range(start: i64, stop: i64, count: usize) -> std::ops::Range<usize> {
    let from_end = |at: i64| if at < 0 { (at.saturating_add(count as i64)).max(0) } else { at };
    let stop = if stop < 0 { stop.saturating_add(count as i64) } else { stop };
    let (from, to) = (from_end(start) as usize, (stop.saturating_add(1)).clamp(0, count as i64) as usize);
    if from >= to { 0..0 } else { from..to }
}

/// Options of the SCAN family: COUNT, MATCH and, where there is one, TYPE.
struct Scan<'a> {
    cursor: u64,
    count: usize,
    pattern: Option<&'a [u8]>,
    kind: Option<&'a [u8]>,
}

/// Most entries that one SCAN walks: what a turn of the loop may take.
const SCAN_MAX: usize = 100_000;

impl<'a> Scan<'a> {
    fn new(args: Args<'a>, cursor: usize, typed: bool) -> Result<Self, Fail> {
        let text = std::str::from_utf8(args.at(cursor)).ok();
        let at = text.and_then(|text| text.parse().ok()).ok_or("ERR invalid cursor")?;
        let mut scan = Self { cursor: at, count: 10, pattern: None, kind: None };
        let mut next = cursor + 1;
        while next < args.len() {
            let value = args.at(next + 1);
            if next + 1 >= args.len() {
                return Err(SYNTAX.into());
            }
            if args.is(next, "count") {
                let count = integer(value).ok_or(NOT_INTEGER)?;
                scan.count = usize::try_from(count).ok().filter(|count| *count > 0).ok_or(SYNTAX)?.min(SCAN_MAX);
            } else if args.is(next, "match") {
                scan.pattern = Some(value);
            } else if typed && args.is(next, "type") {
                scan.kind = Some(value);
            } else {
                return Err(SYNTAX.into());
            }
            next += 2;
        }
        Ok(scan)
    }

    fn fits(&self, key: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| crate::glob::fits(pattern, key))
    }

    fn reply(out: &mut Out, cursor: u64, found: &[&[u8]]) {
        out.array(2);
        out.bulk(cursor.to_string().as_bytes());
        out.array(found.len());
        for one in found {
            out.bulk(one);
        }
    }
}

/// A number with a fraction, as Redis reads it.
fn float(text: &[u8]) -> Result<f64, Fail> {
    let number =
        std::str::from_utf8(text).ok().filter(|text| !text.is_empty()).and_then(|text| text.parse::<f64>().ok());
    number.filter(|number| !number.is_nan()).ok_or(Cow::Borrowed(NOT_FLOAT))
}

/// As Redis writes it: no exponent, no zeros at the end.
fn float_text(number: f64) -> Result<String, Fail> {
    if !number.is_finite() {
        return Err("ERR increment would produce NaN or Infinity".into());
    }
    let text = format!("{number:.17}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    let short = format!("{number}");
    Ok(if short.contains('e') { text.to_owned() } else { short })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(COMMANDS.windows(2).all(|two| two[0].name < two[1].name));
        assert!(COMMANDS.iter().all(|command| command.name.len() <= NAME_BYTES_MAX));
        assert!(COMMANDS.iter().all(|command| find(command.name.to_uppercase().as_bytes()).is_some()));
    }

    #[test]
    fn ranges_are_those_of_redis() {
        assert_eq!(range(0, -1, 3), 0..3);
        assert_eq!(range(-2, -1, 3), 1..3);
        assert_eq!(range(5, 9, 3), 0..0);
        assert_eq!(range(-100, 1, 3), 0..2);
        assert_eq!(range(2, 1, 3), 0..0);
        assert_eq!(range(0, i64::MAX, 3), 0..3);
        assert_eq!(range(i64::MIN, i64::MIN, 3), 0..0);
    }
}
