//! `kcm isolate` where systemd owns the cgroups: in a login's session, in services, and alone in a
//! service that may divide itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::isolate::{Isolate, Process, must_be_free, must_be_held, split_off_holder};
use kcm_tests::kcm::reconcile;
use kcm_tests::machine::{cgroup_file, effective_cpus, two_cpus, until};
use kcm_tests::programs::program;
use kcm_tests::runtime::systemctl;

/// Closes all that it was given, and leaves its parent.
const WORKER: &str = r#"(setsid bash -c 'echo $$
for fd in /proc/self/fd/*; do eval "exec ${fd##*/}>&-"; done; exec sleep 600' &)"#;

/// What systemd says of a unit.
fn property(unit: &str, name: &str) -> String {
    let output = Command::new("systemctl").args(["show", "--value", "-p", name, unit]).output();
    String::from_utf8(output.unwrap().stdout).unwrap().trim().to_owned()
}

fn cgroup_of(pid: i32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    text.trim().strip_prefix("0::").unwrap().to_owned()
}

fn can_bind(process: &Process, cpu: &str) -> bool {
    let pid = process.pid().to_string();
    Command::new("taskset").args(["-pc", cpu, &pid]).output().unwrap().status.success()
}

fn must_be_gone(unit: &str) {
    until(&format!("{unit} to be gone"), || {
        (property(unit, "ActiveState") == "inactive").then_some(())
    });
}

/// `kcm isolate` in the scope of a session, as systemd-logind makes one.
fn in_session(isolate: Isolate, name: &str) -> Isolate {
    let unit = format!("--unit=session-{name}");
    isolate.under(["systemd-run", "--scope", "--quiet", "--slice=user-0.slice", &unit])
}

#[test]
fn in_a_session_a_command_is_in_a_scope_of_its_own_that_keeps_and_holds_it() {
    let [mine, other] = two_cpus();
    let conf_dir = ConfDir::new(&[("p", true, &[&mine])]);
    let script = format!("{WORKER}; echo $$; exec sleep 600");
    let isolate = Isolate::new(&conf_dir, "p", &[]).script(&script);
    let mut isolate = in_session(isolate, "kcmtest1").start();
    let mut both = [isolate.process(0), isolate.process(1)];
    both.sort_by_key(|process| process.status("PPid") != isolate.pid().to_string());
    let cgroup = isolate.cgroup();
    let prefix = format!("/user.slice/user-0.slice/kcm-isolate-{}-", isolate.pid());
    assert!(cgroup.starts_with(&prefix) && cgroup.ends_with(".scope"), "{cgroup}");
    let unit = cgroup.rsplit('/').next().unwrap().to_owned();
    assert!(cgroup_of(isolate.pid()).ends_with("/session-kcmtest1.scope"));
    let must_keep_them = |after: &str| {
        for process in &both {
            assert_eq!(cgroup_of(process.pid()), cgroup, "after {after}");
            assert_eq!(process.status("Cpus_allowed_list"), mine, "after {after}");
        }
        assert_eq!(effective_cpus(&cgroup).to_string(), mine, "after {after}");
    };
    must_keep_them("its start");
    assert!(!can_bind(&both[0], &other));
    systemctl(&["daemon-reload"]);
    systemctl(&["set-property", "--runtime", &unit, "CPUWeight=200"]);
    must_keep_them("daemon-reload and set-property");
    let report = reconcile(&conf_dir, &[]).succeeded().out;
    assert!(report.contains("\"mismatchedCpuMasks\": []"), "{report}");

    isolate.kill();
    until("one of them to die with kcm", || {
        (both.iter().filter(|process| process.is_running()).count() == 1).then_some(())
    });
    must_be_held(&conf_dir, &mine, isolate.pid());
    both.iter().filter(|process| process.is_running()).for_each(Process::kill);
    must_be_gone(&unit);
    must_be_free(&conf_dir);
}

#[test]
fn a_sessions_command_ends_and_nothing_of_it_is_left() {
    let [mine, _] = two_cpus();
    let conf_dir = ConfDir::new(&[("p", true, &[&mine])]);
    let isolate = Isolate::new(&conf_dir, "p", &[]).script("cat /proc/self/cgroup; exit 7");
    let outcome = in_session(isolate, "kcmtest2").run();
    assert_eq!((outcome.code, &*outcome.err), (Some(7), ""), "{outcome:?}");
    let unit = outcome.out.trim().rsplit('/').next().unwrap().to_owned();
    assert!(unit.starts_with("kcm-isolate-"), "{outcome:?}");
    must_be_gone(&unit);
    must_be_free(&conf_dir);
}

/// A transient service; gone when dropped.
struct Service {
    unit: String,
    folder: tempfile::TempDir,
}

impl Service {
    /// With these properties; `words` are executed.
    fn start(name: &str, properties: &[&str], words: &[String]) -> Self {
        let unit = format!("kcmtest-{name}.service");
        let folder = tempfile::tempdir().unwrap();
        let to = |stream: &str, file| {
            format!("--property=Standard{stream}=file:{}", folder.path().join(file).display())
        };
        let mut command = Command::new("systemd-run");
        command.args(["--quiet", "--collect", "--unit", &unit]);
        command.args([to("Output", "out"), to("Error", "err")]);
        command.args(properties.iter().map(|property| format!("--property={property}")));
        // systemd expands variables, and takes two dollars for one (systemd.service(5)).
        let words = words.iter().map(|word| word.replace('$', "$$"));
        let output = command.args(words).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        Self { unit, folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn process(&self, nth: usize) -> Process {
        let pid = until("a service's command to say its number", || {
            let out = fs::read_to_string(self.file("out")).ok()?;
            let whole = out.rfind('\n').map_or("", |end| &out[..end]);
            whole.lines().nth(nth).map(str::to_owned)
        });
        Process::of(pid.parse().unwrap())
    }

    fn held_by(&self) -> String {
        until("kcm to say what holds the CPUs", || {
            split_off_holder(&fs::read_to_string(self.file("err")).ok()?).1
        })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = Command::new("systemctl").args(["stop", &self.unit]).status();
    }
}

fn words(conf_dir: &ConfDir, script: &str) -> Vec<String> {
    let kcm = program("kcm").display().to_string();
    let conf_dir = format!("--conf-dir={}", conf_dir.path().display());
    let words = [&kcm, "isolate", &conf_dir, "--pool=p", "/bin/sh", "--", "-c", script];
    words.map(str::to_owned).to_vec()
}

#[test]
fn in_a_service_that_others_are_in_affinity_holds_and_stopping_it_ends_all() {
    let [mine, _] = two_cpus();
    let conf_dir = ConfDir::new(&[("p", true, &[&mine])]);
    let inner = words(&conf_dir, "echo $$; exec sleep 600");
    let shell = ["/bin/sh", "-c", "\"$@\"; exit", "sh"].map(str::to_owned);
    for (name, properties, words) in [
        ("shared", &["Delegate=yes"] as &[&str], [&shell[..], &inner].concat()),
        ("undelegated", &[], inner.clone()),
    ] {
        let service = Service::start(name, properties, &words);
        let child = service.process(0);
        let said = service.held_by();
        assert!(said.contains("held by the command's affinity"), "{said}");
        assert!(said.contains("Delegate=yes"), "{said}");
        assert!(cgroup_of(child.pid()).ends_with(&service.unit), "it was moved");
        assert_eq!(child.status("Cpus_allowed_list"), mine);
        systemctl(&["stop", &service.unit]);
        assert!(!child.is_running());
        must_be_free(&conf_dir);
    }
}

#[test]
fn alone_in_a_delegated_service_a_command_has_a_cgroup_and_ends_with_the_service_and_its_failure() {
    let [mine, other] = two_cpus();
    for how in ["stop", "failure"] {
        let conf_dir = ConfDir::new(&[("p", true, &[&mine])]);
        let script = format!("{WORKER}; echo $$; exec sleep 600");
        let words = words(&conf_dir, &script);
        let service = Service::start(&format!("alone-{how}"), &["Delegate=yes"], &words);
        let both = [service.process(0), service.process(1)];
        let kcm: i32 = property(&service.unit, "MainPID").parse().unwrap();
        let said = service.held_by();
        let cgroup = format!("/system.slice/{}/isolate-{kcm}", service.unit);
        assert!(said.contains(&format!("held by cgroup {cgroup}, ")), "{said}");
        assert_eq!(cgroup_of(kcm), format!("/system.slice/{}/kcm", service.unit));
        for process in &both {
            assert_eq!(cgroup_of(process.pid()), cgroup);
            assert_eq!(process.status("Cpus_allowed_list"), mine);
        }
        assert!(!can_bind(&both[0], &other));
        systemctl(&["daemon-reload"]);
        assert_eq!(effective_cpus(&cgroup).to_string(), mine);
        match how {
            "stop" => systemctl(&["stop", &service.unit]),
            _ => kcm_tests::machine::kill_and_wait(kcm),
        }
        both.iter().for_each(Process::ends);
        until("the service's cgroup to go", || (!cgroup_file(&cgroup, "").exists()).then_some(()));
        must_be_free(&conf_dir);
    }
}
