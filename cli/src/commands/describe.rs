//! `kcm describe`: what is in the configuration directory.

use std::collections::BTreeMap;
use std::process::ExitCode;

use kcm_core::notice::Notice;
use kcm_core::plan::Slot;
use kcm_core::pool::{Pool, PoolName};
use kcm_core::state::{ConfDir, Contents, Error, LockTimeout};
use kcm_core::task::{Glance, Pid};

use super::ConfDirFlag;
use crate::report::description::{CpuList, Description, Pool as PoolDescription};
use crate::{logging, output};

/// Prints the pools, their CPU lists and the tasks in them, as JSON
///
/// What is malformed is left out, and named in an ERROR line; the exit status is then 1.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kcm describe
  kcm describe --conf-dir=/srv/kcm
  kcm describe | jq '.pools.dataplane.cpuLists | map_values(.tasks)'")]
pub(crate) struct Describe {
    #[command(flatten)]
    conf_dir: ConfDirFlag,
}

impl Describe {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let dir = ConfDir::new(self.conf_dir.conf_dir, LockTimeout::from_environment()?);
        let (description, malformed, notice) = read(&dir)?;
        logging::notices(notice);
        output::json::print(&description)?;
        let ok = malformed.is_empty();
        malformed.into_iter().for_each(|e| logging::failure(&e.into()));
        Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// All that can be read, what cannot, and whether it was read without the lock.
pub(super) fn read(dir: &ConfDir) -> Result<(Description, Vec<Error>, Option<Notice>), Error> {
    let ((pools, malformed), notice) = dir.read(describe)?;
    let path = dir.path().display().to_string();
    Ok((Description { path, pools }, malformed, notice))
}

type Pools = BTreeMap<String, PoolDescription>;

/// All that can be read, and what cannot. What cannot is in no pool: a list that seemed free, or
/// was shown with some of its tasks, would be a lie.
fn describe(contents: &Contents) -> Result<(Pools, Vec<Error>), Error> {
    let mut malformed = contents.odd()?;
    let mut pools = BTreeMap::new();
    for name in contents.pool_names()? {
        match contents.pool(&name) {
            Ok(listing) => {
                malformed.extend(listing.odd);
                let pool = describe_pool(contents, listing.pool, &mut malformed);
                pools.insert(name.to_string(), pool);
            }
            Err(error) => malformed.push(error),
        }
    }
    Ok((pools, malformed))
}

fn describe_pool(
    contents: &Contents,
    pool: Pool<Glance>,
    malformed: &mut Vec<Error>,
) -> PoolDescription {
    let mut cpu_lists = BTreeMap::new();
    for list in pool.lists {
        let cpus = list.name.to_string();
        let tasks = match list.tasks {
            Glance::Empty => Ok(Vec::new()),
            Glance::Unread => tasks(contents, &pool.name, &cpus),
        };
        match tasks {
            Ok(tasks) => {
                cpu_lists.insert(cpus.clone(), CpuList { cpus, tasks });
            }
            Err(error) => malformed.push(error),
        }
    }
    PoolDescription { cpu_lists, exclusive: pool.exclusive, name: pool.name.to_string() }
}

fn tasks(contents: &Contents, pool: &PoolName, list: &str) -> Result<Vec<Pid>, Error> {
    Ok(contents.tasks(&Slot::new(pool, list))?.unwrap_or_default())
}
