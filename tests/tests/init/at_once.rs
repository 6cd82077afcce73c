//! Several inits at the same time.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};

use nix::fcntl::{Flock, FlockArg};

use super::machine::{MANUAL, Machine};
use super::pools::MANUALS_TREE;
use super::tree::{pools, tree};
use kcm_tests::kcm::{Outcome, kcm, run};

fn start(machine: &Machine, dataplane: usize) -> Child {
    let mut command = kcm();
    command.args(["init", "--num-dp-cores", &dataplane.to_string()]);
    let command = machine.show_to(&mut command);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn ends(child: Child) -> Outcome {
    child.wait_with_output().unwrap().into()
}

#[test]
fn one_init_makes_the_directory_and_the_others_find_it() {
    for _ in 0..20 {
        let machine = Machine::new(MANUAL);
        let inits: Vec<Child> = (0..8).map(|_| start(&machine, 4)).collect();
        let outcomes: Vec<Outcome> = inits.into_iter().map(|i| ends(i).succeeded()).collect();
        let made = |outcome: &&Outcome| outcome.err.contains("Adding cpu list");
        assert_eq!(outcomes.iter().filter(made).count(), 1, "{outcomes:?}");
        assert_eq!(tree(&machine.conf_dir()), MANUALS_TREE);
    }
}

#[test]
fn of_two_inits_with_other_wishes_the_slower_one_fails() {
    let (three, four) = ("0,8 1,9 2,10 | 3,11 | 4-7,12-15", "0,8 1,9 2,10 3,11 | 4,12 | 5-7,13-15");
    for _ in 0..20 {
        let machine = Machine::new(MANUAL);
        let inits = [start(&machine, 3), start(&machine, 4)].map(ends);
        match inits.map(|init| init.code) {
            [Some(0), Some(1)] => assert_eq!(pools(&machine.conf_dir()), three),
            [Some(1), Some(0)] => assert_eq!(pools(&machine.conf_dir()), four),
            codes => panic!("{codes:?}"),
        }
    }
}

#[test]
fn an_init_that_waits_too_long_leaves_the_other_ones_work_alone() {
    // A reader's lock keeps init from writing, a writer's from reading too.
    for kind in [FlockArg::LockShared, FlockArg::LockExclusive] {
        let machine = Machine::new(MANUAL);
        fs::create_dir_all(machine.conf_dir().join(".tmp-pools/dataplane")).unwrap();
        let lock = machine.conf_dir().join("lock");
        let file = File::create(&lock).unwrap();
        fs::set_permissions(&lock, Permissions::from_mode(0o600)).unwrap();
        let held = Flock::lock(file, kind).unwrap();
        let before = tree(&machine.conf_dir());
        let mut command = kcm();
        let command = machine.show_to(command.arg("init")).env("KCM_LOCK_TIMEOUT", "0.2");
        let holder = format!("process {} holds it", std::process::id());
        run(command).failed_with(&["etc/kcm/lock", &holder, "KCM_LOCK_TIMEOUT"]);
        assert_eq!(tree(&machine.conf_dir()), before);
        drop(held);
        machine.init(4, 1).succeeded();
        assert_eq!(tree(&machine.conf_dir()), MANUALS_TREE);
    }
}
