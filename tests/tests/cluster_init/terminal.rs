//! On a terminal each node has a line, and the table follows.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};

use kcm_tests::api_server::{ApiServer, Outcome};
use kcm_tests::machine::until;
use nix::fcntl::OFlag;
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use serde_json::Value;

use super::cluster::{cluster, cluster_init};
use super::screen::{Screen, WIDTH};

/// Runs a command with its standard output and error on a terminal; its status, and all that was
/// written to it.
fn on_a_terminal(mut command: Command) -> (Option<i32>, String) {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let mut master = posix_openpt(flags).unwrap();
    grantpt(&master).and_then(|()| unlockpt(&master)).unwrap();
    let mut options = File::options();
    options.read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits());
    let slave = options.open(ptsname_r(&master).unwrap()).unwrap();
    // Wide enough for a line to be one.
    let sized = Command::new("stty")
        .args(["rows", "50", "cols", &WIDTH.to_string()])
        .stdin(slave.try_clone().unwrap())
        .status();
    assert!(sized.unwrap().success());
    command.env("TERM", "xterm").stdin(Stdio::null());
    command.stdout(slave.try_clone().unwrap()).stderr(slave);
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut shown = String::new();
    let status = until("kcm to end", || {
        read_on(&mut master, &mut shown);
        child.try_wait().unwrap()
    });
    read_on(&mut master, &mut shown);
    (status.code(), shown)
}

fn read_on(master: &mut PtyMaster, shown: &mut String) {
    let mut buffer = [0; 4096];
    // An error where there is no more for now.
    while let Ok(length @ 1..) = master.read(&mut buffer) {
        shown.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
}

fn one_bad(pod: &Value) -> Outcome {
    let log = "ERROR \u{1b}[2Jtoo few cores\n".to_owned();
    match pod["spec"]["nodeName"].as_str() {
        Some("worker-2") => Outcome::Fails { container: "init".into(), code: 3, log },
        _ => Outcome::Succeeds,
    }
}

fn shown(api: &ApiServer) -> (Option<i32>, String) {
    on_a_terminal(cluster_init(api, &["--all-hosts", "--kcm-cmd-list=init"]))
}

#[test]
fn each_node_has_a_line_and_the_table_follows() {
    let api = cluster(&["worker-1", "worker-2"]);
    api.kubelet(one_bad);
    let (code, shown) = shown(&api);
    assert_eq!(code, Some(1), "{shown:?}");
    let screen = Screen::after(&shown);
    let lines: Vec<String> = screen.lines().iter().map(|line| without_times(line)).collect();
    let failure = "pod kcm-init-pod-worker-2: init ended with status 3";
    assert_eq!(
        lines,
        [
            "INFO service account kcm, its rights in namespace default, and the kinds are there",
            // What a terminal would obey is not passed on; nor does it go when the node ends.
            "worker-2: init said: ERROR \u{fffd}[2Jtoo few cores",
            "worker-1 T ready",
            &format!("worker-2 T {failure}"),
            "NODE RESULT SECONDS DETAIL",
            "worker-1 ready T",
            &format!("worker-2 failed T {failure}"),
            "ERROR 1 of 2 nodes are not ready",
        ],
        "{shown:?}"
    );
}

/// A line with one space between words, no spinner, and T for each time.
fn without_times(line: &str) -> String {
    let is_spinner = |word: &&str| word.chars().all(|c| ('\u{2800}'..='\u{28ff}').contains(&c));
    let words = line.split_whitespace().filter(|word| !is_spinner(word));
    let is_time = |word: &str| word.trim_end_matches('s').parse::<f64>().is_ok();
    let mut words: Vec<&str> = words.collect();
    // The time is the second or the third word, where there is one.
    for word in words.iter_mut().take(3).skip(1).filter(|word| is_time(word) && word.len() > 1) {
        *word = "T";
    }
    words.join(" ")
}

#[test]
fn a_node_that_is_waited_for_shows_what_for_and_stays_after_an_interrupt() {
    let api = cluster(&["worker-1"]);
    api.kubelet(|_| Outcome::Hangs);
    let mut command = Command::new("timeout");
    let init = cluster_init(&api, &["--all-hosts", "--kcm-cmd-list=init"]);
    command.args(["--signal=INT", "1"]).arg(init.get_program()).args(init.get_args());
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.envs(init.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let (_, shown) = on_a_terminal(command);
    assert!(shown.contains("  init: ContainerCreating"), "{shown:?}");
    let lines: Vec<String> =
        Screen::after(&shown).lines().iter().map(|line| without_times(line)).collect();
    assert_eq!(lines[1], "worker-1 T kcm was interrupted; its pods go on", "{lines:?}");
    assert_eq!(lines[3], "worker-1 failed T kcm was interrupted; its pods go on", "{lines:?}");
}

#[test]
fn more_nodes_than_lines_fit_are_told_by_the_log() {
    let api = ApiServer::start();
    (0..31).for_each(|number| api.add_node(&format!("n-{number:02}")));
    let (code, shown) = shown(&api);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("INFO n-07: ready\r\n"), "{shown}");
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
}
