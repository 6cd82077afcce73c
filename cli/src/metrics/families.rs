//! The metrics: their names, labels and units. docs/cli.md has the table for users.
//!
//! Numbers of pools are those of the last round that could read them. A pool that is gone has no
//! series; one that never was reclaimed from has counters at 0, so that their first increase is seen.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use kcm_core::pool::PoolName;
use kcm_core::usage::Usage;
use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

use super::findings::Findings;
use super::labels::{OfGuard, OfLists, OfPool, OfRepair, OfRound};
use crate::guards::{Guarded, State};

/// Upper bounds of the buckets of a round's duration, in seconds.
const DURATIONS: [f64; 8] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];

/// Pools that have series, eighteen each: a node has a few, and whoever may write the directory could
/// make thousands.
const MOST_POOLS: usize = 128;

/// No labels: for what may be absent.
type Alone = [(&'static str, &'static str); 0];

type Seconds = Gauge<f64, AtomicU64>;

/// All metrics of this process.
#[derive(Debug)]
pub(super) struct Families {
    registry: Registry,
    cpu_lists: Family<OfLists, Gauge>,
    cpus: Family<OfLists, Gauge>,
    tasks: Family<OfPool, Gauge>,
    allocation_age: Family<OfPool, Seconds>,
    reclaimed: Family<OfPool, Counter>,
    mismatched: Family<OfPool, Gauge>,
    mismatched_ever: Family<OfPool, Counter>,
    lost: Family<OfPool, Gauge>,
    guards: Family<OfGuard, Gauge<f64, AtomicU64>>,
    unguarded: Family<OfPool, Gauge>,
    repairs: Family<OfRepair, Counter>,
    rounds: Family<OfRound, Counter>,
    last_success: Family<Alone, Seconds>,
    duration: Histogram,
    not_shown: Gauge,
    /// The pools that have series.
    pools: BTreeSet<PoolName>,
}

impl Families {
    /// Before the first round of those that are so far apart.
    pub(super) fn new(interval: Duration) -> Self {
        let mut registry = Registry::with_prefix("kcm");
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version of kcm, as a label", version);
        let apart: Seconds = add(
            &mut registry,
            "round_interval_seconds",
            "Seconds between two rounds, as --interval says",
        );
        apart.set(interval.as_secs_f64());
        let duration = Histogram::new(DURATIONS);
        let help = "Seconds that a round took";
        registry.register("round_duration_seconds", help, duration.clone());
        let registry = &mut registry;
        let families = Self {
            cpu_lists: add(registry, "cpu_lists", "CPU lists that are free, and that are held"),
            cpus: add(registry, "cpus", "CPUs in the lists that are free, and that are held"),
            tasks: add(registry, "tasks", "Processes in a pool's CPU lists"),
            allocation_age: add(
                registry,
                "allocation_age_seconds",
                "Seconds since the oldest allocation of a pool was made",
            ),
            reclaimed: add(
                registry,
                "reclaimed_cpu_lists",
                "CPU lists that this process took back from the dead",
            ),
            mismatched: add(
                registry,
                "mismatched_cpu_masks",
                "Tasks that the last round found on other CPUs than those of their lists",
            ),
            mismatched_ever: add(
                registry,
                "mismatched_cpu_masks",
                "The same, added up over all rounds",
            ),
            lost: add(
                registry,
                "lost_partitions",
                "Containers that the last round found without the CPUs for themselves alone",
            ),
            guards: add(
                registry,
                "guards",
                "Whether a guard keeps others off an exclusive pool's CPUs: 1, 0.5 in part, 0 not",
            ),
            unguarded: add(
                registry,
                "unguarded",
                "Whether nothing keeps others off an exclusive pool's CPUs: 1, else 0",
            ),
            repairs: add(registry, "repairs", "Containers that were to be put back on their CPUs"),
            rounds: add(registry, "rounds", "Rounds that have ended"),
            last_success: add(
                registry,
                "last_successful_round_timestamp_seconds",
                "When the last round ended that succeeded, in seconds since 1970",
            ),
            duration,
            not_shown: add(
                registry,
                "pools_not_shown",
                "Pools that are in no other metric, because there are too many",
            ),
            pools: BTreeSet::new(),
            registry: std::mem::take(registry),
        };
        for succeeded in [true, false] {
            drop(families.rounds.get_or_create(&OfRound::that(succeeded)));
        }
        families
    }

    /// A round has ended.
    pub(super) fn add_round(&self, succeeded: bool, took: Duration, now: SystemTime) {
        self.rounds.get_or_create(&OfRound::that(succeeded)).inc();
        self.duration.observe(took.as_secs_f64());
        if succeeded {
            let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            self.last_success.get_or_create(&[]).set(since_1970.as_secs_f64());
        }
    }

    /// A round has found this.
    pub(super) fn add_findings(&mut self, findings: &Findings, now: SystemTime) {
        if let Some(usage) = &findings.usage {
            self.set_usage(usage, now);
        }
        if let Some(guarded) = &findings.guarded {
            self.set_guards(guarded);
        }
        if let Some(found) = &findings.reconciled {
            self.mismatched.clear();
            self.lost.clear();
            for pool in self.pools.iter().map(OfPool::new) {
                self.mismatched.get_or_create(&pool).set(0);
                self.lost.get_or_create(&pool).set(0);
                drop(self.mismatched_ever.get_or_create(&pool));
                drop(self.reclaimed.get_or_create(&pool));
                for worked in [true, false] {
                    drop(self.repairs.get_or_create(&OfRepair::that(&pool.pool, worked)));
                }
            }
            let is_shown = |pool: &&PoolName| self.pools.contains(*pool);
            for pool in found.mismatched.iter().filter(is_shown).map(OfPool::new) {
                self.mismatched.get_or_create(&pool).inc();
                self.mismatched_ever.get_or_create(&pool).inc();
            }
            for pool in found.lost.iter().filter(is_shown).map(OfPool::new) {
                self.lost.get_or_create(&pool).inc();
            }
            for pool in found.reclaimed.iter().filter(is_shown).map(OfPool::new) {
                self.reclaimed.get_or_create(&pool).inc();
            }
        }
        for (pool, worked) in findings.repairs.iter().filter(|(pool, _)| self.pools.contains(pool))
        {
            self.repairs.get_or_create(&OfRepair::that(pool.as_ref(), *worked)).inc();
        }
    }

    fn set_guards(&self, guarded: &[Guarded]) {
        self.guards.clear();
        self.unguarded.clear();
        let shown = guarded.iter().filter(|it| self.pools.contains(&it.pool));
        for Guarded { pool, guards, open, .. } in shown {
            self.unguarded.get_or_create(&OfPool::new(pool)).set(i64::from(open.is_some()));
            for (guard, found) in guards.all() {
                let value = match found.state {
                    State::Holds => 1.0,
                    State::Partly => 0.5,
                    State::Missing => 0.0,
                    State::Unknown => continue,
                };
                let of = OfGuard { pool: pool.to_string(), guard };
                self.guards.get_or_create(&of).set(value);
            }
        }
    }

    fn set_usage(&mut self, usage: &[Usage], now: SystemTime) {
        self.cpu_lists.clear();
        self.cpus.clear();
        self.tasks.clear();
        self.allocation_age.clear();
        let shown = self.choose(usage);
        self.not_shown.set(number(usage.len() - shown.len()));
        for Usage { pool, exclusive, free, held, tasks, oldest } in usage {
            if !shown.contains(pool) {
                continue;
            }
            for (state, sum) in [("free", free), ("held", held)] {
                let of = OfLists { pool: pool.to_string(), exclusive: *exclusive, state };
                self.cpu_lists.get_or_create(&of).set(number(sum.lists));
                self.cpus.get_or_create(&of).set(number(sum.cpus));
            }
            self.tasks.get_or_create(&OfPool::new(pool)).set(number(*tasks));
            if let Some(oldest) = oldest {
                // Of the future where the clock was set.
                let age = now.duration_since(*oldest).unwrap_or_default();
                self.allocation_age.get_or_create(&OfPool::new(pool)).set(age.as_secs_f64());
            }
        }
        for gone in self.pools.difference(&shown).map(OfPool::new) {
            self.reclaimed.remove(&gone);
            self.mismatched.remove(&gone);
            self.lost.remove(&gone);
            self.mismatched_ever.remove(&gone);
            for worked in [true, false] {
                self.repairs.remove(&OfRepair::that(&gone.pool, worked));
            }
        }
        self.pools = shown;
    }

    /// The pools to tell of: where there are too many, those that have been told of before.
    fn choose(&self, usage: &[Usage]) -> BTreeSet<PoolName> {
        let mut pools: Vec<&PoolName> = usage.iter().map(|usage| &usage.pool).collect();
        pools.sort_by_key(|&pool| (!self.pools.contains(pool), pool));
        pools.into_iter().take(MOST_POOLS).cloned().collect()
    }

    /// All of them in Prometheus' text format.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = prometheus_text::encode(&mut text, &self.registry);
        text
    }
}

/// A new metric. A counter's name gets `_total` where it is printed.
fn add<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

/// No directory has so many entries that this matters.
fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
