//! Where the hook is measured: a pool with few free lists, and a container that is as if new.

use std::fs;
use std::path::{Path, PathBuf};

use kcm_tests::bundle::Bundle;
use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::POOL;
use kcm_tests::machine::{cgroup_file, two_cpus};
use kcm_tests::mount::Mount;
use kcm_tests::programs::program;
use kcm_tests::stand_in::StandIn;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::measure::Program;

/// Where a configuration directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    /// On tmpfs.
    Memory,
    /// In the folder of temporary files.
    Disk,
}

/// A configuration directory with one exclusive pool, `p`.
#[derive(Debug)]
pub(crate) struct Place {
    _mount: Option<Mount>,
    /// The directory.
    pub(crate) conf_dir: ConfDir,
    /// All CPU lists; the last one has one CPU, and comes last.
    pub(crate) lists: Vec<String>,
}

impl Place {
    /// A pool of so many CPU lists, all free.
    pub(crate) fn new(storage: Storage, lists: usize) -> Self {
        let lists = list_names(lists);
        let names: Vec<&str> = lists.iter().map(String::as_str).collect();
        let conf_dir = ConfDir::new(&[("p", true, &names)]);
        names.iter().for_each(|list| conf_dir.date("p", list));
        fs::create_dir(conf_dir.path().join("kept")).unwrap();
        let mount =
            (storage == Storage::Memory).then(|| Mount::tmpfs(conf_dir.path(), "size=256m"));
        Self { _mount: mount, conf_dir, lists }
    }

    /// The same with all lists taken but the last.
    pub(crate) fn almost_full(storage: Storage, lists: usize) -> Self {
        let place = Self::new(storage, lists);
        for list in &place.lists[..lists - 1] {
            let us = std::process::id().to_string();
            fs::write(place.conf_dir.tasks_path("p", list), us).unwrap();
        }
        place
    }

    /// The hook at a stage, with this state.
    pub(crate) fn hook(&self, stage: &str, state: &Path) -> Program {
        let conf_dir = format!("--conf-dir={}", self.conf_dir.path().display());
        Program::new([program("kcm-hook").as_os_str(), conf_dir.as_ref(), stage.as_ref()])
            .reading(state)
    }

    /// Puts a list and a record as they were, for the next run. Files are moved away and none is
    /// freed: ext4 would take ever longer to find an inode.
    pub(crate) fn put(
        &self,
        number: usize,
        list: &str,
        tasks: &str,
        owner: &str,
        record: Option<&str>,
    ) {
        let kept = |name: &str| self.conf_dir.path().join(format!("kept/{number}-{owner}.{name}"));
        let (tasks_path, record_path) =
            (self.conf_dir.tasks_path("p", list), self.conf_dir.record_path(owner));
        fs::rename(&tasks_path, kept("tasks")).unwrap();
        fs::write(&tasks_path, tasks).unwrap();
        self.conf_dir.date("p", list);
        fs::hard_link(&tasks_path, kept("new")).unwrap();
        let index_path = self.conf_dir.index_path("p", list);
        for (path, name) in [(&record_path, "json"), (&index_path, "index")] {
            if path.exists() {
                fs::rename(path, kept(name)).unwrap();
            }
        }
        if let Some(record) = record {
            fs::write(&record_path, record).unwrap();
            fs::write(&index_path, record).unwrap();
        }
    }
}

/// Different names of CPU lists that this machine has, however few CPUs it has: `1,1,1,1` last,
/// `0,01,1,001` and the like before it, of the length that names have on a large machine.
fn list_names(count: usize) -> Vec<String> {
    let [first, second] = two_cpus();
    let [first, second] =
        [&first, &second].map(|cpu| [1, 2, 3].map(|width| format!("{cpu:0>width$}")));
    let mut names = vec![String::new()];
    for _ in 0..4 {
        let cpus = || first.iter().chain(&second);
        names =
            names.iter().flat_map(|name| cpus().map(move |cpu| format!("{name},{cpu}"))).collect();
    }
    let mut names: Vec<String> = names.into_iter().map(|name| name[1..].to_owned()).collect();
    names.sort_by_key(String::len);
    let last = [second[0].as_str(); 4].join(",");
    names.retain(|name| *name != last);
    names.truncate(count - 1);
    assert_eq!(names.len(), count - 1);
    names.push(last);
    names
}

/// A container with its state and bundle on disk.
#[derive(Debug)]
pub(crate) struct Container {
    /// Its process and cgroup.
    pub(crate) stand_in: StandIn,
    /// The file with its state.
    pub(crate) state: PathBuf,
    all_cpus: String,
}

impl Container {
    /// One that asks for pool `p`.
    pub(crate) fn new(folder: &Path, id: &str) -> Self {
        let folder = folder.join(id);
        fs::create_dir(&folder).unwrap();
        let bundle = Bundle { args: vec!["/bin/true".into()], ..Bundle::default() };
        bundle.write(&folder, Path::new("rootfs"));
        let stand_in = StandIn::new(id);
        let state =
            stand_in.state(&[("io.kubernetes.cri.container-type", "container"), (POOL, "p")]);
        let mut state: serde_json::Value = serde_json::from_str(&state).unwrap();
        state["bundle"] = folder.to_str().unwrap().into();
        let path = folder.join("state.json");
        fs::write(&path, state.to_string()).unwrap();
        let all_cpus = stand_in.cgroup().cpus();
        Self { stand_in, state: path, all_cpus }
    }

    /// Lets it run everywhere again: the kernel does nothing for a change that is none.
    pub(crate) fn unpin(&self) {
        let cgroup = self.stand_in.cgroup().path();
        fs::write(cgroup_file(&cgroup, "cpuset.cpus"), &self.all_cpus).unwrap();
        let mut all = CpuSet::new();
        (0..CpuSet::count()).for_each(|cpu| all.set(cpu).unwrap());
        sched_setaffinity(Pid::from_raw(self.stand_in.pid()), &all).unwrap();
    }
}
