//! Measuring CPUs that are free: they are taken by an allocation, a process of this program reads the
//! clock there, and what it misses is looked up in the trace.

use std::io::{BufRead, BufReader, Read, Write};
use std::num::NonZeroUsize;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use kcm_core::host::child::{self, Inherited, Place};
use kcm_core::pool::PoolName;
use kcm_core::state::Contents;
use kcm_core::{CpuSet, Node};

use super::gauge::{self, Found};
use super::target::Subject;
use super::watch::now;
use crate::commands::isolate::hold::{Held, Wish};

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gauging {
    /// How many CPU lists of a pool.
    pub(crate) cores: NonZeroUsize,
    /// From where on a gap is looked up.
    pub(crate) threshold: Duration,
}

/// Bytes of what the loops have found: the classes and gaps of some hundred CPUs.
const LIMIT: u64 = 1 << 26;

/// What is to be allocated.
pub(super) fn wish(subject: &Subject, cores: NonZeroUsize, node: &Node) -> anyhow::Result<Wish> {
    let (pool, cores, within) = match subject {
        Subject::Pool(pool) => (pool.clone(), cores, None),
        Subject::Cpus(cpus) => {
            let (pool, count) = pool_of(cpus, node)?;
            (pool, count, Some(cpus.clone()))
        }
        Subject::Container(id) => bail!(
            "container {id} is on its CPUs, and only free ones can be measured; without --measure \
             they are watched"
        ),
    };
    let contents = node.conf.unlocked()?;
    if !contents.pool(&pool)?.pool.exclusive {
        bail!(
            "pool {pool} is shared, so nobody can be kept off its CPUs; name an exclusive one, or \
             watch it without --measure"
        );
    }
    let command = ["kcm", "noise", "--measure"].map(str::to_owned).to_vec();
    Ok(Wish { pool, cores, within, affinity: true, command })
}

/// The exclusive pool of which these CPUs are whole lists, and how many.
fn pool_of(cpus: &CpuSet, node: &Node) -> anyhow::Result<(PoolName, NonZeroUsize)> {
    let contents: Contents = node.conf.unlocked()?;
    for name in contents.pool_names()? {
        let Ok(listing) = contents.pool(&name) else { continue };
        let within = || {
            let lists = listing.pool.lists.iter().map(|list| list.name.cpus());
            lists.filter(|list| list.is_subset(cpus))
        };
        let all = within().fold(CpuSet::new(), |all, list| all.union(list));
        if let (true, true, Some(count)) =
            (listing.pool.exclusive, all == *cpus, NonZeroUsize::new(within().count()))
        {
            return Ok((name, count));
        }
    }
    bail!(
        "CPUs {cpus} are no whole CPU lists of one exclusive pool, so nobody can be kept off them; \
         name such (kcm describe), or a pool"
    )
}

/// The process that measures.
pub(super) struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Running {
    /// Starts it where the CPUs are held, and waits until it is ready.
    pub(super) fn start(
        held: &mut Held<'_>,
        inherited: Inherited,
        duration: Duration,
        threshold: Duration,
    ) -> anyhow::Result<Self> {
        let cpus = held.cpus().clone();
        let place = Place { cgroup: held.entrance()?, cpus: Some(cpus.clone()) };
        let mut command = Command::new("/proc/self/exe");
        command.args(gauge::ERRAND).arg(cpus.to_string());
        command.args([duration, threshold].map(|time| time.as_nanos().to_string()));
        command.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(mark) = held.mark() {
            command.env(kcm_core::host::environ::VARIABLE, mark);
        }
        let started = child::spawn(command, inherited, place);
        held.is_entered();
        let mut child = started.context("cannot start the loop that measures")?;
        let output = child.stdout.take().map(BufReader::new);
        let mut output = output.context("the loop that measures has no output")?;
        let mut line = String::new();
        let read = output.by_ref().take(gauge::READY.len() as u64 + 1).read_line(&mut line);
        read.context("cannot hear from the loop that measures")?;
        if line.trim_end() != gauge::READY {
            bail!("the loop that measures has ended by itself: {}", child.wait()?);
        }
        Ok(Self { child, output })
    }

    /// Has it begin.
    pub(super) fn begin(&mut self) -> anyhow::Result<()> {
        let input = self.child.stdin.as_mut().context("the loop that measures has no input")?;
        let line = format!("{}\n", now() + gauge::LEAD);
        input.write_all(line.as_bytes()).context("cannot tell the loop that measures to begin")
    }

    /// Has it end, if it has not, and gives what it found. It writes nothing before.
    pub(super) fn finish(mut self) -> anyhow::Result<Vec<Found>> {
        drop(self.child.stdin.take());
        let mut text = Vec::new();
        self.output
            .by_ref()
            .take(LIMIT)
            .read_to_end(&mut text)
            .context("cannot read what it found")?;
        let ended = self.child.wait()?;
        if !ended.success() {
            bail!("the loop that measures has failed: {ended}");
        }
        serde_json::from_slice(&text).context("cannot understand what the loop found")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already where all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
