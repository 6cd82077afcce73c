//! HTTP/1.1 in front of it all.

use std::error::Error;
use std::io;

use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, RETRY_AFTER, USER_AGENT};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::Cluster;
use super::answer::{Answer, Content};
use super::request::{self, Seen};
use super::serving::{self, Headers, Reply};

type Body = Either<Full<Bytes>, Channel<Bytes, io::Error>>;

/// Takes connections until the server is dropped.
pub(super) async fn listen(cluster: Cluster, listener: TcpListener, tls: Option<TlsAcceptor>) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let (cluster, tls) = (cluster.clone(), tls.clone());
        tokio::spawn(async move {
            match tls {
                None => connection(cluster, stream).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        connection(cluster, stream).await;
                    }
                }
            }
        });
    }
}

async fn connection(cluster: Cluster, stream: impl AsyncRead + AsyncWrite + Unpin + 'static) {
    let service = service_fn(move |request| respond(cluster.clone(), request));
    // An error is a client that went away, or a fault that is meant.
    let builder = hyper::server::conn::http1::Builder::new();
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

/// Counts the requests that are being handled; watches are counted only while they begin.
struct InFlight(Cluster);

impl InFlight {
    fn new(cluster: &Cluster) -> Self {
        let mut state = cluster.lock();
        state.in_flight += 1;
        state.in_flight_max = state.in_flight_max.max(state.in_flight);
        Self(cluster.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.lock().in_flight -= 1;
    }
}

async fn respond(
    cluster: Cluster,
    request: Request<Incoming>,
) -> Result<Response<Body>, Box<dyn Error + Send + Sync>> {
    let _in_flight = InFlight::new(&cluster);
    let (parts, body) = request.into_parts();
    let bytes = body.collect().await?.to_bytes();
    cluster.lock().bytes += bytes.len() as u64;
    let header = |name: HeaderName| {
        let value = parts.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let content_type = header(CONTENT_TYPE);
    let seen = Seen {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: request::query(parts.uri.query().unwrap_or_default()),
        body: parsed(&bytes),
        content_type: content_type.split(';').next().unwrap_or_default().trim().to_owned(),
        ..Seen::default()
    };
    let headers = Headers {
        token: header(AUTHORIZATION).trim_start_matches("Bearer ").to_owned(),
        agent: header(USER_AGENT),
        accept: header(ACCEPT),
    };
    match serving::serve(&cluster, seen, &headers).await {
        Reply::Answer(answer) => Ok(whole(&cluster, answer)),
        Reply::Watch(watch) => {
            let (sender, body) = Channel::new(16);
            tokio::spawn(watch.tell(cluster, sender));
            Ok(Response::builder()
                .header(CONTENT_TYPE, "application/json")
                .body(Either::Right(body))?)
        }
        Reply::Nothing => Err("reset by a test".into()),
    }
}

/// The body as JSON, or as YAML, which an apply may be.
fn parsed(bytes: &[u8]) -> Value {
    let yaml = || serde_saphyr::from_slice(bytes).ok();
    serde_json::from_slice(bytes).ok().or_else(yaml).unwrap_or_default()
}

fn whole(cluster: &Cluster, answer: Answer) -> Response<Body> {
    let (kind, text) = match answer.body {
        Content::Json(body) => ("application/json", body.to_string()),
        Content::Text(text) => ("text/plain; charset=utf-8", text),
    };
    cluster.lock().bytes += text.len() as u64;
    let mut response = Response::new(Either::Left(Full::new(Bytes::from(text))));
    *response.status_mut() = answer.code.try_into().expect("a status");
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, kind.parse().expect("a content type"));
    if let Some(seconds) = answer.retry_after {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    response
}
