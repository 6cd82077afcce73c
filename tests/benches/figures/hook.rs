//! The hook alone.

use std::fs;
use std::time::Duration;

use serde_json::json;

use crate::Bench;
use crate::measure::{Cost, Program, compare};
use crate::place::{Container, Place, Storage};
use crate::report::Report;

const LIMIT: Duration = Duration::from_secs(15);
const LISTS: usize = 64;

/// What every container of the node pays.
pub(crate) fn without_annotation(bench: &Bench, report: &mut Report) {
    let place = Place::new(Storage::Memory, LISTS);
    let state = bench.folder.join("no-annotation.json");
    let annotations = json!({ "io.kubernetes.cri.container-type": "container" });
    let text = json!({
        "ociVersion": "1.0.2", "id": "none", "status": "creating", "pid": std::process::id(),
        "bundle": "/", "annotations": annotations,
    });
    fs::write(&state, text.to_string()).unwrap();
    let (hook, noop) = (place.hook("createRuntime", &state), noop(bench).reading(&state));
    let it = compare(LIMIT, || hook.run(), || noop.run());
    report.ratio("`kcm-hook` createRuntime, no annotation", "nothing", 1.15, it);
}

/// What a container pays that gets a CPU list.
pub(crate) fn allocate(bench: &Bench, report: &mut Report) {
    for (storage, where_) in [(Storage::Memory, ""), (Storage::Disk, ", on disk")] {
        let mut allocation = Allocation::new(bench, storage, LISTS, "allocate");
        let noop = noop(bench).reading(&allocation.container.state);
        let it = compare(LIMIT, || allocation.run(), || noop.run());
        let figure =
            format!("`kcm-hook` createRuntime, allocate + pin + verify, {LISTS} CPU lists");
        report.ratio(&format!("{figure}{where_}"), "nothing", 1.6, it);
    }
}

/// What giving it back costs.
pub(crate) fn release(bench: &Bench, report: &mut Report) {
    let mut allocation = Allocation::new(bench, Storage::Memory, LISTS, "release");
    allocation.run();
    let Allocation { place, mut container, mut number } = allocation;
    let (id, list) = (container.stand_in.id().to_owned(), place.lists.last().unwrap());
    let tasks = place.conf_dir.tasks("p", list);
    let record = fs::read_to_string(place.conf_dir.record_path(&id)).unwrap();
    container.stand_in.kill();
    let state = container.state.clone();
    drop(container); // and its cgroup
    let (hook, noop) = (place.hook("poststop", &state), noop(bench).reading(&state));
    let mut release = || {
        number += 1;
        place.put(number, list, &tasks, &id, Some(&record));
        let cost = hook.run();
        assert_eq!(place.conf_dir.tasks("p", list), "", "nothing was released");
        cost
    };
    let it = compare(LIMIT, &mut release, || noop.run());
    report.ratio("`kcm-hook` poststop, releasing a dead holder's list", "nothing", 1.3, it);
}

/// What more CPU lists cost.
pub(crate) fn large_pool(bench: &Bench, report: &mut Report) {
    let mut large = Allocation::new(bench, Storage::Memory, 1024, "large");
    let mut small = Allocation::new(bench, Storage::Memory, 16, "small");
    let it = compare(LIMIT, || large.run(), || small.run());
    let figure = "`kcm-hook` createRuntime, 1,024 CPU lists, all but the last taken";
    report.ratio(figure, "itself, 16 CPU lists", 3.0, it);
}

fn noop(bench: &Bench) -> Program {
    Program::new([&bench.noop])
}

/// The last free list of a pool, allocated again and again.
pub(crate) struct Allocation {
    pub(crate) place: Place,
    pub(crate) container: Container,
    number: usize,
}

impl Allocation {
    /// From a pool of so many lists.
    pub(crate) fn new(bench: &Bench, storage: Storage, lists: usize, id: &str) -> Self {
        let id = format!("{id}-{lists}-{storage:?}").to_lowercase();
        let container = Container::new(&bench.folder, &id);
        Self { place: Place::almost_full(storage, lists), container, number: 0 }
    }

    /// The call of the hook, once more possible.
    pub(crate) fn prepare(&mut self) -> Program {
        self.number += 1;
        let (list, id) = (self.place.lists.last().unwrap(), self.container.stand_in.id());
        self.place.put(self.number, list, "", id, None);
        self.container.unpin();
        self.place.hook("createRuntime", &self.container.state)
    }

    /// Allocates the list.
    pub(crate) fn run(&mut self) -> Cost {
        let cost = self.prepare().run();
        let tasks = self.place.conf_dir.tasks("p", self.place.lists.last().unwrap());
        assert_eq!(tasks, self.container.stand_in.pid().to_string());
        cost
    }
}
