//! A test double of the Kubernetes API server, held against a real one's recorded answers.
//!
//! `tests/fixtures/kube-api/exchanges.json` holds requests to Kubernetes 1.36 and its answers;
//! `tests/tests/api_server` replays them all. What is neither recorded there nor listed in [`kinds`]
//! and [`handling`] (a verb, path, content type or parameter) is answered 501, and fails the test when
//! the server is dropped. So does a fault that never fired.
//!
//! Kept: resourceVersions and the history for watches, JSON and merge patches with their preconditions,
//! server-side apply with field ownership, RBAC, admission policies by CEL, schemas of custom kinds, and
//! what kubelet, scheduler and controllers do of their own accord ([`kubelet`], [`actors`]).
//! Not kept: `managedFields` in answers, pods of DaemonSets, namespaces (each is there), quotas,
//! and consistent pages of a list that changes between them.

mod actors;
mod admission;
mod answer;
mod client;
mod clock;
mod cluster;
mod defaults;
mod faults;
mod fields;
mod handling;
mod http;
mod kinds;
mod kubelet;
mod logs;
mod nodes;
mod ownership;
mod patching;
mod pod_status;
mod pods;
mod rbac;
mod request;
mod schema;
mod selectors;
mod serving;
mod stages;
mod store;
mod tls;
mod users;
mod watching;

use std::fs;
use std::net::TcpListener;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::oneshot;

pub use client::{Ask, Reply};
pub use cluster::Cluster;
use faults::Before;
pub use faults::Fault;
pub use kubelet::Outcome;
pub use request::Seen;
use tls::Tls;
pub use users::{Rule, User};

/// A server on a free port of the loopback address, with a cluster behind it.
#[derive(Debug)]
pub struct ApiServer {
    cluster: Cluster,
    port: u16,
    ca_pem: Option<String>,
    folder: TempDir,
    admin: String,
    kubeconfig: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ApiServer {
    /// Starts it, with plain HTTP.
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// Starts it behind TLS.
    pub fn start_tls() -> Self {
        Self::start_with(Some(Tls::new()))
    }

    fn start_with(tls: Option<Tls>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let cluster = Cluster::new(runtime.handle().clone());
        let (stop, stopped) = oneshot::channel();
        let (ca_pem, acceptor) = tls.map(|tls| (tls.ca_pem, tls.acceptor)).unzip();
        let thread = std::thread::spawn({
            let cluster = cluster.clone();
            move || {
                runtime.block_on(async {
                    tokio::spawn(actors::run(cluster.clone()));
                    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                    tokio::spawn(http::listen(cluster, listener, acceptor));
                    let _ = stopped.await;
                });
            }
        });
        let admin = cluster.lock().tokens.give(User { name: "admin".into(), ..User::default() });
        let mut server = Self {
            cluster,
            port,
            ca_pem,
            folder: tempfile::tempdir().unwrap(),
            admin: admin.clone(),
            kubeconfig: PathBuf::new(),
            stop: Some(stop),
            thread: Some(thread),
        };
        server.kubeconfig = server.write_kubeconfig(&admin);
        server
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        let scheme = if self.ca_pem.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate of the authority that clients are to trust.
    ///
    /// # Panics
    /// Without TLS.
    pub fn ca_pem(&self) -> &str {
        self.ca_pem.as_deref().expect("the server was started without TLS")
    }

    /// A kubeconfig file by which everything is allowed.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A kubeconfig file of this user.
    pub fn kubeconfig_of(&self, user: &User) -> PathBuf {
        let token = self.token_of(user.clone());
        self.write_kubeconfig(&token)
    }

    /// A token of this user.
    pub fn token_of(&self, user: User) -> String {
        self.cluster.lock().tokens.give(user)
    }

    /// A kubeconfig file of a service account, which may do what the cluster's roles allow it.
    pub fn kubeconfig_by_rbac(&self, name: &str, node: Option<&str>) -> PathBuf {
        let node = node.map(str::to_owned);
        let user = User { name: name.into(), rules: None, node };
        let token = self.cluster.lock().tokens.request(user);
        self.write_kubeconfig(&token)
    }

    fn write_kubeconfig(&self, token: &str) -> PathBuf {
        let mut cluster = serde_json::json!({"server": self.url()});
        if let Some(ca_pem) = &self.ca_pem {
            let file = self.folder.path().join("ca.pem");
            fs::write(&file, ca_pem).unwrap();
            cluster["certificate-authority"] = file.to_str().into();
        }
        // JSON is YAML, too.
        let config = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "double",
            "clusters": [{"name": "double", "cluster": cluster}],
            "users": [{"name": "double", "user": {"token": token}}],
            "contexts": [{"name": "double",
                "context": {"cluster": "double", "user": "double", "namespace": "default"}}],
        });
        let file = self.folder.path().join(format!("{token}.yaml"));
        fs::write(&file, config.to_string()).unwrap();
        file
    }

    /// All requests so far, in the order in which they came.
    pub fn requests(&self) -> Vec<Seen> {
        self.cluster.lock().requests.clone()
    }

    /// The requests that were to change something.
    pub fn writes(&self) -> Vec<Seen> {
        let reads = ["get", "list", "watch"];
        let all = self.requests();
        all.into_iter().filter(|seen| !reads.contains(&seen.verb.as_str())).collect()
    }

    /// Makes something go wrong.
    pub fn inject(&self, fault: Fault) {
        self.cluster.lock().faults.push(fault);
    }

    /// Does something once, just before the next request of this kind is handled.
    pub fn before(
        &self,
        on: impl Fn(&Seen) -> bool + Send + 'static,
        edit: impl FnOnce(&Cluster) + Send + 'static,
    ) {
        self.cluster.lock().before.push(Before { on: Box::new(on), edit: Box::new(edit) });
    }

    /// How many requests were hit by a fault.
    pub fn injected(&self) -> usize {
        self.cluster.lock().injected
    }

    /// Says what becomes of each pod. Without it, pods that are never restarted succeed, and others run.
    pub fn kubelet(&self, outcome: impl Fn(&Value) -> Outcome + Send + Sync + 'static) {
        self.cluster.set_outcomes(outcome);
    }

    /// How long kubelet, scheduler and controllers take for a step; 5 ms if it is not said.
    pub fn pace(&self, step: Duration) {
        self.cluster.set_pace(|pace| pace.step = step);
    }

    /// How long it takes until the kubelet tells that it backs off; 5 ms if it is not said.
    pub fn back_off(&self, after: Duration) {
        self.cluster.set_pace(|pace| pace.back_off = after);
    }

    /// How long every answer takes at the least, 1 ms if it is not said. What a client does at once is
    /// only seen in [`Self::concurrent_requests_max`] if answers take a while.
    pub fn latency(&self, latency: Duration) {
        self.cluster.lock().latency = latency;
    }

    /// The most requests that were being handled at once, watches apart.
    pub fn concurrent_requests_max(&self) -> usize {
        self.cluster.lock().in_flight_max
    }

    /// Bytes of all bodies so far, both ways.
    pub fn bytes(&self) -> u64 {
        self.cluster.lock().bytes
    }

    /// Sends one request; nothing if the connection was closed with no answer.
    pub fn send(&self, ask: &Ask) -> Option<Reply> {
        let token = if ask.token.is_empty() { &self.admin } else { &ask.token };
        client::send(self.port, self.ca_pem.as_deref(), ask, token)
    }

    /// What would fail the test now: unknown requests, faults and edits that did not come to pass.
    pub fn complaints(&self) -> Vec<String> {
        let state = self.cluster.lock();
        let mut complaints = state.wrong.clone();
        let silent = state.faults.iter().filter(|fault| !fault.fired);
        complaints.extend(silent.map(|fault| format!("a fault never fired: {fault:?}")));
        complaints.extend(state.before.iter().map(|before| format!("{before:?} never came")));
        complaints
    }
}

impl Deref for ApiServer {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        let joined = self.thread.take().map(JoinHandle::join);
        if std::thread::panicking() {
            return;
        }
        assert!(joined.is_none_or(|joined| joined.is_ok()), "the test double broke");
        let complaints = self.complaints();
        assert!(complaints.is_empty(), "the test double complains:\n{}", complaints.join("\n"));
    }
}
