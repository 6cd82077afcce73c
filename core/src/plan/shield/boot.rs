//! What no write moves while the kernel runs, and the parameters of its command line that would.

use crate::CpuSet;
use crate::topology::kernel_cmdline::parameter;

/// What a kernel was booted with, as far as it matters here.
#[derive(Clone, Debug, Default)]
pub struct Booted {
    /// Its command line.
    pub cmdline: String,
    /// The CPUs that have no tick while one task runs; none where the kernel is not built for it.
    pub nohz_full: Option<CpuSet>,
    /// Interrupts that the kernel itself places, and does so on the shield's CPUs.
    pub managed: Vec<String>,
}

/// Work that stays on the shield's CPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// What it is.
    pub what: String,
    /// Why it stays.
    pub why: String,
    /// The parameter that would move it, as in `nohz_full=2-5`; none where the kernel has none.
    pub parameter: Option<String>,
}

/// What stays on the shield's CPUs, with the parameters for this very machine.
pub fn gaps(booted: &Booted, shield: &CpuSet, online: &CpuSet) -> Vec<Gap> {
    let has = |name: &str| {
        let value = parameter(&booted.cmdline, name);
        value.is_some_and(|list| {
            list == "all" || list.parse().is_ok_and(|cpus| shield.is_subset(&cpus))
        })
    };
    let mut gaps = Vec::new();
    if !booted.managed.is_empty() {
        let domain = match parameter(&booted.cmdline, "isolcpus") {
            Some(_) => "managed_irq,domain",
            None => "managed_irq",
        };
        gaps.push(Gap {
            what: format!("managed interrupts {}", booted.managed.join(", ")),
            why: "the kernel spreads a device's queues over all CPUs, and refuses to move them"
                .to_owned(),
            parameter: Some(format!("isolcpus={domain},{shield}")),
        });
    }
    let is_tickless = |cpus: &CpuSet| shield.is_subset(cpus);
    if !booted.nohz_full.as_ref().is_some_and(is_tickless) {
        let (why, parameter) = match booted.nohz_full {
            Some(_) => {
                ("without nohz_full each CPU has its tick", Some(format!("nohz_full={shield}")))
            }
            None => ("this kernel is built without CONFIG_NO_HZ_FULL: each CPU has its tick", None),
        };
        // The same parameter has the kernel give new threads of its own the other CPUs
        // (`housekeeping_cpumask(HK_TYPE_KTHREAD)`, kernel/kthread.c), not those of kthreadd.
        let what = "the timer's tick, and kernel threads that are yet to be made".to_owned();
        gaps.push(Gap { what, why: why.to_owned(), parameter });
    }
    if !has("rcu_nocbs") && !booted.nohz_full.as_ref().is_some_and(is_tickless) {
        gaps.push(Gap {
            what: "RCU callbacks".to_owned(),
            why: "without rcu_nocbs each CPU runs its own".to_owned(),
            parameter: Some(format!("rcu_nocbs={shield}")),
        });
    }
    let rest = online.difference(shield);
    let irqaffinity = parameter(&booted.cmdline, "irqaffinity");
    let irqaffinity: CpuSet = irqaffinity.and_then(|list| list.parse().ok()).unwrap_or_default();
    if irqaffinity.is_empty() || !irqaffinity.intersection(shield).is_empty() {
        gaps.push(Gap {
            what: "interrupts of the boot itself".to_owned(),
            why: "they are served everywhere until the shield is on".to_owned(),
            parameter: Some(format!("irqaffinity={rest}")),
        });
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(booted: &Booted) -> Vec<String> {
        let (shield, online) = ("2-5".parse().unwrap(), "0-15".parse().unwrap());
        gaps(booted, &shield, &online).into_iter().filter_map(|gap| gap.parameter).collect()
    }

    #[test]
    fn each_gap_has_the_parameter_for_this_machine() {
        let managed = vec!["25 (virtio0-req.0)".to_owned()];
        let plain = Booted { cmdline: "quiet".into(), nohz_full: Some(CpuSet::new()), managed };
        let all =
            ["isolcpus=managed_irq,2-5", "nohz_full=2-5", "rcu_nocbs=2-5", "irqaffinity=0-1,6-15"];
        assert_eq!(parameters(&plain), all);
        let isolated = Booted { cmdline: "isolcpus=2-5".into(), ..plain.clone() };
        assert_eq!(parameters(&isolated)[0], "isolcpus=managed_irq,domain,2-5");
        // A kernel that cannot is told apart from one that was not told to.
        let unable = Booted { nohz_full: None, ..plain };
        assert_eq!(parameters(&unable), [all[0], all[2], all[3]]);
    }

    #[test]
    fn a_kernel_that_was_booted_with_all_of_them_has_no_gap() {
        let cmdline = "nohz_full=2-7 rcu_nocbs=2-7 irqaffinity=0-1".to_owned();
        let booted = Booted { cmdline, nohz_full: Some("2-7".parse().unwrap()), managed: vec![] };
        assert_eq!(parameters(&booted), [""; 0]);
        // nohz_full has the callbacks moved, too (kernel/rcu/tree_nocb.h).
        let cmdline = "nohz_full=2-7 irqaffinity=0-1".to_owned();
        assert_eq!(parameters(&Booted { cmdline, ..booted }), [""; 0]);
    }
}
