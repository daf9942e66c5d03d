//! Owns the change of certificates and trust while an endpoint works.

use std::sync::Arc;

use handshake::config::{ClientConfig, ServerConfig};

use crate::endpoint::Endpoint;

impl Endpoint {
    /// From now on handshakes are begun with `client` and answered with `server`; `None` refuses them. Handshakes under way
    /// and open sessions stay as they are. Tickets belong to the configuration that they were given under: none of before
    /// is good any more.
    pub fn reload(&mut self, client: Option<Arc<ClientConfig>>, server: Option<Arc<ServerConfig>>) {
        // What was published is judged by the trust of before.
        self.state.tickets.clear();
        (self.state.config.client, self.state.config.server) = (client, server);
        self.state.config.bar_first_flights();
    }
}
