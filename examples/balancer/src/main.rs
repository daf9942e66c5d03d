//! `balancer LISTEN SERVER… [--json]`: balances until it is interrupted, then says what it saw.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail};
use balancer::{Balancer, Limits};
use std::net::SocketAddr;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut json = false;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for word in std::env::args().skip(1) {
        match word.as_str() {
            "--json" => json = true,
            _ => addresses.push(word.parse().with_context(|| format!("`{word}` is no address with a port"))?),
        }
    }
    let [listen, backends @ ..] = &addresses[..] else { bail!("usage: balancer LISTEN SERVER... [--json]") };
    let balancer = Balancer::bind(*listen, backends, Limits::default()).await.context("cannot balance")?;
    eprintln!("listening on {}", balancer.local_addr()?);
    tokio::select! {
        failed = balancer.run() => failed.context("the socket that clients reach")?,
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    let seen = balancer.seen();
    if json {
        println!("{}", serde_json::to_string(&seen)?);
    } else {
        println!("{seen}");
    }
    Ok(())
}
