//! Owns the commands about a client or the server: what they tell, and what they may change.

use crate::commands::flags::{ADMIN, GROWS, WRITE};
use crate::commands::{COMMANDS, Command, Fail, SYNTAX, find};
use crate::engine::{Client, Engine, Queue};
use crate::glob;
use crate::log::{Fsync, Log};
use crate::resp::{Args, Out, integer};
use crate::store::Eviction;

/// The version of Redis whose behaviour is followed.
pub const REDIS_VERSION: &str = "7.0.15";

/// Runs one of them.
pub(crate) fn run(
    engine: &mut Engine,
    client: &mut Client,
    found: &Command,
    args: Args<'_>,
    out: &mut Out,
) -> Result<(), Fail> {
    match found.name {
        "ping" => return ping(client, args, out),
        "echo" => out.bulk(args.at(1)),
        "select" => match integer(args.at(1)) {
            Some(0) => out.ok(),
            Some(_) => return Err("ERR DB index is out of range".into()),
            None => return Err("ERR value is not an integer or out of range".into()),
        },
        "quit" => {
            client.closing = true;
            out.ok();
        }
        "reset" => {
            engine.leave(client);
            client.queue = None;
            client.name.clear();
            (client.is_v3, out.is_v3) = (false, false);
            out.simple("RESET");
        }
        "auth" => {
            return Err("ERR AUTH <password> called without any password configured for the default user. \
                        Are you sure your configuration is correct?"
                .into());
        }
        "hello" => return hello(client, args, out),
        "client" => return about_client(client, args, out),
        "command" => return about_commands(args, out),
        "config" => return config(engine, args, out),
        "info" => {
            let text = info(engine);
            if out.is_v3 {
                out.line(b'=', format!("{}\r\ntxt:{text}", text.len() + 4).as_bytes());
            } else {
                out.bulk(text.as_bytes());
            }
        }
        "time" => {
            let now = engine.store.now_ms;
            out.array(2);
            out.bulk((now / 1000).to_string().as_bytes());
            out.bulk((now % 1000 * 1000).to_string().as_bytes());
        }
        "bgrewriteaof" => {
            engine.begin_rewrite()?;
            out.simple("Background append only file rewriting started");
        }
        "multi" => {
            if client.queue.is_some() {
                return Err("ERR MULTI calls can not be nested".into());
            }
            client.queue = Some(Queue::default());
            out.ok();
        }
        "discard" => {
            client.queue.take().ok_or("ERR DISCARD without MULTI")?;
            out.ok();
        }
        "publish" => {
            let told = engine.channels.publish(args.at(1), args.at(2));
            out.integer(told as i64);
        }
        "subscribe" | "psubscribe" => join(engine, client, args, out, found.name == "psubscribe"),
        "unsubscribe" | "punsubscribe" => leave(engine, client, args, out, found.name == "punsubscribe"),
        "pubsub" => return about_channels(engine, args, out),
        other => return Err(format!("ERR '{other}' has nobody to run it").into()),
    }
    Ok(())
}

fn ping(client: &Client, args: Args<'_>, out: &mut Out) -> Result<(), Fail> {
    if args.len() > 2 {
        return Err("ERR wrong number of arguments for 'ping' command".into());
    }
    if client.is_subscribed() && !client.is_v3 {
        out.array(2);
        out.bulk(b"pong");
        out.bulk(args.at(1));
    } else if args.len() == 2 {
        out.bulk(args.at(1));
    } else {
        out.simple("PONG");
    }
    Ok(())
}

fn hello(client: &mut Client, args: Args<'_>, out: &mut Out) -> Result<(), Fail> {
    let mut is_v3 = client.is_v3;
    let mut name = None;
    if args.len() > 1 {
        is_v3 = match integer(args.at(1)) {
            Some(2) => false,
            Some(3) => true,
            Some(_) => return Err("NOPROTO unsupported protocol version".into()),
            None => return Err("ERR Protocol version is not an integer or out of range".into()),
        };
        let mut at = 2;
        while at < args.len() {
            if args.is(at, "setname") && at + 1 < args.len() {
                name = Some(args.at(at + 1).to_vec());
                at += 2;
            } else if args.is(at, "auth") && at + 2 < args.len() {
                return Err("WRONGPASS invalid username-password pair or user is disabled.".into());
            } else {
                return Err(
                    format!("ERR Syntax error in HELLO option '{}'", String::from_utf8_lossy(args.at(at))).into()
                );
            }
        }
    }
    client.name = name.unwrap_or(std::mem::take(&mut client.name));
    (client.is_v3, out.is_v3) = (is_v3, is_v3);
    out.map(7);
    for (key, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        out.bulk(key.as_bytes());
        out.bulk(value.as_bytes());
    }
    out.bulk(b"proto");
    out.integer(if is_v3 { 3 } else { 2 });
    out.bulk(b"id");
    out.integer(client.id as i64);
    for (key, value) in [("mode", "standalone"), ("role", "master")] {
        out.bulk(key.as_bytes());
        out.bulk(value.as_bytes());
    }
    out.bulk(b"modules");
    out.array(0);
    Ok(())
}

fn about_client(client: &mut Client, args: Args<'_>, out: &mut Out) -> Result<(), Fail> {
    let word = String::from_utf8_lossy(args.at(1)).to_lowercase();
    match (word.as_str(), args.len()) {
        ("id", 2) => out.integer(client.id as i64),
        ("getname", 2) if client.name.is_empty() => out.null(),
        ("getname", 2) => out.bulk(&client.name),
        ("setname", 3) => {
            if args.at(2).iter().any(|byte| *byte <= b' ') {
                return Err("ERR Client names cannot contain spaces, newlines or special characters.".into());
            }
            client.name = args.at(2).to_vec();
            out.ok();
        }
        ("setinfo", 4) | ("no-evict", 3) | ("no-touch", 3) => out.ok(),
        ("info", 2) => {
            let name = String::from_utf8_lossy(&client.name);
            let (channels, patterns) = (client.channels.len(), client.patterns.len());
            let resp = if client.is_v3 { 3 } else { 2 };
            let text = format!(
                "id={} name={name} door={} db=0 sub={channels} psub={patterns} resp={resp}\n",
                client.id, client.door
            );
            out.bulk(text.as_bytes());
        }
        _ => return Err(unknown_word("client", args)),
    }
    Ok(())
}

fn unknown_word(of: &str, args: Args<'_>) -> Fail {
    let word = String::from_utf8_lossy(args.at(1)).into_owned();
    format!("ERR unknown subcommand or wrong number of arguments for '{word}'. Try {} HELP.", of.to_uppercase()).into()
}

fn describe(command: &Command, out: &mut Out) {
    out.array(10);
    out.bulk(command.name.as_bytes());
    out.integer(command.arity.into());
    let flags = [(WRITE, "write"), (GROWS, "denyoom"), (ADMIN, "fast")];
    let has: Vec<&str> = flags.iter().filter(|(flag, _)| command.has(*flag)).map(|(_, name)| *name).collect();
    let reads = !command.has(WRITE) && !command.has(ADMIN);
    out.set(has.len() + usize::from(reads));
    has.iter().for_each(|name| out.simple(name));
    if reads {
        out.simple("readonly");
    }
    let (first, last, step) = command.keys;
    [first, last, step].iter().for_each(|number| out.integer((*number).into()));
    for _ in 0..4 {
        out.array(0);
    }
}

fn about_commands(args: Args<'_>, out: &mut Out) -> Result<(), Fail> {
    if args.len() == 1 {
        out.array(COMMANDS.len());
        COMMANDS.iter().for_each(|command| describe(command, out));
    } else if args.is(1, "count") {
        out.integer(COMMANDS.len() as i64);
    } else if args.is(1, "docs") {
        // Nothing to read: what a command does is Redis's documentation.
        out.map(0);
    } else if args.is(1, "list") {
        out.array(COMMANDS.len());
        COMMANDS.iter().for_each(|command| out.bulk(command.name.as_bytes()));
    } else if args.is(1, "info") {
        out.array(args.len() - 2);
        for name in args.from(2) {
            match find(name) {
                Some(command) => describe(command, out),
                None => out.null_array(),
            }
        }
    } else {
        return Err(unknown_word("command", args));
    }
    Ok(())
}

fn settings(engine: &Engine) -> Vec<(&'static str, String)> {
    let log = engine.log.as_ref();
    vec![
        ("appendfsync", log.map_or("everysec", |log| log.fsync.name()).to_owned()),
        ("appendonly", if log.is_some() { "yes" } else { "no" }.to_owned()),
        ("databases", "1".to_owned()),
        ("maxmemory", engine.limits.memory_bytes_max.to_string()),
        ("maxmemory-policy", engine.limits.eviction.name().to_owned()),
        ("proto-max-bulk-len", crate::resp::BULK_BYTES_MAX.to_string()),
        ("save", String::new()),
        ("timeout", "0".to_owned()),
    ]
}

fn config(engine: &mut Engine, args: Args<'_>, out: &mut Out) -> Result<(), Fail> {
    if args.is(1, "get") && args.len() > 2 {
        let fits = |name: &str| args.from(2).any(|pattern| glob::fits(&pattern.to_ascii_lowercase(), name.as_bytes()));
        let found: Vec<(&str, String)> = settings(engine).into_iter().filter(|(name, _)| fits(name)).collect();
        out.map(found.len());
        for (name, value) in found {
            out.bulk(name.as_bytes());
            out.bulk(value.as_bytes());
        }
    } else if args.is(1, "set") && args.len() == 4 {
        set(engine, args)?;
        out.ok();
    } else if args.is(1, "resetstat") && args.len() == 2 {
        engine.counts.commands = 0;
        engine.store.counts = crate::store::Counts::default();
        out.ok();
    } else {
        return Err(unknown_word("config", args));
    }
    Ok(())
}

fn set(engine: &mut Engine, args: Args<'_>) -> Result<(), Fail> {
    let name = String::from_utf8_lossy(args.at(2)).to_lowercase();
    let value = String::from_utf8_lossy(args.at(3)).to_lowercase();
    let failed =
        |why: &str| Fail::from(format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"));
    match name.as_str() {
        "maxmemory" => {
            let bytes = memory(&value).ok_or_else(|| failed("argument must be a memory value"))?;
            engine.limits.memory_bytes_max = bytes;
        }
        "maxmemory-policy" => {
            let how = Eviction::parse(&value).ok_or_else(|| {
                failed("argument(s) must be one of the following: noeviction, allkeys-lru, volatile-lru")
            })?;
            engine.limits.eviction = how;
        }
        "appendfsync" => {
            let fsync = Fsync::parse(&value)
                .ok_or_else(|| failed("argument(s) must be one of the following: everysec, always, no"))?;
            let log = engine.log.as_mut().ok_or_else(|| failed("there is no append only file"))?;
            log.fsync = fsync;
        }
        _ => return Err(failed("can't set it while the server runs")),
    }
    Ok(())
}

/// Bytes as Redis's configuration writes them: `100mb`, `1g`, `4096`.
pub fn memory(text: &str) -> Option<usize> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    digits.parse::<usize>().ok()?.checked_mul(unit)
}

fn info(engine: &Engine) -> String {
    let (store, counts) = (&engine.store, engine.counts);
    let log = engine.log.as_ref();
    let uptime = store.now_ms.saturating_sub(engine.started_ms) / 1000;
    let bytes = store.bytes();
    let written = if log.and_then(Log::failure).is_some() { "err" } else { "ok" };
    let mut text = format!(
        "# Server\r\nredis_version:{REDIS_VERSION}\r\nredis_mode:standalone\r\nserver_name:sealane-kv\r\n\
         process_id:{}\r\nuptime_in_seconds:{uptime}\r\n\r\n",
        std::process::id()
    );
    text += &format!("# Clients\r\nconnected_clients:{}\r\n\r\n", counts.connected);
    text += &format!(
        "# Memory\r\nused_memory:{bytes}\r\nmaxmemory:{}\r\nmaxmemory_policy:{}\r\n\r\n",
        engine.limits.memory_bytes_max,
        engine.limits.eviction.name()
    );
    text += &format!(
        "# Persistence\r\nloading:0\r\naof_enabled:{}\r\naof_rewrite_in_progress:{}\r\naof_last_write_status:{written}\r\n\
         aof_current_size:{}\r\n\r\n",
        u8::from(log.is_some()),
        u8::from(log.is_some_and(Log::is_rewriting)),
        log.map_or(0, Log::bytes)
    );
    text += &format!(
        "# Stats\r\ntotal_connections_received:{}\r\ntotal_commands_processed:{}\r\nexpired_keys:{}\r\n\
         evicted_keys:{}\r\nkeyspace_hits:{}\r\nkeyspace_misses:{}\r\n\r\n",
        counts.clients,
        counts.commands,
        store.counts.expired,
        store.counts.evicted,
        store.counts.hits,
        store.counts.misses
    );
    text += "# Replication\r\nrole:master\r\nconnected_slaves:0\r\n\r\n# Keyspace\r\n";
    if !store.is_empty() {
        text += &format!("db0:keys={},expires={},avg_ttl=0\r\n", store.len(), store.ending());
    }
    text
}

fn told(client: &Client, word: &str, name: Option<&[u8]>, out: &mut Out) {
    out.push(3);
    out.bulk(word.as_bytes());
    out.bulk_or_null(name);
    out.integer((client.channels.len() + client.patterns.len()) as i64);
}

fn join(engine: &mut Engine, client: &mut Client, args: Args<'_>, out: &mut Out, pattern: bool) {
    for name in args.from(1) {
        engine.channels.join(client.id, name, pattern);
        let of = if pattern { &mut client.patterns } else { &mut client.channels };
        of.insert(name.to_vec());
        told(client, if pattern { "psubscribe" } else { "subscribe" }, Some(name), out);
    }
}

fn leave(engine: &mut Engine, client: &mut Client, args: Args<'_>, out: &mut Out, pattern: bool) {
    let word = if pattern { "punsubscribe" } else { "unsubscribe" };
    let of = if pattern { &client.patterns } else { &client.channels };
    let named: Vec<Vec<u8>> = args.from(1).map(<[u8]>::to_vec).collect();
    let names = if named.is_empty() { of.iter().cloned().collect() } else { named };
    if names.is_empty() {
        told(client, word, None, out);
    }
    for name in names {
        engine.channels.leave(client.id, &name, pattern);
        let of = if pattern { &mut client.patterns } else { &mut client.channels };
        of.remove(&name);
        told(client, word, Some(&name), out);
    }
}

fn about_channels(engine: &Engine, args: Args<'_>, out: &mut Out) -> Result<(), Fail> {
    if args.is(1, "channels") && args.len() <= 3 {
        let names = engine.channels.names((args.len() == 3).then(|| args.at(2)));
        out.array(names.len());
        names.iter().for_each(|name| out.bulk(name));
    } else if args.is(1, "numsub") {
        out.array(2 * (args.len() - 2));
        for name in args.from(2) {
            out.bulk(name);
            out.integer(engine.channels.listeners(name) as i64);
        }
    } else if args.is(1, "numpat") && args.len() == 2 {
        out.integer(engine.channels.patterns() as i64);
    } else if args.is(1, "help") {
        return Err(SYNTAX.into());
    } else {
        return Err(unknown_word("pubsub", args));
    }
    Ok(())
}
