//! Clients and servers in one process, the balancer between them, and what it saw: `cargo run -p balancer --example show -- [--json]`
#![forbid(unsafe_code)]
#![allow(dead_code, reason = "the scene is that of the tests, which use all of it")]

#[path = "../tests/common/mod.rs"]
mod common;

use anyhow::{Result, bail, ensure};
use balancer::Limits;
use common::{Scene, call};
use serde_json::json;
use std::thread;

const CLIENTS: usize = 12;
const CALLS: usize = 40;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let json = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--json"] => true,
        _ => bail!("usage: show [--json]"),
    };
    // Two servers of one shard, and one of two.
    let scene = Scene::new(&[1, 1, 2], Limits::default());
    let at: Vec<usize> = thread::scope(|scope| {
        let calling = (0..CLIENTS).map(|number| {
            let scene = &scene;
            scope.spawn(move || {
                let (client, peer) = scene.client(scene.at);
                let servers =
                    (0..CALLS).map(|n| call(&client, &peer, (number * CALLS + n) as u64, 1 + (n * n * 37) % 60_000));
                let mut servers: Vec<usize> = servers.collect();
                servers.dedup();
                servers
            })
        });
        let calling: Vec<_> = calling.collect();
        calling.into_iter().flat_map(|calling| calling.join().expect("every call is answered")).collect()
    });
    ensure!(at.len() == CLIENTS, "a session changed its server: {at:?}");
    let seen = scene.seen();
    ensure!(seen.backends.iter().all(|backend| backend.sessions > 0), "a server got nothing: {seen}");
    if json {
        println!(
            "{}",
            json!({ "clients": CLIENTS, "calls": CLIENTS * CALLS, "answered": CLIENTS * CALLS, "seen": seen })
        );
    } else {
        println!("{CLIENTS} clients, {} calls, all answered, each client by one server.\n{seen}", CLIENTS * CALLS);
    }
    Ok(())
}
