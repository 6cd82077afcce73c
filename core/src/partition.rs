//! Cpuset partitions, as values: what a pool says of them, what a container asks for, and what comes
//! of both. (Documentation/admin-guide/cgroup-v2, `cpuset.cpus.partition`.)

use std::fmt;
use std::str::FromStr;

use crate::pool::{PoolName, shorten};

/// How a cgroup has its CPUs for itself alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The kernel balances load between its CPUs.
    Root,
    /// It does not: each thread stays where it was born, or is placed.
    Isolated,
}

/// A word of a pool's file `partition`, or of an annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// A plain cpuset.
    None,
    /// Whatever is best, where the kernel can.
    Auto,
    /// This kind.
    Kind(Kind),
}

/// What a pool says of its containers' partitions: a word, and whether a container may run without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Which.
    pub choice: Choice,
    /// Whether a container that cannot have one is refused.
    pub required: bool,
}

/// What one container is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// None for a plain cpuset.
    pub kind: Option<Kind>,
    /// Whether somebody chose that kind, and so wants to hear that it cannot be had.
    pub named: bool,
    /// Whether the container is refused where it cannot be had.
    pub required: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self { choice: Choice::Auto, required: false }
    }
}

impl Wish {
    /// A plain cpuset.
    pub const PLAIN: Self = Self { kind: None, named: false, required: false };
}

impl Policy {
    /// Whether each container that asks for nothing else is a partition, where the kernel can; by `auto`
    /// where none of them stands beside somebody whom others give CPUs.
    pub fn is_for_each(self, are_beside_nobody: bool) -> bool {
        match self.choice {
            Choice::None => false,
            Choice::Auto => are_beside_nobody || self.required,
            Choice::Kind(_) => true,
        }
    }

    /// What a container gets that asks for this, or for nothing.
    ///
    /// A pool that says `auto` leaves the choice to its containers; `required` leaves them none but
    /// between the kinds. One that says anything else has decided.
    pub fn wish(self, pool: &PoolName, asked: Option<Choice>) -> Result<Wish, Disallowed> {
        let chosen = match (self.choice, asked) {
            (choice, None | Some(Choice::Auto)) => choice,
            (Choice::Auto, Some(Choice::None)) if self.required => {
                return Err(Disallowed::new(pool, self, Choice::None));
            }
            (Choice::Auto, Some(asked)) => asked,
            (choice, Some(asked)) if choice == asked => choice,
            (_, Some(asked)) => return Err(Disallowed::new(pool, self, asked)),
        };
        let (kind, named) = match chosen {
            Choice::None => (None, false),
            Choice::Auto => (Some(Kind::Root), false),
            Choice::Kind(kind) => (Some(kind), true),
        };
        Ok(Wish { kind, named: named || self.required, required: self.required && kind.is_some() })
    }
}

/// A container asks for what its pool does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "pool {pool} allows no partition {asked:?} (its file pools/{pool}/partition says {says:?}); leave \
     the annotation out, or have the administrator change it: kcm init --partition={pool}=auto"
)]
pub struct Disallowed {
    pool: PoolName,
    asked: String,
    says: String,
}

impl Disallowed {
    fn new(pool: &PoolName, says: Policy, asked: Choice) -> Self {
        Self { pool: pool.clone(), asked: asked.to_string(), says: says.to_string() }
    }
}

/// Why a text says nothing of partitions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of none, root, isolated and auto")]
pub struct BadChoice(String);

/// Why a text is no pool's policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPolicy {
    /// Its first word.
    #[error(transparent)]
    Choice(#[from] BadChoice),
    /// What follows.
    #[error("{0:?} follows the kind, where only \"required\" may")]
    Rest(String),
    /// Nothing cannot be required.
    #[error("none cannot be required")]
    NoneRequired,
}

impl FromStr for Kind {
    type Err = BadChoice;

    fn from_str(text: &str) -> Result<Self, BadChoice> {
        match text {
            "root" => Ok(Self::Root),
            "isolated" => Ok(Self::Isolated),
            _ => Err(BadChoice(shorten(text))),
        }
    }
}

impl FromStr for Choice {
    type Err = BadChoice;

    fn from_str(text: &str) -> Result<Self, BadChoice> {
        match text {
            "none" => Ok(Self::None),
            "auto" => Ok(Self::Auto),
            kind => kind.parse().map(Self::Kind),
        }
    }
}

impl FromStr for Policy {
    type Err = BadPolicy;

    /// Two words at the most, with a space (in a file) or a comma (in a flag) between them.
    fn from_str(text: &str) -> Result<Self, BadPolicy> {
        let text = text.trim();
        let (choice, rest) = text.split_once([' ', ',']).unwrap_or((text, ""));
        let choice = choice.parse()?;
        match (choice, rest.trim()) {
            (choice, "") => Ok(Self { choice, required: false }),
            (Choice::None, "required") => Err(BadPolicy::NoneRequired),
            (choice, "required") => Ok(Self { choice, required: true }),
            (_, rest) => Err(BadPolicy::Rest(shorten(rest))),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "root",
            Self::Isolated => "isolated",
        })
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Auto => f.write_str("auto"),
            Self::Kind(kind) => kind.fmt(f),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.choice, if self.required { " required" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> Policy {
        text.parse().unwrap()
    }

    #[test]
    fn a_policy_is_a_word_and_maybe_required() {
        for (text, shown) in [
            ("auto", "auto"),
            ("root\n", "root"),
            ("isolated required\n", "isolated required"),
            ("root,required", "root required"),
            (" none ", "none"),
        ] {
            assert_eq!(policy(text).to_string(), shown);
        }
        for bad in
            ["", "member", "Root", "root needed", "none required", "root required x", "required"]
        {
            assert!(bad.parse::<Policy>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn whose_pool_says_auto_is_a_partition_only_beside_nobody_unless_it_is_required() {
        for (says, beside_nobody, beside_others) in [
            ("auto", true, false),
            ("auto required", true, true),
            ("root", true, true),
            ("isolated", true, true),
            ("none", false, false),
        ] {
            let found = [true, false].map(|beside| policy(says).is_for_each(beside));
            assert_eq!(found, [beside_nobody, beside_others], "{says}");
        }
    }

    #[test]
    fn a_container_may_choose_where_its_pool_leaves_it_the_choice() {
        let pool: PoolName = "p".parse().unwrap();
        let wish = |says: &str, asked: &str| {
            let asked = (!asked.is_empty()).then(|| asked.parse().unwrap());
            policy(says).wish(&pool, asked).map(|wish| {
                let kind = wish.kind.map_or_else(|| "none".to_owned(), |kind| kind.to_string());
                let named = if wish.named { " named" } else { "" };
                format!("{kind}{named}{}", if wish.required { " required" } else { "" })
            })
        };
        for (says, asked, gets) in [
            ("auto", "", "root"),
            ("auto", "auto", "root"),
            ("auto", "isolated", "isolated named"),
            ("auto", "none", "none"),
            ("none", "", "none"),
            ("none", "auto", "none"),
            ("root", "root", "root named"),
            ("isolated", "auto", "isolated named"),
            ("auto required", "", "root named required"),
            ("auto required", "isolated", "isolated named required"),
            ("isolated required", "", "isolated named required"),
        ] {
            assert_eq!(wish(says, asked).as_deref(), Ok(gets), "{says} {asked}");
        }
        for (says, asked) in
            [("none", "root"), ("root", "isolated"), ("root", "none"), ("auto required", "none")]
        {
            let error = wish(says, asked).unwrap_err().to_string();
            assert!(error.contains("pools/p/partition") && error.contains(says), "{error}");
        }
    }
}
