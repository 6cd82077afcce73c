//! Which CPUs are looked at, and who holds them.

use std::collections::HashSet;

use anyhow::{Context, anyhow, bail};
use kcm_core::CpuSet;
use kcm_core::allocation::Allocation;
use kcm_core::notice::Notice;
use kcm_core::plan::Slot;
use kcm_core::pool::PoolName;
use kcm_core::state::{ConfDir, Contents, Error};
use kcm_core::task::Pid;

use super::who::Holder;

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) enum Subject {
    Pool(PoolName),
    Cpus(CpuSet),
    Container(String),
}

/// The CPUs and their holders.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) cpus: CpuSet,
    pub(super) holders: Vec<Holder>,
    /// For people.
    pub(super) subject: String,
}

/// The configuration directory, as far as it can be read.
#[derive(Debug, Default)]
struct Directory {
    pools: Vec<(PoolName, CpuSet)>,
    records: Vec<Allocation>,
    /// Processes in `tasks`, with the CPUs of the list.
    tasks: Vec<(Pid, CpuSet)>,
}

/// So many holders are named in an error.
const NAMED: usize = 10;

impl Target {
    /// Reads who holds what, without waiting for writers longer than any reader.
    pub(super) fn find(
        subject: &Subject,
        conf: &ConfDir,
        online: &CpuSet,
        notices: &mut Vec<String>,
    ) -> anyhow::Result<Self> {
        let directory = match conf.read(Directory::read) {
            Ok((directory, notice)) => {
                notices.extend(notice.map(|Notice { text, .. }| text));
                directory
            }
            // CPUs are there without any pool, and then nobody holds them.
            Err(Error::NotInitialised { .. }) if matches!(subject, Subject::Cpus(_)) => {
                Directory::default()
            }
            Err(error) if matches!(subject, Subject::Cpus(_)) => {
                notices.push(format!("{error}; so whoever runs there is taken for a stranger"));
                Directory::default()
            }
            Err(error) => return Err(error.into()),
        };
        let are_named = matches!(subject, Subject::Cpus(_));
        let (cpus, subject) = directory.cpus(subject, conf)?;
        let offline = cpus.difference(online);
        let there = cpus.intersection(online);
        if there.is_empty() || (!offline.is_empty() && are_named) {
            bail!(
                "CPUs {offline} are not online; bring them back \
                 (/sys/devices/system/cpu/cpuN/online), or name others"
            );
        }
        if !offline.is_empty() {
            notices.push(format!("CPUs {offline} of {subject} are not online, and left out"));
        }
        let holders = directory.holders(&there);
        Ok(Self { cpus: there, holders, subject })
    }
}

impl Directory {
    fn read(contents: &Contents) -> Result<Self, Error> {
        let mut found = Self { records: contents.records()?.readable, ..Self::default() };
        for name in contents.pool_names()? {
            // One that cannot be read is named by kcm doctor.
            let Ok(listing) = contents.pool(&name) else { continue };
            let lists = &listing.pool.lists;
            let all = lists.iter().fold(CpuSet::new(), |all, list| all.union(list.name.cpus()));
            for list in lists {
                let tasks = contents.tasks(&Slot::new(&name, &list.name)).ok().flatten();
                let tasks = tasks.unwrap_or_default().into_iter();
                found.tasks.extend(tasks.map(|pid| (pid, list.name.cpus().clone())));
            }
            found.pools.push((name, all));
        }
        Ok(found)
    }

    fn cpus(&self, subject: &Subject, conf: &ConfDir) -> anyhow::Result<(CpuSet, String)> {
        match subject {
            Subject::Cpus(cpus) => Ok((cpus.clone(), format!("CPUs {cpus}"))),
            Subject::Pool(name) => {
                let pool = self.pools.iter().find(|(known, _)| known == name);
                let unknown = || {
                    let known = self.pools.iter().map(|(name, _)| name.clone()).collect();
                    Error::UnknownPool { name: name.clone(), known }
                };
                let (_, cpus) = pool.ok_or_else(unknown)?;
                if cpus.is_empty() {
                    bail!(
                        "pool {name} has no CPU lists, so there is nothing to look at; name a pool that has some (kcm describe)"
                    );
                }
                Ok((cpus.clone(), format!("pool {name}")))
            }
            Subject::Container(id) => {
                let record =
                    self.record(id).with_context(|| format!("in {}", conf.path().display()))?;
                Ok((record.cpus(), format!("container {}", record.owner)))
            }
        }
    }

    /// The record of an owner, by its id or by how that begins, if only one begins so.
    fn record(&self, id: &str) -> anyhow::Result<&Allocation> {
        let exact = self.records.iter().find(|record| record.owner.as_ref() == id);
        let begin = || self.records.iter().filter(|record| record.owner.as_ref().starts_with(id));
        if let Some(record) = exact {
            return Ok(record);
        }
        match begin().count() {
            1 if !id.is_empty() => begin().next().ok_or_else(|| anyhow!("no container {id}")),
            0 | 1 => {
                let known = names(self.records.iter());
                let known = if known.is_empty() { "none".to_owned() } else { known };
                bail!("no container {id:?} holds CPUs; those that do: {known}")
            }
            count => bail!("{id:?} is how the ids of {count} containers begin: {}", names(begin())),
        }
    }

    /// Who holds any of these CPUs.
    fn holders(&self, cpus: &CpuSet) -> Vec<Holder> {
        let is_here = |its: &CpuSet| !its.intersection(cpus).is_empty();
        let mut holders = Vec::new();
        let mut known = HashSet::new();
        for record in self.records.iter().filter(|record| is_here(&record.cpus())) {
            known.insert(record.process.pid);
            let name = record.details.display();
            holders.push(Holder {
                name: name.unwrap_or_else(|| record.owner.to_string()),
                cpus: record.cpus(),
                cgroup: record.cgroup_path().map(str::to_owned),
                processes: HashSet::from([record.process.pid]),
            });
        }
        // The original kcm's, or put there by hand.
        let others = self.tasks.iter().filter(|(pid, its)| is_here(its) && !known.contains(pid));
        holders.extend(others.map(|(pid, its)| Holder {
            name: format!("process {pid}"),
            cpus: its.clone(),
            cgroup: None,
            processes: HashSet::from([*pid]),
        }));
        holders
    }
}

fn names<'a>(records: impl Iterator<Item = &'a Allocation>) -> String {
    let mut names: Vec<String> = records.map(|record| record.owner.to_string()).collect();
    names.sort();
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    match more {
        0 => names.join(", "),
        more => format!("{}, and {more} more", names.join(", ")),
    }
}
