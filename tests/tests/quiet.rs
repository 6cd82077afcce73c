//! An exclusive core while the node has everything to do that it can: nothing of others runs on it with a
//! partition and the shield, but for threads that the kernel has one of on each CPU.
//!
//! `make test` has ten seconds of it, `make deep` a minute (`KCM_QUIET_SECONDS`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use kcm_tests::alone::{alone, partition};
use kcm_tests::kcm::{Outcome, kcm};
use kcm_tests::machine::{Guest, kill_and_wait, must_be_the_guest, until};
use kcm_tests::node::{Node, on_a_node};
use kcm_tests::oracle::{Had, Oracle, TRACEFS, instances_of};
use kcm_tests::podman::Podman;
use kcm_tests::runtime::systemctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use serde_json::Value;

/// What may run on a CPU that is a container's alone, by hand: of each the kernel has one on each CPU, and no
/// write moves it. N is the CPU.
const THE_CPUS_OWN: [&str; 5] =
    ["cpuhp/N", "idle_inject/N", "ksoftirqd/N", "kworker/N:*", "migration/N"];

/// What is counted of the node's interrupts: in which file of procfs, by which word.
const COUNTED: [(&str, &str); 3] =
    [("interrupts", "virtio"), ("softirqs", "NET_RX"), ("softirqs", "TIMER")];

/// Whether a thread of this name is the CPU's own.
fn is_the_cpus_own(name: &str, cpu: u32) -> bool {
    THE_CPUS_OWN.iter().any(|own| {
        let own = own.replace('N', &cpu.to_string());
        own.strip_suffix('*').map_or(own == name, |begins| name.starts_with(begins))
    })
}

#[test]
fn what_is_a_cpus_own_is_told_by_the_whole_name_and_number() {
    for name in ["kworker/4:1", "kworker/4:0H", "ksoftirqd/4", "migration/4", "cpuhp/4"] {
        assert!(is_the_cpus_own(name, 4) && !is_the_cpus_own(name, 5), "{name}");
    }
    for name in ["kworker/u64:1", "kworker/44:1", "ksoftirqd/45", "migration", "stress-ng-cpu", ""]
    {
        assert!(!is_the_cpus_own(name, 4), "{name}");
    }
}

/// A line for whoever watches the guest; not by a macro, which the test's harness would keep to itself.
fn say(line: &str) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// What the node has to do besides stress-ng.
#[derive(Default)]
struct Work {
    is_over: AtomicBool,
    reloads: AtomicU64,
    starts: AtomicU64,
}

impl Work {
    fn again(&self, count: &AtomicU64, act: impl Fn(u64)) {
        while !self.is_over.load(Ordering::Relaxed) {
            act(count.load(Ordering::Relaxed));
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn reload(&self) {
        self.again(&self.reloads, |_| systemctl(&["daemon-reload"]));
    }

    fn start_containers(&self, podman: &Podman<'_>) {
        self.again(&self.starts, |nth| {
            podman.start_flagged(&format!("brief{nth}"), &[], &["--rm"], &["sh", "-c", ":"]);
        });
    }
}

/// stress-ng, as many workers as CPUs, timers, packets and writes; the other work ends with it.
struct Stress<'w>(Child, &'w Work);

impl<'w> Stress<'w> {
    fn start(folder: &Path, work: &'w Work) -> Self {
        // Never idle, and yet the other work comes to something.
        let mut stress = Command::new("nice");
        stress.args([
            "-n",
            "19",
            "stress-ng",
            "--quiet",
            "--cpu",
            "16",
            "--timer",
            "2",
            "--timer-freq",
            "1000",
        ]);
        stress.args([
            "--udp",
            "1",
            "--hdd",
            "1",
            "--hdd-bytes",
            "4m",
            "--hdd-opts",
            "direct,dsync",
        ]);
        stress.arg("--temp-path").arg(folder).stdin(Stdio::null()).stderr(Stdio::null());
        let stress = stress.spawn().unwrap();
        let children = format!("/proc/{0}/task/{0}/children", stress.id());
        until("stress-ng to be at work", || {
            let children = fs::read_to_string(&children).unwrap();
            (children.split_whitespace().count() >= 20).then_some(())
        });
        Self(stress, work)
    }
}

impl Drop for Stress<'_> {
    fn drop(&mut self) {
        self.1.is_over.store(true, Ordering::Relaxed);
        let _ = kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// How often each of what is counted has been, on all CPUs.
fn counters() -> [u64; 3] {
    COUNTED.map(|(file, word)| {
        let text = fs::read_to_string(format!("/proc/{file}")).unwrap();
        let lines = text.lines().filter(|line| line.contains(word));
        let words = lines.flat_map(|line| line.split_whitespace().skip(1));
        words.filter_map(|word| word.parse::<u64>().ok()).sum()
    })
}

/// A container with a loop on each of two CPUs, which begin when it is told: an emulated machine has little
/// time for anything beside.
struct Loops<'p> {
    podman: &'p Podman<'p>,
    pool: &'p str,
    cpus: [u32; 2],
    init: i32,
    cgroup: String,
}

impl<'p> Loops<'p> {
    fn start(podman: &'p Podman<'p>, pool: &'p str, cpus: [u32; 2]) -> Self {
        let fifo = podman.node.folder().join("rootfs").join(pool);
        mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        let run = cpus.map(|cpu| {
            format!("/bin/busybox taskset -c {cpu} sh -c 'while :; do :; done' kcm-loop")
        });
        // No process of its own waits.
        let script = format!("read go </{pool}; {} & exec {}", run[0], run[1]);
        let annotation = format!("kcm.intel.com/pool={pool}");
        podman.start_with(pool, &[&annotation], &["sh", "-c", &script]).succeeded();
        let init = podman.pid(pool);
        let cgroup = fs::read_to_string(format!("/proc/{init}/cgroup")).unwrap();
        let cgroup = cgroup.trim().strip_prefix("0::").unwrap().to_owned();
        Self { podman, pool, cpus, init, cgroup }
    }

    /// Has them begin, and gives their threads.
    fn begin(&self) -> Vec<i32> {
        let fifo = self.podman.node.folder().join("rootfs").join(self.pool);
        fs::write(fifo, "go\n").unwrap();
        until("the loops to run", || {
            let threads = format!("/sys/fs/cgroup{}/cgroup.threads", self.cgroup);
            let threads = fs::read_to_string(threads).unwrap();
            let threads: Vec<i32> = threads.lines().map(|line| line.parse().unwrap()).collect();
            let is_loop = |thread: &i32| {
                let words = fs::read_to_string(format!("/proc/{thread}/cmdline"));
                words.is_ok_and(|words| words.starts_with("sh\0") && words.ends_with("kcm-loop\0"))
            };
            (threads.len() == 2 && threads.iter().all(is_loop)).then_some(threads)
        })
    }

    /// Who else runs on its CPUs while there is all that work, and for how long.
    fn watch(&self, seconds: u64) -> Foreign {
        let (node, work) = (self.podman.node, Work::default());
        let own = self.begin();
        let oracles = self.cpus.map(Oracle::start);
        let pool = format!("--pool={}", self.pool);
        // Until it is told to end: it begins before the machine is too busy to start anything.
        let mut noise = kcm();
        noise.args(["noise", "--output=json", "--duration=1h", &pool]);
        let noise = noise.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        until("kcm noise to trace", || {
            let instance =
                format!("{TRACEFS}/instances/{}", instances_of(noise.id() as i32).pop()?);
            let is_on = |file| {
                fs::read_to_string(format!("{instance}/{file}"))
                    .ok()
                    .filter(|it| it.starts_with("1"))
                    .map(drop)
            };
            // In this order: there is an instance before anything is set of it.
            is_on("events/sched/sched_switch/enable").and_then(|()| is_on("tracing_on"))
        });
        let before = counters();
        std::thread::scope(|threads| {
            let _stress = Stress::start(node.folder(), &work);
            threads.spawn(|| work.reload());
            threads.spawn(|| work.start_containers(self.podman));
            sleep(Duration::from_secs(seconds));
            kill(Pid::from_raw(noise.id() as i32), Signal::SIGINT).unwrap();
        });
        let after = counters();
        let counted = [0, 1, 2].map(|nth| after[nth] - before[nth]);
        let noise = Outcome::from(noise.wait_with_output().unwrap()).succeeded();
        let report: Value = serde_json::from_str(&noise.out).unwrap();
        let at = |key: &str| report["window"][key].as_u64().unwrap();
        let had = oracles.map(|oracle| oracle.stop(at("beginNs"), at("endNs")));
        let mut foreign = Foreign::new();
        for (cpu, had) in self.cpus.into_iter().zip(had) {
            let had = had.into_iter().filter(|(thread, _)| *thread != 0 && !own.contains(thread));
            had_on(cpu, &report, had.collect(), &mut foreign);
        }
        say(&format!("{}, for {:.1} s:", self.pool, (at("endNs") - at("beginNs")) as f64 / 1e9));
        for ((cpu, name), ns) in &foreign {
            say(&format!("  CPU {cpu}: {name} {:.3} ms", *ns as f64 / 1e6));
        }
        for ((_, word), count) in COUNTED.iter().zip(counted) {
            say(&format!("  meanwhile, on all CPUs: {word} {count} times"));
            assert!(count > 0, "no {word}");
        }
        let [reloads, starts] = [&work.reloads, &work.starts].map(|it| it.load(Ordering::Relaxed));
        say(&format!("  meanwhile: {reloads} daemon-reload, {starts} podman run"));
        foreign
    }
}

/// For how long threads of a name had a CPU that are neither its container's nor idle.
type Foreign = BTreeMap<(u32, String), u64>;

/// What others had of a CPU as kcm tells: those who ran by the kernel's own events, as often as they did.
/// For how long the two cannot agree here: between an event of the one and of the other an emulated CPU
/// may stand still for a second.
fn had_on(cpu: u32, report: &Value, mut others: BTreeMap<i32, Had>, foreign: &mut Foreign) {
    assert_eq!(report["source"], "tracefs");
    let of = report["eachCpu"].as_array().unwrap().iter().find(|of| of["cpu"] == cpu).unwrap();
    let ns = |it: &Value, key: &str| it[key].as_u64().unwrap_or_default();
    assert!(of["lostEvents"] == 0 && ns(of, "ownersNs") > 0, "{of:#}");
    for source in of["sources"].as_array().unwrap() {
        if source["kind"] == "thread" || source["kind"] == "kernel-thread" {
            let had = others.remove(&(source["pid"].as_i64().unwrap() as i32)).unwrap_or_default();
            assert!(had.count.abs_diff(ns(source, "count")) <= 1, "CPU {cpu}: {had:?}, {source:#}");
            let name = source["name"].as_str().unwrap().to_owned();
            *foreign.entry((cpu, name)).or_default() += ns(source, "totalNs");
        }
    }
    let untold: Vec<_> = others.values().filter(|had| had.count > 1).collect();
    assert!(untold.is_empty(), "kcm has missed {untold:?} on CPU {cpu}");
    // Somebody at the very edge of the window is to be judged, too.
    for had in others.into_values().filter(|had| had.most > 0) {
        foreign.entry((cpu, had.name)).or_default();
    }
}

#[test]
fn nothing_of_others_runs_on_a_core_with_a_partition_and_the_shield_but_the_kernels_own_of_each_cpu()
 {
    assert_eq!(must_be_the_guest(), Guest::Systemd);
    let _alone = alone();
    let seconds = std::env::var("KCM_QUIET_SECONDS").map_or(10, |text| text.parse().unwrap());
    on_a_node(|node: &Node| {
        node.make_pools(&[("alone", true, "4-5"), ("beside", true, "6-7")]);
        node.kcm(&["init", "--partition=alone=root", "--partition=beside=none"]).succeeded();
        node.kcm(&["install", "--runtime=podman"]).succeeded();
        let podman = Podman::new(node, "crun");
        let alone = Loops::start(&podman, "alone", [4, 5]);
        let beside = Loops::start(&podman, "beside", [6, 7]);
        assert_eq!([&alone, &beside].map(|it| partition(&it.cgroup)), ["root", "member"]);
        // Where a container weighs much, the kernel's balance keeps others off for a while: nothing makes it.
        let slice = beside.cgroup.split('/').nth(1).unwrap();
        systemctl(&["set-property", "--runtime", slice, "CPUWeight=1"]);
        let without = beside.watch(5);
        kill_and_wait(beside.init);
        node.kcm(&["shield", "on"]).succeeded();
        let with = alone.watch(seconds);
        kill_and_wait(alone.init);
        node.kcm(&["shield", "off"]);
        let others = with.keys().filter(|(cpu, name)| !is_the_cpus_own(name, *cpu));
        assert_eq!(others.collect::<Vec<_>>(), Vec::<&(u32, String)>::new());
        let stress = without.iter().filter(|((_, name), _)| name.starts_with("stress-ng"));
        assert!(
            stress.map(|(_, ns)| ns).sum::<u64>() > 0,
            "nobody ran beside the other: {without:?}"
        );
    });
}
