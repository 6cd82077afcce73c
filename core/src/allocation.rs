//! The record that an owner holds CPU lists.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cpu_set::CpuSet;
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
    /// Path of the container's cgroup below the root of its cpuset hierarchy; none for `isolate`.
    pub cgroup: Option<String>,
    /// False where the owner asked not to be bound to the CPUs (`isolate --no-affinity`).
    pub affinity: bool,
    /// What is known of the container.
    pub details: Details,
}

/// What a record says of an owner, for people; every field may be absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// The container's name in its pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The pod's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The pod's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The image's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The engine that called: `cri-o`, `containerd` or `podman`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// The command line of `isolate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
}

impl Details {
    /// `namespace/pod/container` as far as known, for messages.
    pub fn display(&self) -> Option<String> {
        let parts = [&self.namespace, &self.pod, &self.container];
        let known: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
        (!known.is_empty()).then(|| known.join("/"))
    }
}

impl Allocation {
    /// All CPUs of the lists.
    pub fn cpus(&self) -> CpuSet {
        self.lists.iter().fold(CpuSet::new(), |all, list| all.union(list.cpus()))
    }

    /// When it was made; none where the record does not say so.
    pub fn created(&self) -> Option<SystemTime> {
        OffsetDateTime::parse(&self.created_at, &Rfc3339).ok().map(SystemTime::from)
    }

    /// Whether the record says that `pid` is in `list` of `pool`.
    pub fn holds(&self, pool: &PoolName, list: &str, pid: Pid) -> bool {
        self.process.pid == pid
            && self.pool == *pool
            && self.lists.iter().any(|held| held.as_str() == list)
    }

    /// The record as JSON, indented by two blanks, with a final newline.
    pub fn to_json(&self) -> String {
        let file = RecordFile {
            owner: self.owner.clone(),
            pool: self.pool.to_string(),
            cpu_lists: self.lists.iter().map(CpuListName::to_string).collect(),
            cpus: self.cpus().to_string(),
            pid: self.process.pid,
            start_time: self.process.start_time,
            boot_id: self.process.boot_id.clone(),
            created_at: self.created_at.clone(),
            cgroup: self.cgroup.clone(),
            affinity: self.affinity,
            details: self.details.clone(),
        };
        // Plain strings and numbers: serialising them cannot fail.
        serde_json::to_string_pretty(&file).map(|json| json + "\n").unwrap_or_default()
    }

    /// Reads a record; every name in it is validated, since whoever may write the configuration
    /// directory may have written it.
    pub fn from_json(text: &str) -> Result<Self, BadRecord> {
        let file: RecordFile = serde_json::from_str(text).map_err(BadRecord::because)?;
        let lists = file.cpu_lists.iter().map(|name| name.parse().map_err(BadRecord::because));
        let record = Self {
            owner: file.owner,
            pool: file.pool.parse().map_err(BadRecord::because)?,
            lists: lists.collect::<Result<_, _>>()?,
            process: Process { pid: file.pid, start_time: file.start_time, boot_id: file.boot_id },
            created_at: file.created_at,
            cgroup: file.cgroup,
            affinity: file.affinity,
            details: file.details,
        };
        if record.lists.is_empty() {
            return Err(BadRecord("it names no CPU list".into()));
        }
        match &record.cgroup {
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
    affinity: bool,
    #[serde(flatten)]
    details: Details,
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
            cgroup: Some("/kubepods/pod1/c1".into()),
            affinity: true,
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
