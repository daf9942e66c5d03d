//! Owns which service a request is for: by the first step of its path, as all of gRPC names it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;
use tower_service::Service;

type Handled = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;
type Handler = Box<dyn Fn(Request<Body>) -> Handled + Send + Sync>;

/// Several services behind one socket. What none of them has is `UNIMPLEMENTED`.
#[derive(Clone, Default)]
pub struct Routes(Arc<HashMap<&'static str, Handler>>);

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Routes {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// And this one, as tonic generates it.
    ///
    /// # Panics
    /// When clones exist, or another service has its name.
    #[must_use]
    pub fn with<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
        S: NamedService + Clone + Send + Sync + 'static,
        S::Future: Send,
    {
        let handler = move |request| -> Handled {
            let mut service = service.clone();
            Box::pin(async move {
                poll_fn(|cx| service.poll_ready(cx)).await?;
                service.call(request).await
            })
        };
        let services = Arc::get_mut(&mut self.0).expect("services are added before anything is cloned");
        let before = services.insert(S::NAME, Box::new(handler));
        assert!(before.is_none(), "two services are called {}", S::NAME);
        self
    }
}

impl Service<Request<Body>> for Routes {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Handled;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Handled {
        let name = request.uri().path().split('/').nth(1).unwrap_or_default();
        match self.0.get(name) {
            Some(handler) => handler(request),
            None => {
                let status = Status::unimplemented(format!("there is no service {name:?} here"));
                Box::pin(ready(Ok(status.into_http())))
            }
        }
    }
}
