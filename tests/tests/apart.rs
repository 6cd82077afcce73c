//! The tests and the machine that they run on: it is not changed, a node of a test's has nothing of
//! it, and what is for the guest alone refuses to run elsewhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::fs::{self, File};
use std::panic::catch_unwind;
use std::path::Path;
use std::process::{Command, Stdio};

use kcm_tests::kcm::{Outcome, bare, run};
use kcm_tests::machine::{
    Guest, Offline, cgroup_file, guest, guest_booted_with, kill_and_wait, must_be_apart,
    remove_cgroup,
};
use kcm_tests::node::on_a_node;
use kcm_tests::programs::{copy, program};
use kcm_tests::runtime::systemctl;
use kcm_tests::stand_in::Cgroup;
use nix::errno::Errno;

const TESTS: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn a_test_can_change_nothing_of_this_machine_but_cgroups_and_temporary_files() {
    for folder in ["/", "/etc", "/opt", "/root", "/srv", "/usr/bin", "/usr/local/bin"] {
        let made = File::create_new(Path::new(folder).join("kcm-test")).unwrap_err();
        assert_eq!(made.raw_os_error(), Some(Errno::EROFS as i32), "{folder}");
    }
    // Opened, and not written to.
    for file in
        ["/sys/devices/system/cpu/cpu1/online", "/sys/power/state", "/proc/sys/kernel/printk"]
    {
        let opened = File::options().write(true).open(file).map(drop);
        let error = opened.err().and_then(|e| e.raw_os_error());
        let there = Path::new(file).exists();
        assert!(!there || error == Some(Errno::EROFS as i32), "{file}: {error:?}");
    }
    for folder in ["/run", "/var/lib", "/var/tmp"] {
        File::create_new(Path::new(folder).join("kcm-test")).unwrap();
        fs::remove_file(Path::new(folder).join("kcm-test")).unwrap();
    }
    for name in ["KCM_CONF_DIR", "KCM_LOG_LEVEL", "KCM_CGROUP_FS", "KCM_PROC_FS"] {
        assert_eq!(std::env::var_os(name), None, "{name}");
    }
}

#[test]
fn a_node_has_nothing_that_this_machine_has_of_kcm_or_an_engine() {
    on_a_node(|node| {
        for path in [
            "/etc/kcm",
            "/etc/containerd",
            "/etc/crio",
            "/etc/containers/oci",
            "/etc/containers/containers.conf",
            "/etc/cni",
            "/run/containerd",
            "/run/crio",
            "/run/kcm",
            "/opt/kcm",
            "/opt/bin",
            "/usr/bin/crio/..",
            "/usr/local/bin/kcm",
            "/usr/share/containers/oci",
            "/var/lib/kcm",
            "/var/lib/kubelet",
        ] {
            assert!(!fs::exists(path).unwrap_or_default(), "{path}");
        }
        // It is the node's own, and not the machine's, which the main thread sees.
        for folder in ["/etc", "/opt", "/run", "/srv", "/usr/local/bin", "/var/lib"] {
            node.write(&format!("{folder}/kcm-test"), "");
            assert!(!fs::exists(format!("/proc/self/root{folder}/kcm-test")).unwrap());
        }
        assert!(program("kcm").exists());
        node.kcm(&["init", "--num-dp-cores=1", "--num-cp-cores=0"]).succeeded();
    });
}

#[test]
fn what_is_built_and_temporary_files_are_there_wherever_they_lie() {
    let root = Path::new(TESTS).parent().unwrap().to_str().unwrap();
    for (folder, covered) in
        [("/opt/src", "/opt"), ("/run/src", "/run"), ("/var/lib/ci/src", "/var/lib")]
    {
        for view in ["apart", "lived-in", "lived-in $PWD/tests/apart"] {
            let script = format!(
                "mount -n -t tmpfs none {covered}; mkdir -p {folder} {covered}/tmp; \
                 mount -n --bind {root} {folder}; cd {folder}; export TMPDIR={covered}/tmp; \
                 touch $TMPDIR/there; exec tests/{view} ls {folder}/Cargo.toml $TMPDIR/there"
            );
            let mut shell = Command::new("unshare");
            bare(&mut shell);
            shell.env("KCM_TEST_BIN_DIR", program("kcm").parent().unwrap());
            run(shell.args(["--mount", "sh", "-euc", &script])).succeeded();
        }
    }
}

/// What a test is stopped with.
fn stopped(test: impl FnOnce() + std::panic::UnwindSafe) -> String {
    let panic = catch_unwind(test).unwrap_err();
    let text = panic.downcast_ref::<String>().cloned();
    text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap()
}

#[test]
fn what_changes_the_whole_machine_is_refused_but_in_a_guest() {
    assert_eq!(guest(), None);
    // There is no such CPU, should the guard fail.
    let refused = stopped(|| drop(Offline::take("99999")));
    assert!(refused.contains("tests/guest/run"), "{refused}");
    let refused = stopped(|| systemctl(&["--version"]));
    assert!(refused.contains("tests/guest/run"), "{refused}");
}

#[test]
fn a_guest_is_known_by_what_its_kernel_was_booted_with() {
    for (cmdline, guest) in [
        (
            "console=ttyS0 quiet init=/usr/lib/guest/plain-init kcm.guest=plain isolcpus=2-5\n",
            Some(Guest::Plain),
        ),
        ("kcm.guest=systemd", Some(Guest::Systemd)),
        ("console=ttyS0 quiet", None),
        ("KCM_GUEST=systemd xkcm.guest=plain kcm.guestx=plain kcm_guest=plain", None),
        ("", None),
    ] {
        assert_eq!(guest_booted_with(cmdline), guest, "{cmdline}");
    }
    let boot = fs::read_to_string(format!("{TESTS}/guest/boot")).unwrap();
    assert!(boot.contains("kcm.guest=$init"));
}

#[test]
#[ignore = "is run by the next one"]
fn needs_a_view_of_its_own() {
    must_be_apart();
}

#[test]
fn a_test_that_mounts_things_refuses_to_run_on_the_machine_itself() {
    let here = std::env::current_exe().unwrap();
    let on = |view: &str| {
        let mut shell = Command::new("unshare");
        bare(&mut shell);
        let script = format!("{view} exec \"$0\" --ignored --exact needs_a_view_of_its_own");
        run(shell.args(["--mount", "sh", "-euc", &script]).arg(&here))
    };
    on("").succeeded();
    // As on the machine: `/sys` can be written to.
    let refused = on("mount -n -o remount,bind,rw /sys;");
    assert_eq!(refused.code, Some(101), "{refused:?}");
    assert!(refused.out.contains("tests/apart"), "{refused:?}");
}

/// Runs a script, and has it looked at what has changed, on a machine with files in `/opt`.
fn left_as_it_was(prepare: &str, script: &str, here: &Path) -> Outcome {
    let mut shell = Command::new("unshare");
    bare(&mut shell);
    let prepare = format!(
        "mount -n -t tmpfs opt /opt; touch /opt/changed /opt/gone /opt/mode; {prepare} \
         {TESTS}/left-as-it-was sh -euc \"$0\""
    );
    shell.args(["--mount", "sh", "-euc", &prepare, script]).stdin(Stdio::null());
    run(shell.env("HERE", here).env("KCM_TEST_PATIENCE", "0"))
}

#[test]
fn what_a_test_leaves_behind_is_found_and_named() {
    let here = tempfile::tempdir().unwrap();
    // Where nobody else is at work.
    let alone = "mount -n -t tmpfs none /sys/fs/cgroup; export TMPDIR=$HERE; \
                 unshare --pid --fork --mount-proc";
    let outcome = left_as_it_was(alone, "cat /opt/changed; exit 3", here.path());
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(3), ""), "{outcome:?}");
    // The folder's time is another.
    let outcome = left_as_it_was(alone, "touch /opt/x; rm /opt/x; exit 3", here.path());
    assert_eq!(outcome.code, Some(1), "{outcome:?}");

    copy("/bin/sleep".as_ref(), &here.path().join("podman"));
    fs::write(here.path().join("online"), "0\n").unwrap();
    let limited = Cgroup::new("limited");
    let file = cgroup_file(&limited.path(), "cpuset.cpus");
    let new = format!("/kcm-test-new-{}", std::process::id());
    let script = format!(
        "echo x >/opt/changed; rm /opt/gone; chmod 600 /opt/mode; mkdir /opt/new; \
         mount -n -t tmpfs seeded /srv; \
         mount -n --bind $HERE/online /sys/devices/system/cpu/online; \
         mkdir {}; echo 0 >{}; mktemp -d /dev/shm/kcm-XXXXXX >$HERE/shm; mktemp -d /tmp/.tmpXXXXXX >$HERE/tmp; \
         $HERE/podman 600 >/dev/null 2>&1 & echo $! >$HERE/pid",
        cgroup_file(&new, "").display(),
        file.display()
    );
    let outcome = left_as_it_was("exec", &script, here.path());
    let read = |name: &str| fs::read_to_string(here.path().join(name)).unwrap().trim().to_owned();
    kill_and_wait(read("pid").parse().unwrap());
    remove_cgroup(&new);
    ["shm", "tmp"].iter().for_each(|name| fs::remove_dir(read(name)).unwrap());

    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let shm = format!("> file: {}", read("shm"));
    let tmp = format!("> temporary file: {}", read("tmp"));
    let cpuset = format!("> cgroup: {}: 0 ", file.display());
    for line in [
        "> CPUs online: 0",
        "> file: /opt/changed f 644",
        "< file: /opt/gone f",
        "> file: /opt/mode f 600",
        "> file: /opt/new d",
        "> mount: /srv / rw,relatime tmpfs seeded",
        "> mount: /sys/devices/system/cpu/online",
        "> process: podman, ",
        &cpuset,
        format!("> cgroup: {}", cgroup_file(&new, "").display()).trim_end_matches('/'),
        &shm,
        &tmp,
    ] {
        assert!(outcome.err.lines().any(|found| found.starts_with(line)), "{line}: {outcome:?}");
    }
}
