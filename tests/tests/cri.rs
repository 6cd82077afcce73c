//! The harness's own containerd: it runs pods, says why it does not, and leaves nothing behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::OnceLock;

use kcm_tests::cri::Containerd;
use kcm_tests::isolate::status;
use kcm_tests::machine::{is_running, until};
use kcm_tests::node::{Node, on_a_node};

const REPORT: &str = "while read -r l; do case $l in Cpus_allowed_list:*) echo \"$l\";; esac; done \
                      </proc/self/status; exec sleep 1000";

/// What a test has running, as PIDs: all processes with its folder in their arguments, and those in
/// its cgroup.
fn processes(folder: &Path, cgroup: &str) -> BTreeSet<i32> {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let folder = folder.to_str().unwrap();
    let ours = |pid: &i32| {
        let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let has = |text: &[u8], word: &str| text.windows(word.len()).any(|w| w == word.as_bytes());
        has(&read("cmdline"), folder) || has(&read("cgroup"), cgroup)
    };
    pids.filter(|&pid| is_running(pid)).filter(ours).collect()
}

/// The places below a folder at which something is mounted, as this thread sees it.
fn mounts(folder: &Path) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/thread-self/mounts").unwrap();
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let below =
        |place: &&str| Path::new(place).starts_with(folder) && *place != folder.to_str().unwrap();
    places.filter(below).map(str::to_owned).collect()
}

/// The cgroup folders of that path, in whatever hierarchies there are.
fn cgroups(cgroup: &str) -> Vec<String> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).unwrap().flatten().map(|entry| entry.path());
    let folders =
        hierarchies.chain([root.to_owned()]).map(|root| root.join(cgroup.trim_start_matches('/')));
    folders.filter(|folder| folder.is_dir()).map(|folder| folder.display().to_string()).collect()
}

/// Lets a test play with a containerd; when that is dropped, however the play ended, nothing is left.
fn leaves_nothing_behind(play: impl Fn(&Node, &Containerd<'_>) + Sync) {
    let folder = OnceLock::new();
    let played = catch_unwind(AssertUnwindSafe(|| {
        on_a_node(|node| {
            folder.set(node.folder().to_owned()).unwrap();
            let mounts_before = mounts(node.folder());
            let containerd = Containerd::new(node, "");
            let cgroup = containerd.cgroup().to_owned();
            let played = catch_unwind(AssertUnwindSafe(|| play(node, &containerd)));
            drop(containerd);
            until("all to have ended", || {
                processes(node.folder(), &cgroup).is_empty().then_some(())
            });
            assert_eq!(mounts(node.folder()), mounts_before);
            assert_eq!(cgroups(&cgroup), [""; 0]);
            if let Err(panic) = played {
                resume_unwind(panic);
            }
        });
    }));
    let folder = folder.get().unwrap();
    assert!(!folder.exists(), "{} is left", folder.display());
    if let Err(panic) = played {
        resume_unwind(panic);
    }
}

#[test]
fn a_container_runs_and_is_heard() {
    leaves_nothing_behind(|node, containerd| {
        containerd.start();
        let pod = containerd.sandbox("pod", "", &[]).unwrap();
        let container = pod.container("main", REPORT).unwrap();
        let cpus = status(container.pid(), "Cpus_allowed_list");
        until("the container to be heard", || {
            let log = fs::read_to_string(node.folder().join("logs/main.log")).ok()?;
            let (_, said) = log.split_once("Cpus_allowed_list:")?;
            (said.trim() == cpus).then_some(())
        });
        let all = processes(node.folder(), containerd.cgroup());
        assert!(all.contains(&pod.pid()) && all.contains(&container.pid()), "{all:?}");
        // runc's state is in a folder of the test's own; the main thread sees the machine's.
        let state = format!("run/containerd/runc/k8s.io/{}", container.id());
        assert!(Path::new("/").join(&state).exists());
        assert!(!Path::new("/proc/self/root").join(&state).exists());
    });
}

#[test]
fn an_unknown_handler_is_named() {
    leaves_nothing_behind(|_, containerd| {
        containerd.start();
        let refused = containerd.sandbox("pod", "no-such-handler", &[]).unwrap_err();
        assert!(refused.contains("no-such-handler"), "{refused}");
    });
}

#[test]
#[should_panic(expected = "on purpose")]
fn a_test_that_fails_leaves_nothing_behind() {
    leaves_nothing_behind(|_, containerd| {
        containerd.start();
        let pod = containerd.sandbox("pod", "", &[]).unwrap();
        let _container = pod.container("main", REPORT).unwrap();
        panic!("on purpose");
    });
}

#[test]
fn containers_go_even_while_containerd_is_stopped() {
    leaves_nothing_behind(|_, containerd| {
        containerd.start();
        let pod = containerd.sandbox("pod", "", &[]).unwrap();
        let _container = pod.container("main", REPORT).unwrap();
        containerd.stop();
    });
}
