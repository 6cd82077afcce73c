//! What keeps others off the CPUs of exclusive pools.

use kcm_core::CpuSet;

use super::{Finding, Subject};
use crate::guards::judge::judge;
use crate::guards::look::look;
use crate::guards::{Guarded, Pool};

const CHECK: &str = "isolation";

/// One finding for each exclusive pool, and one for each shared pool whose programs would stay on a CPU.
pub(super) fn all(subject: &Subject) -> Vec<Finding> {
    // Where no pool can be read, another check says so.
    let Ok(facts) = look(&subject.machine, &subject.conf) else { return Vec::new() };
    let mut findings: Vec<Finding> = judge(&facts).iter().map(of).collect();
    match &facts.isolated {
        Ok(isolated) => {
            let shared = facts.pools.iter().filter(|pool| !pool.exclusive);
            findings.extend(shared.filter_map(|pool| stuck(pool, isolated)));
        }
        Err(e) => findings.push(Finding::fail(CHECK, e, "mend isolcpus, and boot again")),
    }
    findings
}

fn of(pool: &Guarded) -> Finding {
    match pool.remedy() {
        None => Finding::ok(CHECK, pool.line()),
        Some(remedy) => Finding::warn(CHECK, pool.line(), remedy),
    }
}

/// A shared pool whose programs the kernel does not move.
fn stuck(pool: &Pool, isolated: &CpuSet) -> Option<Finding> {
    let stuck = pool.cpus.intersection(isolated);
    (stuck.len() > 1).then(|| {
        let name = &pool.name;
        Finding::warn(
            CHECK,
            format!(
                "the shared pool {name} has the isolated CPUs {stuck}: their load is not balanced"
            ),
            "have its programs place their threads themselves, or take those CPUs out of isolcpus",
        )
    })
}
