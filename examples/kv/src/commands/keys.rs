//! Owns the commands on keys, whatever they hold.

use super::{Call, Fail, NO_KEY, SYNTAX, Scan};
use crate::glob;
use crate::resp::command;
use crate::store::{Entry, NEVER};
use crate::value::Value;

pub(super) fn del(call: &mut Call<'_>) -> Result<(), Fail> {
    let count = call.args.from(1).filter(|key| call.store.remove(key)).count();
    call.store.dirty += count as u64;
    call.out.integer(count as i64);
    Ok(())
}

pub(super) fn exists(call: &mut Call<'_>) -> Result<(), Fail> {
    let count = call.args.from(1).filter(|key| call.store.read(key).is_some()).count();
    call.out.integer(count as i64);
    Ok(())
}

pub(super) fn kind(call: &mut Call<'_>) -> Result<(), Fail> {
    let kind = call.store.peek(call.args.at(1)).map_or("none", Value::kind);
    call.out.simple(kind);
    Ok(())
}

pub(super) fn dbsize(call: &mut Call<'_>) -> Result<(), Fail> {
    call.out.integer(call.store.len() as i64);
    Ok(())
}

pub(super) fn flushall(call: &mut Call<'_>) -> Result<(), Fail> {
    if call.args.len() > 2 || call.args.len() == 2 && !call.args.is(1, "async") && !call.args.is(1, "sync") {
        return Err(SYNTAX.into());
    }
    call.store.clear();
    call.changed();
    call.out.ok();
    Ok(())
}

pub(super) fn randomkey(call: &mut Call<'_>) -> Result<(), Fail> {
    let key = call.store.some_key();
    call.out.bulk_or_null(key.as_deref());
    Ok(())
}

pub(super) fn keys(call: &mut Call<'_>) -> Result<(), Fail> {
    let (pattern, store) = (call.arg(1), &*call.store);
    let live = store.table().iter().filter(|(key, entry)| !store.has_ended(entry) && glob::fits(pattern, key));
    let found: Vec<&[u8]> = live.map(|(key, _)| key).collect();
    call.out.array(found.len());
    found.iter().for_each(|key| call.out.bulk(key));
    Ok(())
}

pub(super) fn scan(call: &mut Call<'_>) -> Result<(), Fail> {
    let scan = Scan::new(call.args, 1, true)?;
    let store = &*call.store;
    let mut found = Vec::new();
    let cursor = store.table().scan(scan.cursor, scan.count, |key, entry: &Entry| {
        let typed = scan.kind.is_none_or(|kind| kind.eq_ignore_ascii_case(entry.value.kind().as_bytes()));
        if typed && !store.has_ended(entry) && scan.fits(key) {
            found.push(key);
        }
    });
    Scan::reply(call.out, cursor, &found);
    Ok(())
}

fn left(call: &mut Call<'_>, tell: impl FnOnce(u64, u64) -> i64) {
    let now = call.store.now_ms;
    let left = match call.store.end(call.args.at(1)) {
        None => -2,
        Some(NEVER) => -1,
        Some(ends) => tell(ends, now),
    };
    call.out.integer(left);
}

pub(super) fn ttl(call: &mut Call<'_>) -> Result<(), Fail> {
    left(call, |ends, now| ((ends.saturating_sub(now) + 500) / 1000) as i64);
    Ok(())
}

pub(super) fn pttl(call: &mut Call<'_>) -> Result<(), Fail> {
    left(call, |ends, now| ends.saturating_sub(now) as i64);
    Ok(())
}

pub(super) fn expiretime(call: &mut Call<'_>) -> Result<(), Fail> {
    left(call, |ends, _| ((ends + 500) / 1000) as i64);
    Ok(())
}

pub(super) fn pexpiretime(call: &mut Call<'_>) -> Result<(), Fail> {
    left(call, |ends, _| ends as i64);
    Ok(())
}

fn end_at(call: &mut Call<'_>, scale: i64, from: u64) -> Result<(), Fail> {
    let name = String::from_utf8_lossy(call.arg(0)).to_lowercase();
    let number = call.int(2)?;
    let ends = number.checked_mul(scale).and_then(|span| span.checked_add(from as i64));
    let ends = ends.ok_or_else(|| Fail::from(format!("ERR invalid expire time in '{name}' command")))?.max(0) as u64;
    let key = call.arg(1);
    let Some(old) = call.store.end(key) else {
        call.out.integer(0);
        return Ok(());
    };
    let mut wanted = true;
    for word in call.args.from(3) {
        wanted &= match word.to_ascii_lowercase().as_slice() {
            b"nx" => old == NEVER,
            b"xx" => old != NEVER,
            b"gt" => old != NEVER && ends > old,
            b"lt" => ends < old,
            _ => return Err(format!("ERR Unsupported option {}", String::from_utf8_lossy(word)).into()),
        };
    }
    if wanted {
        call.changed();
        if ends <= call.store.now_ms && !call.store.loading {
            call.store.remove(key);
            call.say(&[b"DEL", key]);
        } else {
            call.store.set_end(key, ends);
            call.say(&[b"PEXPIREAT", key, ends.to_string().as_bytes()]);
        }
    }
    call.out.integer(i64::from(wanted));
    Ok(())
}

pub(super) fn expire(call: &mut Call<'_>) -> Result<(), Fail> {
    end_at(call, 1000, call.store.now_ms)
}

pub(super) fn pexpire(call: &mut Call<'_>) -> Result<(), Fail> {
    end_at(call, 1, call.store.now_ms)
}

pub(super) fn expireat(call: &mut Call<'_>) -> Result<(), Fail> {
    end_at(call, 1000, 0)
}

pub(super) fn pexpireat(call: &mut Call<'_>) -> Result<(), Fail> {
    end_at(call, 1, 0)
}

pub(super) fn persist(call: &mut Call<'_>) -> Result<(), Fail> {
    let key = call.arg(1);
    let had = call.store.end(key).is_some_and(|ends| ends != NEVER);
    if had {
        call.store.set_end(key, NEVER);
        call.changed();
    }
    call.out.integer(i64::from(had));
    Ok(())
}

fn moved(call: &mut Call<'_>, only_new: bool) -> Result<bool, Fail> {
    let (from, to) = (call.arg(1), call.arg(2));
    let ends = call.store.end(from).ok_or(NO_KEY)?;
    if from == to {
        return Ok(!only_new);
    }
    if only_new && call.store.peek(to).is_some() {
        return Ok(false);
    }
    let entry = call.store.take(from).ok_or(NO_KEY)?;
    call.store.set(to, entry.value, ends);
    call.changed();
    Ok(true)
}

pub(super) fn rename(call: &mut Call<'_>) -> Result<(), Fail> {
    moved(call, false)?;
    call.out.ok();
    Ok(())
}

pub(super) fn renamenx(call: &mut Call<'_>) -> Result<(), Fail> {
    let done = moved(call, true)?;
    call.out.integer(i64::from(done));
    Ok(())
}

pub(super) fn copy(call: &mut Call<'_>) -> Result<(), Fail> {
    let replaces = call.args.len() == 4 && call.args.is(3, "replace");
    if call.args.len() > 3 && !replaces {
        return Err(SYNTAX.into());
    }
    let (from, to) = (call.arg(1), call.arg(2));
    if from == to {
        return Err("ERR source and destination objects are the same".into());
    }
    let ends = call.store.end(from);
    if ends.is_none() || !replaces && call.store.peek(to).is_some() {
        call.out.integer(0);
        return Ok(());
    }
    let copied = match call.store.peek(from) {
        Some(Value::Text(text)) => Value::Text(text.clone()),
        Some(Value::List(list)) => {
            let mut copy = crate::value::List::default();
            list.items().iter().for_each(|item| copy.push(false, item));
            Value::List(Box::new(copy))
        }
        Some(Value::Hash(hash)) => {
            let mut copy = crate::value::Hash::default();
            hash.fields().iter().for_each(|(field, value)| _ = copy.set(field, value));
            Value::Hash(Box::new(copy))
        }
        Some(Value::Set(set)) => {
            let mut copy = crate::table::Table::default();
            set.iter().for_each(|(member, ())| _ = copy.insert(member, ()));
            Value::Set(Box::new(copy))
        }
        None => return Err(NO_KEY.into()),
    };
    call.store.set(to, copied, ends.unwrap_or(NEVER));
    call.changed();
    call.out.integer(1);
    Ok(())
}

/// Items per command where a collection is written out.
const PER_COMMAND: usize = 64;

/// The commands that make a key what it is.
pub(crate) fn write_out(out: &mut Vec<u8>, key: &[u8], entry: &Entry) {
    let mut chunks = |name: &[u8], items: &mut dyn Iterator<Item = &[u8]>| {
        let mut args = vec![name, key];
        for item in items {
            args.push(item);
            if args.len() == 2 + PER_COMMAND {
                command(out, &args);
                args.truncate(2);
            }
        }
        if args.len() > 2 {
            command(out, &args);
        }
    };
    match &entry.value {
        Value::Text(text) => chunks(b"SET", &mut std::iter::once(text.as_slice())),
        Value::List(list) => chunks(b"RPUSH", &mut list.items().iter().map(Vec::as_slice)),
        Value::Hash(hash) => {
            let both = hash.fields().iter().flat_map(|(field, value)| [field, value.as_slice()]);
            chunks(b"HSET", &mut both.into_iter());
        }
        Value::Set(set) => chunks(b"SADD", &mut set.iter().map(|(member, ())| member)),
    }
    if entry.ends() != NEVER {
        command(out, &[b"PEXPIREAT", key, entry.ends().to_string().as_bytes()]);
    }
}
