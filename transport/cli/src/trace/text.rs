//! Owns reading what `sealane::TimeTrace` writes.

use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;

/// One thing that happened.
#[derive(Debug, PartialEq)]
pub(super) struct Mark {
    pub(super) nanos: u64,
    pub(super) step: String,
    pub(super) peer: String,
    pub(super) rpc: String,
    pub(super) value: u64,
}

/// What was slow.
#[derive(Debug, PartialEq)]
pub(super) struct Cause {
    pub(super) peer: String,
    pub(super) rpc: String,
    pub(super) nanos: u64,
}

/// A time trace.
#[derive(Debug, Default)]
pub(super) struct Trace {
    pub(super) cause: Option<Cause>,
    pub(super) peers: BTreeMap<String, String>,
    pub(super) marks: Vec<Mark>,
}

impl Trace {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut lines = text.lines().zip(1..);
        let Some(("sealane-time-trace 1", _)) = lines.next() else {
            bail!("it does not begin with sealane-time-trace 1")
        };
        let mut trace = Self::default();
        for (line, number) in lines {
            trace.take(line).with_context(|| format!("line {number}: {line:?}"))?;
        }
        ensure!(trace.marks.is_sorted_by_key(|mark| mark.nanos), "its times go back");
        Ok(trace)
    }

    fn take(&mut self, line: &str) -> Result<()> {
        let number = |word: &str| word.parse().with_context(|| format!("{word:?} is no number"));
        match *line.split(' ').collect::<Vec<_>>() {
            ["cause", peer, rpc, nanos] => {
                self.cause = Some(Cause { peer: peer.to_owned(), rpc: rpc.to_owned(), nanos: number(nanos)? });
            }
            ["peer", peer, address] => _ = self.peers.insert(peer.to_owned(), address.to_owned()),
            [nanos, step, peer, rpc, value] => self.marks.push(Mark {
                nanos: number(nanos)?,
                step: step.to_owned(),
                peer: peer.to_owned(),
                rpc: rpc.to_owned(),
                value: number(value)?,
            }),
            _ => bail!("neither a mark nor a peer"),
        }
        Ok(())
    }

    /// Where a peer is, if that is known.
    pub(super) fn peer(&self, peer: &str) -> String {
        self.peers.get(peer).cloned().unwrap_or_else(|| format!("peer {peer}"))
    }

    /// What happened to the call that was slow. Names of sessions are used again, so only what is of its time.
    pub(super) fn slow(&self) -> Vec<&Mark> {
        let Some(cause) = &self.cause else { return Vec::new() };
        let its = |mark: &&Mark| mark.peer == cause.peer && mark.rpc == cause.rpc;
        let end = self.marks.iter().rev().find(its).map_or(0, |last| last.nanos);
        // A peer's request arrives before it is complete, which is where its time begins.
        let begun = end.saturating_sub(cause.nanos.saturating_mul(2));
        self.marks.iter().filter(its).filter(|mark| mark.nanos >= begun).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "sealane-time-trace 1\ncause 3 c7 2000\npeer 3 127.0.0.1:7\n\
                        1000 submitted 3 c7 5\n1500 sent 3 c8 1\n3000 response 3 c7 5\n";

    #[test]
    fn what_was_written_is_read() {
        let trace = Trace::parse(TEXT).expect("a trace");
        assert_eq!(trace.cause, Some(Cause { peer: "3".into(), rpc: "c7".into(), nanos: 2000 }));
        assert_eq!((trace.peer("3").as_str(), trace.peer("4").as_str()), ("127.0.0.1:7", "peer 4"));
        let steps: Vec<&str> = trace.slow().iter().map(|mark| mark.step.as_str()).collect();
        assert_eq!((trace.marks.len(), steps), (3, vec!["submitted", "response"]));
    }

    #[test]
    fn nonsense_is_refused_with_its_line() {
        for (text, why) in [
            ("", "begin"),
            ("sealane-time-trace 1\nx sent 3 c7 5\n", "line 2"),
            ("sealane-time-trace 1\n5 sent 3 c7\n", "line 2"),
            ("sealane-time-trace 1\n5 sent 3 c7 1\n4 sent 3 c7 1\n", "go back"),
        ] {
            let refused = format!("{:#}", Trace::parse(text).expect_err(text));
            assert!(refused.contains(why), "{refused}");
        }
    }
}
