//! Pools and the CPU lists in them, as values.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use crate::cpu_set::{self, CpuSet};
pub(crate) use crate::text::shorten;

/// The longest pool name: with `kcm.intel.com/` and `-cores` around it, it is still a Kubernetes
/// resource name (63 characters after the slash).
const MAX_NAME: usize = 57;

/// The annotation value that asks for no pool; no pool may have this name.
pub const NONE: &str = "none";

/// The name of a pool: letters, digits, `_`, `.` and `-`, with a letter or digit at both ends,
/// 57 characters at most; `none` is reserved.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolName(String);

/// Why a text is no pool name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no pool name: use letters, digits, '_', '.' and '-', a letter or digit first and \
     last, {MAX_NAME} characters at most, and not 'none'"
)]
pub struct BadPoolName(String);

impl FromStr for PoolName {
    type Err = BadPoolName;

    fn from_str(text: &str) -> Result<Self, BadPoolName> {
        let bytes = text.as_bytes();
        let ends = [bytes.first(), bytes.last()];
        let valid = text.len() <= MAX_NAME
            && text != NONE
            && ends.iter().all(|end| end.is_some_and(u8::is_ascii_alphanumeric))
            && is_plain(bytes);
        if valid { Ok(Self(text.to_owned())) } else { Err(BadPoolName(shorten(text))) }
    }
}

impl fmt::Display for PoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for PoolName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Whether a text is made of the characters that names in the configuration directory may have.
pub(crate) fn is_plain(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(b))
}

/// The longest name that a folder can have (pathconf(3), `NAME_MAX`).
const LONGEST_FOLDER: usize = 255;

/// The name of a CPU list's directory with the CPUs that it stands for. The spelling is the
/// identity: `5,13,6,14` and `5-6,13-14` are two names of equal sets.
#[derive(Clone, Debug)]
pub struct CpuListName {
    name: String,
    /// Made of the name when it is first asked for: of most records it never is.
    cpus: OnceLock<CpuSet>,
}

impl PartialEq for CpuListName {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for CpuListName {}

/// Why a text is no CPU list's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCpuListName {
    /// It is no CPU list.
    #[error(transparent)]
    NoList(#[from] cpu_set::ParseError),
    /// No folder can have it.
    #[error("it has {0} characters, and a CPU list is a folder's name: {LONGEST_FOLDER} at most")]
    TooLong(usize),
}

impl CpuListName {
    /// The directory's name as it is spelled.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The CPUs of the list.
    pub fn cpus(&self) -> &CpuSet {
        self.cpus.get_or_init(|| self.name.parse().unwrap_or_default())
    }
}

impl FromStr for CpuListName {
    type Err = BadCpuListName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        name.to_owned().try_into()
    }
}

impl TryFrom<String> for CpuListName {
    type Error = BadCpuListName;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        if name.len() > LONGEST_FOLDER {
            return Err(BadCpuListName::TooLong(name.len()));
        }
        cpu_set::validate(&name)?;
        Ok(Self { name, cpus: OnceLock::new() })
    }
}

impl fmt::Display for CpuListName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// What one pool looks like at one moment: read under the lock, then planned with. `T` is what is
/// known of each list: a [`Glance`](crate::task::Glance), or all of it
/// ([`Judged`](crate::task::Judged)).
#[derive(Clone, Debug)]
pub struct Pool<T> {
    /// The pool's name.
    pub name: PoolName,
    /// Whether each CPU list has one owner at the most.
    pub exclusive: bool,
    /// The CPU lists, ascending by lowest CPU, ties by name.
    pub lists: Vec<CpuList<T>>,
}

/// A CPU list and the tasks in it.
#[derive(Clone, Debug)]
pub struct CpuList<T> {
    /// Name and CPUs.
    pub name: CpuListName,
    /// What is known of who is in it.
    pub tasks: T,
}

impl<T> Pool<T> {
    /// Puts the lists in allocation order: ascending by lowest CPU, not by string.
    pub fn new(name: PoolName, exclusive: bool, mut lists: Vec<CpuList<T>>) -> Self {
        lists.sort_by(|a, b| {
            (a.name.cpus().first(), &a.name.name).cmp(&(b.name.cpus().first(), &b.name.name))
        });
        Self { name, exclusive, lists }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pool_names_are_safe_path_components_and_resource_names() {
        for good in ["dataplane", "a", "A.b_c-9", &"x".repeat(57)] {
            assert_eq!(good.parse::<PoolName>().unwrap().to_string(), good);
        }
        let long = "x".repeat(58);
        for bad in ["", ".", "..", "a/b", "../x", "-a", "a-", ".a", "a\nb", "ä", "none", &long] {
            assert!(bad.parse::<PoolName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_hostile_name_is_shown_short_and_on_one_line() {
        let error = format!("x\ny{}", "z".repeat(500)).parse::<PoolName>().unwrap_err().to_string();
        assert!(error.len() < 300 && !error.contains('\n'), "{error}");
    }

    #[test]
    fn lists_are_ordered_by_lowest_cpu_not_by_string() {
        let list = |name: &str| CpuList { name: name.parse().unwrap(), tasks: () };
        let pool = Pool::new("p".parse().unwrap(), true, vec![list("10,26"), list("2,18")]);
        assert_eq!(pool.lists[0].name.as_str(), "2,18");
    }

    #[test]
    fn a_list_keeps_its_spelling() {
        let name: CpuListName = "5,13,6,14".parse().unwrap();
        assert_eq!((name.as_str(), name.cpus().to_string()), ("5,13,6,14", "5-6,13-14".into()));
    }
}
