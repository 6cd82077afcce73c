//! A client for tests that look at the server itself: one request, one connection.

use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::RETRY_AFTER;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// A request.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// The method; GET if it is empty.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The content type of the body.
    pub content_type: String,
    /// The body, if there is one.
    pub body: Option<Value>,
    /// Whose token is shown; the administrator's if it is empty.
    pub token: String,
    /// The user agent.
    pub agent: String,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The body.
    pub text: String,
    /// Whether the body came to its end.
    pub complete: bool,
    /// The header `Retry-After`.
    pub retry_after: Option<String>,
}

impl Ask {
    /// A GET.
    pub fn get(path: &str) -> Self {
        Self { path: path.into(), ..Self::default() }
    }

    /// A request with a body.
    pub fn with(method: &str, path: &str, content_type: &str, body: Value) -> Self {
        let (method, content_type) = (method.into(), content_type.into());
        Self { method, path: path.into(), content_type, body: Some(body), ..Self::default() }
    }

    /// The same of somebody else.
    pub fn by(mut self, token: &str) -> Self {
        self.token = token.into();
        self
    }
}

impl Reply {
    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// The lines of a watch.
    pub fn events(&self) -> Vec<Value> {
        self.text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

/// Sends a request; nothing if the connection was closed with no answer. `ca_pem` is the authority that
/// the server's certificate is to be of.
pub(super) fn send(port: u16, ca_pem: Option<&str>, ask: &Ask, token: &str) -> Option<Reply> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        match ca_pem {
            None => exchange(stream, ask, token).await,
            Some(ca_pem) => {
                let name = ServerName::try_from("127.0.0.1").unwrap();
                let stream = trusting(ca_pem).connect(name, stream).await.unwrap();
                exchange(stream, ask, token).await
            }
        }
    })
}

fn trusting(ca_pem: &str) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ask: &Ask,
    token: &str,
) -> Option<Reply> {
    let io = TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let method = if ask.method.is_empty() { "GET" } else { &ask.method };
    let mut request = Request::builder()
        .method(method)
        .uri(&ask.path)
        .header("Host", "127.0.0.1")
        .header("User-Agent", &ask.agent)
        .header("Authorization", format!("Bearer {token}"));
    if !ask.content_type.is_empty() {
        request = request.header("Content-Type", &ask.content_type);
    }
    let body = ask.body.as_ref().map(Value::to_string).unwrap_or_default();
    let request = request.body(Full::new(Bytes::from(body))).unwrap();
    let response: Response<_> = sender.send_request(request).await.ok()?;
    let status = response.status().as_u16();
    let retry_after = response.headers().get(RETRY_AFTER);
    let retry_after = retry_after.map(|value| value.to_str().unwrap().to_owned());
    let (mut bytes, mut complete, mut body) = (Vec::new(), true, response.into_body());
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            complete = false;
            break;
        };
        bytes.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new()));
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Some(Reply { status, text, complete, retry_after })
}
