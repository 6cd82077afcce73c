//! `kcm shield` in the guest with systemd: its units, interrupts, threads, all of a real machine, before,
//! under and after it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use kcm_core::CpuSet;
use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::Ran;
use kcm_tests::isolate::Isolate;
use kcm_tests::kcm::{Outcome, bare, kcm, run};
use kcm_tests::machine::{Guest, must_be_the_guest, reload_systemd, until};
use kcm_tests::programs::program;
use kcm_tests::strace::{Program, Trace};
use serde_json::Value;

/// The exclusive pool's CPUs: half a core of each socket is not, so that most things span it.
const POOL: [&str; 2] = ["3", "9-10"];

const UNITS: [&str; 3] = ["init.scope", "system.slice", "user.slice"];

fn conf() -> ConfDir {
    assert_eq!(must_be_the_guest(), Guest::Systemd);
    ConfDir::new(&[("dp", true, &POOL), ("infra", false, &["0-2,4-8,11-15"])])
}

fn pool() -> CpuSet {
    POOL.join(",").parse().unwrap()
}

fn shield(conf: &ConfDir, words: &[&str]) -> Outcome {
    run(kcm().arg("shield").args(words).env("KCM_CONF_DIR", conf.path()))
}

fn status(conf: &ConfDir) -> Value {
    let out = shield(conf, &["status", "--output=json"]).succeeded().out;
    serde_json::from_str(&out).unwrap()
}

fn start(words: &[&str]) {
    let output = Command::new("systemd-run").arg("--quiet").args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
}

fn systemctl(words: &[&str]) {
    let output = Command::new("systemctl").args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
}

/// What holds for a unit's processes, whoever says so.
fn effective(unit: &str) -> CpuSet {
    let files = [format!("/sys/fs/cgroup/{unit}"), "/sys/fs/cgroup".to_owned()];
    let texts = files.iter().filter_map(|folder| {
        fs::read_to_string(Path::new(folder).join("cpuset.cpus.effective")).ok()
    });
    texts.map(|text| text.parse().unwrap()).next().unwrap()
}

/// Everything that a shield may change, of the machine itself.
#[derive(Debug, PartialEq)]
struct Seen {
    files: BTreeMap<String, String>,
    /// By thread and its start time: its name and the CPUs that it may run on.
    threads: BTreeMap<(i32, String), (String, String)>,
}

impl Seen {
    fn now() -> Self {
        let mut files = BTreeMap::new();
        let mut read = |path: &str| {
            if let Ok(text) = fs::read_to_string(path) {
                files.insert(path.to_owned(), text.trim().to_owned());
            }
        };
        for name in
            ["irq/default_smp_affinity", "sys/kernel/watchdog_cpumask", "sys/vm/stat_interval"]
        {
            read(&format!("/proc/{name}"));
        }
        read("/sys/devices/virtual/workqueue/cpumask");
        for entry in fs::read_dir("/proc/irq").unwrap() {
            let path = entry.unwrap().path().join("smp_affinity_list");
            read(path.to_str().unwrap());
        }
        for cpu in 0..16 {
            read(&format!("/sys/devices/system/cpu/cpu{cpu}/power/pm_qos_resume_latency_us"));
        }
        for unit in UNITS {
            files.insert(unit.to_owned(), effective(unit).to_string());
        }
        Self { files, threads: threads() }
    }

    /// Both have the same of everything that is in both; threads come and go.
    #[track_caller]
    fn must_equal(&self, before: &Self, when: &str) {
        for (path, value) in &before.files {
            assert_eq!(self.files.get(path), Some(value), "{path}, {when}");
        }
        let mut compared = 0;
        for (thread, had) in &before.threads {
            if let Some(has) = self.threads.get(thread) {
                assert_eq!(has.1, had.1, "thread {thread:?} ({}), {when}", had.0);
                compared += 1;
            }
        }
        assert!(compared > 20, "{compared}");
    }
}

/// Flags of a task (include/linux/sched.h).
const KERNEL_THREAD: u64 = 0x0020_0000;
const NO_SETAFFINITY: u64 = 0x0400_0000;

fn threads() -> BTreeMap<(i32, String), (String, String)> {
    let mut threads = BTreeMap::new();
    let pids = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<i32>().ok());
    for pid in pids {
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for task in tasks.flatten() {
            let read = |name| fs::read_to_string(task.path().join(name)).ok();
            let (Some(stat), Some(status)) = (read("stat"), read("status")) else { continue };
            let (name, rest) = stat.rsplit_once(')').unwrap();
            let field = |n: usize| rest.split_whitespace().nth(n).unwrap();
            let start = field(19).to_owned();
            // What serves workqueues is placed by the kernel, wherever it has last served.
            let flags: u64 = field(6).parse().unwrap();
            if flags & KERNEL_THREAD != 0 && flags & NO_SETAFFINITY != 0 {
                continue;
            }
            let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            let tid = task.file_name().to_str().unwrap().parse().unwrap();
            let name = name.split_once('(').unwrap().1.to_owned();
            threads.insert((tid, start), (name, allowed.unwrap().trim().to_owned()));
        }
    }
    threads
}

/// Services that are bound by themselves, to the pool, partly, and not.
fn bound_services() {
    stop_services();
    for (name, cpus) in [("pool", "3"), ("partly", "2 3 4"), ("not", "5")] {
        let affinity = format!("CPUAffinity={cpus}");
        let unit = format!("--unit=kcmtest-{name}");
        start(&["--collect", "-p", &affinity, &unit, "sleep", "1000"]);
        let cpus: CpuSet = cpus.replace(' ', ",").parse().unwrap();
        let is_bound =
            || of_service(&format!("kcmtest-{name}")).filter(|it| *it == cpus.to_string());
        until("a service to be bound", is_bound);
    }
}

fn stop_services() {
    let names = ["kcmtest-pool", "kcmtest-partly", "kcmtest-not"];
    // Not there at first.
    let _ = Command::new("systemctl").arg("stop").args(names).output().unwrap();
}

/// The CPUs of a process that is started now, in a slice.
fn newcomer(slice: &str) -> CpuSet {
    let slice = format!("--slice={slice}");
    let words = ["--quiet", "--wait", "--pipe", "--collect", &slice, "grep", "Cpus_allowed_list"];
    let output = Command::new("systemd-run").args(words).arg("/proc/self/status").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.trim().rsplit('\t').next().unwrap().parse().unwrap()
}

/// The CPUs of a service's process, once it is there.
fn of_service(name: &str) -> Option<String> {
    let pid = Command::new("systemctl").args(["show", "--value", "-p", "MainPID", name]).output();
    let pid = String::from_utf8(pid.unwrap().stdout).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", pid.trim())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t"));
    line.map(str::to_owned)
}

#[test]
fn nothing_of_the_nodes_own_is_on_the_pools_cpus_under_the_shield_and_all_is_as_before_after_it() {
    let conf = conf();
    bound_services();
    let before = Seen::now();
    shield(&conf, &["on", "--dry-run"]).succeeded();
    Seen::now().must_equal(&before, "after a dry run");
    shield(&conf, &["on", "--latency=0"]).succeeded();

    let off_the_pool = |cpus: &CpuSet| cpus.intersection(&pool()).is_empty();
    let must_be_off = |when: &str| {
        for unit in UNITS {
            assert!(off_the_pool(&effective(unit)), "{unit}, {when}");
        }
        for slice in ["system.slice", "user-0.slice"] {
            assert!(off_the_pool(&newcomer(slice)), "a new process of {slice}, {when}");
        }
    };
    must_be_off("at once");
    reload_systemd();
    must_be_off("after a daemon-reload");
    // The bound ones have what is left to them.
    assert_eq!(of_service("kcmtest-partly").unwrap(), "2,4");
    assert_eq!(of_service("kcmtest-not").unwrap(), "5");
    let of_pool: CpuSet = of_service("kcmtest-pool").unwrap().parse().unwrap();
    assert!(off_the_pool(&of_pool), "{of_pool}");
    let under = Seen::now();
    // What has stayed is what is said to.
    let status = status(&conf);
    assert_eq!(status["shield"], "on", "{status:#}");
    let left = status["left"].as_array().unwrap();
    let left = |kind: &str, name: &str| {
        left.iter().any(|it| {
            it["kind"] == kind && it["name"].as_str().unwrap().split(' ').next() == Some(name)
        })
    };
    for (path, value) in &under.files {
        if let Some(number) = path.strip_prefix("/proc/irq/").and_then(|rest| rest.split_once('/'))
        {
            let handlers = fs::read_dir(format!("/proc/irq/{}", number.0)).unwrap();
            let is_used = handlers.flatten().any(|entry| entry.path().is_dir());
            let is_off = off_the_pool(&value.parse().unwrap());
            assert!(is_off || !is_used || left("interrupt", number.0), "{path}: {value}");
        }
    }
    for ((tid, _), (name, allowed)) in &under.threads {
        let is_new = !before.threads.keys().any(|(it, _)| it == tid);
        let is_off = off_the_pool(&allowed.parse().unwrap());
        assert!(is_off || is_new || left("kernel-thread", name), "{name} ({tid}): {allowed}");
    }
    let parameters = status["parameters"].as_str().unwrap();
    assert!(parameters.contains("isolcpus=managed_irq,3,9-10"), "{parameters}");

    shield(&conf, &["on", "--latency=0"]).succeeded();
    Seen::now().must_equal(&under, "after a second on");
    let off = shield(&conf, &["off"]).succeeded();
    assert_eq!(off.lines("WARNING"), [""; 0]);
    Seen::now().must_equal(&before, "after off");
    reload_systemd();
    Seen::now().must_equal(&before, "after off and a daemon-reload");
    assert_eq!(newcomer("system.slice"), effective(""));
    stop_services();
}

#[test]
fn where_the_kernel_takes_no_empty_list_the_file_has_every_cpu_and_status_says_so() {
    let conf = conf();
    // Something else needs the controller, so that systemd does not take it away.
    let words =
        ["--collect", "--slice=machine.slice", "-p", "AllowedCPUs=0-15", "--unit=kcmtest-cpuset"];
    start(&[&words[..], &["sleep", "1000"]].concat());
    systemctl(&["set-property", "--runtime", "machine.slice", "AllowedCPUs=0-14"]);
    let own = |unit: &str| {
        let text = fs::read_to_string(format!("/sys/fs/cgroup/{unit}/cpuset.cpus")).unwrap();
        text.trim().to_owned()
    };
    until("the controller to be there", || (own("machine.slice") == "0-14").then_some(()));
    let before = Seen::now();
    assert_eq!(own("system.slice"), "");
    shield(&conf, &["on"]).succeeded();
    let off = shield(&conf, &["off", "--output=json"]).succeeded();
    Seen::now().must_equal(&before, "after off");
    let off: Value = serde_json::from_str(&off.out).unwrap();
    for report in [off, status(&conf)] {
        let whole = report["whole"].as_array().unwrap();
        for unit in ["init.scope", "system.slice"] {
            assert_eq!(whole.iter().any(|it| it == unit), own(unit) == "0-15", "{unit}: {whole:?}");
            assert!(["", "0-15"].contains(&own(unit).as_str()));
        }
    }
    // The next one begins with it.
    shield(&conf, &["on"]).succeeded();
    shield(&conf, &["off"]).succeeded();
    Seen::now().must_equal(&before, "after another round");
    systemctl(&["stop", "kcmtest-cpuset"]);
    systemctl(&["set-property", "--runtime", "machine.slice", "AllowedCPUs="]);
}

/// A unit's own restriction, and one that somebody sets meanwhile.
#[test]
fn what_an_administrator_has_set_of_a_slice_comes_back_and_what_he_sets_meanwhile_stays() {
    let conf = conf();
    systemctl(&["set-property", "--runtime", "user.slice", "AllowedCPUs=0-7"]);
    shield(&conf, &["on"]).succeeded();
    let told = |unit: &str| {
        let words = ["show", "--value", "-p", "AllowedCPUs", unit];
        let output = Command::new("systemctl").args(words).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().replace(' ', ",")
    };
    assert_eq!(told("user.slice"), "0-2,4-7");
    systemctl(&["set-property", "--runtime", "system.slice", "AllowedCPUs=0-1"]);
    let off = shield(&conf, &["off"]).succeeded();
    let warned = off.lines("WARNING");
    assert_eq!(warned.len(), 1, "{off:?}");
    assert!(
        warned[0].contains("slice system.slice keeps 0-1: somebody has set it since"),
        "{off:?}"
    );
    assert_eq!((told("user.slice"), told("system.slice")), ("0-7".into(), "0-1".into()));
    for unit in ["user.slice", "system.slice"] {
        systemctl(&["set-property", "--runtime", unit, "AllowedCPUs=0-15"]);
        systemctl(&["set-property", "--runtime", unit, "AllowedCPUs="]);
    }
}

#[test]
fn a_slice_in_which_somebody_holds_the_pools_cpus_without_a_partition_is_left_alone() {
    let conf = conf();
    let isolate = Isolate::new(&conf, "dp", &[]).script("echo $$; exec sleep 600");
    let unit =
        ["systemd-run", "--scope", "--quiet", "--slice=user-0.slice", "--unit=session-kcmtest"];
    let mut isolate = isolate.under(unit).start();
    let process = isolate.process(0);
    assert_eq!(process.status("Cpus_allowed_list"), POOL[0]);
    let is_a_partition = || {
        let kind = format!("/sys/fs/cgroup{}/cpuset.cpus.partition", isolate.cgroup());
        fs::read_to_string(kind).is_ok_and(|kind| ["root", "isolated"].contains(&kind.trim()))
    };
    let on = shield(&conf, &["on", "--output=json"]).succeeded();
    assert_eq!(process.status("Cpus_allowed_list"), POOL[0], "it lost its CPUs");
    let on: Value = serde_json::from_str(&on.out).unwrap();
    let left = on["left"].as_array().unwrap().iter().find(|it| it["name"] == "user.slice");
    match is_a_partition() || !isolate.cgroup().starts_with("/user.slice") {
        true => assert_eq!(left, None, "{on:#}"),
        false => {
            let why = left.unwrap()["why"].as_str().unwrap();
            assert!(why.contains("would lose them") && why.contains("isolate-"), "{why}");
        }
    }
    isolate.kill();
    process.ends(); // with kcm
    until("its CPUs to be free", || {
        let words = ["reconcile"];
        run(kcm().args(words).env("KCM_CONF_DIR", conf.path())).succeeded();
        conf.allocations().is_empty().then_some(())
    });
    shield(&conf, &["on"]).succeeded();
    assert!(newcomer("user-0.slice").intersection(&pool()).is_empty());
    shield(&conf, &["off"]).succeeded();
}

#[test]
fn system_slice_is_left_alone_where_a_container_in_it_could_not_be_given_a_core() {
    let conf = conf();
    // As docker has it.
    let words =
        ["--scope", "--quiet", "--slice=system.slice", "--unit=docker-0123abcd.scope", "sleep"];
    let mut container = Command::new("systemd-run").args(words).arg("600").spawn().unwrap();
    let scope = Path::new("/sys/fs/cgroup/system.slice/docker-0123abcd.scope");
    until("the scope", || scope.exists().then_some(()));
    let has_partitions = Path::new("/sys/fs/cgroup/cpuset.cpus.isolated").exists();
    let doctor = || {
        let doctor = run(kcm().arg("doctor").env("KCM_CONF_DIR", conf.path()));
        let line = doctor.out.lines().find(|line| line.contains(" shield ")).unwrap();
        (line.split(' ').next().unwrap().to_owned(), line.to_owned())
    };
    let (state, line) = doctor();
    assert_eq!(state, "ok");
    assert_eq!(line.contains("docker has containers in it"), !has_partitions, "{line}");
    shield(&conf, &["on"]).succeeded();
    let is_off = |unit: &str| effective(unit).intersection(&pool()).is_empty();
    assert_eq!((is_off("system.slice"), is_off("user.slice")), (has_partitions, true));
    let (state, line) = doctor();
    assert_eq!(state, if has_partitions { "ok" } else { "warn" }, "{line}");
    assert_eq!(
        line.contains("system.slice: docker has containers in it"),
        !has_partitions,
        "{line}"
    );
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(container.id() as i32),
        nix::sys::signal::SIGTERM,
    )
    .unwrap();
    container.wait().unwrap();
    until("the scope to go", || (!scope.exists()).then_some(()));
    shield(&conf, &["on"]).succeeded();
    assert!(is_off("system.slice"));
    shield(&conf, &["off"]).succeeded();
}

struct Run<'a>(&'a ConfDir, &'a [&'a str]);

impl Program for Run<'_> {
    fn run_under(&self, wrapper: Vec<OsString>) -> Ran {
        let mut command = Command::new(&wrapper[0]);
        bare(&mut command);
        command.args(&wrapper[1..]).arg(program("kcm")).arg("shield").args(self.1);
        let output = command.env("KCM_CONF_DIR", self.0.path()).output().unwrap();
        Ran { status: output.status, stderr: String::from_utf8(output.stderr).unwrap() }
    }
}

/// Every point is tried on made-up machines and in memory; here some of each kind, with the real
/// systemd and kernel.
#[test]
fn killed_between_steps_it_is_undone_by_the_next_off() {
    let conf = conf();
    bound_services();
    let before = Seen::now();
    for words in [&["on"] as &[&str], &["off"]] {
        let must_be_on = words == ["off"];
        if must_be_on {
            shield(&conf, &["on"]).succeeded();
        }
        let trace = Trace::of(&Run(&conf, words), &[]);
        assert!(trace.ran.status.success(), "{}", trace.ran.stderr);
        shield(&conf, &["off"]).succeeded();
        for (name, share) in
            [("sendto", 2), ("sendto", 4), ("write", 3), ("write", 5), ("sched_setaffinity", 2)]
        {
            if must_be_on {
                shield(&conf, &["on"]).succeeded();
            }
            let nth = (trace.count(name) * share / 6).max(1);
            let injection = format!("{name}:signal=SIGKILL:when={nth}");
            let killed = Trace::of(&Run(&conf, words), &[&injection]);
            assert_eq!(killed.ran.status.signal(), Some(9), "{injection}: {}", killed.ran.stderr);
            shield(&conf, &["off"]).succeeded();
            Seen::now().must_equal(&before, &format!("{words:?} killed at {injection}"));
        }
    }
    stop_services();
}

#[test]
fn irqbalance_is_told_and_forgets_it_again() {
    let conf = conf();
    if !Path::new("/usr/sbin/irqbalance").exists() {
        // Debian 12's guest has none; that of Debian 13 has.
        assert!(fs::read_to_string("/etc/debian_version").unwrap().starts_with("12"));
        println!("not tried here: there is no irqbalance");
        return;
    }
    let banned = || {
        let output = Command::new("pidof").arg("irqbalance").output().unwrap();
        let pid = String::from_utf8(output.stdout).unwrap();
        let environ = fs::read(format!("/proc/{}/environ", pid.trim())).ok()?;
        let environ = String::from_utf8(environ).unwrap();
        let value =
            environ.split('\0').find_map(|it| it.strip_prefix("IRQBALANCE_BANNED_CPULIST="));
        Some(value.unwrap_or("none").to_owned())
    };
    systemctl(&["start", "irqbalance"]);
    until("irqbalance to run", banned);
    shield(&conf, &["on"]).succeeded();
    let must_ban = |cpus: &str, when: &str| {
        // Between fork and exec it has another's environment.
        until(when, || banned().filter(|banned| banned == cpus));
    };
    must_ban("3,9-10", "irqbalance to be told");
    systemctl(&["restart", "irqbalance"]);
    must_ban("3,9-10", "irqbalance to be told after a restart");
    assert_eq!(status(&conf)["shield"], "on");
    shield(&conf, &["off"]).succeeded();
    must_ban("none", "irqbalance to be free again");
    // Stopped meanwhile: it forgets it all the same.
    shield(&conf, &["on"]).succeeded();
    systemctl(&["stop", "irqbalance"]);
    shield(&conf, &["off"]).succeeded();
    assert!(!Path::new("/run/systemd/system/irqbalance.service.d").exists());
}

/// The packaged service, of this test's own program and directory.
const SERVICE: &str = include_str!("../../packaging/systemd/kcm-shield.service");

#[test]
fn the_packaged_service_puts_it_on_and_off_with_the_rights_that_it_leaves_itself() {
    let _ = conf();
    let before = Seen::now();
    let folder = format!("/srv/{}", std::process::id());
    let conf = ConfDir::new_at(Path::new(&folder), &[("dp", true, &POOL)]);
    let unit = "kcmtest-shield.service";
    let words = format!("{} shield", program("kcm").display());
    let service = SERVICE.replace("/usr/bin/kcm shield", &words);
    let service = service.replace("/etc/kcm/pools", &format!("{folder}/pools"));
    let service =
        service.replace("[Service]", &format!("[Service]\nEnvironment=KCM_CONF_DIR={folder}"));
    fs::write(format!("/run/systemd/system/{unit}"), service).unwrap();
    systemctl(&["daemon-reload"]);
    systemctl(&["start", unit]);
    let under = status(&conf);
    assert_eq!(under["shield"], "on", "{under:#}");
    for unit in UNITS {
        assert!(effective(unit).intersection(&pool()).is_empty());
    }
    systemctl(&["reload", unit]);
    systemctl(&["stop", unit]);
    assert_eq!(status(&conf)["shield"], "off");
    Seen::now().must_equal(&before, "after the service");
    fs::remove_file(format!("/run/systemd/system/{unit}")).unwrap();
    systemctl(&["daemon-reload"]);
    fs::remove_dir_all(&folder).unwrap();
}
