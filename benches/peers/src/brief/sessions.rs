//! How sessions begin: the handshake alone, the first reply with nothing known, by a ticket, with early data, and after the end of the
//! session before. Over real sockets; and in this process, without a kernel.
#![expect(clippy::disallowed_methods, reason = "it measures")]

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use load::PeerKind;
use load::certs::Credentials;
use load::handshake::{
    InMemory, Kind, ROUND, SealaneClient, SealaneServer, Span, TcpClient, TcpServer, Times, TlsClient, TlsServer,
};
#[cfg(feature = "heavy")]
use load::handshake::{QuicClient, QuicServer};
use micro::Beginnings;
use serde::Serialize;

use super::{Effort, IN_PROCESS, SOCKETS, name, rounded};

/// A beginning, on one transport.
#[derive(Debug, Serialize)]
pub(super) struct Beginning {
    /// `sockets` or `in-process`.
    pub(super) place: &'static str,
    /// `handshake`, `fresh`, `resumed`, `0-rtt`, `reconnect`, or `steady`: a round trip in an open session.
    pub(super) what: String,
    pub(super) peer: String,
    pub(super) p50_us: f64,
    /// Empty for `steady`.
    pub(super) p95_us: Option<f64>,
    /// p50 over that of `steady` of the same peer, over sockets.
    pub(super) to_steady: Option<f64>,
    /// Sealane's p50 over this one.
    pub(super) sealane_ratio: Option<f64>,
}

/// What is measured: its name, how the session begins, and what of it is timed.
const WHAT: [(&str, Kind, Span); 5] = [
    ("handshake", Kind::Full, Span::Handshake),
    ("fresh", Kind::Full, Span::FirstReply),
    ("resumed", Kind::Resumed, Span::FirstReply),
    ("0-rtt", Kind::EarlyData, Span::FirstReply),
    ("reconnect", Kind::Full, Span::Reconnect),
];

enum Client {
    Sealane(Box<SealaneClient>),
    Tcp(TcpClient),
    Tls(Box<TlsClient>),
    #[cfg(feature = "heavy")]
    Quic(Box<QuicClient>),
}

impl Client {
    fn spans(&mut self, span: Span, times: usize) -> Result<()> {
        match self {
            Self::Sealane(client) => client.spans(span, times),
            Self::Tcp(client) => client.spans(span, times),
            Self::Tls(client) => client.spans(span, times),
            #[cfg(feature = "heavy")]
            Self::Quic(client) => client.spans(span, times),
        }
    }

    fn times(&self) -> &Times {
        match self {
            Self::Sealane(client) => &client.times,
            Self::Tcp(client) => &client.times,
            Self::Tls(client) => &client.times,
            #[cfg(feature = "heavy")]
            Self::Quic(client) => &client.times,
        }
    }
}

/// Servers that answer meanwhile.
struct Servers {
    sealane: SealaneServer,
    tcp: TcpServer,
    tls: TlsServer,
    #[cfg(feature = "heavy")]
    quic: QuicServer,
}

impl Servers {
    fn start(credentials: &Credentials) -> Result<Self> {
        let identity = &credentials.server;
        Ok(Self {
            sealane: SealaneServer::start(identity)?,
            tcp: TcpServer::start()?,
            tls: TlsServer::start(identity)?,
            #[cfg(feature = "heavy")]
            quic: QuicServer::start(identity)?,
        })
    }

    /// `None` where a transport has nothing like it: TCP no keys, kernel TLS no handshake.
    fn client(&self, peer: PeerKind, kind: Kind, authority: &str) -> Result<Option<Client>> {
        Ok(match peer {
            PeerKind::Sealane => Some(Client::Sealane(Box::new(SealaneClient::new(authority, kind, self.sealane.at)?))),
            PeerKind::Tcp if kind == Kind::Full => Some(Client::Tcp(TcpClient::new(self.tcp.at))),
            PeerKind::Tls => Some(Client::Tls(Box::new(TlsClient::new(authority, kind, self.tls.at)?))),
            #[cfg(feature = "heavy")]
            PeerKind::Quinn => Some(Client::Quic(Box::new(QuicClient::new(authority, kind, self.quic.at)?))),
            _ => None,
        })
    }
}

/// All of them, peers in turns.
pub(super) fn measure(
    peers: &[PeerKind],
    credentials: &Credentials,
    effort: Effort,
    say: &mut dyn FnMut(&str),
) -> Result<Vec<Beginning>> {
    let servers = Servers::start(credentials)?;
    let mut all = Vec::new();
    for (what, kind, span) in WHAT {
        say(what);
        let mut lanes = Vec::new();
        for &peer in peers {
            if let Some(client) = servers.client(peer, kind, &credentials.authority)? {
                lanes.push((peer, client));
            }
        }
        let mut done = 0;
        while done < effort.count {
            let round = ROUND.min(effort.count - done);
            for (_, client) in &mut lanes {
                client.spans(span, round)?;
            }
            done += round;
        }
        all.extend(beginnings(SOCKETS, what, lanes.iter().map(|(peer, client)| (name(*peer), client.times()))));
    }
    Ok(all)
}

/// The rows of what was timed; Sealane's is the first.
fn beginnings<'a>(place: &'static str, what: &str, times: impl Iterator<Item = (String, &'a Times)>) -> Vec<Beginning> {
    let mut rows: Vec<Beginning> = Vec::new();
    for (peer, times) in times {
        let p50_us = rounded(times.percentile(50));
        let ours = rows.first().map_or(p50_us, |ours| ours.p50_us);
        rows.push(Beginning {
            place,
            what: what.to_owned(),
            peer,
            p50_us,
            p95_us: Some(rounded(times.percentile(95))),
            to_steady: None,
            sealane_ratio: Some(rounded(ours / p50_us)),
        });
    }
    rows
}

/// Both sides in one thread of this process: the floor of every handshake on this machine, and what others publish as theirs.
pub(super) fn in_process(
    credentials: &Credentials,
    effort: Effort,
    say: &mut dyn FnMut(&str),
) -> Result<Vec<Beginning>> {
    let unix_seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let begin = |both: &mut Beginnings| {
        both.begin();
        Ok(())
    };
    let mut all = Vec::new();
    for (what, kind, span) in WHAT.into_iter().filter(|(.., span)| *span != Span::Handshake) {
        say(&format!("in process {what}"));
        let mut both = Beginnings::new(credentials, kind, unix_seconds);
        let memory = InMemory::new(&credentials.authority, &credentials.server, kind)?;
        let (mut ours, mut theirs) = (Times::default(), Times::default());
        let mut done = 0;
        // In turns, and without pauses, as others measure what is in memory.
        while done < effort.count {
            let round = ROUND.min(effort.count - done);
            both.begin();
            for _ in 0..round {
                if span != Span::Reconnect {
                    both.end();
                    ours.once(|| begin(&mut both), || Ok(()))?;
                } else {
                    let again = || {
                        both.end();
                        begin(&mut both)
                    };
                    ours.once(again, || Ok(()))?;
                }
            }
            both.end();
            for _ in 0..round {
                theirs.once(|| memory.one(true), || Ok(()))?;
            }
            done += round;
        }
        // What rustls does at an end is nothing.
        let rows = [("sealane", &ours), ("tls", &theirs)].map(|(peer, times)| (peer.to_owned(), times)).into_iter();
        all.extend(beginnings(IN_PROCESS, what, rows));
    }
    Ok(all)
}

/// Adds round trips in an open session over sockets, in microseconds by peer, and what the others there are to them.
pub(super) fn add_steady(sessions: &mut Vec<Beginning>, steady: &BTreeMap<String, f64>) {
    for session in sessions.iter_mut().filter(|session| session.place == SOCKETS) {
        session.to_steady = steady.get(&session.peer).map(|steady| rounded(session.p50_us / steady));
    }
    let ours = steady.get("sealane");
    for (peer, p50_us) in steady {
        sessions.push(Beginning {
            place: SOCKETS,
            what: "steady".to_owned(),
            peer: peer.clone(),
            p50_us: *p50_us,
            p95_us: None,
            to_steady: Some(1.0),
            sealane_ratio: ours.map(|ours| rounded(ours / p50_us)),
        });
    }
}
