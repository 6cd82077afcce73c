//! What a container asks for, by its annotations. They are user input: each is validated, and what
//! is wrong is named with its key and value.

use std::num::NonZeroUsize;

use anyhow::Context;
use kcm_core::partition::Choice;
use kcm_core::pool::{NONE, PoolName};
use kcm_core::text::shorten;

use crate::identity::Identity;
use crate::oci::Annotations;

const PREFIX: &str = "kcm.intel.com/";
const POOL: &str = "kcm.intel.com/pool";
const CORES: &str = "kcm.intel.com/cores";
const PARTITION: &str = "kcm.intel.com/partition";

/// More cores than any machine has; a number past it is a mistake. (As the policy kcm-pools.)
const MOST_CORES: usize = 9999;

/// What is to be done for a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// It asks for no pool.
    Unspoken,
    /// It asks to be left alone.
    None,
    /// It asks for CPU lists of a pool.
    Pool {
        pool: PoolName,
        cores: NonZeroUsize,
        /// The cpuset partition that it wants, where it says so.
        partition: Option<Choice>,
        /// Which annotation says so.
        key: String,
        /// What the container itself says that has a meaning in an exclusive pool alone, as key and
        /// value: such a container wants one.
        exclusive_only: Option<String>,
    },
}

/// What a key under `kcm.intel.com/` is about, and the one container that it is for; none for
/// the whole pod.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Key<'a> {
    Pool(Option<&'a str>),
    Cores(Option<&'a str>),
    Partition(Option<&'a str>),
}

impl<'a> Key<'a> {
    fn parse(key: &'a str) -> Option<Self> {
        let about = |rest: &'a str| match rest.strip_prefix('.') {
            None if rest.is_empty() => Some(None),
            Some(name) if !name.is_empty() => Some(Some(name)),
            _ => None,
        };
        if let Some(rest) = key.strip_prefix(POOL) {
            about(rest).map(Self::Pool)
        } else if let Some(rest) = key.strip_prefix(CORES) {
            about(rest).map(Self::Cores)
        } else {
            about(key.strip_prefix(PARTITION)?).map(Self::Partition)
        }
    }

    fn container(self) -> Option<&'a str> {
        let (Self::Pool(container) | Self::Cores(container) | Self::Partition(container)) = self;
        container
    }

    /// The key that is for the whole pod.
    fn for_the_pod(self) -> &'static str {
        match self {
            Self::Pool(_) => POOL,
            Self::Cores(_) => CORES,
            Self::Partition(_) => PARTITION,
        }
    }
}

/// Whether the container says anything of pools at all: one that does not holds nothing.
pub(crate) fn mentions_pool(annotations: &Annotations) -> bool {
    annotations.range(POOL.to_owned()..).next().is_some_and(|(key, _)| key.starts_with(POOL))
}

/// One annotation: key and value.
type Entry<'a> = (&'a String, &'a String);

/// What concerns one container.
#[derive(Default)]
struct Entries<'a> {
    own_pool: Option<Entry<'a>>,
    pods_pool: Option<Entry<'a>>,
    own_cores: Option<Entry<'a>>,
    pods_cores: Option<Entry<'a>>,
    own_partition: Option<Entry<'a>>,
    pods_partition: Option<Entry<'a>>,
    /// Whether some container of the pod is asked a pool for.
    has_pool_key: bool,
}

impl<'a> Entries<'a> {
    fn of(annotations: &'a Annotations, who: &Identity) -> anyhow::Result<Self> {
        let mut entries = Self::default();
        let ours = annotations.range(PREFIX.to_owned()..);
        for entry in ours.take_while(|(key, _)| key.starts_with(PREFIX)) {
            let Some(key) = Key::parse(entry.0) else {
                anyhow::bail!(
                    "unknown annotation {}: kcm knows kcm.intel.com/pool, cores and partition, each \
                     also with .<container> after it",
                    shown(entry.0)
                );
            };
            entries.has_pool_key |= matches!(key, Key::Pool(_));
            let is_own = match (key.container(), &who.details.container) {
                (Some(name), Some(own)) => name == own,
                (Some(name), None) => return Err(nameless(key, name, entry, who)),
                (None, _) => false,
            };
            match key {
                Key::Pool(None) => entries.pods_pool = Some(entry),
                Key::Cores(None) => entries.pods_cores = Some(entry),
                Key::Pool(_) if is_own => entries.own_pool = Some(entry),
                Key::Cores(_) if is_own => entries.own_cores = Some(entry),
                Key::Partition(None) => entries.pods_partition = Some(entry),
                Key::Partition(_) if is_own => entries.own_partition = Some(entry),
                // Another container's business.
                Key::Pool(_) | Key::Cores(_) | Key::Partition(_) => {}
            }
        }
        Ok(entries)
    }

    /// What the container itself asks of a pool.
    fn own(&self) -> Option<Entry<'a>> {
        self.own_cores.or(self.own_partition)
    }

    /// Refuses what is asked of a pool where there is none.
    fn refuse_without_a_pool(&self) -> anyhow::Result<()> {
        if let Some(own) = self.own() {
            anyhow::bail!(
                "annotation {} means nothing for a container without a pool: name its pool \
                 (kcm.intel.com/pool.<container>), or leave it out",
                said(own)
            );
        }
        let pods = self.pods_cores.or(self.pods_partition);
        if let Some(pods) = pods.filter(|_| !self.has_pool_key) {
            anyhow::bail!(
                "annotation {} means nothing in a pod without a pool: name one ({POOL}), or leave \
                 it out",
                said(pods)
            );
        }
        Ok(())
    }
}

/// An entry that may or may not be for this container.
fn nameless(key: Key<'_>, name: &str, entry: Entry<'_>, who: &Identity) -> anyhow::Error {
    let remedy = key.for_the_pod();
    anyhow::anyhow!(
        "annotation {} is for the container {:?}, and {}: use {remedy}",
        said(entry),
        shorten(name),
        who.caller.why_nameless()
    )
}

/// What the container asks for: its own entry, else its pod's. What would do nothing is refused,
/// since with a slip in a key a container would run unpinned.
pub(crate) fn wish(annotations: &Annotations, who: &Identity) -> anyhow::Result<Wish> {
    let entries = Entries::of(annotations, who)?;
    let asked = entries.own_pool.or(entries.pods_pool);
    let Some(asked) = asked.filter(|(_, value)| *value != NONE) else {
        entries.refuse_without_a_pool()?;
        return Ok(if asked.is_some() { Wish::None } else { Wish::Unspoken });
    };
    let (key, value) = asked;
    let pool = value.parse().with_context(|| format!("annotation {}", said(asked)))?;
    let cores = match entries.own_cores.or(entries.pods_cores) {
        None => NonZeroUsize::MIN,
        Some(cores) => parse_cores(cores.1).with_context(|| {
            format!("annotation {}; give a number of cores, 1 or more", said(cores))
        })?,
    };
    let partition = match entries.own_partition.or(entries.pods_partition) {
        None => None,
        Some(entry) => {
            Some(entry.1.parse().with_context(|| format!("annotation {}", said(entry)))?)
        }
    };
    let exclusive_only = entries.own().map(said);
    Ok(Wish::Pool { pool, cores, partition, key: key.clone(), exclusive_only })
}

/// Refuses what has no meaning in a shared pool, whose CPUs all of its containers have.
pub(crate) fn refuse_in_shared(
    exclusive_only: &str,
    pool: &PoolName,
    exclusive: bool,
) -> anyhow::Result<()> {
    anyhow::ensure!(
        exclusive,
        "annotation {exclusive_only} means nothing in pool {pool}, which is shared: choose an exclusive \
         pool, or leave it out"
    );
    Ok(())
}

/// An annotation for a message: `key is "value"`.
fn said((key, value): Entry<'_>) -> String {
    format!("{} is {:?}", shown(key), shorten(value))
}

/// A key: as it is where that is plain.
fn shown(key: &str) -> String {
    let is_plain = key.bytes().all(|b| b.is_ascii_graphic());
    if is_plain { shorten(key) } else { format!("{:?}", shorten(key)) }
}

fn parse_cores(value: &str) -> anyhow::Result<NonZeroUsize> {
    anyhow::ensure!(value.bytes().all(|b| b.is_ascii_digit()), "not a number");
    anyhow::ensure!(value.len() < 2 || !value.starts_with('0'), "a 0 in front");
    let cores: usize = value.parse()?;
    anyhow::ensure!(cores <= MOST_CORES, "no machine has that many");
    NonZeroUsize::new(cores).context("0 cores")
}

#[cfg(test)]
mod tests;
