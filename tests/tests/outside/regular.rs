//! Devices, FIFOs, sockets and folders in a file's place: they are refused, and never opened, since to
//! open one can act by itself.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::HookCall;
use kcm_tests::kcm::{kcm, run};
use kcm_tests::stand_in::StandIn;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

/// Something that is no plain file, and what kcm calls it.
const KINDS: [(&str, &str); 6] = [
    ("fifo", "a FIFO"),
    ("character device", "a device"),
    ("block device", "a device"),
    ("socket", "a socket"),
    ("folder", "a folder"),
    ("link to a device", "a device"),
];

fn make(kind: &str, path: &Path) {
    let _ = fs::remove_file(path);
    let node = |kind, device| mknod(path, kind, Mode::S_IRWXU, device).unwrap();
    match kind {
        "fifo" => node(SFlag::S_IFIFO, 0),
        // Of no driver, so that to open it could only fail.
        "character device" => node(SFlag::S_IFCHR, makedev(1, 5)),
        "block device" => node(SFlag::S_IFBLK, makedev(7, 250)),
        "socket" => drop(UnixListener::bind(path).unwrap()),
        "folder" => fs::create_dir(path).unwrap(),
        "link to a device" => std::os::unix::fs::symlink("/dev/zero", path).unwrap(),
        _ => panic!("{kind}"),
    }
}

fn remove(path: &Path) {
    if fs::remove_file(path).is_err() {
        fs::remove_dir(path).unwrap();
    }
}

/// It was looked at, and neither opened nor opened again through what looked at it.
fn only_looked_at(trace: &Path, path: &str, kind: &str) {
    let trace = fs::read_to_string(trace).unwrap();
    let mut looks = 0;
    let mut descriptor = None;
    for line in trace.lines() {
        if descriptor.is_some_and(|number| line.contains(&format!("close({number})"))) {
            descriptor = None;
        }
        let opens = ["open(", "openat(", "openat2("].iter().any(|call| line.contains(call));
        if opens && line.contains(path) {
            assert!(line.contains("O_PATH"), "{kind}: {line}");
            descriptor = line.rsplit_once(" = ").and_then(|(_, number)| number.parse::<i32>().ok());
            looks += 1;
        } else if let Some(number) = descriptor {
            assert!(!line.contains(&format!("/proc/self/fd/{number}\"")), "{kind}: {line}");
        }
    }
    assert!(looks > 0, "{kind}: nobody looked at {path}");
}

#[test]
fn the_hook_only_looks_at_what_is_no_plain_file_in_the_bundle() {
    let conf_dir = ConfDir::new(&[("p", true, &["0"])]);
    let container = StandIn::new("bundle");
    let bundle = tempfile::tempdir().unwrap();
    let config = bundle.path().join("config.json");
    let trace = bundle.path().join("trace");
    let mut state: serde_json::Value = serde_json::from_str(&container.state(&[])).unwrap();
    state["bundle"] = bundle.path().to_str().unwrap().into();
    state.as_object_mut().unwrap().remove("annotations");
    let before = conf_dir.snapshot();
    for (kind, name) in KINDS {
        make(kind, &config);
        let call = HookCall::with_input(conf_dir.path(), "createRuntime", state.to_string());
        let call = call.under(["strace", "-f", "-qq", "-o", trace.to_str().unwrap()]);
        call.run().must_refuse(&["config.json", &format!("it is {name}, and no plain file")]);
        only_looked_at(&trace, "config.json", kind);
        assert_eq!(conf_dir.snapshot(), before, "{kind}");
        remove(&config);
    }
    fs::write(&config, "x".repeat((16 << 20) + 1)).unwrap();
    let call = HookCall::with_input(conf_dir.path(), "createRuntime", state.to_string());
    call.run().must_refuse(&["config.json", "larger than 16777216 bytes"]);
}

/// A command under strace, and where the trace is.
fn traced(command: &Command, folder: &Path) -> (Command, PathBuf) {
    let trace = folder.join("trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o"]).arg(&trace).arg(command.get_program());
    strace.args(command.get_args()).env_clear().stdin(Stdio::null());
    strace.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    (strace, trace)
}

#[test]
fn kcm_only_looks_at_what_is_no_plain_file_where_it_is_told_to_read() {
    let conf_dir = ConfDir::new(&[("dataplane", true, &["0"])]);
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("sys/devices/system/cpu")).unwrap();
    for name in ["online", "possible", "present"] {
        fs::write(at("sys/devices/system/cpu").join(name), "0-1\n").unwrap();
    }
    fs::create_dir(at("proc")).unwrap();
    fs::write(at("proc/cmdline"), "quiet\n").unwrap();
    let init = |flags: &[&str]| {
        let mut init = kcm();
        init.args(["init", "--conf-dir"]).arg(at("new")).args(flags);
        init.env("KCM_DEV_LSCPU_SYSFS", folder.path()).env("KCM_PROC_FS", at("proc"));
        init
    };
    let mut discover = kcm();
    discover.args(["discover", "--node-name=n"]).env("KCM_CONF_DIR", conf_dir.path());
    discover.env("KUBECONFIG", at("kubeconfig"));
    for (file, command) in [
        ("sys/devices/system/cpu/possible", init(&[])),
        ("proc/cmdline", init(&[])),
        ("kubeconfig", discover),
    ] {
        for (kind, name) in KINDS {
            make(kind, &at(file));
            let (mut command, trace) = traced(&command, folder.path());
            let what = format!("it is {name}, and no plain file");
            run(&mut command).failed_with(&[at(file).to_str().unwrap(), &what]);
            only_looked_at(&trace, file, kind);
            remove(&at(file));
        }
        fs::write(at(file), if file.contains("cpu") { "0-1\n" } else { "quiet\n" }).unwrap();
    }
}
