//! CFS quotas: for how long a cgroup's processes may run in each period (`cpu.max`,
//! admin-guide/cgroup-v2; `cpu.cfs_quota_us`, scheduler/sched-bwc, on v1, where it is in the cpu
//! hierarchy, beside the cpuset one, at the same path).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::cgroup::{Cgroup, Version, write};
use super::{Error, read};
use crate::CpuSet;

/// So much time on all CPUs together in a period, both in microseconds.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(into = "String", try_from = "String")]
pub struct Quota {
    time: u64,
    period: u64,
}

/// The kernel's own period, in microseconds.
const PERIOD: u64 = 100_000;

/// A cgroup that keeps those in it from running at times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Throttle {
    /// Its path.
    pub cgroup: String,
    /// By what.
    pub quota: Quota,
}

impl Quota {
    /// As an OCI configuration has it, without its period where that is the kernel's own; none for no
    /// limit.
    pub fn new(time: i64, period: Option<u64>) -> Option<Self> {
        let time = u64::try_from(time).ok().filter(|&time| time > 0)?;
        Some(Self { time, period: period.filter(|&period| period > 0).unwrap_or(PERIOD) })
    }

    /// Whether it never keeps anybody from running who has so many CPUs.
    pub fn is_above(self, cpus: usize) -> bool {
        u128::from(self.time) > u128::from(self.period) * cpus as u128
    }

    /// In microseconds of a second, as systemd has it.
    pub fn a_second(self) -> u64 {
        let time = u128::from(self.time) * 1_000_000 / u128::from(self.period);
        u64::try_from(time).unwrap_or(u64::MAX)
    }

    /// As the kernel writes it; none for no limit.
    fn parse(text: &str) -> Result<Option<Self>, String> {
        let malformed = || format!("{text:?} is no CFS quota");
        let (time, period) = text.trim().split_once(' ').ok_or_else(malformed)?;
        let period = period.parse().ok().filter(|&period| period > 0).ok_or_else(malformed)?;
        match time {
            "max" | "-1" => Ok(None),
            time => Ok(Some(Self { time: time.parse().map_err(|_| malformed())?, period })),
        }
    }
}

impl std::fmt::Display for Quota {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.time, self.period)
    }
}

impl From<Quota> for String {
    fn from(quota: Quota) -> Self {
        quota.to_string()
    }
}

impl TryFrom<String> for Quota {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl std::str::FromStr for Quota {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text)?.ok_or_else(|| format!("{text:?} is no limit"))
    }
}

impl std::fmt::Display for Throttle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} has a CFS quota ({})", self.cgroup, self.quota)
    }
}

impl Cgroup {
    /// Its own quota; none where it has no limit.
    pub fn cpu_quota(&self) -> Result<Option<Quota>, Error> {
        let (path, text) = match self.version() {
            Version::V2 => {
                let path = self.file("cpu.max");
                let text = read(&path)?;
                (path, text)
            }
            Version::V1 => {
                let path = self.in_cpu_hierarchy("cpu.cfs_quota_us");
                let time = read(&path)?;
                let period = read(&self.in_cpu_hierarchy("cpu.cfs_period_us"))?;
                (path, time.zip(period).map(|(time, period)| format!("{} {period}", time.trim())))
            }
        };
        let Some(text) = text else { return Ok(None) };
        Quota::parse(&text).map_err(|cause| Error::malformed(&path, cause))
    }

    /// Gives it this quota, or none.
    pub fn set_cpu_quota(&self, quota: Option<Quota>) -> Result<(), Error> {
        let (path, text) = match (self.version(), quota) {
            (Version::V2, None) => (self.file("cpu.max"), "max".to_owned()),
            (Version::V2, Some(quota)) => (self.file("cpu.max"), quota.to_string()),
            (Version::V1, None) => (self.in_cpu_hierarchy("cpu.cfs_quota_us"), "-1".to_owned()),
            (Version::V1, Some(Quota { time, period })) => {
                write(&self.in_cpu_hierarchy("cpu.cfs_period_us"), &period.to_string())?;
                (self.in_cpu_hierarchy("cpu.cfs_quota_us"), time.to_string())
            }
        };
        match quota {
            // Where the controller is not there, nothing is limited.
            None if !path.exists() => Ok(()),
            _ => write(&path, &text),
        }
    }

    /// The nearest cgroup, from it upwards, whose quota may keep it from running on these CPUs of its
    /// own.
    pub fn throttle(&self, cpus: &CpuSet) -> Result<Option<Throttle>, Error> {
        let mut at = Some(self.clone());
        while let Some(cgroup) = at.filter(|cgroup| !cgroup.is_root()) {
            if let Some(quota) = cgroup.cpu_quota()? {
                // What it has itself, and what partitions below it have taken.
                let all = cgroup.effective_cpus()?.union(&cgroup.set_aside()?).union(cpus);
                if !quota.is_above(all.len()) {
                    return Ok(Some(Throttle { cgroup: cgroup.path().to_owned(), quota }));
                }
            }
            at = cgroup.parent();
        }
        Ok(None)
    }

    fn in_cpu_hierarchy(&self, name: &str) -> PathBuf {
        self.mount().with_file_name("cpu").join(self.path().trim_start_matches('/')).join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_read_as_the_kernel_and_as_oci_write_it() {
        let quota = |time, period| Quota { time, period };
        assert_eq!(Quota::parse("150000 100000\n"), Ok(Some(quota(150_000, 100_000))));
        assert_eq!(Quota::parse("50000 20000\n"), Ok(Some(quota(50_000, 20_000))));
        assert_eq!((Quota::parse("max 100000\n"), Quota::parse("-1 100000")), (Ok(None), Ok(None)));
        for bad in ["", "max", "1", "x 1", "1 x", "1 0", "-2 100000", "1 2 3"] {
            assert!(Quota::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Quota::new(50_000, Some(20_000)), Some(quota(50_000, 20_000)));
        assert_eq!(Quota::new(50_000, None), Some(quota(50_000, 100_000)));
        assert_eq!((Quota::new(-1, None), Quota::new(0, Some(1))), (None, None));
        assert_eq!("50000 20000".parse(), Ok(quota(50_000, 20_000)));
        assert!("max 20000".parse::<Quota>().is_err());
    }

    #[test]
    fn a_quota_of_all_cpus_still_throttles_and_one_above_does_not() {
        let is_above = |text: &str, cpus| text.parse::<Quota>().unwrap().is_above(cpus);
        assert!(!is_above("200000 100000", 2) && is_above("200001 100000", 2));
        assert!(is_above("200000 100000", 1) && !is_above("50000 100000", 1));
        assert!(is_above("18446744073709551615 1000000", 8192));
        assert_eq!("150000 100000".parse::<Quota>().unwrap().a_second(), 1_500_000);
        assert_eq!("5000 20000".parse::<Quota>().unwrap().a_second(), 250_000);
    }
}
