//! `kcm init`, killed at every system call that changes something: all or none of the pools are
//! there, and the next init makes what an undisturbed one makes.

use std::collections::HashMap;
use std::fs;
use std::process::Command;

use super::machine::{MANUAL, Machine};
use super::pools::MANUALS_TREE;
use super::tree::tree;
use kcm_tests::kcm::{Outcome, bare, kcm, run};

/// The system calls by which a program changes files. strace(1) passes over those with a question
/// mark that it does not know.
const CHANGES: &str = "mkdir,mkdirat,open,creat,openat,openat2,write,pwrite64,writev,fsync,\
                       fdatasync,sync,syncfs,rename,renameat,renameat2,chmod,fchmod,fchmodat,\
                       ?fchmodat2,chown,fchown,fchownat,unlink,unlinkat,rmdir,link,linkat,symlink,\
                       symlinkat,truncate,ftruncate,fallocate,utimensat,setxattr,fsetxattr,flock";

/// The n-th call of a name.
#[derive(Clone, Debug)]
struct Point {
    name: String,
    n: usize,
}

/// Runs `kcm init` under strace with these options.
fn strace(machine: &Machine, umask: &str, options: &[String]) -> Outcome {
    let mut shell = Command::new("sh");
    bare(&mut shell);
    shell.args(["-c", "umask $0; exec strace \"$@\"", umask]).args(options);
    shell.arg(kcm().get_program()).arg("init");
    run(machine.show_to(&mut shell))
}

/// All points at which an undisturbed init changes something, in order.
fn points(machine: &Machine, umask: &str) -> Vec<Point> {
    let file = machine.path("trace");
    let options = ["-o", file.to_str().unwrap(), "-e", &format!("trace={CHANGES}")];
    strace(machine, umask, &options.map(str::to_owned)).succeeded();
    let trace = fs::read_to_string(file).unwrap();
    let mut counts = HashMap::new();
    let calls = trace.lines().filter_map(|line| Some((line, line.split_once('(')?.0)));
    let points = calls.filter_map(|(line, name)| {
        let n = counts.entry(name).or_insert(0);
        *n += 1;
        let only_reads = name.starts_with("open") && !line.contains("O_CREAT");
        (!only_reads).then(|| Point { name: name.to_owned(), n: *n })
    });
    points.collect()
}

/// Runs an init that dies at this point.
fn kill_at(machine: &Machine, umask: &str, Point { name, n }: &Point) {
    let inject = format!("inject={name}:signal=SIGKILL:when={n}");
    let options = ["-qq", "-o", "/dev/null", "-e", &format!("trace={name}"), "-e", &inject];
    let outcome = strace(machine, umask, &options.map(str::to_owned));
    assert_eq!(outcome.signal, Some(9), "{name} {n}: {outcome:?}");
}

/// Kills an init at each of its points; `before` makes what it finds.
fn kill_everywhere(what: &str, umask: &str, before: impl Fn(&Machine)) {
    let machine = Machine::new(MANUAL).with_cmdline("isolcpus=0-4,8-12");
    let clear = || drop(fs::remove_dir_all(machine.path("etc")));
    before(&machine);
    let points = points(&machine, umask);
    assert_eq!(tree(&machine.path("etc"))[1..], with_parent());
    let whole = machine.kcm(&["describe"]).succeeded().out;
    let (mut killed, mut complete) = (0, 0);
    for point in &points {
        clear();
        before(&machine);
        kill_at(&machine, umask, point);
        killed += 1;
        let describe = machine.kcm(&["describe"]);
        if describe.code == Some(0) {
            assert_eq!(describe.out, whole, "after {point:?}");
            complete += 1;
        } else {
            describe.failed_with(&["is no kcm configuration directory"]);
        }
        machine.kcm(&["init"]).succeeded();
        assert_eq!(tree(&machine.path("etc"))[1..], with_parent(), "after {point:?}");
    }
    println!(
        "{what}: died by SIGKILL at {killed} of {} points; after {} there was no pool, after \
         {complete} there were all; the next init always made the same",
        points.len(),
        killed - complete
    );
    assert!(points.iter().any(|p| p.name.starts_with("rename")), "{points:?}");
    assert!(complete > 0 && killed == points.len() && killed > 60, "{points:?}");
}

/// What is below the directory's parent.
fn with_parent() -> Vec<String> {
    let lines = MANUALS_TREE.into_iter();
    let below =
        lines.map(|line| format!("{} kcm/{}", &line[..4], line[5..].trim_start_matches("./")));
    below.collect()
}

#[test]
fn a_killed_init_leaves_all_or_nothing() {
    kill_everywhere("nothing there", "022", |_| {});
    kill_everywhere("nothing there, umask 077", "077", |_| {});
}

#[test]
fn an_init_that_is_killed_among_leftovers_of_another_leaves_all_or_nothing() {
    let machine = Machine::new(MANUAL).with_cmdline("isolcpus=0-4,8-12");
    let last = points(&machine, "022").into_iter().rev().find(|p| p.name.starts_with("rename"));
    let last = last.unwrap();
    kill_everywhere("leftovers", "022", |machine| {
        kill_at(machine, "022", &last);
        assert!(machine.conf_dir().join(".tmp-pools/infra").exists());
    });
}
