//! kcm killed by SIGKILL: what it started holds the list on, and nothing else does.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::HookCall;
use kcm_tests::isolate::{Isolate, Process, Running, descendants, must_be_free, must_be_held};
use kcm_tests::machine::until;
use kcm_tests::stand_in::StandIn;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};
use nix::libc;
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};

use super::descendants::{DAEMON, DAEMON_THAT_CLOSES, is_executed};

fn one_list() -> ConfDir {
    ConfDir::new(&[("p", true, &["0"])])
}

fn start(conf_dir: &ConfDir, script: &str) -> Running {
    Isolate::new(conf_dir, "p", &[]).script(script).start()
}

/// Fails the test unless the dead isolate's list goes to a container that starts now.
#[track_caller]
fn must_go_to_a_container(conf_dir: &ConfDir, id: &str) {
    let container = StandIn::new(id);
    let ran = HookCall::create(conf_dir.path(), &container, "p").run().must_succeed();
    assert!(ran.stderr.contains("reclaimed CPU list 0 of pool p"), "{}", ran.stderr);
    assert_eq!(conf_dir.tasks("p", "0"), container.pid().to_string());
    assert_eq!(conf_dir.allocations(), [format!("{id}.json")]);
}

#[test]
fn while_a_grandchild_lives_the_list_is_held_and_after_it_anybody_gets_it() {
    for next in ["container", "isolate"] {
        let conf_dir = one_list();
        let script = "sleep 600 & echo $!; echo $$; exec sleep 600";
        let mut isolate = start(&conf_dir, script);
        let (grandchild, child) = (isolate.process(0), isolate.process(1));
        isolate.kill();
        child.ends();
        assert!(grandchild.is_running());

        must_be_held(&conf_dir, "0", isolate.pid());
        let late = StandIn::new(&format!("late-{next}"));
        let hook = HookCall::create(conf_dir.path(), &late, "p");
        hook.run().must_refuse(&["1 of 1 are held"]);
        must_be_held(&conf_dir, "0", isolate.pid());
        assert_eq!(conf_dir.allocations(), [format!("isolate-{}.json", isolate.pid())]);

        grandchild.kill();
        match next {
            "container" => must_go_to_a_container(&conf_dir, "heir"),
            _ => must_be_free(&conf_dir),
        }
    }
}

#[test]
fn a_command_dies_with_kcm_and_its_list_is_free() {
    for next in ["container", "isolate"] {
        let conf_dir = one_list();
        let mut isolate = start(&conf_dir, "trap '' TERM HUP INT; echo $$; sleep 600; exit");
        let child = isolate.process(0);
        let sleep = until("its sleep", || descendants(child.pid()).first().copied());
        let sleep = Process::of(sleep);
        isolate.kill();
        child.ends();
        sleep.kill();
        match next {
            "container" => must_go_to_a_container(&conf_dir, "orphans-heir"),
            _ => must_be_free(&conf_dir),
        }
    }
}

#[test]
fn a_daemon_that_kept_its_descriptors_holds_the_list_on() {
    let conf_dir = one_list();
    let mut isolate = start(&conf_dir, &format!("{DAEMON}; exit 0"));
    let daemon = isolate.process(0);
    until("kcm to say that it waits", || isolate.err().contains("INFO ").then_some(()));
    isolate.kill();
    assert!(daemon.is_running());
    must_be_held(&conf_dir, "0", isolate.pid());
    daemon.kill();
    must_be_free(&conf_dir);
}

/// The limit that the documentation states: nothing is left by which it could be known.
#[test]
fn a_daemon_that_has_neither_cgroup_nor_descriptor_nor_mark_does_not_hold_the_list() {
    let conf_dir = one_list();
    let script = format!("unset KCM_OWNER; {DAEMON_THAT_CLOSES}; exit 0");
    let mut isolate = Isolate::new(&conf_dir, "p", &[]).script(&script).by_affinity().start();
    let daemon = isolate.process(0);
    is_executed(&daemon);
    assert_eq!((daemon.open_files().len(), daemon.environment("KCM_OWNER")), (0, None));
    isolate.kill();
    assert_eq!(conf_dir.tasks("p", "0"), isolate.pid().to_string());
    must_be_free(&conf_dir);
    assert!(daemon.is_running());
}

/// Acts with the rights of an ordinary user: a thread's own ids for files, with which the
/// capabilities go that pass over permissions (capabilities(7)).
fn as_an_ordinary_user<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    let act = || {
        setfsgid(Gid::from_raw(65534));
        setfsuid(Uid::from_raw(65534));
        act()
    };
    std::thread::scope(|threads| threads.spawn(act).join().unwrap())
}

/// Whether `/proc/locks` has a lock of this file that starts so.
fn is_locked(file: &File, kind: &str) -> bool {
    let inode = format!(":{} ", file.metadata().unwrap().ino());
    let locks = fs::read_to_string("/proc/locks").unwrap();
    let words = |line: &str| line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ");
    locks.lines().any(|line| line.contains(&inode) && words(line).starts_with(kind))
}

fn lock_of_all(kind: i32) -> libc::flock {
    let (l_type, l_whence) = (kind as libc::c_short, libc::SEEK_SET as libc::c_short);
    libc::flock { l_type, l_whence, l_start: 0, l_len: 0, l_pid: 0 }
}

#[test]
fn somebody_who_may_only_read_a_record_cannot_keep_a_dead_isolates_list_held() {
    let read = lock_of_all(libc::F_RDLCK);
    for (kind, lock) in [
        ("OFDLCK ADVISORY READ", Some(FcntlArg::F_OFD_SETLK(&read))),
        ("POSIX ADVISORY READ", Some(FcntlArg::F_SETLK(&read))),
        ("FLOCK ADVISORY WRITE", None),
    ] {
        let conf_dir = one_list();
        let mut isolate = start(&conf_dir, "echo $$; exec sleep 600");
        let (child, path) = (isolate.process(0), conf_dir.record_path(&isolate.owner()));
        let allocations = path.parent().unwrap();
        let above = conf_dir.path().parent().unwrap();
        for (path, mode) in [(&*path, 0o644), (allocations, 0o755), (above, 0o755)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        isolate.kill();
        child.ends();
        let file = as_an_ordinary_user(|| File::open(&path)).unwrap();
        let denied = as_an_ordinary_user(|| File::options().append(true).open(&path));
        assert_eq!(denied.unwrap_err().raw_os_error(), Some(libc::EACCES));
        let write = fcntl(&file, FcntlArg::F_OFD_SETLK(&lock_of_all(libc::F_WRLCK)));
        assert_eq!(write, Err(Errno::EBADF));
        let seen = file.try_clone().unwrap();
        let held = match lock {
            Some(lock) => fcntl(&file, lock).map(|_| None).unwrap(),
            None => Some(Flock::lock(file, FlockArg::LockExclusiveNonblock).unwrap()),
        };
        assert!(is_locked(&seen, kind), "{kind}");
        must_be_free(&conf_dir);
        assert!(is_locked(&seen, kind), "{kind}");
        drop(held);
    }
}
