//! How much the API server, or what answers in its place, may send: an answer that has no end must not
//! take all memory.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame};
use hyper::{Method, Request, Response, Uri};
use kube::client::Body as Sent;
use tower::{BoxError, Layer, Service};

/// Bytes of one object: etcd takes 1.5 MiB, and the API server 3 MiB of a request.
const OBJECT: usize = 4 << 20;
/// Bytes of a page of 500 objects: 64 KiB each, three times a node with its images.
const PAGE: usize = 32 << 20;
/// Bytes of the end of a container's log, which is asked for by lines.
const LOG: usize = 1 << 20;

/// An answer, or a line of it, that is longer than any such answer.
#[derive(Debug)]
pub(super) struct TooLong {
    request: String,
    limit: Limit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    /// Of bytes in all.
    All(usize),
    /// Of bytes between two line breaks: a watch has no end.
    Line(usize),
}

impl Limit {
    /// What the answer to a request may have.
    fn of(method: &Method, uri: &Uri) -> Self {
        let is_watch = |pair: &str| matches!(pair, "watch=true" | "watch=1" | "follow=true");
        if uri.query().is_some_and(|query| query.split('&').any(is_watch)) {
            return Self::Line(OBJECT);
        }
        // `/api/<version>/…` or `/apis/<group>/<version>/…`, perhaps `namespaces/<name>/`, then a
        // plural, which alone stands for all of the kind.
        let mut parts = uri.path().split('/').filter(|part| !part.is_empty());
        let skipped = if parts.next() == Some("apis") { 2 } else { 1 };
        let parts: Vec<&str> = parts.skip(skipped).collect();
        match &parts[..] {
            [.., "log"] => Self::All(LOG),
            [_] | ["namespaces", _, _] if *method == Method::GET => Self::All(PAGE),
            _ => Self::All(OBJECT),
        }
    }
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, limit) = match self.limit {
            Limit::All(limit) => ("the answer to", limit),
            Limit::Line(limit) => ("a line of the answer to", limit),
        };
        write!(f, "{what} {} is longer than {} MiB", self.request, limit >> 20)
    }
}

impl std::error::Error for TooLong {}

/// Has answers end with an error where they become too long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits;

/// What [`Limits`] makes.
#[derive(Clone, Debug)]
pub(super) struct Limited<S>(S);

impl<S> Layer<S> for Limits {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        Limited(inner)
    }
}

impl<S, B> Service<Request<Sent>> for Limited<S>
where
    S: Service<Request<Sent>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<Bounded<B>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Sent>) -> Self::Future {
        let limit = Limit::of(request.method(), request.uri());
        let request_line = format!("{} {}", request.method(), request.uri());
        let answer = self.0.call(request);
        Box::pin(async move {
            let bound = |inner| Bounded { inner, limit, request: request_line, length: 0 };
            Ok(answer.await?.map(bound))
        })
    }
}

/// The body of an answer, up to its limit.
#[derive(Debug)]
pub(super) struct Bounded<B> {
    inner: B,
    limit: Limit,
    request: String,
    /// What has come of what is limited.
    length: usize,
}

impl<B> Bounded<B> {
    fn count(&mut self, data: &[u8]) -> Result<(), TooLong> {
        let most = match self.limit {
            Limit::All(most) => {
                self.length += data.len();
                most
            }
            Limit::Line(most) => {
                let last_break = data.iter().rposition(|&byte| byte == b'\n');
                self.length = match last_break {
                    Some(at) => data.len() - at - 1,
                    None => self.length + data.len(),
                };
                most
            }
        };
        match self.length > most {
            true => Err(TooLong { request: self.request.clone(), limit: self.limit }),
            false => Ok(()),
        }
    }
}

impl<B> Body for Bounded<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
            Some(frame) => frame.map_err(Into::into)?,
            None => return Poll::Ready(None),
        };
        if let Some(data) = frame.data_ref() {
            self.count(data)?;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_decides_how_long_the_answer_may_be() {
        for (method, uri, limit) in [
            (Method::GET, "/api/v1/nodes?limit=500", Limit::All(PAGE)),
            (Method::GET, "/api/v1/nodes/a", Limit::All(OBJECT)),
            (Method::GET, "/api/v1/namespaces/ns/pods?limit=500", Limit::All(PAGE)),
            (Method::GET, "/api/v1/namespaces/ns", Limit::All(OBJECT)),
            (Method::POST, "/api/v1/namespaces/ns/pods", Limit::All(OBJECT)),
            (Method::GET, "/api/v1/namespaces/ns/pods?x=1&watch=true", Limit::Line(OBJECT)),
            (Method::GET, "/api/v1/namespaces/ns/pods/p/log?tailLines=9", Limit::All(LOG)),
            (Method::GET, "/apis/kcm.intel.com/v1/nodereports", Limit::All(PAGE)),
            (Method::PATCH, "/apis/kcm.intel.com/v1/nodereports/n", Limit::All(OBJECT)),
        ] {
            let uri: Uri = format!("https://server:6443{uri}").parse().unwrap();
            assert_eq!(Limit::of(&method, &uri), limit, "{method} {uri}");
        }
    }

    #[test]
    fn lines_are_counted_each_for_itself() {
        let mut body =
            Bounded { inner: (), limit: Limit::Line(10), request: "GET /".into(), length: 0 };
        for data in ["12345678\n", "1234567890", "\n\n1", "23456789", "0\n", "123"] {
            body.count(data.as_bytes()).unwrap();
        }
        assert!(body.count(b"45678901").is_err());
    }
}
