//! What one RPC costs through the sockets, both sides together, driver included: two of them in one thread, on loopback.
//! `cargo run --release -p micro --bin sockets -- [bytes] [rounds] [outstanding] [mtu]`; with an MTU, records span packets. Under callgrind
//! the kernel's part is left out, and nothing is counted twice by waiting; but batches wait by the clock, so with several outstanding what
//! is slowed down so much makes other bundles.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "it measures")]

use std::time::Instant;

use sealane::{Delivery, Peer, Role, Socket, Wait};

fn socket(serves: bool, mtu: Option<usize>) -> Socket {
    let builder = Socket::builder().installed_only().wait(Wait::Spin);
    let builder = match mtu {
        Some(mtu) => builder.mtu(mtu as u32).spanning_records(true),
        None => builder,
    };
    let builder = if serves { builder.serve_installed() } else { builder };
    builder.bind("127.0.0.1:0").expect("a socket on loopback")
}

/// Everything that the server has is answered with what was asked.
fn serve(server: &Socket) {
    while let Some(delivery) = server.try_recv().expect("it is open") {
        if let Delivery::Request(request) = delivery {
            server.reply(request.token, request.payload).expect("it is taken");
        }
    }
}

fn round(client: &Socket, server: &Socket, peer: &Peer, body: &[u8], outstanding: usize) {
    {
        let _batch = (outstanding > 1).then(|| client.batch());
        for cookie in 0..outstanding as u64 {
            client.send(peer, body, cookie).expect("it is taken");
        }
    }
    let mut done = 0;
    while done < outstanding {
        serve(server);
        while let Some(delivery) = client.try_recv().expect("it is open") {
            match delivery {
                Delivery::Response(response) => assert_eq!(response.payload.len(), body.len()),
                other => panic!("{other:?}"),
            }
            done += 1;
        }
    }
}

fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<usize>().expect("a number"));
    let bytes = args.next().unwrap_or(64);
    let rounds = args.next().unwrap_or(200_000);
    let outstanding = args.next().unwrap_or(1).max(1);
    let mtu = args.next();
    let (client, server) = (socket(false, mtu), socket(true, mtu));
    server.install_session(client.local_addr(), Role::Server, [7; 32], "client");
    let peer =
        client.install_session(server.local_addr(), Role::Client, [7; 32], "server").expect("a client has a peer");
    let body = vec![5; bytes];
    for _ in 0..1000 / outstanding + 1 {
        round(&client, &server, &peer, &body, outstanding);
    }
    let rounds = (rounds / outstanding).max(1);
    let start = Instant::now();
    for _ in 0..rounds {
        round(&client, &server, &peer, &body, outstanding);
    }
    let each = start.elapsed().as_nanos() / (rounds * outstanding) as u128;
    println!("{bytes} bytes, {outstanding} outstanding: {each} ns per RPC, both sides");
}
