//! Owns the commands on hashes.

use super::{Call, Fail, OVERFLOW, Scan, WRONG_TYPE, float, float_text};
use crate::resp::integer;
use crate::value::{Hash, Value};

fn hash<'s>(call: &'s mut Call<'_>) -> Result<Option<&'s Hash>, Fail> {
    match call.store.read(call.args.at(1)) {
        None => Ok(None),
        Some(Value::Hash(hash)) => Ok(Some(hash)),
        Some(_) => Err(WRONG_TYPE.into()),
    }
}

fn is_hash_or_none(call: &mut Call<'_>) -> Result<(), Fail> {
    match call.store.peek(call.args.at(1)) {
        None | Some(Value::Hash(_)) => Ok(()),
        Some(_) => Err(WRONG_TYPE.into()),
    }
}

/// Changes the hash, which is made if there is none.
fn edit<R>(call: &mut Call<'_>, edit: impl FnOnce(&mut Hash) -> R) -> Result<R, Fail> {
    is_hash_or_none(call)?;
    let done = call.store.change_or(
        call.args.at(1),
        || Value::Hash(Box::default()),
        |value| match value {
            Value::Hash(hash) => edit(hash),
            _ => unreachable!("its kind was just looked at"),
        },
    );
    call.changed();
    Ok(done)
}

pub(super) fn hset(call: &mut Call<'_>) -> Result<(), Fail> {
    let args = call.args;
    if !args.len().is_multiple_of(2) {
        let name = String::from_utf8_lossy(args.at(0)).to_lowercase();
        return Err(format!("ERR wrong number of arguments for '{name}' command").into());
    }
    let fresh =
        edit(call, |hash| (2..args.len()).step_by(2).filter(|at| hash.set(args.at(*at), args.at(at + 1))).count())?;
    if args.is(0, "hmset") {
        call.out.ok()
    } else {
        call.out.integer(fresh as i64)
    }
    Ok(())
}

pub(super) fn hsetnx(call: &mut Call<'_>) -> Result<(), Fail> {
    let args = call.args;
    let there = hash(call)?.is_some_and(|hash| hash.fields().get(args.at(2)).is_some());
    if !there {
        edit(call, |hash| hash.set(args.at(2), args.at(3)))?;
    }
    call.out.integer(i64::from(!there));
    Ok(())
}

pub(super) fn hget(call: &mut Call<'_>) -> Result<(), Fail> {
    match call.store.read(call.args.at(1)) {
        None => call.out.null(),
        Some(Value::Hash(hash)) => call.out.bulk_or_null(hash.fields().get(call.args.at(2)).map(Vec::as_slice)),
        Some(_) => return Err(WRONG_TYPE.into()),
    }
    Ok(())
}

pub(super) fn hmget(call: &mut Call<'_>) -> Result<(), Fail> {
    hash(call)?;
    let Some(Value::Hash(hash)) = call.store.peek(call.args.at(1)) else {
        call.out.array(call.args.len() - 2);
        call.args.from(2).for_each(|_| call.out.null());
        return Ok(());
    };
    call.out.array(call.args.len() - 2);
    for field in call.args.from(2) {
        call.out.bulk_or_null(hash.fields().get(field).map(Vec::as_slice));
    }
    Ok(())
}

fn each(call: &mut Call<'_>, fields: bool, values: bool) -> Result<(), Fail> {
    let hash = match call.store.read(call.args.at(1)) {
        None => None,
        Some(Value::Hash(hash)) => Some(hash),
        Some(_) => return Err(WRONG_TYPE.into()),
    };
    let count = hash.map_or(0, |hash| hash.fields().len());
    if fields && values {
        call.out.map(count)
    } else {
        call.out.array(count)
    }
    for (field, value) in hash.iter().flat_map(|hash| hash.fields().iter()) {
        if fields {
            call.out.bulk(field);
        }
        if values {
            call.out.bulk(value);
        }
    }
    Ok(())
}

pub(super) fn hgetall(call: &mut Call<'_>) -> Result<(), Fail> {
    each(call, true, true)
}

pub(super) fn hkeys(call: &mut Call<'_>) -> Result<(), Fail> {
    each(call, true, false)
}

pub(super) fn hvals(call: &mut Call<'_>) -> Result<(), Fail> {
    each(call, false, true)
}

pub(super) fn hlen(call: &mut Call<'_>) -> Result<(), Fail> {
    let count = hash(call)?.map_or(0, |hash| hash.fields().len());
    call.out.integer(count as i64);
    Ok(())
}

pub(super) fn hexists(call: &mut Call<'_>) -> Result<(), Fail> {
    let field = call.arg(2);
    let there = hash(call)?.is_some_and(|hash| hash.fields().get(field).is_some());
    call.out.integer(i64::from(there));
    Ok(())
}

pub(super) fn hstrlen(call: &mut Call<'_>) -> Result<(), Fail> {
    let field = call.arg(2);
    let length = hash(call)?.and_then(|hash| hash.fields().get(field)).map_or(0, Vec::len);
    call.out.integer(length as i64);
    Ok(())
}

pub(super) fn hdel(call: &mut Call<'_>) -> Result<(), Fail> {
    is_hash_or_none(call)?;
    let args = call.args;
    let removed = call.store.change(args.at(1), |value| match value {
        Value::Hash(hash) => args.from(2).filter(|field| hash.remove(field)).count(),
        _ => 0,
    });
    let removed = removed.unwrap_or(0);
    call.store.dirty += removed as u64;
    call.out.integer(removed as i64);
    Ok(())
}

fn field_text(call: &mut Call<'_>) -> Result<Option<Vec<u8>>, Fail> {
    let field = call.arg(2);
    Ok(hash(call)?.and_then(|hash| hash.fields().get(field)).cloned())
}

pub(super) fn hincrby(call: &mut Call<'_>) -> Result<(), Fail> {
    let by = call.int(3)?;
    let old = match field_text(call)? {
        None => 0,
        Some(text) => integer(&text).ok_or("ERR hash value is not an integer")?,
    };
    let new = old.checked_add(by).ok_or(OVERFLOW)?;
    let field = call.arg(2);
    edit(call, |hash| hash.set(field, new.to_string().as_bytes()))?;
    call.out.integer(new);
    Ok(())
}

pub(super) fn hincrbyfloat(call: &mut Call<'_>) -> Result<(), Fail> {
    let by = float(call.arg(3))?;
    let old = match field_text(call)? {
        None => 0.0,
        Some(text) => float(&text).map_err(|_| "ERR hash value is not a float")?,
    };
    let new = float_text(old + by)?;
    let (key, field) = (call.arg(1), call.arg(2));
    edit(call, |hash| hash.set(field, new.as_bytes()))?;
    call.say(&[b"HSET", key, field, new.as_bytes()]);
    call.out.bulk(new.as_bytes());
    Ok(())
}

pub(super) fn hscan(call: &mut Call<'_>) -> Result<(), Fail> {
    let scan = Scan::new(call.args, 2, false)?;
    let mut found: Vec<&[u8]> = Vec::new();
    let cursor = match call.store.read(call.args.at(1)) {
        None => 0,
        Some(Value::Hash(hash)) => hash.fields().scan(scan.cursor, scan.count, |field, value| {
            if scan.fits(field) {
                found.extend([field, value]);
            }
        }),
        Some(_) => return Err(WRONG_TYPE.into()),
    };
    Scan::reply(call.out, cursor, &found);
    Ok(())
}
