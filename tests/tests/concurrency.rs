//! Many hooks at once, some killed: no exclusive list ever has two live owners, and none is lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kcm_tests::audit::{free, held_by, holders};
use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::{HookCall, Ran, Started};
use kcm_tests::stand_in::StandIn;

/// Eight exclusive lists on two CPUs: the spelling is the identity.
const LISTS: [&str; 8] = ["0", "1", "0-1", "00", "01", "0,1", "1,0", "0-0"];
const AT_ONCE: usize = 200;

fn eight_lists() -> ConfDir {
    ConfDir::new(&[("p", true, &LISTS)])
}

/// Fills the pool with containers that stay alive: as many as there are lists, and no more.
#[track_caller]
fn must_be_free(conf_dir: &ConfDir) {
    let all: Vec<StandIn> = LISTS.iter().map(|_| StandIn::new(&new_id())).collect();
    for container in &all {
        HookCall::create(conf_dir.path(), container, "p").run().must_succeed();
    }
    assert_eq!(free(&holders(conf_dir, "p")), 0);
    let more = StandIn::new(&new_id());
    HookCall::create(conf_dir.path(), &more, "p").run().must_refuse(&["8 of 8 are held"]);
}

fn new_id() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("c{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

#[test]
fn of_200_containers_that_start_at_once_exactly_8_get_the_8_lists() {
    let conf_dir = eight_lists();
    let containers: Vec<StandIn> = (0..AT_ONCE).map(|_| StandIn::new(&new_id())).collect();
    let call = |c| HookCall::create(conf_dir.path(), c, "p").start();
    let mut calls: Vec<Started> = containers.iter().map(call).collect();
    // All are up and wait for their input.
    calls.iter_mut().for_each(Started::give_input);
    let ran: Vec<Ran> = calls.into_iter().map(Started::finish).collect();
    let holders = holders(&conf_dir, "p");
    let (mut succeeded, mut taken) = (0, BTreeSet::new());
    for (container, ran) in containers.iter().zip(ran) {
        let held = held_by(&holders, container.pid());
        if ran.succeeded() {
            assert_eq!(held.len(), 1, "{held:?}");
            assert!(taken.insert(held[0].clone()), "{held:?} was given twice");
            succeeded += 1;
        } else {
            assert_eq!(held, [""; 0], "{}", ran.stderr);
            ran.must_refuse(&["No free cpu lists in pool p: 8 of 8 are held"]);
        }
    }
    assert_eq!(succeeded, LISTS.len());
    println!("{AT_ONCE} at once: {succeeded} succeeded, {} refused", AT_ONCE - succeeded);
    drop(containers);
    must_be_free(&conf_dir);
}

/// A list that was surely held: from after the hook's success until before its holder's end.
#[derive(Debug)]
struct Hold {
    list: String,
    from: Instant,
    to: Instant,
}

#[derive(Debug, Default)]
struct Log {
    holds: Vec<Hold>,
    refused: usize,
    hooks_killed: usize,
    holders_killed: usize,
    released: usize,
}

/// A few steps of a xorshift generator: each worker does something else, each run the same.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Starts containers until the time is over; kills some of them, and some hooks at some moment.
fn work(conf_dir: &ConfDir, mut dice: Dice, over: Instant) -> Log {
    let (mut log, mut id) = (Log::default(), new_id());
    while Instant::now() < over {
        // Some are restarted under their id, as podman does.
        if dice.throw(3) > 0 {
            id = new_id();
        }
        let mut container = StandIn::new(&id);
        let mut call = HookCall::create(conf_dir.path(), &container, "p").start();
        call.give_input();
        if dice.throw(4) == 0 {
            std::thread::sleep(Duration::from_micros(dice.throw(20_000)));
            call.kill();
        }
        let ran = call.finish();
        if ran.succeeded() {
            let record = conf_dir.record(&id).unwrap();
            assert_eq!(record["pid"], container.pid());
            let list = record["cpuLists"][0].as_str().unwrap().to_owned();
            let from = Instant::now();
            std::thread::sleep(Duration::from_micros(dice.throw(30_000)));
            log.holds.push(Hold { list, from, to: Instant::now() });
        } else if ran.was_killed() {
            log.hooks_killed += 1;
        } else {
            ran.must_refuse(&["No free cpu lists in pool p"]);
            log.refused += 1;
        }
        container.kill();
        if dice.throw(2) == 0 {
            HookCall::poststop(conf_dir.path(), &id).run().must_succeed();
            log.released += 1;
        } else {
            log.holders_killed += 1;
        }
    }
    log
}

/// Looks at the directory again and again, as a reader that has the lock.
fn watch(conf_dir: &ConfDir, over: &AtomicBool) -> usize {
    let mut looks = 0;
    while !over.load(Ordering::Relaxed) {
        let lock = File::open(conf_dir.path().join("lock")).unwrap();
        let lock = nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockShared).unwrap();
        holders(conf_dir, "p");
        looks += 1;
        drop(lock);
        std::thread::sleep(Duration::from_millis(20));
    }
    looks
}

#[test]
fn while_200_workers_allocate_release_and_die_no_list_ever_has_two_owners() {
    let seconds = std::env::var("KCM_RACE_SECONDS").map_or(10, |text| text.parse().unwrap());
    let conf_dir = eight_lists();
    let end = Instant::now() + Duration::from_secs(seconds);
    let over = AtomicBool::new(false);
    let (logs, looks) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&conf_dir, &over));
        let workers: Vec<_> = (0..AT_ONCE)
            .map(|n| Dice(0x9e37_79b9_7f4a_7c15 ^ (n as u64 + 1)))
            .map(|dice| scope.spawn(|| work(&conf_dir, dice, end)))
            .collect();
        let logs: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        over.store(true, Ordering::Relaxed);
        let logs: Vec<Log> = logs.into_iter().map(Result::unwrap).collect();
        (logs, watcher.join().unwrap())
    });
    let sum = |count: fn(&Log) -> usize| logs.iter().map(count).sum::<usize>();
    println!(
        "{seconds} s, {AT_ONCE} workers: {} allocated, {} refused, {} hooks killed, {} holders died \
         untold, {} told; {looks} looks under the lock",
        sum(|log| log.holds.len()),
        sum(|log| log.refused),
        sum(|log| log.hooks_killed),
        sum(|log| log.holders_killed),
        sum(|log| log.released),
    );
    assert!(sum(|log| log.holds.len()) > 50 && sum(|log| log.hooks_killed) > 20 && looks > 0);
    let mut by_list: BTreeMap<&str, Vec<&Hold>> = BTreeMap::new();
    for hold in logs.iter().flat_map(|log| &log.holds) {
        by_list.entry(&hold.list).or_default().push(hold);
    }
    // The last is given only while all others are held, which an emulated machine may be too slow for.
    assert!(by_list.len() > LISTS.len() / 2, "few lists were ever given: {:?}", by_list.keys());
    for (list, mut holds) in by_list {
        holds.sort_by_key(|hold| hold.from);
        for pair in holds.windows(2) {
            assert!(pair[0].to <= pair[1].from, "{list} had two owners at once: {pair:?}");
        }
    }
    must_be_free(&conf_dir);
}
