//! Owns the commands on lists. Those that wait for an item are missing.

use super::{Call, Fail, NO_KEY, OUT_OF_RANGE, SYNTAX, WRONG_TYPE, range};
use crate::value::{List, Value};

fn list<'s>(call: &'s mut Call<'_>, key: usize) -> Result<Option<&'s List>, Fail> {
    match call.store.read(call.args.at(key)) {
        None => Ok(None),
        Some(Value::List(list)) => Ok(Some(list)),
        Some(_) => Err(WRONG_TYPE.into()),
    }
}

/// Changes a list that exists; `None` when it does not.
fn edit<R>(call: &mut Call<'_>, edit: impl FnOnce(&mut List) -> R) -> Result<Option<R>, Fail> {
    list(call, 1)?;
    let done = call.store.change(call.args.at(1), |value| match value {
        Value::List(list) => edit(list),
        _ => unreachable!("its kind was just looked at"),
    });
    Ok(done)
}

fn push(call: &mut Call<'_>, left: bool, only_existing: bool) -> Result<(), Fail> {
    let exists = list(call, 1)?.is_some();
    if only_existing && !exists {
        call.out.integer(0);
        return Ok(());
    }
    let args = call.args;
    let count = call.store.change_or(
        args.at(1),
        || Value::List(Box::default()),
        |value| match value {
            Value::List(list) => {
                args.from(2).for_each(|item| list.push(left, item));
                list.items().len()
            }
            _ => 0,
        },
    );
    call.changed();
    call.out.integer(count as i64);
    Ok(())
}

pub(super) fn lpush(call: &mut Call<'_>) -> Result<(), Fail> {
    push(call, true, false)
}

pub(super) fn rpush(call: &mut Call<'_>) -> Result<(), Fail> {
    push(call, false, false)
}

pub(super) fn lpushx(call: &mut Call<'_>) -> Result<(), Fail> {
    push(call, true, true)
}

pub(super) fn rpushx(call: &mut Call<'_>) -> Result<(), Fail> {
    push(call, false, true)
}

fn pop(call: &mut Call<'_>, left: bool) -> Result<(), Fail> {
    let count = match call.args.len() {
        2 => None,
        3 => {
            let wrong = "ERR value is out of range, must be positive";
            Some(usize::try_from(call.int(2).map_err(|_| wrong)?).map_err(|_| wrong)?)
        }
        _ => {
            let name = if left { "lpop" } else { "rpop" };
            return Err(format!("ERR wrong number of arguments for '{name}' command").into());
        }
    };
    let popped = edit(call, |list| (0..count.unwrap_or(1)).map_while(|_| list.pop(left)).collect::<Vec<Vec<u8>>>())?;
    call.store.dirty += popped.as_ref().map_or(0, Vec::len) as u64;
    match (popped, count) {
        (None, None) => call.out.null(),
        (None, Some(_)) => call.out.null_array(),
        (Some(items), None) => call.out.bulk_or_null(items.first().map(Vec::as_slice)),
        (Some(items), Some(_)) => {
            call.out.array(items.len());
            items.iter().for_each(|item| call.out.bulk(item));
        }
    }
    Ok(())
}

pub(super) fn lpop(call: &mut Call<'_>) -> Result<(), Fail> {
    pop(call, true)
}

pub(super) fn rpop(call: &mut Call<'_>) -> Result<(), Fail> {
    pop(call, false)
}

pub(super) fn llen(call: &mut Call<'_>) -> Result<(), Fail> {
    let count = list(call, 1)?.map_or(0, |list| list.items().len());
    call.out.integer(count as i64);
    Ok(())
}

pub(super) fn lrange(call: &mut Call<'_>) -> Result<(), Fail> {
    let (start, stop) = (call.int(2)?, call.int(3)?);
    match call.store.read(call.args.at(1)) {
        None => call.out.array(0),
        Some(Value::List(list)) => {
            let range = range(start, stop, list.items().len());
            call.out.array(range.len());
            list.items().range(range).for_each(|item| call.out.bulk(item));
        }
        Some(_) => return Err(WRONG_TYPE.into()),
    }
    Ok(())
}

/// An index, counted from the end when negative.
fn index(at: i64, count: usize) -> Option<usize> {
    let at = if at < 0 { at.checked_add(count as i64)? } else { at };
    usize::try_from(at).ok().filter(|at| *at < count)
}

pub(super) fn lindex(call: &mut Call<'_>) -> Result<(), Fail> {
    let at = call.int(2)?;
    match call.store.read(call.args.at(1)) {
        None => call.out.null(),
        Some(Value::List(list)) => {
            let item = index(at, list.items().len()).and_then(|at| list.items().get(at));
            call.out.bulk_or_null(item.map(Vec::as_slice));
        }
        Some(_) => return Err(WRONG_TYPE.into()),
    }
    Ok(())
}

pub(super) fn lset(call: &mut Call<'_>) -> Result<(), Fail> {
    let (at, item) = (call.int(2)?, call.arg(3));
    let done = edit(call, |list| index(at, list.items().len()).is_some_and(|at| list.replace(at, item)))?;
    if !done.ok_or(NO_KEY)? {
        return Err(OUT_OF_RANGE.into());
    }
    call.changed();
    call.out.ok();
    Ok(())
}

pub(super) fn ltrim(call: &mut Call<'_>) -> Result<(), Fail> {
    let (start, stop) = (call.int(2)?, call.int(3)?);
    edit(call, |list| {
        let range = range(start, stop, list.items().len());
        list.keep(range.start, range.end);
    })?;
    call.changed();
    call.out.ok();
    Ok(())
}

pub(super) fn lrem(call: &mut Call<'_>) -> Result<(), Fail> {
    let (count, item) = (call.int(2)?, call.arg(3));
    let removed = edit(call, |list| {
        let most = if count == 0 { usize::MAX } else { count.unsigned_abs() as usize };
        let fits = |(at, one): (usize, &Vec<u8>)| (one == item).then_some(at);
        let mut places: Vec<usize> = if count < 0 {
            list.items().iter().enumerate().rev().filter_map(fits).take(most).collect()
        } else {
            list.items().iter().enumerate().filter_map(fits).take(most).collect()
        };
        places.sort_unstable();
        places.iter().rev().for_each(|at| list.remove(*at));
        places.len()
    })?;
    let removed = removed.unwrap_or(0);
    call.store.dirty += removed as u64;
    call.out.integer(removed as i64);
    Ok(())
}

pub(super) fn linsert(call: &mut Call<'_>) -> Result<(), Fail> {
    let after = match (call.args.is(2, "before"), call.args.is(2, "after")) {
        (true, _) => 0,
        (_, true) => 1,
        _ => return Err(SYNTAX.into()),
    };
    let (pivot, item) = (call.arg(3), call.arg(4));
    let count = edit(call, |list| match list.items().iter().position(|one| one == pivot) {
        Some(at) => {
            list.insert(at + after, item);
            list.items().len() as i64
        }
        None => -1,
    })?;
    let count = count.unwrap_or(0);
    if count > 0 {
        call.changed();
    }
    call.out.integer(count);
    Ok(())
}

fn side(call: &Call<'_>, at: usize) -> Result<bool, Fail> {
    match (call.args.is(at, "left"), call.args.is(at, "right")) {
        (true, _) => Ok(true),
        (_, true) => Ok(false),
        _ => Err(SYNTAX.into()),
    }
}

fn over(call: &mut Call<'_>, from_left: bool, to_left: bool) -> Result<(), Fail> {
    list(call, 1)?;
    list(call, 2)?;
    let Some(Some(item)) = edit(call, |list| list.pop(from_left))? else {
        call.out.null();
        return Ok(());
    };
    call.store.change_or(
        call.args.at(2),
        || Value::List(Box::default()),
        |value| {
            if let Value::List(list) = value {
                list.push(to_left, &item);
            }
        },
    );
    call.changed();
    call.out.bulk(&item);
    Ok(())
}

pub(super) fn lmove(call: &mut Call<'_>) -> Result<(), Fail> {
    let (from, to) = (side(call, 3)?, side(call, 4)?);
    over(call, from, to)
}

pub(super) fn rpoplpush(call: &mut Call<'_>) -> Result<(), Fail> {
    over(call, false, true)
}
