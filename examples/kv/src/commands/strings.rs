//! Owns the commands on strings of bytes.

use super::{Call, Fail, NOT_INTEGER, OVERFLOW, SYNTAX, WRONG_TYPE, float, float_text, range};
use crate::resp::{BULK_BYTES_MAX, integer};
use crate::store::NEVER;
use crate::value::Value;

const TOO_LONG: &str = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
/// Keys that MGET looks for before it copies the first value: a processor waits for their lines of memory at once.
const SOUGHT_TOGETHER: usize = 16;

pub(super) fn get(call: &mut Call<'_>) -> Result<(), Fail> {
    match call.store.read(call.args.at(1)) {
        None => call.out.null(),
        Some(Value::Text(text)) => call.out.bulk(text),
        Some(_) => return Err(WRONG_TYPE.into()),
    }
    Ok(())
}

/// When a key is to end, out of an option and its number. Zero and less are no time.
fn end(call: &Call<'_>, unit: &[u8], number: &[u8]) -> Result<u64, Fail> {
    let number = integer(number).ok_or(NOT_INTEGER)?;
    let wrong = || Fail::from(format!("ERR invalid expire time in '{}' command", name(call)));
    let (scale, from) = match unit.to_ascii_lowercase().as_slice() {
        b"ex" => (1000, call.store.now_ms as i64),
        b"px" => (1, call.store.now_ms as i64),
        b"exat" => (1000, 0),
        _ => (1, 0),
    };
    if number <= 0 {
        return Err(wrong());
    }
    let at = number.checked_mul(scale).and_then(|span| span.checked_add(from)).ok_or_else(wrong)?;
    Ok(at as u64)
}

fn name(call: &Call<'_>) -> String {
    String::from_utf8_lossy(call.arg(0)).to_lowercase()
}

fn is_unit(word: &[u8]) -> bool {
    [b"ex".as_slice(), b"px", b"exat", b"pxat"].iter().any(|unit| word.eq_ignore_ascii_case(unit))
}

/// Sets a text, and has the log say when it ends.
fn put(call: &mut Call<'_>, key: &[u8], text: &[u8], ends: u64) {
    call.store.set(key, Value::Text(text.to_vec()), ends);
    call.changed();
    if ends != NEVER {
        call.say(&[b"SET", key, text, b"PXAT", ends.to_string().as_bytes()]);
    }
}

pub(super) fn set(call: &mut Call<'_>) -> Result<(), Fail> {
    let (key, text) = (call.arg(1), call.arg(2));
    let (mut ends, mut keeps, mut gets, mut only_if) = (NEVER, false, false, None);
    let mut at = 3;
    while at < call.args.len() {
        let word = call.arg(at);
        if call.args.is(at, "nx") || call.args.is(at, "xx") {
            if only_if.replace(call.args.is(at, "xx")).is_some_and(|before| before != call.args.is(at, "xx")) {
                return Err(SYNTAX.into());
            }
        } else if call.args.is(at, "get") {
            gets = true;
        } else if call.args.is(at, "keepttl") && ends == NEVER {
            keeps = true;
        } else if is_unit(word) && at + 1 < call.args.len() && ends == NEVER && !keeps {
            ends = end(call, word, call.arg(at + 1))?;
            at += 1;
        } else {
            return Err(SYNTAX.into());
        }
        at += 1;
    }
    let old_end = if keeps || only_if.is_some() { call.store.end(key) } else { None };
    if gets {
        // The old value is the reply, whatever becomes of the new one.
        let Call { store, out, .. } = call;
        match store.read(key) {
            None => out.null(),
            Some(Value::Text(text)) => out.bulk(text),
            Some(_) => return Err(WRONG_TYPE.into()),
        }
    }
    if only_if.is_some_and(|exists| exists != old_end.is_some()) {
        if !gets {
            call.out.null();
        }
        return Ok(());
    }
    if keeps {
        ends = old_end.unwrap_or(NEVER);
    }
    put(call, key, text, ends);
    if !gets {
        call.out.ok();
    }
    Ok(())
}

pub(super) fn setex(call: &mut Call<'_>) -> Result<(), Fail> {
    let ends = end(call, b"ex", call.arg(2))?;
    put(call, call.arg(1), call.arg(3), ends);
    call.out.ok();
    Ok(())
}

pub(super) fn psetex(call: &mut Call<'_>) -> Result<(), Fail> {
    let ends = end(call, b"px", call.arg(2))?;
    put(call, call.arg(1), call.arg(3), ends);
    call.out.ok();
    Ok(())
}

pub(super) fn setnx(call: &mut Call<'_>) -> Result<(), Fail> {
    let fresh = call.store.peek(call.arg(1)).is_none();
    if fresh {
        put(call, call.arg(1), call.arg(2), NEVER);
    }
    call.out.integer(i64::from(fresh));
    Ok(())
}

fn old_text(call: &mut Call<'_>) -> Result<bool, Fail> {
    let key = call.arg(1);
    let Call { store, out, .. } = call;
    match store.read(key) {
        None => {
            out.null();
            Ok(false)
        }
        Some(Value::Text(text)) => {
            out.bulk(text);
            Ok(true)
        }
        Some(_) => Err(WRONG_TYPE.into()),
    }
}

pub(super) fn getset(call: &mut Call<'_>) -> Result<(), Fail> {
    old_text(call)?;
    put(call, call.arg(1), call.arg(2), NEVER);
    Ok(())
}

pub(super) fn getdel(call: &mut Call<'_>) -> Result<(), Fail> {
    if old_text(call)? {
        call.store.remove(call.arg(1));
        call.changed();
        call.say(&[b"DEL", call.arg(1)]);
    }
    Ok(())
}

pub(super) fn getex(call: &mut Call<'_>) -> Result<(), Fail> {
    let ends = match call.args.len() {
        2 => None,
        3 if call.args.is(2, "persist") => Some(NEVER),
        4 if is_unit(call.arg(2)) => Some(end(call, call.arg(2), call.arg(3))?),
        _ => return Err(SYNTAX.into()),
    };
    if old_text(call)?
        && let Some(ends) = ends
    {
        let key = call.arg(1);
        call.store.set_end(key, ends);
        call.changed();
        if ends == NEVER {
            call.say(&[b"PERSIST", key]);
        } else {
            call.say(&[b"PEXPIREAT", key, ends.to_string().as_bytes()]);
        }
    }
    Ok(())
}

pub(super) fn mget(call: &mut Call<'_>) -> Result<(), Fail> {
    call.out.array(call.args.len() - 1);
    let mut keys = call.args.from(1);
    while keys.len() > 0 {
        let mut places = [None; SOUGHT_TOGETHER];
        for (place, key) in places.iter_mut().zip(&mut keys) {
            *place = Some(call.store.seek(key));
        }
        for place in places.into_iter().flatten() {
            match place.and_then(|place| call.store.at(place)) {
                Some(Value::Text(text)) => call.out.bulk(text),
                _ => call.out.null(),
            }
        }
    }
    Ok(())
}

fn pairs(call: &Call<'_>) -> Result<usize, Fail> {
    if call.args.len().is_multiple_of(2) {
        return Err(format!("ERR wrong number of arguments for '{}' command", name(call)).into());
    }
    Ok(call.args.len() / 2)
}

fn set_pairs(call: &mut Call<'_>, pairs: usize) {
    for pair in 0..pairs {
        let (key, text) = (call.arg(1 + 2 * pair), call.arg(2 + 2 * pair));
        call.store.set(key, Value::Text(text.to_vec()), NEVER);
        call.changed();
    }
}

pub(super) fn mset(call: &mut Call<'_>) -> Result<(), Fail> {
    let pairs = pairs(call)?;
    set_pairs(call, pairs);
    call.out.ok();
    Ok(())
}

pub(super) fn msetnx(call: &mut Call<'_>) -> Result<(), Fail> {
    let pairs = pairs(call)?;
    let fresh = (0..pairs).all(|pair| call.store.peek(call.args.at(1 + 2 * pair)).is_none());
    if fresh {
        set_pairs(call, pairs);
    }
    call.out.integer(i64::from(fresh));
    Ok(())
}

/// Changes a text, which is empty where there is none.
fn edit<R>(call: &mut Call<'_>, edit: impl FnOnce(&mut Vec<u8>) -> R) -> Result<R, Fail> {
    let key = call.arg(1);
    if !matches!(call.store.peek(key), None | Some(Value::Text(_))) {
        return Err(WRONG_TYPE.into());
    }
    let done = call.store.change_or(
        key,
        || Value::Text(Vec::new()),
        |value| match value {
            Value::Text(text) => edit(text),
            _ => unreachable!("its kind was just looked at"),
        },
    );
    call.changed();
    Ok(done)
}

pub(super) fn append(call: &mut Call<'_>) -> Result<(), Fail> {
    let more = call.arg(2);
    if call.text(call.arg(1))?.map_or(0, <[u8]>::len) + more.len() > BULK_BYTES_MAX {
        return Err(TOO_LONG.into());
    }
    let length = edit(call, |text| {
        text.extend_from_slice(more);
        text.len()
    })?;
    call.out.integer(length as i64);
    Ok(())
}

pub(super) fn strlen(call: &mut Call<'_>) -> Result<(), Fail> {
    let length = call.text(call.arg(1))?.map_or(0, <[u8]>::len);
    call.out.integer(length as i64);
    Ok(())
}

pub(super) fn getrange(call: &mut Call<'_>) -> Result<(), Fail> {
    let (start, stop) = (call.int(2)?, call.int(3)?);
    let key = call.arg(1);
    let Call { store, out, .. } = call;
    match store.read(key) {
        None => out.bulk(b""),
        Some(Value::Text(text)) => out.bulk(&text[range(start, stop, text.len())]),
        Some(_) => return Err(WRONG_TYPE.into()),
    }
    Ok(())
}

pub(super) fn setrange(call: &mut Call<'_>) -> Result<(), Fail> {
    let at = usize::try_from(call.int(2)?).map_err(|_| "ERR offset is out of range")?;
    let new = call.arg(3);
    let old = call.text(call.arg(1))?.map_or(0, <[u8]>::len);
    if new.is_empty() {
        call.out.integer(old as i64);
        return Ok(());
    }
    if at.saturating_add(new.len()) > BULK_BYTES_MAX {
        return Err(TOO_LONG.into());
    }
    let length = edit(call, |text| {
        text.resize(text.len().max(at + new.len()), 0);
        text[at..at + new.len()].copy_from_slice(new);
        text.len()
    })?;
    call.out.integer(length as i64);
    Ok(())
}

fn add(call: &mut Call<'_>, by: i64) -> Result<(), Fail> {
    let old = match call.text(call.arg(1))? {
        None => 0,
        Some(text) => integer(text).ok_or(NOT_INTEGER)?,
    };
    let new = old.checked_add(by).ok_or(OVERFLOW)?;
    edit(call, |text| *text = new.to_string().into_bytes())?;
    call.out.integer(new);
    Ok(())
}

pub(super) fn incr(call: &mut Call<'_>) -> Result<(), Fail> {
    add(call, 1)
}

pub(super) fn decr(call: &mut Call<'_>) -> Result<(), Fail> {
    add(call, -1)
}

pub(super) fn incrby(call: &mut Call<'_>) -> Result<(), Fail> {
    let by = call.int(2)?;
    add(call, by)
}

pub(super) fn decrby(call: &mut Call<'_>) -> Result<(), Fail> {
    let by = call.int(2)?.checked_neg().ok_or("ERR decrement would overflow")?;
    add(call, by)
}

pub(super) fn incrbyfloat(call: &mut Call<'_>) -> Result<(), Fail> {
    let by = float(call.arg(2))?;
    let key = call.arg(1);
    let old = match call.text(key)? {
        None => 0.0,
        Some(text) => float(text)?,
    };
    let new = float_text(old + by)?;
    edit(call, |text| *text = new.clone().into_bytes())?;
    // Sums of fractions may differ by a bit elsewhere: the log has the outcome.
    call.say(&[b"SET", key, new.as_bytes(), b"KEEPTTL"]);
    call.out.bulk(new.as_bytes());
    Ok(())
}
