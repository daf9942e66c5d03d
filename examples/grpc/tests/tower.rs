//! Plain messages as tower services: any service serves, and a peer is a service, with whatever layers around them.

mod common;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use common::{builder, run, until};
use grpc::caller::Caller;
use grpc::certs::{Certificates, SERVER_NAME};
use grpc::serve::{Incoming, serve};
use sealane::{AsyncSocket, Clients, Error};
use tower_service::Service;

/// Says back who asked and what, after a while if it is asked to; counts how many it works on.
#[derive(Clone, Default)]
struct Parrot(Arc<AtomicUsize>);

impl Service<Incoming> for Parrot {
    type Response = Vec<u8>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Vec<u8>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, incoming: Incoming) -> Self::Future {
        assert!(*incoming.payload != *b"panic", "as asked");
        let working = Arc::clone(&self.0);
        working.fetch_add(1, Ordering::SeqCst);
        let counted = Counted(working);
        Box::pin(async move {
            let _counted = counted;
            if *incoming.payload == *b"wait" {
                std::future::pending::<()>().await;
            }
            Ok([incoming.peer.identity().to_string().as_bytes(), b": ", &incoming.payload].concat())
        })
    }
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A layer, as people write them: it knows nothing of what is below.
#[derive(Clone)]
struct Twice<S>(S);

impl<S: Service<Bytes, Response = Bytes> + Clone + Send + 'static> Service<Bytes> for Twice<S>
where
    S::Future: Send,
    S::Error: Send,
{
    type Response = (Bytes, Bytes);
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<(Bytes, Bytes), S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Bytes) -> Self::Future {
        let mut inner = self.0.clone();
        Box::pin(async move {
            poll_fn(|cx| inner.poll_ready(cx)).await?;
            let first = inner.call(request.clone()).await?;
            poll_fn(|cx| inner.poll_ready(cx)).await?;
            Ok((first, inner.call(request).await?))
        })
    }
}

fn pair(at_once: usize) -> (Parrot, Arc<AsyncSocket>, Caller) {
    let certificates = Certificates::generate().unwrap();
    let bound = builder(&certificates, &certificates.server).serve(Clients::Authenticated).bind("127.0.0.1:0");
    let server = Arc::new(AsyncSocket::new(bound.unwrap()).unwrap());
    let parrot = Parrot::default();
    tokio::spawn(serve(Arc::clone(&server), parrot.clone(), at_once));
    let bound = builder(&certificates, &certificates.client).bind("127.0.0.1:0").unwrap();
    let client = Arc::new(AsyncSocket::new(bound).unwrap());
    let peer = client.peer(server.socket().local_addr(), SERVER_NAME).unwrap();
    (parrot, server, Caller::new(client, peer))
}

#[test]
fn a_peer_is_a_service() {
    run(async {
        let (_parrot, _server, caller) = pair(100);
        let mut twice = Twice(caller);
        for size in [0, 1, 1_000, 100_000, 3_000_000] {
            poll_fn(|cx| twice.poll_ready(cx)).await.unwrap();
            let sent = Bytes::from(vec![7; size]);
            let (first, second) = twice.call(sent.clone()).await.unwrap();
            assert!(first == second && first.ends_with(&sent));
            assert!(first.windows(11).any(|part| part == b"grpc-client"), "it names the caller");
        }
    });
}

#[test]
fn work_that_nobody_wants_is_dropped() {
    run(async {
        let (parrot, server, mut caller) = pair(100);
        let call = tokio::spawn(caller.call(Bytes::from_static(b"wait")));
        until("it is worked on", || parrot.0.load(Ordering::SeqCst) == 1).await;
        call.abort();
        until("it is dropped", || parrot.0.load(Ordering::SeqCst) == 0).await;
        // A panic refuses, and the next is served.
        let error = caller.call(Bytes::from_static(b"panic")).await.unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error:?}");
        assert!(caller.call(Bytes::from_static(b"x")).await.unwrap().ends_with(b": x"));
        // So does the end of the server, after which nothing is worked on.
        let call = tokio::spawn(caller.call(Bytes::from_static(b"wait")));
        until("it is worked on", || parrot.0.load(Ordering::SeqCst) == 1).await;
        tokio::task::spawn_blocking(move || server.socket().close()).await.unwrap().unwrap();
        assert!(call.await.unwrap().is_err());
        until("it is dropped", || parrot.0.load(Ordering::SeqCst) == 0).await;
    });
}

#[test]
fn no_more_at_once_than_was_said() {
    run(async {
        let (parrot, _server, mut caller) = pair(3);
        let calls: Vec<_> = (0..5).map(|_| tokio::spawn(caller.call(Bytes::from_static(b"wait")))).collect();
        until("three are worked on", || parrot.0.load(Ordering::SeqCst) == 3).await;
        let late = tokio::spawn(caller.call(Bytes::from_static(b"late")));
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(parrot.0.load(Ordering::SeqCst), 3);
        assert!(!late.is_finished());
        calls.iter().for_each(tokio::task::JoinHandle::abort);
        assert!(late.await.unwrap().unwrap().ends_with(b": late"));
    });
}
