//! `kcm node-report`: what this node has, and what is wrong with it.

use std::process::ExitCode;

use kcm_core::CpuSet;
use kcm_core::pool::CpuListName;
use kcm_core::state::{ConfDir, Contents, Error, LockTimeout};

use super::ConfDirFlag;
use super::describe;
use super::publish::PublishFlags;
use super::rounds::Rounds;
use crate::cluster::publish::Document;
use crate::guards::look::look;
use crate::machine::Machine;
use crate::report::description::{Description, Pool};
use crate::report::node::{Check, Checks, Isolation, NodeReport as Report};
use crate::{logging, output};

/// Prints the pools, the CPUs of this machine, and what is wrong, as JSON
///
/// The checks find: a directory that is missing or cannot be read, CPU lists that overlap or have
/// CPUs that are not online, malformed files, exclusive CPU lists with several tasks, records
/// that cannot be read or were set aside, and exclusive pools that nothing keeps others off. Whatever they
/// find, the report is printed and the exit status is 0.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kcm node-report
  kcm node-report | jq '.checks.configDirectory'
  kcm node-report | jq '.checks.isolation.pools'
  kcm node-report --interval=60
  kcm node-report --publish --node-name=worker-1     # then: kubectl get nodereports")]
pub(crate) struct NodeReport {
    #[command(flatten)]
    conf_dir: ConfDirFlag,

    #[command(flatten)]
    publish: PublishFlags,

    #[command(flatten)]
    rounds: Rounds,
}

impl NodeReport {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let dir = ConfDir::new(&self.conf_dir.conf_dir, LockTimeout::from_environment()?);
        let mut publisher = self.publish.publisher()?;
        self.rounds.run(|findings| {
            findings.look_at(&dir);
            let machine = Machine::from_environment();
            let (description, check) = look_at(&dir, &machine.online()?);
            let topology = machine.topology(&machine.isolated()?)?.into();
            // Whoever waited for the lock in vain does not wait once more.
            let facts = description.as_ref().and_then(|_| look(&machine, &dir).ok());
            findings.guarded(facts.as_ref());
            let isolation = Isolation::of(facts.as_ref());
            let checks = Checks { config_directory: check, isolation };
            let report = Report { checks, description, topology };
            output::json::print(&report)?;
            if let Some(publisher) = &mut publisher {
                publisher.publish(Document::from(report))?;
            }
            Ok(ExitCode::SUCCESS)
        })
    }
}

pub(crate) fn look_at(dir: &ConfDir, online: &CpuSet) -> (Option<Description>, Check) {
    let (description, errors) = match describe::read(dir) {
        Ok((description, malformed, notice)) => {
            logging::notices(notice);
            let mut errors: Vec<String> = malformed.iter().map(ToString::to_string).collect();
            errors.sort(); // as the folder gives them, they are in no order
            errors.extend(find_errors(&description, online));
            errors.extend(of_records(dir).unwrap_or_else(|error| vec![error.to_string()]));
            (Some(description), errors)
        }
        Err(error) => (None, vec![format!("{error:#}")]),
    };
    let ok = errors.is_empty();
    (description, Check { errors, ok })
}

/// What is wrong with records, which `describe` does not show: those that cannot be read, and those
/// that were set aside, for as long as they are there.
fn of_records(dir: &ConfDir) -> Result<Vec<String>, Error> {
    let read = |contents: &Contents| Ok::<_, Error>((contents.records()?, contents.aside()?));
    let ((records, aside), _) = dir.read(read)?;
    let mut errors: Vec<String> =
        records.unreadable.iter().map(|(_, error)| error.to_string()).collect();
    errors.sort();
    let allocations = dir.path().join("allocations");
    errors.extend(records.too_many(&allocations));
    errors.extend(aside.iter().map(|name| {
        format!(
            "{}: a record that could not be read was set aside, so whoever holds CPU lists by it can \
             be neither named nor repaired; run kcm reconcile, which removes it if it can write the \
             record anew; if it stays, restart container {}, or end it, and then remove the file",
            allocations.join(name).display(),
            name.split(".bad").next().unwrap_or_default()
        )
    }));
    Ok(errors)
}

/// A CPU list with the pool that it is in, and how many tasks it has.
struct Slot<'a> {
    pool: &'a Pool,
    list: CpuListName,
    tasks: &'a [kcm_core::task::Pid],
}

/// What is wrong with pools that can be read: with each list, then with each two.
fn find_errors(description: &Description, online: &CpuSet) -> Vec<String> {
    let slots: Vec<Slot<'_>> = description.pools.values().flat_map(slots).collect();
    let offline = slots.iter().filter_map(|slot| slot.offline(online));
    let crowded = slots.iter().filter_map(Slot::crowded);
    let pairs =
        slots.iter().enumerate().flat_map(|(n, a)| slots[n + 1..].iter().map(move |b| (a, b)));
    offline.chain(crowded).chain(pairs.filter_map(|(a, b)| a.overlap(b))).collect()
}

/// The CPU lists of a pool, ascending by lowest CPU.
fn slots(pool: &Pool) -> Vec<Slot<'_>> {
    let lists = pool.cpu_lists.values().filter_map(|list| {
        // It was read from such a name.
        let name = list.cpus.parse().ok()?;
        Some(Slot { pool, list: name, tasks: &list.tasks })
    });
    let mut slots: Vec<Slot<'_>> = lists.collect();
    slots.sort_by_key(|slot| (slot.list.cpus().first(), slot.list.to_string()));
    slots
}

impl Slot<'_> {
    fn name(&self) -> String {
        format!("{}:{}", self.pool.name, self.list)
    }

    fn offline(&self, online: &CpuSet) -> Option<String> {
        let offline = self.list.cpus().difference(online);
        let text = || format!("CPU list {} has CPUs that are not online: {offline}", self.name());
        (!offline.is_empty()).then(text)
    }

    fn crowded(&self) -> Option<String> {
        // The original kcm may write a PID twice.
        let mut tasks = self.tasks.to_vec();
        tasks.sort();
        tasks.dedup();
        let names: Vec<String> = tasks.iter().map(ToString::to_string).collect();
        (self.pool.exclusive && names.len() > 1).then(|| {
            let (name, count, names) = (self.name(), names.len(), names.join(", "));
            format!("CPU list {name} is exclusive and has {count} tasks: {names}")
        })
    }

    fn overlap(&self, other: &Self) -> Option<String> {
        let both: Vec<u32> = self.list.cpus().intersection(other.list.cpus()).iter().collect();
        (!both.is_empty()).then(|| {
            let (ours, theirs) = (self.name(), other.name());
            format!("CPU list overlap detected in {ours} and {theirs} (in both: {both:?})")
        })
    }
}
