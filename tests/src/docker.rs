//! docker on a node, with a daemon and a storage of its own.

use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::bundle::make_rootfs;
use crate::kcm::{Outcome, bare, run};
use crate::machine::{kill_and_wait, must_be_the_guest, processes_with_argument, until};
use crate::node::Node;
use crate::programs::program;

const IMAGE: &str = "kcm-test";

/// What brings the hook into a container: docker reads no hooks.d.
const DEVICE: &str = "kcm.intel.com/hook=test";

/// docker; its containers are removed, and its daemon is ended, when it is dropped.
#[derive(Debug)]
pub struct Docker<'n> {
    node: &'n Node,
    daemon: RefCell<Child>,
    containers: RefCell<Vec<String>>,
}

impl<'n> Docker<'n> {
    /// Starts a daemon, and gives it an image.
    pub fn start(node: &'n Node) -> Self {
        must_be_the_guest();
        let hook = |stage: &str| json!({"hookName": stage, "path": program("kcm-hook"), "args": ["kcm-hook", stage]});
        let edits = json!({"hooks": [hook("createRuntime"), hook("poststop")]});
        let devices = json!([{"name": "test", "containerEdits": edits}]);
        let spec = json!({"cdiVersion": "0.6.0", "kind": "kcm.intel.com/hook", "devices": devices});
        node.write("/etc/cdi/kcm-test.json", &spec.to_string());
        node.write("/etc/docker/daemon.json", r#"{"features": {"cdi": true}}"#);
        let docker =
            Self { node, daemon: RefCell::new(start(node)), containers: RefCell::default() };
        docker.is_up();
        let folder = node.folder();
        make_rootfs(&folder.join("rootfs"));
        let tar = folder.join("rootfs.tar");
        let mut pack = Command::new("tar");
        pack.arg("-C").arg(folder.join("rootfs")).arg("-cf").arg(&tar).arg(".");
        assert!(pack.status().unwrap().success());
        docker.docker(&["import", tar.to_str().unwrap(), IMAGE]).succeeded();
        docker
    }

    /// docker with these words, to its end.
    pub fn docker(&self, words: &[&str]) -> Outcome {
        let mut command = Command::new("docker");
        bare(&mut command);
        let socket = format!("unix://{}", self.node.folder().join("docker.sock").display());
        run(command.env("HOME", self.node.folder()).args(["--host", &socket]).args(words))
    }

    /// Starts a container of a pool that stays.
    pub fn run(&self, name: &str, pool: &str) {
        self.containers.borrow_mut().push(name.to_owned());
        let annotation = format!("--annotation=kcm.intel.com/pool={pool}");
        let flags = ["run", "--detach", "--network=none", "--device", DEVICE, &annotation];
        let words = ["--name", name, IMAGE, "/bin/sleep", "1000"];
        self.docker(&[&flags[..], &words].concat()).succeeded();
    }

    /// Removes all containers.
    pub fn remove_all(&self) {
        let names = self.containers.take();
        if !names.is_empty() {
            let names = names.iter().map(String::as_str);
            self.docker(&["rm", "--force"].into_iter().chain(names).collect::<Vec<_>>());
        }
    }

    /// What docker says of a container, by its own socket: its client takes seconds to start in a guest.
    fn inspect(&self, name: &str) -> Value {
        let said = self.get(&format!("/containers/{name}/json")).unwrap();
        serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}"))
    }

    /// The body of an answer; none while nobody answers.
    fn get(&self, path: &str) -> Option<String> {
        let mut stream = UnixStream::connect(self.node.folder().join("docker.sock")).ok()?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        answer.lines().next()?.contains(" 200 ").then(|| body.to_owned())
    }

    /// The process of a container.
    pub fn pid(&self, name: &str) -> i32 {
        self.inspect(name)["State"]["Pid"].as_i64().unwrap() as i32
    }

    /// Kills what stands between containerd and a container.
    pub fn kill_shim(&self, name: &str) {
        let id = self.inspect(name)["Id"].as_str().unwrap().to_owned();
        let mut pids = processes_with_argument(&id);
        pids.retain(|pid| {
            let comm = std::fs::read_to_string(format!("/proc/{pid}/comm"));
            comm.is_ok_and(|comm| comm.starts_with("containerd-shim"))
        });
        assert_eq!(pids.len(), 1, "{pids:?}");
        kill_and_wait(pids[0]);
    }

    /// Kills the daemon, and starts it anew: it ends the containers that it finds.
    pub fn kill_daemon(&self, meanwhile: impl FnOnce()) {
        let mut daemon = self.daemon.borrow_mut();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        meanwhile();
        *daemon = start(self.node);
        drop(daemon);
        self.is_up();
    }

    fn is_up(&self) {
        until("docker's daemon to answer", || {
            if let Some(status) = self.daemon.borrow_mut().try_wait().unwrap() {
                let said = self.node.read(self.node.folder().join("dockerd").to_str().unwrap());
                panic!("dockerd: {status}\n{said}");
            }
            self.get("/_ping")
        });
    }
}

fn start(node: &Node) -> Child {
    let folder = node.folder();
    let mut daemon = Command::new("dockerd");
    bare(&mut daemon);
    for (flag, name) in [("data-root", "docker"), ("exec-root", "exec"), ("pidfile", "docker.pid")]
    {
        daemon.arg(format!("--{flag}={}", folder.join(name).display()));
    }
    daemon.arg(format!("--host=unix://{}", folder.join("docker.sock").display()));
    daemon.args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=vfs"]);
    let log = File::options().create(true).append(true).open(folder.join("dockerd")).unwrap();
    let errors = log.try_clone().unwrap();
    daemon.stdin(Stdio::null()).stdout(log).stderr(errors).spawn().unwrap()
}

impl Drop for Docker<'_> {
    fn drop(&mut self) {
        self.remove_all();
        let pid = nix::unistd::Pid::from_raw(self.daemon.borrow().id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM);
        let _ = self.daemon.borrow_mut().wait();
    }
}
