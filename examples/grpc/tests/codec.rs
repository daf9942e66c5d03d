//! Heads and messages as bytes: what goes in comes out, and no bytes of a stranger do harm.

use bytes::Bytes;
use grpc::head::Reader;
use grpc::message::{self, Answer, Ask};
use proptest::prelude::*;
use tonic::codegen::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri};
use tonic::{Code, Status};

fn headers() -> impl Strategy<Value = HeaderMap> {
    let name = prop_oneof![
        "[a-z][a-z0-9_.-]{0,20}",
        prop::sample::select(vec!["content-type", "te", "grpc-status", "grpc-timeout", "user-agent"])
            .prop_map(str::to_owned),
    ];
    let value = prop_oneof![
        prop::collection::vec(prop_oneof![32u8..=126, 128u8..=255], 0..60),
        prop::sample::select(vec!["application/grpc", "trailers", "0", "gzip"])
            .prop_map(|value| value.as_bytes().to_vec()),
    ];
    prop::collection::vec((name, value), 0..20).prop_map(|pairs| {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(&value).unwrap());
        }
        map
    })
}

/// Values of each name in their order, which is all that a map of headers promises.
fn listed(map: &HeaderMap) -> Vec<(String, Vec<Vec<u8>>)> {
    let mut all: Vec<_> = map
        .keys()
        .map(|name| (name.to_string(), map.get_all(name).iter().map(|value| value.as_bytes().to_vec()).collect()))
        .collect();
    all.sort();
    all
}

proptest! {
    #[test]
    fn opens(
        call in 0..1u64 << 63,
        path in "/[a-zA-Z0-9._/-]{0,60}",
        method in prop::sample::select(vec![Method::POST, Method::GET, Method::PATCH]),
        sent in headers(),
        body in prop::collection::vec(any::<u8>(), 0..300),
        whole: bool,
    ) {
        let uri: Uri = path.parse().unwrap();
        let mut bytes = message::open(call, &method, &uri, &sent).unwrap();
        bytes.extend_from_slice(&body);
        if whole {
            message::set_last(&mut bytes);
        }
        match Ask::parse(bytes.into()).unwrap() {
            Ask::Open { call: c, last, method: m, uri: u, headers, data } => {
                prop_assert_eq!((c, last, m, u, &*data), (call, whole, method, uri, &*body));
                prop_assert_eq!(listed(&headers), listed(&sent));
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn parts(
        status in 100u16..1000,
        head in prop::option::of(headers()),
        body in prop::collection::vec(any::<u8>(), 0..300),
        trailers in prop::option::of(headers()),
    ) {
        let sent = head.clone().map(|headers| {
            let mut sent = Response::new(());
            (*sent.status_mut(), *sent.headers_mut()) = (StatusCode::from_u16(status).unwrap(), headers);
            sent
        });
        let mut bytes = message::part(sent.as_ref()).unwrap();
        bytes.extend_from_slice(&body);
        if let Some(trailers) = &trailers {
            message::end(&mut bytes, trailers).unwrap();
        }
        match Answer::parse(bytes.into()).unwrap() {
            Answer::Part(part) => {
                let came = part.head.map(|(code, headers)| (code.as_u16(), listed(&headers)));
                prop_assert_eq!(came, head.map(|headers| (status, listed(&headers))));
                prop_assert_eq!(&*part.data, &*body);
                prop_assert_eq!(part.end.map(|end| listed(&end)), trailers.map(|trailers| listed(&trailers)));
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn short_messages(call in 0..1u64 << 63, number in 0..1u64 << 63, code in 0..17i32, words in ".{0,40}") {
        let parse = |bytes: Vec<u8>| Ask::parse(bytes.into()).unwrap();
        let is_pull = matches!(parse(message::pull(call, number)), Ask::Pull { call: c, number: n } if (c, n) == (call, number));
        prop_assert!(is_pull);
        let is_touch = matches!(parse(message::touch(call)), Ask::Touch { call: c } if c == call);
        prop_assert!(is_touch);
        let is_cancel = matches!(parse(message::cancel(call)), Ask::Cancel { call: c } if c == call);
        prop_assert!(is_cancel);
        match Answer::parse(message::failed(&Status::new(Code::from_i32(code), &words)).into()).unwrap() {
            Answer::Failed(status) => prop_assert_eq!((status.code(), status.message()), (Code::from_i32(code), &*words)),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn any_bytes_at_all(first in 0u8..=255, rest in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = vec![first];
        bytes.extend_from_slice(&rest);
        let bytes = Bytes::from(bytes);
        let _ = Ask::parse(bytes.clone());
        let _ = Answer::parse(bytes.clone());
        let _ = Reader(bytes).number();
    }

    /// What was right and is damaged in one place: closer to the mark than any bytes at all.
    #[test]
    fn damaged(sent in headers(), at in any::<prop::sample::Index>(), byte: u8, cut: bool) {
        let mut ask = message::open(7, &Method::POST, &Uri::from_static("/a.B/C"), &sent).unwrap();
        let mut answer = message::part(Some(&Response::new(()))).unwrap();
        message::end(&mut answer, &sent).unwrap();
        for bytes in [&mut ask, &mut answer] {
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] = byte }
        }
        let _ = Ask::parse(ask.into());
        let _ = Answer::parse(answer.into());
    }
}

#[test]
fn what_nearly_every_call_has_is_short() {
    let mut headers = HeaderMap::new();
    headers.insert("te", HeaderValue::from_static("trailers"));
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    let path = "/sealane.board.v1.Board/Post";
    let open = message::open(300, &Method::POST, &Uri::from_static(path), &headers).unwrap();
    // Kind, number, method, path, number of headers, one byte each.
    assert_eq!(open.len(), 1 + 2 + 1 + 1 + path.len() + 1 + 2);
    headers.remove("te");
    let mut head = Response::new(());
    *head.headers_mut() = headers;
    let mut part = message::part(Some(&head)).unwrap();
    let trailers = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    message::end(&mut part, &trailers).unwrap();
    assert_eq!(part.len(), 1 + 1 + 1 + 1 + 1 + 1 + 4);
}

#[test]
fn what_is_no_message() {
    let bad = |bytes: &'static [u8]| Ask::parse(Bytes::from_static(bytes)).unwrap_err().to_string();
    assert_eq!(bad(b""), "malformed message: it ends too early");
    assert_eq!(bad(&[0, 0]), "malformed message: no message of a client");
    assert_eq!(bad(&[3, 0x80, 0, 0]), "malformed message: a number with idle bytes");
    assert_eq!(
        bad(&[3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        "malformed message: a number of more than 63 bits"
    );
    assert_eq!(bad(&[4, 0, 1]), "malformed message: bytes behind the message");
    assert_eq!(bad(&[0x84, 0]), "malformed message: no message that can be the last");
    // A head that promises more headers than there may be.
    assert_eq!(bad(&[1, 0, 0, 1, b'/', 0xff, 0xff, 0x7f]), "malformed message: too many headers");
    let bad = |bytes: &'static [u8]| Answer::parse(Bytes::from_static(bytes)).unwrap_err().to_string();
    assert_eq!(bad(&[7, 0]), "malformed message: no message of a server");
    assert_eq!(bad(&[0x86, 0, 0]), "malformed message: it ends too early");
    assert_eq!(bad(&[0x86, 9, 0, 0, 0]), "malformed message: it ends too early");
}
