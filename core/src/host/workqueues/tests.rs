use super::*;

/// A mask and a note in a folder.
struct Machine {
    folder: tempfile::TempDir,
    workqueues: Workqueues,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mask = folder.path().join("cpumask");
        let workqueues = Workqueues { mask, note: folder.path().join("kcm/workqueues") };
        Self { folder, workqueues }
    }

    fn set(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// A plain file keeps what a shorter text leaves of it, which the kernel's does not.
    fn mask(&self) -> String {
        let text = std::fs::read_to_string(&self.workqueues.mask).unwrap();
        text.lines().next().unwrap().to_owned()
    }

    fn off(&self, cpus: &str) {
        self.workqueues.keep_off(&cpus.parse().unwrap()).unwrap();
    }

    fn give_back(&self, partitions: &str) -> String {
        let partitions = CpuSet::parse_possibly_empty(partitions).unwrap();
        self.workqueues.give_back(&partitions).unwrap().to_string()
    }

    fn has_note(&self) -> bool {
        self.workqueues.note.exists()
    }
}

#[test]
fn cpus_are_taken_out_once_and_put_back_beside_what_others_did() {
    let machine = Machine::new();
    // A kernel without workqueues' mask.
    machine.off("2-3");
    assert_eq!(machine.workqueues.layers().unwrap(), None);
    assert!(!machine.has_note());
    machine.set("cpumask", "1,0000ffff\n");
    machine.off("2-3");
    assert_eq!(machine.mask(), "1,0000fff3");
    machine.off("2-3,32");
    assert_eq!(machine.mask(), "fff3");
    machine.set("cpumask", "00,0000f0f3\n");
    // Nothing would be left; nothing of it is there.
    machine.off("0-15");
    machine.off("40");
    assert_eq!(machine.mask(), "00,0000f0f3");
    assert_eq!(machine.give_back("32"), "2-3");
    assert_eq!(machine.mask(), "f0ff");
    assert!(machine.has_note());
    assert_eq!(machine.give_back(""), "32");
    assert_eq!(machine.mask(), "1,0000f0ff");
    assert!(!machine.has_note());
    assert_eq!(machine.give_back(""), "");
}

#[test]
fn what_an_isolated_partition_has_comes_back_by_itself_no_more_and_so_is_put_back() {
    let machine = Machine::new();
    machine.set("cpumask", "ff0f\n");
    machine.set(REQUESTED, "ffff\n");
    machine.off("2-3");
    assert_eq!(machine.mask(), "ff03");
    machine.set(REQUESTED, "ff03\n");
    assert_eq!(machine.give_back(""), "2-7");
}

#[test]
fn the_shield_sees_nothing_of_what_hooks_do_and_they_nothing_of_it() {
    let machine = Machine::new();
    let workqueues = &machine.workqueues;
    let seen = || workqueues.layers().unwrap().unwrap().seen_by_the_shield().to_string();
    let shield = |wish: &str| workqueues.shield(&wish.parse().unwrap(), &CpuSet::new()).unwrap();
    machine.set("cpumask", "ff\n");
    machine.off("2-3");
    assert_eq!((machine.mask(), seen()), ("f3".into(), "0-7".into()));
    shield("0-3,6-7");
    machine.off("6");
    assert_eq!((machine.mask(), seen()), ("83".into(), "0-3,6-7".into()));
    shield("0-7");
    assert_eq!((machine.mask(), seen()), ("b3".into(), "0-7".into()));
    assert_eq!(machine.give_back(""), "2-3,6");
    assert!(!machine.has_note());
}

#[test]
fn a_damaged_note_is_named_and_nothing_is_written() {
    let machine = Machine::new();
    machine.set("cpumask", "ff\n");
    machine.off("2");
    machine.set("kcm/workqueues", "2-3");
    let cpus = "3".parse().unwrap();
    for error in [
        machine.workqueues.keep_off(&cpus).unwrap_err(),
        machine.workqueues.give_back(&cpus).unwrap_err(),
    ] {
        let error = error.to_string();
        assert!(error.contains("kcm/workqueues") && error.contains("remove it"), "{error}");
    }
    assert_eq!(machine.mask(), "fb");
}
