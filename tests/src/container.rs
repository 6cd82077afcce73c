//! Containers of a scene: started, refused, interrupted, removed.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use serde_json::Value;

use crate::bundle::{Bundle, REPORT_AND_STAY};
use crate::kcm::bare;
use crate::machine::{self, until};
use crate::runtime::Scene;

/// A container that is to be.
#[derive(Clone, Debug)]
pub struct Builder<'s> {
    scene: &'s Scene,
    id: String,
    bundle: Bundle,
    root: PathBuf,
    options: Vec<String>,
    cgroup: String,
}

impl<'s> Builder<'s> {
    pub(crate) fn new(scene: &'s Scene, id: &str) -> Self {
        let bundle = Bundle {
            hook_flags: vec![format!("--conf-dir={}", scene.conf.path().display())],
            cgroups_path: Some(scene.cgroups_path(id).into()),
            ..Bundle::default()
        };
        let root = scene.folder.join("state");
        Self { scene, id: id.into(), bundle, root, options: Vec::new(), cgroup: scene.cgroup(id) }
            .command(REPORT_AND_STAY)
    }

    /// Asks for a pool.
    pub fn pool(self, pool: &str) -> Self {
        self.annotation("kcm.intel.com/pool", pool)
    }

    /// Adds an annotation.
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.bundle.annotations.insert(key.into(), value.into());
        self
    }

    /// Adds several.
    pub fn annotations(self, pairs: &[(&str, &str)]) -> Self {
        pairs.iter().fold(self, |container, (key, value)| container.annotation(key, value))
    }

    /// Runs this shell script.
    pub fn command(mut self, script: &str) -> Self {
        self.bundle.args = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        self
    }

    /// Runs this program.
    pub fn program(mut self, path: &str) -> Self {
        self.bundle.args = vec![path.into()];
        self
    }

    /// Adds a flag of the hook's.
    pub fn hook_flag(mut self, flag: &str) -> Self {
        self.bundle.hook_flags.push(flag.into());
        self
    }

    /// Changes the bundle.
    pub fn with(mut self, change: impl FnOnce(&mut Bundle)) -> Self {
        change(&mut self.bundle);
        self
    }

    /// Is in this cgroup, whatever the scene's are.
    pub fn in_cgroup(mut self, cgroup: &str) -> Self {
        self.bundle.cgroups_path = Some(cgroup.into());
        self.cgroup = cgroup.into();
        self
    }

    /// Stays in its caller's cgroup (crun's way; what `podman run --cgroups=disabled` makes of it).
    pub fn without_cgroup(mut self) -> Self {
        self.bundle.cgroups_path = None;
        self.options.push("--cgroup-manager=disabled".into());
        self
    }

    /// With a global option of the runtime's.
    pub fn option(mut self, option: String) -> Self {
        self.options.push(option);
        self
    }

    /// Is in another state folder of the runtime (`--root`), a namesake there being another.
    pub fn under_root(mut self, name: &str) -> Self {
        self.root = self.scene.folder.join(name);
        let id = format!("{}-{name}", self.id);
        self.bundle.cgroups_path = Some(self.scene.cgroups_path(&id).into());
        self.cgroup = self.scene.cgroup(&id);
        self
    }

    /// Starts it.
    pub fn run(self) -> Container<'s> {
        let mut starting = self.spawn();
        let status = starting.wait();
        let container = starting.container;
        assert!(status.success(), "{}: {status}\n{}", container.name(), container.failure());
        container
    }

    /// Creates it, and starts nothing yet.
    pub fn create(self) -> Container<'s> {
        let mut starting = self.spawn_by(&["create"]);
        let status = starting.wait();
        let container = starting.container;
        assert!(status.success(), "{}: {status}\n{}", container.name(), container.failure());
        container
    }

    /// Starts it, which must fail before its command runs; gives what the hook said.
    pub fn refused(self) -> String {
        let mut starting = self.spawn();
        let status = starting.wait();
        starting.container.assert_refused(status)
    }

    /// Begins to start it.
    pub fn spawn(self) -> Starting<'s> {
        self.spawn_by(&["run", "--detach"])
    }

    /// Begins to run it in the runtime's foreground: that ends with its status.
    pub fn spawn_in_foreground(self) -> Starting<'s> {
        self.spawn_by(&["run"])
    }

    /// Begins to create it, as engines do: by one process of the runtime's (`crun run --detach`
    /// has two, of which the one that calls the hook outlives the other).
    pub fn spawn_create(self) -> Starting<'s> {
        self.spawn_by(&["create"])
    }

    fn spawn_by(mut self, verb: &[&str]) -> Starting<'s> {
        let folder = tempfile::tempdir_in(&self.scene.folder).unwrap().keep();
        let said = folder.join("hook-stderr");
        // crun shows nobody what a hook says, unless so annotated.
        let key = "run.oci.hooks.stderr".to_owned();
        self.bundle.annotations.insert(key, said.to_str().unwrap().into());
        self.bundle.write(&folder, &self.scene.folder.join("rootfs"));
        let Self { scene, id, root, options, cgroup, .. } = self;
        let container = Container { scene, id, root, options, cgroup, folder };
        let runtime = container
            .command(verb)
            .arg("--bundle")
            .arg(&container.folder)
            .arg("--pid-file")
            .arg(container.folder.join("pid"))
            .arg(&container.id)
            .stdout(File::create(container.folder.join("stdout")).unwrap())
            .stderr(File::create(container.folder.join("stderr")).unwrap())
            .spawn()
            .unwrap();
        Starting { container, runtime }
    }
}

/// A container that is being started.
#[derive(Debug)]
pub struct Starting<'s> {
    /// The container, which may come to nothing.
    pub container: Container<'s>,
    /// The runtime's process.
    pub runtime: Child,
}

impl Starting<'_> {
    /// Waits until the runtime is done.
    pub fn wait(&mut self) -> ExitStatus {
        let what = format!("{} to be started", self.container.name());
        until(&what, || self.runtime.try_wait().unwrap())
    }
}

/// A container that was started. Removed when dropped.
#[derive(Debug)]
pub struct Container<'s> {
    scene: &'s Scene,
    /// Its id.
    pub id: String,
    root: PathBuf,
    options: Vec<String>,
    /// Where its init is.
    pub cgroup: String,
    folder: PathBuf,
}

impl Container<'_> {
    fn name(&self) -> String {
        format!("{} with {}", self.id, self.scene.runtime)
    }

    fn command(&self, verb: &[&str]) -> Command {
        let mut command = self.scene.runtime.command(&self.root);
        command.args(&self.options).args(verb);
        command
    }

    /// What the runtime does to it, in a minute at the most.
    fn output(&self, verb: &[&str]) -> Output {
        let command = self.command(verb);
        let mut limited = Command::new("timeout");
        bare(&mut limited);
        limited.args(["--kill-after=5", "60"]).arg(command.get_program());
        limited.args(command.get_args()).arg(&self.id).stdin(Stdio::null()).output().unwrap()
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.folder.join(file)).unwrap_or_default()
    }

    /// What runtime and hook said of a failure. (runc quotes what the hook said.)
    pub fn failure(&self) -> String {
        self.read("stderr").replace("\\\"", "\"") + &self.read("hook-stderr")
    }

    /// The PID of its init, as the runtime wrote it down.
    pub fn pid(&self) -> i32 {
        until(&format!("{} to have a PID", self.name()), || self.read("pid").trim().parse().ok())
    }

    /// What it has said so far.
    pub fn out(&self) -> String {
        self.read("stdout")
    }

    /// Sends its init a signal, through the runtime.
    pub fn signal(&self, signal: &str) {
        let output = self.command(&["kill"]).args([&self.id, signal]).output().unwrap();
        assert!(output.status.success(), "{}: {output:?}", self.name());
    }

    /// The CPUs it runs on, in its own words.
    pub fn cpus(&self) -> String {
        until(&format!("{} to say its CPUs", self.name()), || {
            let text = self.read("stdout");
            let said = text.strip_prefix("Cpus_allowed_list:")?.strip_suffix('\n')?;
            Some(said.trim().to_owned())
        })
    }

    /// What the runtime says of it.
    pub fn state(&self) -> Value {
        let output = self.output(&["state"]);
        assert!(output.status.success(), "{}: {output:?}", self.name());
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Starts a created one.
    pub fn start(&self) {
        self.do_to(&["start"]);
    }

    /// Makes a checkpoint of it in its folder, which ends it.
    pub fn checkpoint(&self, flags: &[&str]) {
        let images = self.images();
        let words = ["--image-path", images.to_str().unwrap()];
        self.do_to(&[&["checkpoint"], flags, &words].concat());
    }

    /// Restores it from its checkpoint.
    pub fn restore(&self, flags: &[&str]) -> Output {
        let [images, pid] = [self.images(), self.folder.join("pid")];
        let _ = fs::remove_file(&pid);
        let paths = [&self.folder, &images, &pid].map(|path| path.to_str().unwrap());
        let [bundle, images, pid] = paths;
        let places = ["--bundle", bundle, "--image-path", images, "--work-path", images];
        self.output(&[&["restore", "--detach", "--pid-file", pid], flags, &places].concat())
    }

    /// Where its checkpoint is.
    pub fn images(&self) -> PathBuf {
        self.folder.join("images")
    }

    /// Changes its limits.
    pub fn update(&self, flags: &[&str]) {
        let verb: Vec<&str> = ["update"].iter().chain(flags).copied().collect();
        self.do_to(&verb);
    }

    /// Removes it, dead or alive: the runtime then calls poststop.
    pub fn delete(&self) {
        self.do_to(&["delete", "--force"]);
    }

    fn do_to(&self, verb: &[&str]) {
        let output = self.output(verb);
        assert!(output.status.success(), "{}: {verb:?}: {output:?}", self.name());
    }

    /// Kills its init, and waits for its end.
    pub fn kill(&self) {
        machine::kill_and_wait(self.pid());
    }

    /// Asserts that it was refused before its command ran, and that no cgroup is left.
    pub fn assert_refused(&self, status: ExitStatus) -> String {
        assert!(!status.success(), "{} was started", self.name());
        assert_eq!(self.read("stdout"), "", "{} has run", self.name());
        until("the cgroup of a refused container to go", || {
            (!machine::cgroup_file(&self.cgroup, "").exists()).then_some(())
        });
        self.failure()
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if self.root.join(&self.id).exists() {
            self.output(&["delete", "--force"]);
        }
    }
}
