//! Others that set the same: irqbalance, systemd's service of ours, an isolated partition.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::machine::until;
use kcm_tests::programs::program;

use super::seen::Seen;
use super::{POOL, UNITS, conf, effective, pool, shield, status, systemctl};

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
const SERVICE: &str = include_str!("../../../packaging/systemd/kcm-shield.service");

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

/// A partition in a scope, as a container's; it ends when this is dropped.
struct Partition {
    child: Child,
    scope: String,
}

impl Partition {
    fn make(name: &str, cpus: &str) -> Self {
        // Delegated: of any other systemd takes the controller away when it needs it no more itself.
        let words = ["--scope", "--quiet", "--slice=machine.slice", "--property=Delegate=yes"];
        let mut command = Command::new("systemd-run");
        command.args(words).args(["--collect", "--unit", name, "sleep", "600"]);
        let scope = format!("/sys/fs/cgroup/machine.slice/{name}.scope");
        let partition = Self { child: command.spawn().unwrap(), scope };
        let file = |name: &str| format!("{}/{name}", partition.scope);
        until("the scope", || Path::new(&file("cpuset.cpus.exclusive")).exists().then_some(()));
        fs::write("/sys/fs/cgroup/machine.slice/cpuset.cpus.exclusive", cpus).unwrap();
        fs::write(file("cpuset.cpus.exclusive"), cpus).unwrap();
        fs::write(file("cpuset.cpus.partition"), "isolated").unwrap();
        assert_eq!(fs::read_to_string(file("cpuset.cpus.partition")).unwrap().trim(), "isolated");
        partition
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        until("the partition to end", || (!Path::new(&self.scope).exists()).then_some(()));
        let _ = fs::write("/sys/fs/cgroup/machine.slice/cpuset.cpus.exclusive", "\n");
    }
}

#[test]
fn work_does_not_come_onto_an_isolated_partition_when_the_shield_is_put_on_or_taken_off() {
    let conf = conf();
    if !Path::new("/sys/fs/cgroup/cpuset.cpus.isolated").exists() {
        // Debian 12's kernel has none; that of Debian 13 has.
        assert!(fs::read_to_string("/etc/debian_version").unwrap().starts_with("12"));
        println!("not tried here: this kernel has no partitions that can be seen");
        return;
    }
    let mask = |name: &str| {
        let text = fs::read_to_string(format!("/sys/devices/virtual/workqueue/{name}")).unwrap();
        text.trim().to_owned()
    };
    // The first one takes from kernel threads what they have of their own, as kcompactd of its node.
    drop(Partition::make("kcmtest-first", "9-10"));
    let before = Seen::now();
    assert_eq!(mask("cpumask"), "ffff");
    let partition = Partition::make("kcmtest-second", "9-10");
    assert_eq!(mask("cpumask"), "f9ff");
    shield(&conf, &["on"]).succeeded();
    assert_eq!((mask("cpumask"), mask("cpumask_requested")), ("f9f7".into(), "f9f7".into()));
    let off = shield(&conf, &["off"]);
    assert_eq!(off.code, Some(1), "{off:?}");
    let errors = off.lines("ERROR");
    assert!(errors[0].contains("CPUs 9-10 stay out of it") && errors.len() == 1, "{off:?}");
    assert_eq!(mask("cpumask"), "f9ff");
    assert_eq!(status(&conf)["shield"], "partly");
    drop(partition);
    shield(&conf, &["off"]).succeeded();
    assert_eq!((mask("cpumask"), mask("cpumask_requested")), ("ffff".into(), "ffff".into()));
    Seen::now().must_equal(&before, "after off and the partition");
}
