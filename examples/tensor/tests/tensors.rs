//! Tensors through real sockets, and what decoding them allocates and copies: nothing.

use proptest::prelude::*;
use sealane::{Delivery, Payload, Role, Socket};
use std::thread;
use tensor::{Dtype, Error, RANK_MAX, Tensor, encode, encode_elements, head};

/// Bytes that no packet holds.
const PACKET_MAX: usize = 16 << 10;

const SECRET: [u8; 32] = [7; 32];

/// Sends each message over loopback and gives what comes back.
fn echoed(messages: Vec<Vec<u8>>) -> Vec<Payload> {
    let server = Socket::builder().installed_only().serve_installed().bind("127.0.0.1:0").expect("a socket");
    let client = Socket::builder().installed_only().bind("127.0.0.1:0").expect("a socket");
    server.install_session(client.local_addr(), Role::Server, SECRET, "test");
    let peer = client.install_session(server.local_addr(), Role::Client, SECRET, "test").expect("a peer");
    thread::scope(|scope| {
        scope.spawn(|| {
            while let Ok(Delivery::Request(request)) = server.recv() {
                let tensor = Tensor::decode(request.payload).expect("a tensor");
                server.reply(request.token, tensor.into_message()).expect("answered");
            }
        });
        let replies = messages.into_iter().map(|message| client.call(&peer, message).expect("a reply")).collect();
        server.close().expect("closed");
        replies
    })
}

/// From 4 KB to 1 MB: the same work, and no byte of the data moves.
#[test]
fn decoding_allocates_and_copies_nothing_whatever_the_size() {
    let sizes = [4 << 10, 16 << 10, 64 << 10, 384 << 10, 1 << 20];
    let elements = |bytes: usize| (0..bytes / 4).map(|n| n as f32 * 0.5).collect::<Vec<f32>>();
    let message =
        |bytes: &usize| encode_elements(&[bytes / 256, 64].map(|n| n as u64), &elements(*bytes)).expect("a message");
    for (bytes, reply) in sizes.iter().zip(echoed(sizes.iter().map(message).collect())) {
        let place = reply.as_ptr() as usize..reply.as_ptr() as usize + reply.len();
        let mut decoded = None;
        let allocated = allocation_counter::measure(|| decoded = Some(Tensor::decode(reply).expect("a tensor")));
        assert_eq!((allocated.count_total, allocated.bytes_total), (0, 0), "{bytes} bytes");
        let tensor = decoded.expect("decoded");
        let data = tensor.data().as_ptr() as usize;
        assert!(
            place.contains(&data) && data + tensor.data().len() == place.end,
            "{bytes}: the data are in the message"
        );
        assert_eq!(tensor.data().len(), *bytes);
        let mut equal = false;
        let read = allocation_counter::measure(|| {
            let wanted = (0..bytes / 4).map(|n| n as f32 * 0.5);
            equal = tensor.iter::<f32>().expect("elements").eq(wanted);
        });
        assert!(equal && read.count_total == 0, "{bytes}: {read:?}");
        assert_eq!(tensor.shape().collect::<Vec<_>>(), [*bytes as u64 / 256, 64]);
        match tensor.elements::<f32>() {
            Ok(in_place) => assert_eq!((in_place.len(), in_place[3]), (bytes / 4, 1.5)),
            // A message of several packets is put together where floats can stand; one of a single packet stays where it came.
            Err(why) => assert!(*bytes < PACKET_MAX && why == Error::Alignment(Dtype::F32), "{bytes}: {why}"),
        }
    }
}

#[test]
fn every_type_and_rank_comes_back() {
    let mut messages = Vec::new();
    for dtype in Dtype::ALL {
        for rank in [0, 1, 3, RANK_MAX] {
            let shape = vec![1; rank];
            messages.push(encode(*dtype, &shape, &vec![1; dtype.bytes()]).expect("a message"));
        }
        messages.push(encode(*dtype, &[0, 5], &[]).expect("nothing is a tensor too"));
    }
    let sent = messages.clone();
    for (sent, reply) in sent.iter().zip(echoed(messages)) {
        assert_eq!(sent[..], reply[..]);
        let tensor = Tensor::decode(reply).expect("a tensor");
        assert_eq!(tensor.dtype() as u8, sent[4]);
        assert_eq!(tensor.shape().len(), usize::from(sent[5]));
        assert_eq!(
            tensor.data().as_ptr() as usize - tensor.clone().into_message().as_ptr() as usize,
            sent.len() - tensor.data().len()
        );
    }
}

#[test]
fn what_is_wrong_is_said() {
    let decode = |bytes: &[u8]| Tensor::decode(Payload::from(bytes.to_vec())).map(drop).expect_err("no tensor");
    let good = encode(Dtype::F32, &[2, 3], &[0; 24]).expect("a message");
    let with = |at: usize, byte: u8| [&good[..at], &[byte], &good[at + 1..]].concat();
    for (bytes, why) in [
        (good[..7].to_vec(), Error::Head(7)),
        (good[..20].to_vec(), Error::Head(20)),
        (with(0, b'X'), Error::Head(48)),
        (with(6, 1), Error::Head(48)),
        (with(4, 8), Error::Dtype(8)),
        (with(5, 33), Error::Rank(33)),
        (with(8, 3), Error::Length { expected: 36, found: 24 }),
        (good[..47].to_vec(), Error::Length { expected: 24, found: 23 }),
    ] {
        assert_eq!(decode(&bytes), why);
    }
    let huge = vec![u64::MAX, 2];
    assert_eq!(head(Dtype::U8, &huge), Err(Error::Shape(huge)));
    assert_eq!(head(Dtype::U8, &[1; 33]), Err(Error::Rank(33)));
    assert_eq!(encode(Dtype::I64, &[2], &[0; 15]), Err(Error::Length { expected: 16, found: 15 }));
    let tensor = Tensor::decode(Payload::from(good)).expect("a tensor");
    let other = Error::Element { asked: Dtype::I32, found: Dtype::F32 };
    assert_eq!(tensor.elements::<i32>().map(drop), Err(other.clone()));
    assert_eq!(tensor.iter::<i32>().map(drop), Err(other));
}

proptest! {
    #[test]
    fn any_bytes_are_a_tensor_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64), real in any::<bool>()) {
        let mut bytes = bytes;
        if real && bytes.len() >= 8 {
            bytes[..4].copy_from_slice(b"SLT1");
            (bytes[5], bytes[6], bytes[7]) = (bytes[5] % 4, 0, 0);
        }
        if let Ok(tensor) = Tensor::decode(Payload::from(bytes.clone())) {
            let shape: Vec<u64> = tensor.shape().collect();
            prop_assert_eq!(encode(tensor.dtype(), &shape, tensor.data()).expect("it was one"), bytes);
        }
    }
}
