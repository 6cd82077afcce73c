//! Containers that could write the directory.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::isolate::descendants;
use kcm_tests::machine::until;
use tempfile::TempDir;

use super::look::{look, of};

/// A process with a root and mounts of its own, as a container's; killed when dropped.
struct Container {
    child: Child,
    pid: i32,
    _root: TempDir,
}

impl Container {
    /// `mounts` is a line of shell in which `$root` is the new root; what is said there is done before
    /// the container has it as its root.
    fn new(mounts: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let script = format!(
            "set -e; root={}
             mount -t tmpfs container $root
             for name in usr bin lib lib64 proc; do
                 if [ -L /$name ]; then cp -P /$name $root/$name
                 elif [ -d /$name ]; then mkdir $root/$name; mount --rbind /$name $root/$name
                 fi
             done
             {mounts}
             exec chroot $root /usr/bin/sleep 600",
            root.path().display()
        );
        Self::run(&script, root)
    }

    /// A service of the host's with mounts of its own (`PrivateTmp=`).
    fn service() -> Self {
        let root = tempfile::tempdir().unwrap();
        Self::run("mount -t tmpfs private /var/tmp; exec sleep 600", root)
    }

    fn run(script: &str, root: TempDir) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let pid = until("a container's process to sleep", || {
            let pid = *descendants(child.id() as i32).first()?;
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            (name == "sleep\n").then_some(pid)
        });
        Self { child, pid, _root: root }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether doctor warns of a container, and where that has the directory.
fn warned_of(conf: &ConfDir, container: &Container) -> Option<String> {
    let findings = look(conf);
    let [finding] = of(&findings, "mounts")[..] else { panic!() };
    let named = format!("process {} (sleep", container.pid);
    let message = &finding.message;
    let found =
        message.split(": ").last().unwrap().split("; ").find(|name| name.starts_with(&named))?;
    assert_eq!(finding.status, "warn", "{finding:?}");
    assert!(message.contains(conf.path().to_str().unwrap()), "{message}");
    assert!(finding.remedy.as_ref().unwrap().contains("readOnly"), "{finding:?}");
    Some(found.rsplit_once(" at ").unwrap().1.to_owned())
}

#[test]
fn a_container_that_has_the_directory_mounted_writable_is_named_with_where() {
    let conf = ConfDir::new(&[("p", true, &["0"])]);
    let path = conf.path().display();
    let folder = conf.path().parent().unwrap().display();
    for (what, mounts, expected) in [
        ("itself", format!("mkdir $root/kcm; mount --bind {path} $root/kcm"), Some("/kcm")),
        ("what it is in", format!("mkdir $root/x; mount --bind {folder} $root/x"), Some("/x/kcm")),
        ("a part", format!("mkdir $root/p; mount --bind {path}/pools $root/p"), Some("/p")),
        (
            "itself, and only to read",
            format!(
                "mkdir $root/kcm; mount --bind {path} $root/kcm; mount -o remount,bind,ro $root/kcm"
            ),
            None,
        ),
        ("another", format!("mkdir -p $root{path}; mount -t tmpfs none $root{path}"), None),
        ("nothing", "true".to_owned(), None),
    ] {
        let container = Container::new(&mounts);
        assert_eq!(warned_of(&conf, &container).as_deref(), expected, "{what}");
        if let Some(at) = expected {
            // It is true.
            let root = format!("/proc/{}/root{at}", container.pid);
            let write = Path::new(&root).join("written");
            fs::write(&write, "").unwrap();
            fs::remove_file(&write).unwrap();
        }
    }
}

#[test]
fn a_service_of_the_hosts_with_mounts_of_its_own_is_no_container() {
    let conf = ConfDir::new(&[("p", true, &["0"])]);
    assert_eq!(warned_of(&conf, &Container::service()), None);
}
