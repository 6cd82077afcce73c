//! Processes that are started by the first test, so that none waits long for them to be old.

use std::process::Command;
use std::sync::{LazyLock, Mutex, MutexGuard, mpsc};

use super::holders::Process;
use super::threads;

/// They end with this executable.
pub(crate) struct Elders {
    pub(crate) sleeping: Process,
    /// On CPU 0.
    pub(crate) threaded: Process,
}

static ELDERS: LazyLock<Mutex<Elders>> = LazyLock::new(|| {
    let (started, elders) = mpsc::channel();
    // The kernel kills them when the thread ends that has started them: with the last of all.
    std::thread::spawn(move || {
        let start = |command: &Command| {
            let mut mortal = Command::new("setpriv");
            mortal.args(["--pdeathsig", "KILL"]).arg(command.get_program());
            let set = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
            Process::running(mortal.args(command.get_args()).envs(set))
        };
        let sleeping = start(Command::new("sleep").arg("600"));
        let threaded = start(&threads::program_on("0"));
        started.send(Mutex::new(Elders { sleeping, threaded })).unwrap();
        loop {
            std::thread::park();
        }
    });
    elders.recv().unwrap()
});

/// For one test at a time.
pub(crate) fn elders() -> MutexGuard<'static, Elders> {
    ELDERS.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Has them be there from now on.
pub(crate) fn start() {
    LazyLock::force(&ELDERS);
}
