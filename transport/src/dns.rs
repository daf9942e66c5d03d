//! Owns finding published tickets in DNS: TXT records of `_sealane.NAME`, asked for by hickory-resolver. DNS need not be trusted: a
//! ticket is judged by its signature, and who forges an answer makes the client do without one.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;

use crate::error::Error;
use crate::ticket::{Ticket, TicketSource};

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Tickets in DNS: the TXT record of `_sealane.NAME` that [`Ticket::to_txt`] wrote. Answers are kept for as long as they say, so give
/// the records a TTL below half of the tickets' lifetime.
pub struct TicketDns {
    resolver: TokioResolver,
    runtime: tokio::runtime::Runtime,
}

impl TicketDns {
    /// By the system's resolvers (`/etc/resolv.conf`).
    ///
    /// # Errors
    /// [`Error::Config`] when that cannot be read.
    pub fn system() -> Result<Self, Error> {
        let builder = TokioResolver::builder_tokio();
        let resolver = builder.and_then(|builder| builder.build());
        Self::over(resolver.map_err(|error| Error::Config(format!("the system's resolvers: {error}")))?)
    }

    /// By this server alone.
    ///
    /// # Errors
    /// [`Error::Config`] when no question can be asked.
    pub fn server(at: SocketAddr) -> Result<Self, Error> {
        let (mut udp, mut tcp) = (ConnectionConfig::udp(), ConnectionConfig::tcp());
        (udp.port, tcp.port) = (at.port(), at.port());
        let server = NameServerConfig::new(at.ip(), true, vec![udp, tcp]);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build();
        Self::over(resolver.map_err(|error| Error::Config(format!("the resolver {at}: {error}")))?)
    }

    fn over(resolver: TokioResolver) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(Error::system("a runtime for DNS"))?;
        Ok(Self { resolver, runtime })
    }

    fn ask(&self, name: &str) -> Option<Ticket> {
        let question = format!("_sealane.{}.", name.trim_end_matches('.'));
        let asked = async { tokio::time::timeout(PATIENCE, self.resolver.txt_lookup(question)).await };
        let answer = self.runtime.block_on(asked).ok()?.ok()?;
        answer.answers().iter().find_map(|record| match &record.data {
            RData::TXT(txt) => Ticket::from_txt(txt.txt_data.iter()).and_then(Result::ok),
            _ => None,
        })
    }
}

impl TicketSource for TicketDns {
    fn ticket(&self, name: &str) -> Option<Ticket> {
        if name.parse::<IpAddr>().is_ok() {
            return None;
        }
        // A thread of its own: the caller may be inside of a runtime, where no other may block.
        std::thread::scope(|scope| scope.spawn(|| self.ask(name)).join().ok().flatten())
    }
}

impl fmt::Debug for TicketDns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketDns")
    }
}
