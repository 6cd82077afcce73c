//! What is answered to a request.

use std::time::Instant;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response, StatusCode};
use prometheus_client::encoding::prometheus_text;

use super::board::Board;

const PLAIN: &str = "text/plain; charset=utf-8";

/// The answer to a request for this path.
pub(super) fn answer(method: &Method, path: &str, board: &Board) -> Response<Full<Bytes>> {
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    match path {
        "/metrics" | "/healthz" if !is_read => {
            let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".into());
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            answer
        }
        "/metrics" => with(StatusCode::OK, prometheus_text::CONTENT_TYPE, board.text()),
        "/healthz" => match board.health(Instant::now()) {
            Ok(()) => plain(StatusCode::OK, "ok\n".into()),
            Err(why) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n").into()),
        },
        _ => plain(StatusCode::NOT_FOUND, "there are /metrics and /healthz\n".into()),
    }
}

fn plain(status: StatusCode, text: Bytes) -> Response<Full<Bytes>> {
    with(status, PLAIN, text)
}

fn with(status: StatusCode, kind: &'static str, text: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
