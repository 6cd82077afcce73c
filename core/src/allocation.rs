//! The record that an owner holds CPU lists.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cpu_set::CpuSet;
use crate::partition::Kind;
use crate::pool::{CpuListName, PoolName, is_plain, shorten};
use crate::task::{Pid, Process};

/// Who holds CPU lists: a container id, or `isolate-<host pid>`; letters, digits, `_`, `.` and
/// `-`, 200 characters at most, neither `.` nor `..`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Owner(String);

/// Why a text names no owner.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot name an owner: a container id has letters, digits, '_', '.' and '-', 200 \
     characters at most"
)]
pub struct BadOwner(String);

impl FromStr for Owner {
    type Err = BadOwner;

    fn from_str(text: &str) -> Result<Self, BadOwner> {
        let valid = (1..=200).contains(&text.len())
            && is_plain(text.as_bytes())
            && !matches!(text, "." | "..");
        if valid { Ok(Self(text.to_owned())) } else { Err(BadOwner(shorten(text))) }
    }
}

impl TryFrom<String> for Owner {
    type Error = BadOwner;

    fn try_from(text: String) -> Result<Self, BadOwner> {
        text.parse()
    }
}

impl From<Owner> for String {
    fn from(owner: Owner) -> String {
        owner.0
    }
}

impl AsRef<str> for Owner {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// That `owner` holds CPU lists of one pool: what `allocations/<owner>.json` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// Who holds them.
    pub owner: Owner,
    /// Their pool.
    pub pool: PoolName,
    /// The lists, at least one.
    pub lists: Vec<CpuListName>,
    /// The process they are held for: a container's init.
    pub process: Process,
    /// RFC 3339, UTC, whole seconds.
    pub created_at: String,
    /// The cgroup that the lists are held for; none for an `isolate` without one of its own.
    pub cgroup: Option<CgroupId>,
    /// False where the owner asked not to be bound to the CPUs (`isolate --no-affinity`).
    pub affinity: bool,
    /// The cpuset partition that its cgroup is to be; none for a plain cpuset.
    pub partition: Option<Kind>,
    /// What is known of the container.
    pub details: Details,
}

/// Which cgroup it is, beyond the reuse of paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupId {
    /// Path below the root of its cpuset hierarchy.
    pub path: String,
    /// The kernel's own number of it: the inode of its folder, which no other cgroup of this boot
    /// has. None in a record of kcm 0.1.
    pub inode: Option<u64>,
}

/// What a record says of an owner, for people; every field may be absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// The container's name in its pod.
    pub container: Option<String>,
    /// The pod's name.
    pub pod: Option<String>,
    /// The pod's namespace.
    pub namespace: Option<String>,
    /// The image's name.
    pub image: Option<String>,
    /// The engine that called: `cri-o`, `containerd` or `podman`.
    pub runtime: Option<String>,
    /// The command line of `isolate`.
    pub command: Option<Vec<String>>,
    /// The digest of what the environment of all is marked with that an `isolate` without a cgroup
    /// has started ([`crate::host::environ`]): whoever may read the record cannot mark himself.
    pub mark: Option<String>,
}

impl Details {
    /// `namespace/pod/container` as far as known, for messages.
    pub fn display(&self) -> Option<String> {
        let parts = [&self.namespace, &self.pod, &self.container];
        let known: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
        (!known.is_empty()).then(|| known.join("/"))
    }

    /// The same, cut to 8 KiB in all, with a mark where something is missing: whoever starts a
    /// container chooses how long its names are.
    fn cut(&self) -> Self {
        let cut = |text: &Option<String>| text.as_deref().map(|text| cut(text, DETAIL_LIMIT));
        let command = self.command.as_ref().map(|words| cut_words(words, COMMAND_LIMIT));
        Self {
            container: cut(&self.container),
            pod: cut(&self.pod),
            namespace: cut(&self.namespace),
            image: cut(&self.image),
            runtime: cut(&self.runtime),
            command,
            mark: self.mark.clone().filter(|mark| mark.len() <= MARK_LIMIT),
        }
    }
}

/// Bytes of one detail, and of a command line.
const DETAIL_LIMIT: usize = 1 << 10;
const COMMAND_LIMIT: usize = 3 << 10;

/// Each list has a CPU of its own.
const MOST_LISTS: usize = crate::cpu_set::MAX_CPU as usize + 1;

/// Bytes of a digest: SHA-256, in hexadecimal.
const MARK_LIMIT: usize = 64;

/// A text's beginning of at most `limit` bytes, with a mark where there was more.
fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let room = limit.saturating_sub(MARK.len());
    let end = (0..=room).rev().find(|&end| text.is_char_boundary(end)).unwrap_or_default();
    format!("{}{MARK}", &text[..end])
}

fn cut_words(words: &[String], limit: usize) -> Vec<String> {
    let mut left = limit;
    let mut kept = Vec::new();
    for word in words {
        // A word costs its quotes and comma, too.
        let word_limit = left.saturating_sub(MARK.len() + 3);
        if word.len() > word_limit {
            kept.push(cut(word, word_limit.max(MARK.len())));
            break;
        }
        left -= word.len() + 3;
        kept.push(word.clone());
    }
    kept
}

/// That something was left out.
const MARK: &str = "…";

impl Allocation {
    /// The path of its cgroup.
    pub fn cgroup_path(&self) -> Option<&str> {
        self.cgroup.as_ref().map(|cgroup| cgroup.path.as_str())
    }

    /// Whether it is that of an `isolate`, whose process is kcm's own, not the command's.
    pub fn is_isolates(&self) -> bool {
        self.details.command.is_some()
    }

    /// Whether it names a list of a pool.
    pub fn names(&self, pool: &PoolName, list: &str) -> bool {
        self.pool == *pool && self.lists.iter().any(|held| held.as_str() == list)
    }

    /// All CPUs of the lists.
    pub fn cpus(&self) -> CpuSet {
        self.lists.iter().fold(CpuSet::new(), |all, list| all.union(list.cpus()))
    }

    /// When it was made, for people and statistics; none where the record does not say so.
    pub fn created(&self) -> Option<SystemTime> {
        OffsetDateTime::parse(&self.created_at, &Rfc3339).ok().map(SystemTime::from)
    }

    /// Whether the record says that `pid` is in `list` of `pool`.
    pub fn holds(&self, pool: &PoolName, list: &str, pid: Pid) -> bool {
        self.process.pid == pid && self.names(pool, list)
    }

    /// The record as JSON, indented by two blanks, with a final newline. Details are cut; what
    /// decides is not.
    pub fn to_json(&self) -> String {
        let Details { container, pod, namespace, image, runtime, command, mark } =
            self.details.cut();
        let file = RecordFile {
            owner: self.owner.clone(),
            pool: self.pool.to_string(),
            cpu_lists: self.lists.iter().map(CpuListName::to_string).collect(),
            cpus: self.cpus().to_string(),
            pid: self.process.pid,
            start_time: self.process.start_time,
            boot_id: self.process.boot_id.clone(),
            created_at: self.created_at.clone(),
            cgroup: self.cgroup.as_ref().map(|cgroup| cgroup.path.clone()),
            cgroup_inode: self.cgroup.as_ref().and_then(|cgroup| cgroup.inode),
            affinity: self.affinity,
            partition: self.partition.map(|kind| kind.to_string()),
            container,
            pod,
            namespace,
            image,
            runtime,
            command,
            mark,
        };
        // Plain strings and numbers: serialising them cannot fail.
        serde_json::to_string_pretty(&file).map(|json| json + "\n").unwrap_or_default()
    }

    /// Reads a record; every name in it is validated, since whoever may write the configuration
    /// directory may have written it.
    pub fn from_json(text: &str) -> Result<Self, BadRecord> {
        let file: RecordFile = serde_json::from_str(text).map_err(BadRecord::because)?;
        if file.cpu_lists.len() > MOST_LISTS {
            return Err(BadRecord(format!("it names more than {MOST_LISTS} CPU lists")));
        }
        let lists = file.cpu_lists.into_iter();
        let lists = lists.map(|name| CpuListName::try_from(name).map_err(BadRecord::because));
        let record = Self {
            owner: file.owner,
            pool: file.pool.parse().map_err(BadRecord::because)?,
            lists: lists.collect::<Result<_, _>>()?,
            process: Process { pid: file.pid, start_time: file.start_time, boot_id: file.boot_id },
            created_at: file.created_at,
            cgroup: file.cgroup.map(|path| CgroupId { path, inode: file.cgroup_inode }),
            affinity: file.affinity,
            // A word that a later kcm may write is none of ours.
            partition: file.partition.and_then(|kind| kind.parse().ok()),
            details: Details {
                container: file.container,
                pod: file.pod,
                namespace: file.namespace,
                image: file.image,
                runtime: file.runtime,
                command: file.command,
                mark: file.mark,
            },
        };
        if record.lists.is_empty() {
            return Err(BadRecord("it names no CPU list".into()));
        }
        let mut names: Vec<&str> = record.lists.iter().map(CpuListName::as_str).collect();
        names.sort_unstable();
        if names.windows(2).any(|two| two[0] == two[1]) {
            return Err(BadRecord("it names a CPU list twice".into()));
        }
        match record.cgroup_path() {
            Some(path) if !is_cgroup_path(path) => {
                Err(BadRecord(format!("{:?} cannot be a container's cgroup", shorten(path))))
            }
            _ => Ok(record),
        }
    }
}

/// Whether a path can be that of a container's cgroup: absolute, below the root, canonical.
fn is_cgroup_path(path: &str) -> bool {
    let Some(relative) = path.strip_prefix('/') else { return false };
    relative.split('/').all(|part| !matches!(part, "" | "." | "..")) && !path.contains('\0')
}

/// Why a file is no allocation record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an allocation record: {0}")]
pub struct BadRecord(String);

impl BadRecord {
    fn because(cause: impl fmt::Display) -> Self {
        Self(cause.to_string())
    }
}

/// The record's shape on disk; field names are fixed (docs/config.md).
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecordFile {
    owner: Owner,
    pool: String,
    cpu_lists: Vec<String>,
    cpus: String,
    pid: Pid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start_time: Option<u64>,
    boot_id: String,
    created_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cgroup: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cgroup_inode: Option<u64>,
    affinity: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    partition: Option<String>,
    // Those of `Details`, which serde would read at a multiple of the cost as a part of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    container: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    runtime: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    command: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mark: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record() -> Allocation {
        Allocation {
            owner: "c1".parse().unwrap(),
            pool: "dataplane".parse().unwrap(),
            lists: vec!["2,10".parse().unwrap(), "3,11".parse().unwrap()],
            process: Process {
                pid: Pid::try_from(4711).unwrap(),
                start_time: Some(242639),
                boot_id: "e8d869ac".into(),
            },
            created_at: "2026-11-21T22:00:00Z".into(),
            cgroup: Some(CgroupId { path: "/kubepods/pod1/c1".into(), inode: Some(4711) }),
            affinity: true,
            partition: None,
            details: Details { pod: Some("web".into()), ..Details::default() },
        }
    }

    #[test]
    fn a_record_is_camel_case_json_and_comes_back_whole() {
        let json = record().to_json();
        assert_eq!(
            json,
            r#"{
  "owner": "c1",
  "pool": "dataplane",
  "cpuLists": [
    "2,10",
    "3,11"
  ],
  "cpus": "2-3,10-11",
  "pid": 4711,
  "startTime": 242639,
  "bootId": "e8d869ac",
  "createdAt": "2026-11-21T22:00:00Z",
  "cgroup": "/kubepods/pod1/c1",
  "cgroupInode": 4711,
  "affinity": true,
  "pod": "web"
}
"#
        );
        assert_eq!(Allocation::from_json(&json), Ok(record()));
    }

    #[test]
    fn a_hostile_record_is_refused() {
        let json = record().to_json();
        for (from, to) in [
            ("\"c1\"", "\"../../etc/passwd\""),
            ("\"dataplane\"", "\"../x\""),
            ("\"2,10\"", "\"../2\""),
            ("\"2,10\"", "\"3,11\""),
            ("4711", "0"),
            ("4711", "-1"),
            ("/kubepods/pod1/c1", "/"),
            ("/kubepods/pod1/c1", "kubepods"),
            ("/kubepods/pod1/c1", "/kubepods/../../x"),
            ("/kubepods/pod1/c1", "//x"),
        ] {
            assert!(json.contains(from));
            assert!(Allocation::from_json(&json.replacen(from, to, 1)).is_err(), "{to}");
        }
    }

    #[test]
    fn details_are_cut_with_a_mark_and_what_decides_never() {
        let long = "ä".repeat(70_000);
        let words: Vec<String> = std::iter::repeat_n("x".repeat(100), 10_000).collect();
        let lists = (0..1024).map(|n| n.to_string().parse().unwrap()).collect();
        let details = Details {
            container: Some(long.clone()),
            pod: Some(long.clone()),
            namespace: Some(long.clone()),
            image: Some(long.clone()),
            runtime: None,
            command: Some(words),
            mark: None,
        };
        let whole = Allocation { lists, details, ..record() };
        let json = whole.to_json();
        assert!(json.len() < 64 << 10, "{}", json.len());
        let read = Allocation::from_json(&json).unwrap();
        assert_eq!(Allocation { details: Details::default(), ..read.clone() }.lists, whole.lists);
        let pod = read.details.pod.unwrap();
        assert!(pod.len() <= 1024 && pod.starts_with("ää") && pod.ends_with('…'), "{pod}");
        let command = read.details.command.unwrap();
        assert!(command.len() > 10 && command.last().unwrap().ends_with('…'), "{command:?}");
        assert!(command.iter().map(String::len).sum::<usize>() <= 3 << 10);
        let details = Details {
            pod: Some("p".into()),
            command: Some(vec!["a".into(); 3]),
            ..Details::default()
        };
        assert_eq!(details.cut(), details);
    }

    #[test]
    fn a_record_of_kcm_0_1_has_no_inode_and_is_read() {
        let json = record().to_json().replace("  \"cgroupInode\": 4711,\n", "");
        let cgroup = Allocation::from_json(&json).unwrap().cgroup.unwrap();
        assert_eq!((cgroup.path.as_str(), cgroup.inode), ("/kubepods/pod1/c1", None));
    }

    #[test]
    fn owners_are_safe_path_components() {
        for good in ["a", "isolate-12", "A.b_c-9", &"x".repeat(200)] {
            assert!(good.parse::<Owner>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a\nb", "a b", "a+b", &"x".repeat(201)] {
            assert!(bad.parse::<Owner>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in ".{0,200}") {
            let _ = Allocation::from_json(&text);
        }

        #[test]
        fn a_damaged_record_is_read_or_refused_without_a_panic(at in 0..200usize, with in ".") {
            let mut json = record().to_json();
            if json.is_char_boundary(at) {
                json.insert_str(at, &with);
            }
            let _ = Allocation::from_json(&json);
            let _ = Allocation::from_json(&json[..at]);
        }
    }
}
