//! A containerd of the test's own, on a node, and a client of its CRI socket: what a kubelet is to it.

use std::cell::RefCell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use hyper_util::rt::TokioIo;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::{
    ContainerConfig, ContainerMetadata, ContainerState, ContainerStatusRequest,
    CreateContainerRequest, ImageSpec, ImageStatusRequest, LinuxPodSandboxConfig,
    LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption, PodSandboxConfig,
    PodSandboxMetadata, PodSandboxStatusRequest, RemoveContainerRequest, RemovePodSandboxRequest,
    RunPodSandboxRequest, StartContainerRequest, StopContainerRequest, StopPodSandboxRequest,
    VersionRequest,
};
use nix::mount::{MntFlags, umount2};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::bundle::make_rootfs;
use crate::kcm::bare;
use crate::machine::{Guest, guest, kill_and_wait, processes_with_argument, remove_cgroup, until};
use crate::node::Node;

/// containerd's main file.
pub const CONFIG: &str = "/etc/containerd/config.toml";

const IMAGE: &str = "localhost/busybox:test";

/// A containerd; ended, with all that it runs, when dropped.
#[derive(Debug)]
pub struct Containerd<'n> {
    node: &'n Node,
    process: RefCell<Option<Child>>,
    runtime: tokio::runtime::Runtime,
    parent: String,
}

impl<'n> Containerd<'n> {
    /// Its configuration is on the node; it is not started yet. `settings` are more lines of the CRI
    /// plugin's, and tables after them.
    pub fn new(node: &'n Node, settings: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("kcmtestcri{}x{number}", std::process::id());
        let is_systemd = guest() == Some(Guest::Systemd);
        let parent = if is_systemd { format!("{name}.slice") } else { format!("/{name}") };
        let folder = node.folder().display();
        // What this machine may not have or do is left out.
        let config = format!(
            r#"# A user's own file.
version = 2
root = "{folder}/root" # ours
state = "{folder}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.internal.v1.opt"]

[grpc]
  address = "{folder}/socket"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{IMAGE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  disable_hugetlb_controller = true
  tolerate_missing_hugetlb_controller = true

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"

    # the default
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = {is_systemd}
{settings}"#
        );
        node.write(CONFIG, &config);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { node, process: RefCell::default(), runtime, parent }
    }

    /// Starts it, and waits until it answers.
    pub fn start(&self) {
        let log =
            File::options().append(true).create(true).open(self.path("containerd.log")).unwrap();
        let mut command = Command::new("containerd");
        bare(&mut command);
        let process = command
            .args(["--config", CONFIG])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        *self.process.borrow_mut() = Some(process.expect("the tests need containerd"));
        until("containerd to answer", || {
            let ended = self.process.borrow_mut().as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "{}", self.log());
            self.call(async |mut cri| cri.version(VersionRequest::default()).await).ok()
        });
        self.import_image();
    }

    /// Ends it, as a restart does: containers live on.
    pub fn stop(&self) {
        let process = self.process.take();
        if let Some(mut process) = process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// The cgroup of its pods.
    pub fn cgroup(&self) -> &str {
        &self.parent
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("containerd.log")).unwrap_or_default()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.node.folder().join(name)
    }

    /// ctr, with these words.
    pub fn ctr(&self, words: &[&str]) -> String {
        let mut command = Command::new("ctr");
        bare(&mut command);
        command
            .arg("--address")
            .arg(self.path("socket"))
            .args(["--namespace", "k8s.io"])
            .args(words);
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// busybox's image, made of a folder of files; as the sandboxes' image, too.
    fn import_image(&self) {
        let layout = self.path("image");
        if layout.exists() {
            return;
        }
        make_rootfs(&self.path("busybox"));
        let image = format!("{}:test", layout.display());
        let busybox = self.path("busybox");
        for words in [
            &["init", "--layout", layout.to_str().unwrap()] as &[&str],
            &["new", "--image", &image],
            &["insert", "--image", &image, busybox.to_str().unwrap(), "/"],
            &["config", "--image", &image, "--config.entrypoint=/bin/sleep", "--config.cmd=10000"],
        ] {
            let mut umoci = Command::new("umoci");
            bare(&mut umoci);
            let output = umoci.args(words).output();
            let output = output.expect("the tests need umoci");
            assert!(output.status.success(), "{words:?}: {output:?}");
        }
        let archive = self.path("image.tar");
        let tar =
            Command::new("tar").arg("-C").arg(&layout).arg("-cf").arg(&archive).arg(".").status();
        assert!(tar.unwrap().success());
        let archive = archive.to_str().unwrap();
        let name = "localhost/busybox";
        self.ctr(&["images", "import", "--snapshotter=native", "--base-name", name, archive]);
        until("the image to be known", || {
            let image = Some(ImageSpec { image: IMAGE.to_owned(), ..Default::default() });
            let request = ImageStatusRequest { image, ..Default::default() };
            let status = self.runtime.block_on(async {
                let mut images = ImageServiceClient::new(self.channel().await?);
                Ok::<_, tonic::Status>(images.image_status(request).await?.into_inner())
            });
            status.ok()?.image
        });
    }

    async fn channel(&self) -> Result<Channel, tonic::Status> {
        let socket = self.path("socket");
        let connect = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
        });
        let endpoint = Endpoint::from_static("http://containerd.invalid");
        let channel = endpoint.connect_with_connector(connect).await;
        channel.map_err(|e| tonic::Status::unavailable(e.to_string()))
    }

    /// One call of the runtime service. The error is what containerd says.
    fn call<T>(
        &self,
        call: impl AsyncFnOnce(
            RuntimeServiceClient<Channel>,
        ) -> Result<tonic::Response<T>, tonic::Status>,
    ) -> Result<T, String> {
        let answer = self.runtime.block_on(async {
            let cri = RuntimeServiceClient::new(self.channel().await?);
            Ok::<T, tonic::Status>(call(cri).await?.into_inner())
        });
        answer.map_err(|status| status.message().to_owned())
    }

    /// A pod's sandbox, with a runtime handler (the default one if empty).
    pub fn sandbox(
        &self,
        name: &str,
        handler: &str,
        annotations: &[(&str, &str)],
    ) -> Result<Sandbox<'_>, String> {
        let namespaces = NamespaceOption {
            network: NamespaceMode::Node.into(),
            pid: NamespaceMode::Container.into(),
            ..Default::default()
        };
        let config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.to_owned(),
                uid: format!("{name}-uid"),
                namespace: "default".to_owned(),
                attempt: 0,
            }),
            log_directory: self.path("logs").to_str().unwrap().to_owned(),
            annotations: owned(annotations),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: self.parent.clone(),
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(namespaces),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let request = RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: handler.to_owned(),
        };
        let answer = self.call(async |mut cri| cri.run_pod_sandbox(request).await)?;
        Ok(Sandbox { containerd: self, config, id: answer.pod_sandbox_id })
    }
}

impl Drop for Containerd<'_> {
    fn drop(&mut self) {
        self.stop();
        // What a sandbox leaves that was dropped while containerd was stopped: its shim and mounts.
        let socket = self.path("socket");
        processes_with_argument(socket.to_str().unwrap()).into_iter().for_each(kill_and_wait);
        if self.parent.ends_with(".slice") {
            // A container's first process ignores SIGTERM, which `stop` alone would wait for.
            for verb in [&["kill", "--signal=KILL"] as &[&str], &["stop"]] {
                let mut systemctl = Command::new("systemctl");
                let _ = systemctl.args(verb).arg(&self.parent).stderr(Stdio::null()).status();
            }
        } else {
            remove_cgroup(&self.parent);
        }
        let mounts = fs::read_to_string("/proc/thread-self/mounts").unwrap_or_default();
        let places = mounts.lines().filter_map(|line| line.split(' ').nth(1).map(Path::new));
        for place in places.filter(|place| place.starts_with(self.path("state"))) {
            let _ = umount2(place, MntFlags::MNT_DETACH);
        }
    }
}

fn owned(pairs: &[(&str, &str)]) -> std::collections::HashMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// The PID in what is said of a sandbox or a container at length.
fn pid_of(info: &std::collections::HashMap<String, String>) -> i32 {
    let info: serde_json::Value = serde_json::from_str(&info["info"]).unwrap();
    i32::try_from(info["pid"].as_i64().unwrap()).unwrap()
}

/// A pod's sandbox; removed, with its containers, when dropped.
#[derive(Debug)]
pub struct Sandbox<'c> {
    containerd: &'c Containerd<'c>,
    config: PodSandboxConfig,
    id: String,
}

impl Sandbox<'_> {
    /// The process of the sandbox itself.
    pub fn pid(&self) -> i32 {
        let request = PodSandboxStatusRequest { pod_sandbox_id: self.id.clone(), verbose: true };
        let status = self.containerd.call(async |mut cri| cri.pod_sandbox_status(request).await);
        pid_of(&status.unwrap().info)
    }

    /// A container, created and started. The error is that of either.
    pub fn container(&self, name: &str, script: &str) -> Result<Pod<'_>, String> {
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.to_owned(), attempt: 0 }),
            image: Some(ImageSpec { image: IMAGE.to_owned(), ..Default::default() }),
            command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            log_path: format!("{name}.log"),
            ..Default::default()
        };
        let request = CreateContainerRequest {
            pod_sandbox_id: self.id.clone(),
            config: Some(config),
            sandbox_config: Some(self.config.clone()),
        };
        let answer = self.containerd.call(async |mut cri| cri.create_container(request).await)?;
        let pod = Pod { containerd: self.containerd, id: answer.container_id };
        let request = StartContainerRequest { container_id: pod.id.clone() };
        self.containerd.call(async |mut cri| cri.start_container(request).await)?;
        Ok(pod)
    }
}

impl Drop for Sandbox<'_> {
    fn drop(&mut self) {
        let stop = StopPodSandboxRequest { pod_sandbox_id: self.id.clone() };
        let _ = self.containerd.call(async |mut cri| cri.stop_pod_sandbox(stop).await);
        let remove = RemovePodSandboxRequest { pod_sandbox_id: self.id.clone() };
        let _ = self.containerd.call(async |mut cri| cri.remove_pod_sandbox(remove).await);
    }
}

/// A container of a pod. It goes with its sandbox.
#[derive(Debug)]
pub struct Pod<'c> {
    containerd: &'c Containerd<'c>,
    id: String,
}

impl Pod<'_> {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        let request = ContainerStatusRequest { container_id: self.id.clone(), verbose: true };
        let status = self.containerd.call(async |mut cri| cri.container_status(request).await);
        pid_of(&status.unwrap().info)
    }

    /// Waits until it has ended; its exit status.
    pub fn ends(&self) -> i32 {
        until("a container to end", || {
            let request = ContainerStatusRequest { container_id: self.id.clone(), verbose: false };
            let status = self.containerd.call(async |mut cri| cri.container_status(request).await);
            let status = status.unwrap().status.unwrap();
            (status.state() == ContainerState::ContainerExited).then_some(status.exit_code)
        })
    }

    /// Stops it, as a kubelet does.
    pub fn stop(&self) {
        let request = StopContainerRequest { container_id: self.id.clone(), timeout: 0 };
        self.containerd.call(async |mut cri| cri.stop_container(request).await).unwrap();
    }

    /// Removes it.
    pub fn remove(&self) {
        let request = RemoveContainerRequest { container_id: self.id.clone() };
        self.containerd.call(async |mut cri| cri.remove_container(request).await).unwrap();
    }
}
