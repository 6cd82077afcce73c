//! In a real terminal: kcm and its command are one job, as the command alone would be.

use std::cell::{RefCell, RefMut};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command};

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::isolate::{Isolate, Process, must_be_held, nothing_must_be_held, status};
use kcm_tests::kcm::bare;
use kcm_tests::machine::until;
use nix::fcntl::OFlag;
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::watch::Watch;

/// A terminal with a session of its own; the session's leader is killed when this is dropped.
struct Terminal {
    /// Its other end, where the keyboard and the screen are.
    master: Option<PtyMaster>,
    name: String,
    shown: RefCell<String>,
    leader: Child,
}

impl Terminal {
    /// With this program, the leader of its session.
    fn with(words: &Isolate) -> Self {
        // No other process may have it, or it never hangs up.
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let master = posix_openpt(flags).unwrap();
        grantpt(&master).and_then(|()| unlockpt(&master)).unwrap();
        let name = ptsname_r(&master).unwrap();
        let mut options = File::options();
        options.read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits());
        let slave = options.open(&name).unwrap();
        let mut command = Command::new("setsid");
        bare(&mut command);
        command.arg("--ctty").args(words.as_words()).env("PS1", "> ");
        command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave);
        let leader = command.spawn().unwrap();
        Self { master: Some(master), name, shown: RefCell::default(), leader }
    }

    /// With an interactive shell.
    fn with_shell() -> Self {
        let terminal = Self::with(&Isolate::of(["bash", "--norc", "--noprofile", "-i"]));
        terminal.shows("> ");
        terminal
    }

    fn types(&self, keys: &str) {
        self.master.as_ref().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    /// All that it has shown and nobody has asked for yet.
    fn shown(&self) -> RefMut<'_, String> {
        let (mut shown, mut buffer) = (self.shown.borrow_mut(), [0; 4096]);
        // An error where there is no more for now.
        while let Ok(length @ 1..) = self.master.as_ref().unwrap().read(&mut buffer) {
            shown.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        shown
    }

    /// Waits until it shows this, after what it was asked for before.
    fn shows(&self, text: &str) {
        until(&format!("{text:?}"), || {
            let mut shown = self.shown();
            let end = shown.find(text)? + text.len();
            shown.drain(..end);
            Some(())
        });
    }

    /// The process whose PID is shown as `pid=<PID>`.
    fn process(&self) -> Process {
        let pid = until("a PID to be shown", || {
            let shown = self.shown();
            let pids = shown.split("pid=").skip(1).filter_map(|rest| rest.split_once("\r\n"));
            pids.filter_map(|(pid, _)| pid.parse().ok()).next()
        });
        Process::of(pid)
    }

    fn hangs_up(&mut self) {
        self.master = None;
    }

    fn ends(&mut self) -> Option<i32> {
        until("the leader to end", || self.leader.try_wait().unwrap()).code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.leader.kill();
        let _ = self.leader.wait();
    }
}

fn one_list() -> ConfDir {
    ConfDir::new(&[("p", true, &["0"])])
}

fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

/// Waits until these processes are stopped, or are not.
fn are_stopped(all: [i32; 2], stopped: bool) {
    until(&format!("{all:?} to be stopped: {stopped}"), || {
        all.iter().all(|&pid| status(pid, "State").starts_with('T') == stopped).then_some(())
    });
}

const INTERRUPT: &str = "\x03";
const SUSPEND: &str = "\x1a";

#[test]
fn what_the_terminal_sends_reaches_the_command_once_and_kcm_waits_for_it() {
    let conf_dir = one_list();
    let script = "trap 'echo got INT' INT; trap 'echo got QUIT' QUIT; trap 'echo got WINCH' WINCH
trap 'exit 7' TERM; echo pid=$$; while :; do sleep 0.05; done";
    let mut terminal = Terminal::with(&Isolate::new(&conf_dir, "p", &[]).script(script));
    let (pid, child) = (terminal.leader.id() as i32, terminal.process());
    let (kcm, command) = (Watch::on(pid), Watch::on(child.pid()));
    terminal.types(INTERRUPT);
    terminal.shows("got INT");
    terminal.types("\x1c");
    terminal.shows("got QUIT");
    let resized = Command::new("stty").args(["-F", &terminal.name, "cols", "100"]).status();
    assert!(resized.unwrap().success());
    terminal.shows("got WINCH");
    must_be_held(&conf_dir, "0", pid);
    send(pid, Signal::SIGTERM);
    assert_eq!(terminal.ends(), Some(7));
    let (kcm, command) = (kcm.seen(), command.seen());
    for name in ["SIGINT", "SIGQUIT", "SIGWINCH"] {
        assert_eq!((kcm.sent(name), command.reached(name)), (0, 1), "{name}: {kcm:?} {command:?}");
    }
    nothing_must_be_held(&conf_dir);
}

#[test]
fn an_interrupt_ends_a_command_that_does_not_handle_it() {
    let conf_dir = one_list();
    let script = "echo pid=$$; exec sleep 600";
    let mut terminal = Terminal::with(&Isolate::new(&conf_dir, "p", &[]).script(script));
    let _child = terminal.process();
    terminal.types(INTERRUPT);
    assert_eq!(terminal.ends(), Some(128 + 2));
    nothing_must_be_held(&conf_dir);
}

#[test]
fn a_terminal_that_hangs_up_ends_the_command_that_it_was_for() {
    let conf_dir = one_list();
    let script = "echo pid=$$; exec sleep 600";
    let mut terminal = Terminal::with(&Isolate::new(&conf_dir, "p", &[]).script(script));
    let child = terminal.process();
    let (pid, command) = (terminal.leader.id() as i32, Watch::on(child.pid()));
    assert_eq!(status(pid, "NSsid"), pid.to_string(), "the kernel tells the leader alone");
    terminal.hangs_up();
    child.ends();
    assert_eq!(terminal.ends(), Some(128 + 1));
    assert_eq!(command.seen().reached("SIGHUP"), 1);
    nothing_must_be_held(&conf_dir);
}

#[test]
fn a_shell_sees_kcm_and_its_command_as_one_job_that_it_stops_and_continues() {
    let conf_dir = one_list();
    let shell = Terminal::with_shell();
    let isolate = Isolate::new(&conf_dir, "p", &["sh", "--", "-c"]);
    let words = isolate.as_words().iter().map(|word| word.to_str().unwrap());
    let line = words.collect::<Vec<_>>().join(" ") + " 'echo pid=$$; exec sleep 600'\n";
    shell.types(&line);
    let child = shell.process();
    let kcm: i32 = child.status("PPid").parse().unwrap();
    until("the command to be executed", || (child.status("Name") == "sleep").then_some(()));
    let both = [kcm, child.pid()];

    shell.types(SUSPEND);
    shell.shows("Stopped");
    are_stopped(both, true);
    must_be_held(&conf_dir, "0", kcm);
    shell.types("fg\n");
    are_stopped(both, false);

    shell.types(SUSPEND);
    shell.shows("Stopped");
    shell.types("bg\n");
    are_stopped(both, false);

    // By a signal to kcm alone, as an operator may send it.
    send(kcm, Signal::SIGTSTP);
    are_stopped(both, true);
    send(kcm, Signal::SIGCONT);
    are_stopped(both, false);

    // What the shell takes for stopped it continues, after it has given it the terminal.
    until("the shell to know that the job runs", || {
        shell.types("jobs\n");
        shell.shows("[1]+");
        shell.shown().contains("Running").then_some(())
    });
    // A command that is stopped behind kcm's back would leave the shell waiting.
    shell.types("fg\n");
    until("the job to be in the foreground", || {
        let stat = std::fs::read_to_string(format!("/proc/{kcm}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        // Its process group, and its terminal's foreground one.
        (fields[2] == fields[5]).then_some(())
    });
    send(child.pid(), Signal::SIGSTOP);
    shell.shows("Stopped");
    are_stopped(both, true);
    shell.types("fg\n");
    are_stopped(both, false);

    shell.types(INTERRUPT);
    child.ends();
    shell.types("echo status=$?\n");
    shell.shows("status=130");
    nothing_must_be_held(&conf_dir);
}
