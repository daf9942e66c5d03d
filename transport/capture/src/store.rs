//! Owns the database of results: SQLite, one file, written in transactions of what was found since the last.

use std::path::Path;

use rusqlite::{Connection, params};

use crate::analyze::{Analyzer, rpc_name};
use crate::counts::{Event, MessageRow};
use crate::error::Error;

/// What marks a file as ours: only such a one is made anew.
const APPLICATION_ID: i32 = i32::from_be_bytes(*b"Slne");

const SCHEMA: &str = "
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
BEGIN;
DROP VIEW IF EXISTS replays;
DROP TABLE IF EXISTS totals;
DROP TABLE IF EXISTS flows;
DROP TABLE IF EXISTS messages;
DROP TABLE IF EXISTS events;
CREATE TABLE totals (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE flows (session TEXT NOT NULL, lane INTEGER NOT NULL, source TEXT NOT NULL, target TEXT NOT NULL, keys INTEGER NOT NULL,
  packets INTEGER NOT NULL, bytes INTEGER NOT NULL, messages INTEGER NOT NULL);
CREATE TABLE messages (session TEXT NOT NULL, lane INTEGER NOT NULL, rpc TEXT NOT NULL, bundle INTEGER NOT NULL, kind TEXT,
  first_ns INTEGER NOT NULL, last_ns INTEGER NOT NULL, complete_ns INTEGER, pause_ns INTEGER NOT NULL, length INTEGER NOT NULL,
  total INTEGER, seen INTEGER NOT NULL, records INTEGER NOT NULL, gaps INTEGER NOT NULL, lost INTEGER NOT NULL,
  duplicates INTEGER NOT NULL, retransmissions INTEGER NOT NULL, out_of_order INTEGER NOT NULL, conflicts INTEGER NOT NULL,
  attempt INTEGER NOT NULL, unscheduled INTEGER, granted INTEGER, grants INTEGER, resends INTEGER, acked_ns INTEGER);
CREATE TABLE events (time_ns INTEGER NOT NULL, session TEXT NOT NULL, lane INTEGER NOT NULL, rpc TEXT NOT NULL, bundle INTEGER NOT NULL,
  what TEXT NOT NULL, record INTEGER NOT NULL, attempt INTEGER NOT NULL, value INTEGER NOT NULL);
CREATE VIEW replays AS SELECT session, lane, rpc, bundle, count(*) AS replays FROM events WHERE what = 'replay'
  GROUP BY session, lane, rpc, bundle;
COMMIT;
";

const MESSAGE: &str = "INSERT INTO messages VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19,?20,?21,?22,?23,?24,?25)";
const EVENT: &str = "INSERT INTO events VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9)";

/// A database of results.
#[derive(Debug)]
pub struct Store(Connection);

fn session(id: u64) -> String {
    format!("{id:016x}")
}

impl Store {
    /// The database in that file, made anew: it can be made again from the capture, so nothing guards it against a loss of power.
    ///
    /// # Errors
    /// The database's; [`Error::ForeignDatabase`] where there is one that this did not make, which stays as it is.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let connection = Connection::open(path)?;
        let id: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
        let things: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if things > 0 && id != APPLICATION_ID {
            return Err(Error::ForeignDatabase(path.to_owned()));
        }
        connection.execute_batch(SCHEMA)?;
        connection.pragma_update(None, "application_id", APPLICATION_ID)?;
        Ok(Self(connection))
    }

    /// Adds messages and events.
    ///
    /// # Errors
    /// The database's.
    pub fn add(&mut self, messages: &[MessageRow], events: &[Event]) -> Result<(), Error> {
        let transaction = self.0.transaction()?;
        {
            let mut insert = transaction.prepare(MESSAGE)?;
            for row in messages {
                let told = row.told.as_deref();
                insert.execute(params![
                    session(row.which.session),
                    row.which.steer,
                    rpc_name(row.which.rpc),
                    row.which.bundle,
                    told.and_then(|told| told.kind),
                    row.first_ns as i64,
                    row.last_ns as i64,
                    row.complete_ns.map(|ns| ns as i64),
                    row.pause_ns as i64,
                    row.length,
                    row.total,
                    row.seen,
                    row.records,
                    row.gaps,
                    row.lost,
                    row.duplicates,
                    row.retransmissions,
                    row.out_of_order,
                    row.conflicts,
                    row.attempt,
                    told.map(|told| told.unscheduled),
                    told.map(|told| told.granted),
                    told.map(|told| told.grants),
                    told.map(|told| told.resends),
                    told.and_then(|told| told.acked_ns).map(|ns| ns as i64),
                ])?;
            }
            let mut insert = transaction.prepare(EVENT)?;
            for event in events {
                insert.execute(params![
                    event.time_ns as i64,
                    session(event.which.session),
                    event.which.steer,
                    rpc_name(event.which.rpc),
                    event.which.bundle,
                    event.what.name(),
                    event.index,
                    event.attempt,
                    event.value,
                ])?;
            }
        }
        Ok(transaction.commit()?)
    }

    /// Adds what is known at the end.
    ///
    /// # Errors
    /// The database's.
    pub fn finish(mut self, analyzer: &Analyzer) -> Result<(), Error> {
        let transaction = self.0.transaction()?;
        {
            let mut insert = transaction.prepare("INSERT INTO totals VALUES (?1,?2)")?;
            let sealed = analyzer.sealed_counts().into_iter().flat_map(|sealed| sealed.each());
            for (name, value) in analyzer.counts().each().chain(sealed) {
                insert.execute(params![name, value as i64])?;
            }
            let mut insert = transaction.prepare("INSERT INTO flows VALUES (?1,?2,?3,?4,?5,?6,?7,?8)")?;
            for row in analyzer.flows() {
                insert.execute(params![
                    session(row.session),
                    row.steer,
                    row.from,
                    row.to,
                    row.keys,
                    row.packets as i64,
                    row.bytes as i64,
                    row.messages as i64,
                ])?;
            }
        }
        transaction.commit()?;
        self.0.close().map_err(|(_, error)| Error::Database(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_it_made_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, foreign) = (folder.path().join("ours"), folder.path().join("foreign"));
        for _ in 0..2 {
            drop(Store::create(&ours).unwrap());
        }
        let other = Connection::open(&foreign).unwrap();
        other.execute_batch("CREATE TABLE events (kept TEXT); INSERT INTO events VALUES ('yes');").unwrap();
        drop(other);
        let error = Store::create(&foreign).unwrap_err();
        assert!(matches!(error, Error::ForeignDatabase(_)), "{error}");
        let kept: String =
            Connection::open(&foreign).unwrap().query_row("SELECT kept FROM events", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, "yes");
    }

    /// A file that is no database is not touched either.
    #[test]
    fn another_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        let text = "something else\n".repeat(100);
        std::fs::write(&path, &text).unwrap();
        assert!(Store::create(&path).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}
