//! `kcm init`: makes the configuration directory, with pools that suit this machine.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use kcm_core::CpuSet;
use kcm_core::notice::Notice;
use kcm_core::partition::Policy;
use kcm_core::plan::init::{InitRequest, PlannedPool, init};
use kcm_core::pool::PoolName;
use kcm_core::state::{self, ConfDir, Contents, Created, Error, LockTimeout};
use kcm_core::topology::{Core, Topology};

use super::ConfDirFlag;
use crate::logging;
use crate::machine::Machine;

/// NAME_MAX of Linux (limits.h).
const MAX_FILE_NAME: usize = 255;

/// Makes the configuration directory with the pools dataplane, controlplane and infra
///
/// dataplane is exclusive, with a CPU list for each core; controlplane and infra are shared, with
/// one CPU list each. Isolated cores (isolcpus) go to dataplane and controlplane, the others to
/// infra. A directory that is there already is only compared with what is asked for; what its pools
/// say of partitions may be changed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kcm init
  kcm init --conf-dir=/srv/kcm --num-dp-cores=8 --num-cp-cores=2
  kcm init --num-dp-cores=1 --num-cp-cores=0    # a machine with two cores
  kcm init --partition=dataplane=isolated,required")]
pub(crate) struct Init {
    #[command(flatten)]
    conf_dir: ConfDirFlag,

    /// Physical cores of the dataplane pool [default: 4]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    num_dp_cores: Option<usize>,

    /// Physical cores of the controlplane pool [default: 1]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    num_cp_cores: Option<usize>,

    /// Whether containers of an exclusive pool have their CPUs for themselves alone, as a cpuset
    /// partition of the kernel's: KIND is auto, root, isolated or none [default: auto]
    ///
    /// auto: root, where the kernel can (cgroup v2, Linux 6.8). root: the kernel balances load between
    /// the CPUs. isolated: it does not, and programs place their threads. With ,required a container that
    /// cannot have one does not start. Holds for what is started from then on, also in a directory that is
    /// there already, which is not compared then unless a number of cores is given.
    #[arg(long, value_name = "POOL=KIND[,required]", value_parser = partition)]
    partition: Vec<(PoolName, Policy)>,
}

fn partition(text: &str) -> anyhow::Result<(PoolName, Policy)> {
    let (pool, policy) = text.split_once('=').context("give POOL=KIND, as in dataplane=root")?;
    Ok((pool.parse()?, policy.parse()?))
}

impl Init {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let limit = LockTimeout::from_environment()?;
        match self.use_existing(limit) {
            Ok(()) => {}
            Err(error) => match error.downcast_ref() {
                Some(Error::NotInitialised { .. }) => self.create(limit)?,
                _ => return Err(error),
            },
        }
        Ok(ExitCode::SUCCESS)
    }

    fn use_existing(&self, limit: LockTimeout) -> anyhow::Result<()> {
        let path = &self.conf_dir.conf_dir;
        if self.asks_for_pools() {
            let conf = ConfDir::new(path, limit);
            let (existing, notice) = conf.read(|contents| Existing::read(path, contents))?;
            logging::notices(notice);
            self.compare(existing)?;
        }
        self.set_policies(limit)
    }

    /// Whoever only says something of partitions need not know how many cores there are.
    fn asks_for_pools(&self) -> bool {
        let counts = [self.num_dp_cores, self.num_cp_cores];
        self.partition.is_empty() || counts.iter().any(Option::is_some)
    }

    fn cores(&self) -> InitRequest {
        InitRequest {
            dataplane_cores: self.num_dp_cores.unwrap_or(4),
            controlplane_cores: self.num_cp_cores.unwrap_or(1),
        }
    }

    fn create(&self, limit: LockTimeout) -> anyhow::Result<()> {
        let path = &self.conf_dir.conf_dir;
        let machine = Machine::from_environment();
        let mut plan = init(&machine.topology(&machine.isolated()?)?, self.cores())?;
        plan.pools.iter().try_for_each(check_names)?;
        for (name, policy) in &self.partition {
            let pool = plan.pools.iter_mut().find(|pool| pool.name == name.as_ref());
            let pool = pool.with_context(|| format!("kcm init makes no pool {name}"))?;
            check_exclusive(name, pool.exclusive)?;
            pool.partition = Some(*policy);
        }
        match state::create(path, &plan.pools, limit, |there| Existing::read(path, there))? {
            Created::New => {
                logging::notices(plan.notices);
                log::info!("Made {}.", path.display());
                Ok(())
            }
            // Another init was faster.
            Created::Existing(existing) => {
                self.compare(existing?)?;
                self.set_policies(limit)
            }
        }
    }

    /// What a directory that is there already says of partitions may change at any time.
    fn set_policies(&self, limit: LockTimeout) -> anyhow::Result<()> {
        if self.partition.is_empty() {
            let path = self.conf_dir.conf_dir.display();
            log::info!("{path} is initialised already, as requested: nothing to do.");
            return Ok(());
        }
        ConfDir::new(&self.conf_dir.conf_dir, limit).update(|state| {
            for (name, _) in &self.partition {
                check_exclusive(name, state.pool(name)?.pool.exclusive)?;
            }
            for (name, policy) in &self.partition {
                state.put_partition(name, *policy)?;
            }
            Ok::<_, anyhow::Error>(())
        })?;
        for (name, policy) in &self.partition {
            log::info!("Containers of pool {name} that start from now on: partition {policy}.");
        }
        Ok(())
    }

    /// Whether the directory that is there is what was asked for. Nothing is changed: containers
    /// may be using it.
    fn compare(&self, existing: Existing) -> anyhow::Result<()> {
        let path = self.conf_dir.conf_dir.display();
        let topology = Machine::from_environment().topology(&CpuSet::new())?;
        logging::notices(existing.notices);
        let asked = self.cores();
        let dataplane = existing.dataplane_lists;
        let (controlplane, offline) = cores_of(&existing.controlplane_cpus, &topology);
        let mut differences = Vec::new();
        if dataplane != asked.dataplane_cores {
            differences
                .push(format!("{dataplane} dataplane cores ({} requested)", asked.dataplane_cores));
        }
        // Nothing tells how many cores offline CPUs are of: from none to as many as there are CPUs.
        if !(controlplane..=controlplane + offline).contains(&asked.controlplane_cores) {
            differences.push(format!(
                "{controlplane} controlplane cores ({} requested)",
                asked.controlplane_cores
            ));
        }
        ensure!(
            differences.is_empty(),
            "{path} is initialised already, with {}. It is left as it is: ask for what it has, or \
             stop what uses it, remove it and run kcm init again",
            differences.join(" and "),
        );
        Ok(())
    }
}

fn check_exclusive(name: &PoolName, exclusive: bool) -> anyhow::Result<()> {
    ensure!(
        exclusive,
        "The pool {name} is shared: its CPUs are nobody's alone. Leave out --partition={name}=…"
    );
    Ok(())
}

/// A CPU list's name is a folder's name.
fn check_names(pool: &PlannedPool) -> anyhow::Result<()> {
    for length in pool.cpu_lists.iter().map(|list| list.to_string().len()) {
        ensure!(
            length <= MAX_FILE_NAME,
            "The CPU list of the {} pool is {length} characters long, and a folder's name may have \
             {MAX_FILE_NAME}. Isolate cores whose numbers are adjacent, so that the list has ranges",
            pool.name
        );
    }
    Ok(())
}

/// What a directory has that is initialised already.
struct Existing {
    dataplane_lists: usize,
    controlplane_cpus: CpuSet,
    notices: Vec<Notice>,
}

impl Existing {
    fn read(path: &Path, contents: &Contents) -> anyhow::Result<Self> {
        let names = contents.pool_names()?;
        let [dataplane, controlplane, infra] = ["dataplane", "controlplane", "infra"];
        for pool in [dataplane, controlplane, infra] {
            ensure!(
                names.iter().any(|name| name.as_ref() == pool),
                "{0} has no pool {pool}, so kcm init did not make it. Give another directory with \
                 --conf-dir, or, if nothing uses this one, remove {0} and run kcm init again",
                path.join("pools").display(),
            );
        }
        let dataplane = contents.pool(&dataplane.parse::<PoolName>()?)?;
        let controlplane = contents.pool(&controlplane.parse::<PoolName>()?)?;
        let lists = &controlplane.pool.lists;
        let odd = dataplane.odd.iter().chain(&controlplane.odd);
        Ok(Self {
            dataplane_lists: dataplane.pool.lists.len(),
            controlplane_cpus: lists.iter().flat_map(|list| list.name.cpus().iter()).collect(),
            notices: odd.map(|error| Notice::warning(error.to_string())).collect(),
        })
    }
}

/// Of how many cores some CPUs are, and how many of the CPUs are offline.
fn cores_of(cpus: &CpuSet, topology: &Topology) -> (usize, usize) {
    let cores = topology.cores();
    let online: CpuSet = cores.iter().flat_map(|core| core.cpus.iter()).collect();
    let is_touched = |core: &&Core| !core.cpus.intersection(cpus).is_empty();
    (cores.iter().filter(is_touched).count(), cpus.difference(&online).len())
}
