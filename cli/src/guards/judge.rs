//! What a node's facts mean for its exclusive pools. Pure.
//!
//! One of three keeps other tasks off a pool's CPUs: the kernel's partitions, a default pool of every
//! engine, or `isolcpus`. Of partitions it counts that all who hold CPUs now have one. The shield is for
//! the node's own work, and nobody needs it; a quota is the holder's own, and is wrong wherever it is.

use kcm_core::CpuSet;
use kcm_core::partition::Policy;

use super::{Engine, Facts, Guard, Guarded, Guards, Known, Pool, State, UNTHROTTLE, command};

/// The shared pool that `kcm init` makes of all that is left.
pub(crate) const INFRA: &str = "infra";

/// So many of a kind are named.
const NAMED: usize = 5;

/// Each exclusive pool that has CPUs.
pub(crate) fn judge(facts: &Facts) -> Vec<Guarded> {
    exclusive(&facts.pools).map(|pool| judge_pool(facts, pool)).collect()
}

/// Why containers that ask for no pool need one, beside engines of which all or not all run pods alone:
/// some container of an exclusive pool is no partition. None where they need none.
pub(crate) fn why_a_default_pool(
    partitions: &Known<bool>,
    pools: &[Pool],
    is_of_pods: bool,
) -> Option<String> {
    exclusive(pools).find_map(|pool| match reach(partitions, pool.says, is_of_pods) {
        Reach::Each(_) => None,
        Reach::BesideNobody(_) => Some(format!(
            "a container of pool {} that others stand beside is no cpuset partition, since its pool says \
             auto",
            pool.name
        )),
        Reach::None(why) => {
            Some(format!("no container of pool {} is a cpuset partition, since {why}", pool.name))
        }
        Reach::Unknown(why) => Some(why),
    })
}

/// The CPUs of a pool that can be a default pool; else what it is.
pub(crate) fn fit<'a>(pools: &'a [Pool], name: &str) -> Result<&'a CpuSet, &'static str> {
    let pool = pools.iter().find(|pool| pool.name.as_ref() == name);
    match pool.ok_or("which is not there, or cannot be read")? {
        pool if pool.exclusive => Err("which is exclusive"),
        pool if pool.cpus.is_empty() => Err("which has no CPUs"),
        pool => Ok(&pool.cpus),
    }
}

fn exclusive(pools: &[Pool]) -> impl Iterator<Item = &Pool> {
    pools.iter().filter(|pool| pool.exclusive && !pool.cpus.is_empty())
}

/// Which containers of a pool are partitions.
enum Reach {
    Each(Policy),
    BesideNobody(Policy),
    None(&'static str),
    Unknown(String),
}

fn reach(partitions: &Known<bool>, says: Option<Policy>, is_of_pods: bool) -> Reach {
    match (partitions, says) {
        (Err(why), _) => Reach::Unknown(format!(
            "whether the kernel has cpuset partitions cannot be told: {why}"
        )),
        (Ok(false), _) => Reach::None("this kernel has none"),
        (Ok(true), None) => Reach::None("its file partition is damaged"),
        (Ok(true), Some(says)) if says.is_for_each(is_of_pods) => Reach::Each(says),
        (Ok(true), Some(says)) if says.is_for_each(true) => Reach::BesideNobody(says),
        (Ok(true), Some(_)) => Reach::None("its file partition says none"),
    }
}

fn judge_pool(facts: &Facts, pool: &Pool) -> Guarded {
    let (partition, is_kept) = partition(facts, pool);
    let guards = Guards {
        default_pool: default_pool(facts, pool),
        isolcpus: isolcpus(facts, pool),
        partition,
        quota: quota(facts, pool),
        shield: shield(facts, pool),
    };
    let mut three = [&guards.partition, &guards.default_pool, &guards.isolcpus];
    let is_kept = is_kept || three[1..].iter().any(|guard| guard.state == State::Holds);
    let open = (!is_kept).then(|| {
        if facts.partitions != Ok(true) {
            three.rotate_left(1); // what can be had at once comes first
        }
        let all: Vec<&str> = three.iter().filter_map(|guard| guard.remedy.as_deref()).collect();
        match all[..] {
            [] => "mend what cannot be told".to_owned(),
            _ => all.join(", or "),
        }
    });
    Guarded { pool: pool.name.clone(), cpus: pool.cpus.clone(), guards, open }
}

/// And whether it keeps others off: off whoever holds CPUs now, and off whoever comes.
fn partition(facts: &Facts, pool: &Pool) -> (Guard, bool) {
    let callers = facts.engines.iter().filter(|engine| engine.called != Ok(None));
    // By an engine whose files kcm does not know, none at all is seen to call the hook.
    let mut callers = callers.peekable();
    let are_of_pods = callers.peek().is_some() && callers.all(|engine| engine.is_of_pods);
    let init = |kind| command(&facts.conf_dir, &format!("init --partition={}={kind}", pool.name));
    let (is_each, says) = match reach(&facts.partitions, pool.says, are_of_pods) {
        Reach::Each(says) => (true, says),
        Reach::BesideNobody(says) => (false, says),
        Reach::Unknown(why) => return (Guard::unknown(why), false),
        Reach::None(why) => {
            let remedy = match &facts.partitions {
                Ok(true) => init("auto"),
                _ => "Linux 6.8 or newer with cgroup v2".to_owned(),
            };
            return (Guard::missing(format!("no cpuset partitions, since {why}"), remedy), false);
        }
    };
    let who = match is_each {
        true => "each container",
        false => "a container that nobody stands beside (of a pod, of crun)",
    };
    let message = format!("{who} is a cpuset partition ({says})");
    let holders = match &facts.holders {
        Ok(holders) => holders.iter().filter(|holder| holder.pool == pool.name),
        Err(why) => {
            let message = format!("{message}, but whether they hold cannot be told: {why}");
            return (Guard::unknown(message), true);
        }
    };
    let plain = holders.filter(|holder| !holder.is_partition).map(|holder| &holder.owner);
    let plain: Vec<&String> = plain.collect();
    let guard = match (is_each, plain.is_empty()) {
        (true, true) => Guard::holds(message),
        (false, true) => Guard::partly(message, init("root")),
        (_, false) => {
            let anew = format!("start {} anew, unless it asked for none", first(&plain));
            let remedy = if is_each { anew } else { format!("{}, and {anew}", init("root")) };
            Guard::partly(format!("{message}, but not {}", first(&plain)), remedy)
        }
    };
    (guard, plain.is_empty())
}

fn default_pool(facts: &Facts, pool: &Pool) -> Guard {
    if facts.engines.is_empty() {
        return Guard::unknown("no container engine can be seen here".to_owned());
    }
    let (mut kept, mut broken, mut without, mut unknown) = (vec![], vec![], vec![], vec![]);
    let mut runtimes = String::new();
    for Engine { name, called, .. } in &facts.engines {
        let default = match called {
            Ok(called) => called.as_ref().and_then(|called| called.default_pool.as_deref()),
            Err(why) => {
                unknown.push(format!("the default pool of {name} cannot be told: {why}"));
                continue;
            }
        };
        match default.map(|default| (default, fit_beside(facts, default, pool))) {
            Some((default, Ok(()))) => {
                kept.push(format!("{default} ({name})"));
                continue;
            }
            Some((default, Err(why))) => broken.push(format!("{default} ({name}), {why}")),
            None => without.push((*name).to_owned()),
        }
        runtimes += &format!("--runtime={name} ");
    }
    let said = |before: &str, all: &[String], after: &str| {
        (!all.is_empty()).then(|| format!("{before}{}{after}", all.join(", ")))
    };
    let said = [
        said("containers without a pool run on ", &kept, ""),
        said("containers without a pool are to run on ", &broken, ""),
        said("no default pool (", &without, ")"),
        said("", &unknown, ""),
    ];
    let message = said.into_iter().flatten().collect::<Vec<_>>().join("; ");
    let default = if fit_beside(facts, INFRA, pool).is_ok() { INFRA } else { "POOL" };
    let words = format!("install {runtimes}--default-pool={default}");
    let remedy = command(&facts.conf_dir, &words);
    match (kept.is_empty(), runtimes.is_empty()) {
        (_, true) if unknown.is_empty() => Guard::holds(message),
        (_, true) => Guard::unknown(message),
        (false, false) => Guard::partly(message, remedy),
        (true, false) => Guard::missing(message, remedy),
    }
}

/// Fails where whoever is in that pool may run on this one's CPUs.
fn fit_beside(facts: &Facts, name: &str, pool: &Pool) -> Result<(), String> {
    let both = fit(&facts.pools, name)?.intersection(&pool.cpus);
    match both.is_empty() {
        true => Ok(()),
        false => Err(format!("which has its CPUs {both}")),
    }
}

fn isolcpus(facts: &Facts, pool: &Pool) -> Guard {
    let remedy = || {
        let all = exclusive(&facts.pools);
        let all = all.fold(CpuSet::new(), |all, pool| all.union(&pool.cpus));
        format!("boot with isolcpus={all}")
    };
    match covered(&facts.isolated, pool) {
        Err(why) => Guard::unknown(format!("isolcpus cannot be told: {why}")),
        Ok(cpus) if cpus == pool.cpus => {
            Guard::holds("isolated by the kernel's command line".to_owned())
        }
        Ok(cpus) if cpus.is_empty() => Guard::missing("no isolcpus".to_owned(), remedy()),
        Ok(cpus) => Guard::partly(
            format!("CPUs {cpus} of it alone are isolated by the kernel's command line"),
            remedy(),
        ),
    }
}

fn shield(facts: &Facts, pool: &Pool) -> Guard {
    let remedy = || command(&facts.conf_dir, "shield on");
    match covered(&facts.shielded, pool) {
        Err(why) => Guard::unknown(format!("the shield cannot be told: {why}")),
        Ok(cpus) if cpus == pool.cpus => Guard::holds("shielded".to_owned()),
        Ok(cpus) if cpus.is_empty() => Guard::missing("no shield".to_owned(), remedy()),
        Ok(cpus) => Guard::partly(format!("CPUs {cpus} of it alone are shielded"), remedy()),
    }
}

/// Those CPUs of a pool that are among these.
fn covered(cpus: &Known<CpuSet>, pool: &Pool) -> Known<CpuSet> {
    cpus.as_ref().map(|cpus| cpus.intersection(&pool.cpus)).map_err(Clone::clone)
}

fn quota(facts: &Facts, pool: &Pool) -> Guard {
    let holders = match &facts.holders {
        Ok(holders) => holders.iter().filter(|holder| holder.pool == pool.name),
        Err(why) => return Guard::unknown(format!("quotas cannot be told: {why}")),
    };
    let limited = holders.filter_map(|holder| {
        holder.throttle.as_ref().map(|throttle| format!("{} ({throttle})", holder.owner))
    });
    let limited: Vec<String> = limited.collect();
    match limited[..] {
        [] => Guard::holds("nobody there is throttled".to_owned()),
        _ => {
            Guard::missing(format!("may be throttled: {}", first(&limited)), UNTHROTTLE.to_owned())
        }
    }
}

/// The first of them by name.
fn first(names: &[impl AsRef<str>]) -> String {
    let shown: Vec<&str> = names.iter().take(NAMED).map(AsRef::as_ref).collect();
    format!("{}{}", shown.join(", "), if names.len() > NAMED { ", …" } else { "" })
}

impl Guard {
    fn holds(message: String) -> Self {
        Self { message, remedy: None, state: State::Holds }
    }

    fn partly(message: String, remedy: String) -> Self {
        Self { message, remedy: Some(remedy), state: State::Partly }
    }

    fn missing(message: String, remedy: String) -> Self {
        Self { message, remedy: Some(remedy), state: State::Missing }
    }

    fn unknown(message: String) -> Self {
        Self { message, remedy: None, state: State::Unknown }
    }
}
