//! Owns the commands on sets. What is taken by chance is logged by name.

use super::{Call, Fail, NOT_INTEGER, Scan, WRONG_TYPE};
use crate::store::NEVER;
use crate::table::Table;
use crate::value::Value;

type Set = Table<()>;

fn set<'s>(call: &'s mut Call<'_>, key: &[u8]) -> Result<Option<&'s Set>, Fail> {
    match call.store.read(key) {
        None => Ok(None),
        Some(Value::Set(set)) => Ok(Some(set)),
        Some(_) => Err(WRONG_TYPE.into()),
    }
}

pub(super) fn sadd(call: &mut Call<'_>) -> Result<(), Fail> {
    set(call, call.arg(1))?;
    let args = call.args;
    let added = call.store.change_or(
        args.at(1),
        || Value::Set(Box::default()),
        |value| match value {
            Value::Set(set) => args.from(2).filter(|member| set.insert(member, ()).is_none()).count(),
            _ => 0,
        },
    );
    call.store.dirty += added as u64;
    call.out.integer(added as i64);
    Ok(())
}

pub(super) fn srem(call: &mut Call<'_>) -> Result<(), Fail> {
    set(call, call.arg(1))?;
    let args = call.args;
    let removed = call.store.change(args.at(1), |value| match value {
        Value::Set(set) => args.from(2).filter(|member| set.remove(member).is_some()).count(),
        _ => 0,
    });
    let removed = removed.unwrap_or(0);
    call.store.dirty += removed as u64;
    call.out.integer(removed as i64);
    Ok(())
}

pub(super) fn sismember(call: &mut Call<'_>) -> Result<(), Fail> {
    let member = call.arg(2);
    let there = set(call, call.arg(1))?.is_some_and(|set| set.get(member).is_some());
    call.out.integer(i64::from(there));
    Ok(())
}

pub(super) fn smismember(call: &mut Call<'_>) -> Result<(), Fail> {
    let members = call.args.from(2);
    let there: Vec<bool> = match set(call, call.arg(1))? {
        None => members.map(|_| false).collect(),
        Some(set) => members.map(|member| set.get(member).is_some()).collect(),
    };
    call.out.array(there.len());
    there.iter().for_each(|there| call.out.integer(i64::from(*there)));
    Ok(())
}

pub(super) fn scard(call: &mut Call<'_>) -> Result<(), Fail> {
    let count = set(call, call.arg(1))?.map_or(0, Table::len);
    call.out.integer(count as i64);
    Ok(())
}

pub(super) fn smembers(call: &mut Call<'_>) -> Result<(), Fail> {
    match call.store.read(call.args.at(1)) {
        None => call.out.set(0),
        Some(Value::Set(set)) => {
            call.out.set(set.len());
            set.iter().for_each(|(member, ())| call.out.bulk(member));
        }
        Some(_) => return Err(WRONG_TYPE.into()),
    }
    Ok(())
}

/// Some member, by chance.
fn some(call: &mut Call<'_>, key: &[u8]) -> Result<Option<Vec<u8>>, Fail> {
    let chance = call.store.chance();
    let Some(set) = set(call, key)? else { return Ok(None) };
    Ok(set.some(chance).and_then(|at| set.entry(at)).map(|(member, ())| member.to_vec()))
}

pub(super) fn spop(call: &mut Call<'_>) -> Result<(), Fail> {
    let key = call.arg(1);
    let count = match call.args.len() {
        2 => None,
        _ => Some(usize::try_from(call.int(2)?).map_err(|_| "ERR value is out of range, must be positive")?),
    };
    let mut popped = Vec::new();
    for _ in 0..count.unwrap_or(1) {
        let Some(member) = some(call, key)? else { break };
        call.store.change(key, |value| match value {
            Value::Set(set) => set.remove(&member).is_some(),
            _ => false,
        });
        popped.push(member);
    }
    if !popped.is_empty() {
        call.store.dirty += popped.len() as u64;
        let mut args: Vec<&[u8]> = vec![b"SREM", key];
        args.extend(popped.iter().map(Vec::as_slice));
        call.say(&args);
    }
    match count {
        None => call.out.bulk_or_null(popped.first().map(Vec::as_slice)),
        Some(_) => {
            call.out.set(popped.len());
            popped.iter().for_each(|member| call.out.bulk(member));
        }
    }
    Ok(())
}

/// Most members that SRANDMEMBER repeats.
const REPEATED_MAX: i64 = 1 << 20;

pub(super) fn srandmember(call: &mut Call<'_>) -> Result<(), Fail> {
    let key = call.arg(1);
    if call.args.len() == 2 {
        let member = some(call, key)?;
        call.out.bulk_or_null(member.as_deref());
        return Ok(());
    }
    let count = call.int(2)?;
    if !(-REPEATED_MAX..=i64::MAX).contains(&count) {
        return Err(NOT_INTEGER.into());
    }
    let chance = call.store.chance();
    let Some(set) = set(call, key)? else {
        call.out.array(0);
        return Ok(());
    };
    let members: Vec<Vec<u8>> = if count >= 0 {
        // Any so many that differ: neighbours from a random one on.
        let all = set.iter().map(|(member, ())| member.to_vec());
        let skip = (chance % set.len() as u64) as usize;
        let mut all: Vec<Vec<u8>> = all.collect();
        all.rotate_left(skip);
        all.truncate(usize::try_from(count).unwrap_or(usize::MAX));
        all
    } else {
        let mut found = Vec::new();
        for _ in 0..count.unsigned_abs() {
            found.extend(some(call, key)?);
        }
        found
    };
    call.out.array(members.len());
    members.iter().for_each(|member| call.out.bulk(member));
    Ok(())
}

pub(super) fn smove(call: &mut Call<'_>) -> Result<(), Fail> {
    let (from, to, member) = (call.arg(1), call.arg(2), call.arg(3));
    set(call, to)?;
    let there = set(call, from)?.is_some_and(|set| set.get(member).is_some());
    if there && from != to {
        call.store.change(from, |value| match value {
            Value::Set(set) => set.remove(member).is_some(),
            _ => false,
        });
        call.store.change_or(
            to,
            || Value::Set(Box::default()),
            |value| match value {
                Value::Set(set) => set.insert(member, ()).is_none(),
                _ => false,
            },
        );
        call.changed();
    }
    call.out.integer(i64::from(there));
    Ok(())
}

#[derive(Clone, Copy)]
enum Algebra {
    Inter,
    Union,
    Diff,
}

fn combined(call: &mut Call<'_>, first: usize, how: Algebra) -> Result<Set, Fail> {
    let mut result: Option<Set> = None;
    for key in call.args.from(first) {
        let other = set(call, key)?;
        let Some(so_far) = &mut result else {
            let mut copy = Set::default();
            other.iter().flat_map(|set| set.iter()).for_each(|(member, ())| _ = copy.insert(member, ()));
            result = Some(copy);
            continue;
        };
        match (how, other) {
            (Algebra::Union, Some(other)) => other.iter().for_each(|(member, ())| _ = so_far.insert(member, ())),
            (Algebra::Diff, Some(other)) => other.iter().for_each(|(member, ())| _ = so_far.remove(member)),
            (Algebra::Inter, other) => {
                let absent = |member: &[u8]| other.is_none_or(|other| other.get(member).is_none());
                let gone: Vec<Vec<u8>> =
                    so_far.iter().filter(|(member, ())| absent(member)).map(|(member, ())| member.to_vec()).collect();
                gone.iter().for_each(|member| _ = so_far.remove(member));
            }
            (_, None) => {}
        }
    }
    Ok(result.unwrap_or_default())
}

fn tell(call: &mut Call<'_>, how: Algebra) -> Result<(), Fail> {
    let result = combined(call, 1, how)?;
    call.out.set(result.len());
    result.iter().for_each(|(member, ())| call.out.bulk(member));
    Ok(())
}

fn keep(call: &mut Call<'_>, how: Algebra) -> Result<(), Fail> {
    let result = combined(call, 2, how)?;
    let count = result.len();
    if count == 0 {
        call.store.remove(call.args.at(1));
    } else {
        call.store.set(call.args.at(1), Value::Set(Box::new(result)), NEVER);
    }
    call.changed();
    call.out.integer(count as i64);
    Ok(())
}

pub(super) fn sinter(call: &mut Call<'_>) -> Result<(), Fail> {
    tell(call, Algebra::Inter)
}

pub(super) fn sunion(call: &mut Call<'_>) -> Result<(), Fail> {
    tell(call, Algebra::Union)
}

pub(super) fn sdiff(call: &mut Call<'_>) -> Result<(), Fail> {
    tell(call, Algebra::Diff)
}

pub(super) fn sinterstore(call: &mut Call<'_>) -> Result<(), Fail> {
    keep(call, Algebra::Inter)
}

pub(super) fn sunionstore(call: &mut Call<'_>) -> Result<(), Fail> {
    keep(call, Algebra::Union)
}

pub(super) fn sdiffstore(call: &mut Call<'_>) -> Result<(), Fail> {
    keep(call, Algebra::Diff)
}

pub(super) fn sscan(call: &mut Call<'_>) -> Result<(), Fail> {
    let scan = Scan::new(call.args, 2, false)?;
    let mut found: Vec<&[u8]> = Vec::new();
    let cursor = match call.store.read(call.args.at(1)) {
        None => 0,
        Some(Value::Set(set)) => set.scan(scan.cursor, scan.count, |member, ()| {
            if scan.fits(member) {
                found.push(member);
            }
        }),
        Some(_) => return Err(WRONG_TYPE.into()),
    };
    Scan::reply(call.out, cursor, &found);
    Ok(())
}
