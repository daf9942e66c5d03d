//! Copies of an endpoint: one machine's state started twice, with all of its randomness. Of an installed secret no keys are ever had
//! twice as long as one of the two ends is not a copy of itself. [P-6.6] Where both are, they are: that is said here, too.

mod world;

use world::{CLIENT, Datagram, Rng, SERVER, World, address, secret};

use std::time::Duration;

use endpoint::config::Config;
use endpoint::endpoint::Endpoint;
use wire::ids::Side;

/// An end whose every random byte follows from `seed`.
fn end(at: usize, seed: u64) -> (Endpoint, Option<u32>) {
    let mut config = Config::new(offload::software::crypto());
    config.proto.serving = true;
    let mut rng = Rng::new(seed);
    let entropy = move |bytes: &mut [u8]| bytes.iter_mut().for_each(|byte| *byte = rng.next() as u8);
    let mut end = Endpoint::new(config, Box::new(entropy));
    let (to, side) = if at == SERVER { (CLIENT, Side::Server) } else { (SERVER, Side::Client) };
    let target = end.install(address(to), side, &secret(CLIENT), "the other", 1452);
    (end, target)
}

/// What goes over the wire when a client with that randomness calls a server with that randomness.
fn run(client: u64, server: u64) -> Vec<Datagram> {
    let mut world = World::new();
    (world.ends[SERVER], _) = end(SERVER, server);
    let target;
    (world.ends[CLIENT], target) = end(CLIENT, client);
    world.targets[CLIENT] = target.expect("a client's end has a target");
    for length in [10, 1_000, 0] {
        world.request(CLIENT, length);
        world.pass(Duration::from_millis(20));
    }
    assert_eq!(world.outcome(CLIENT), (vec![10, 1_000, 0], 0));
    world.trace
}

/// What was sealed by either end: records with their numbers, control packets with theirs.
fn sealed(trace: &[Datagram], from: usize) -> Vec<Vec<u8>> {
    let of = |d: &&Datagram| d.from == from && d.sealed();
    trace.iter().filter(of).map(|d| if d.data() { d.bytes[20..].to_vec() } else { d.bytes[16..].to_vec() }).collect()
}

/// The numbers are the same, and nothing else of what they seal.
fn under_other_keys(a: &[Datagram], b: &[Datagram]) {
    for from in [CLIENT, SERVER] {
        let (a, b) = (sealed(a, from), sealed(b, from));
        assert!(a.len() >= 3 && b.len() >= 3);
        for (a, b) in a.iter().zip(&b) {
            let (tag_a, tag_b) = (a.last_chunk::<16>(), b.last_chunk::<16>());
            assert_ne!(tag_a, tag_b);
        }
        let numbers = |sealed: &[Vec<u8>]| {
            let records = sealed.iter().filter(|bytes| bytes[..3] == [0x17, 3, 3]);
            records.map(|bytes| bytes[5..13].to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(numbers(&a), numbers(&b), "which is why the keys must differ");
    }
}

/// A clone says the same hello; a fresh nonce of the other end makes all keys new. Either way round.
#[test]
fn one_clone_repeats_no_key() {
    let first = run(1, 2);
    let cloned_client = run(1, 3);
    assert_eq!(first[0], cloned_client[0], "it is a clone indeed: the same hello, nonce and all");
    under_other_keys(&first, &cloned_client);
    let cloned_server = run(4, 2);
    under_other_keys(&first, &cloned_server);
    // A restart, and a second installation, have new randomness.
    under_other_keys(&first, &run(5, 6));
}

/// What is not promised: copies of both ends, as when all machines of a site are restored from one snapshot that was taken before
/// their systems had new randomness, have the same keys. SECURITY.md says so.
#[test]
fn clones_of_both_ends_are_the_same_run() {
    assert_eq!(run(1, 2), run(1, 2));
}
