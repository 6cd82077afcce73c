//! The way to the API server: from within a pod by its service account, else by a kubeconfig.

use std::future::Future;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use kcm_core::host::{names, regular, stop};
use kube::client::ClientBuilder;
use kube::client::retry::RetryPolicy;
use kube::config::KubeConfigOptions;
use kube::{Client, Config};
use tower::buffer::BufferLayer;
use tower::retry::RetryLayer;

use super::limits::Limits;

/// Where a pod has its service account.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// How long to wait for a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// For 429, 503 and 504: how often, and how long to wait in between if the server does not say.
const RETRIES: u32 = 4;
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How many requests may wait for their turn.
const QUEUE: usize = 64;

/// A cluster that can be asked. Connections are made when they are needed.
#[derive(Clone)]
pub(crate) struct Cluster {
    /// The client of the libraries.
    pub(crate) client: Client,
}

impl Cluster {
    /// The cluster that the environment says.
    pub(crate) async fn from_environment() -> anyhow::Result<Self> {
        // Before the first name is looked up.
        names::resolve_by_files_and_dns();
        let mut config = config().await?;
        config.connect_timeout = Some(CONNECT_LIMIT);
        // Ours below, with fewer attempts.
        config.default_retry = false;
        log::debug!("the API server is {}", config.cluster_url);
        let policy = RetryPolicy::new(SHORTEST_PAUSE, LONGEST_PAUSE, RETRIES, true)
            .context("the pauses between attempts")?;
        let url = config.cluster_url.clone();
        let builder = ClientBuilder::try_from(config)
            .map_err(|e| anyhow!("cannot talk to {url}: {}", super::error::chain_of(&e)))?;
        // A request that is tried again goes the same way; kube's service is for one caller only.
        let (queue, retry) = (BufferLayer::new(QUEUE), RetryLayer::new(policy));
        let client = builder.with_layer(&Limits).with_layer(&queue).with_layer(&retry).build();
        Ok(Self { client })
    }
}

/// In a pod its service account counts first, whatever else lies there: kube's own `infer` takes a
/// kubeconfig first.
async fn config() -> anyhow::Result<Config> {
    if Path::new(TOKEN).exists() {
        return Config::incluster().with_context(|| {
            format!("{TOKEN} is there, but this is no pod that can talk to its API server")
        });
    }
    plain_kubeconfigs()?;
    match Config::from_kubeconfig(&KubeConfigOptions::default()).await {
        Ok(config) => Ok(config),
        Err(error) => bail!(
            "no cluster is known here: {}; set KUBECONFIG to a kubeconfig, or run in a pod that has a \
             service account",
            super::error::chain(&error)
        ),
    }
}

/// Bytes of a kubeconfig: of one with hundreds of clusters, and their certificates.
const LARGEST_KUBECONFIG: u64 = 4 << 20;

/// Makes sure that what the libraries will read are plain files of some size. Whoever could put
/// another in its place afterwards can have any program run by a kubeconfig (`exec`) anyway.
fn plain_kubeconfigs() -> anyhow::Result<()> {
    let named = std::env::var_os("KUBECONFIG").filter(|paths| !paths.is_empty());
    let usual = || std::env::home_dir().map(|home| home.join(".kube/config"));
    let paths = match named {
        Some(paths) => {
            std::env::split_paths(&paths).filter(|p| !p.as_os_str().is_empty()).collect()
        }
        None => Vec::from_iter(usual()),
    };
    for path in paths {
        match regular::read(&path, LARGEST_KUBECONFIG) {
            // That one is missing is for the libraries to say.
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            result => drop(result.with_context(|| {
                format!("cannot read the kubeconfig {}; set KUBECONFIG to another", path.display())
            })?),
        }
    }
    Ok(())
}

/// Does something with the cluster, to its end, or until this process is asked to end.
pub(crate) fn run<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Or one that looks a name up would be told of SIGTERM in place of the main thread.
        .on_thread_start(stop::leave_to_the_main_thread)
        .build()
        .context("cannot prepare for the network")?;
    let result = runtime.block_on(async {
        tokio::select! {
            result = work => result,
            () = asked_to_end() => bail!("asked to end"),
        }
    });
    // Not waiting for a name that is still being looked up.
    runtime.shutdown_background();
    result
}

/// Comes back when SIGTERM or SIGINT has come to a process that remembers them.
async fn asked_to_end() {
    while !stop::is_asked() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
