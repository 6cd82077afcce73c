//! What keeps others off the CPUs of exclusive pools.

use kcm_core::CpuSet;
use kcm_core::partition::Choice;
use kcm_core::state::{Contents, Error, Listing};

use super::pools::cpus_of;
use super::{Finding, Subject};

const CHECK: &str = "isolation";

pub(super) fn all(subject: &Subject) -> Vec<Finding> {
    let isolated = match subject.machine.isolated() {
        Ok(isolated) => isolated,
        Err(e) => {
            return vec![Finding::fail(CHECK, format!("{e:#}"), "mend isolcpus, and boot again")];
        }
    };
    let has_partitions = subject.machine.hierarchy().is_ok_and(|all| all.has_partitions());
    let listings = subject.conf.read(|contents: &Contents| {
        let names = contents.pool_names()?.into_iter();
        Ok::<_, Error>(names.filter_map(|name| contents.pool(&name).ok()).collect::<Vec<_>>())
    });
    let listings = listings.map(|(listings, _)| listings).unwrap_or_default();
    let exclusive = listings.iter().filter(|listing| listing.pool.exclusive);
    let exclusive =
        exclusive.fold(CpuSet::new(), |all, listing| all.union(&cpus_of(&listing.pool)));
    let look = |listing: &Listing| match listing.pool.exclusive {
        true => guard(subject, listing, &isolated, &exclusive, has_partitions),
        false => stuck(listing, &isolated),
    };
    listings.iter().filter_map(look).collect()
}

/// What keeps others off an exclusive pool's CPUs; none where it has none.
fn guard(
    subject: &Subject,
    listing: &Listing,
    isolated: &CpuSet,
    exclusive: &CpuSet,
    has_partitions: bool,
) -> Option<Finding> {
    let (name, cpus) = (&listing.pool.name, cpus_of(&listing.pool));
    if cpus.is_empty() {
        return None;
    }
    let open = cpus.difference(isolated);
    // One whose file is damaged gives nobody anything: another check says so.
    let says = listing.partition.unwrap_or_default();
    let wants = says.choice != Choice::None;
    if wants && has_partitions {
        let (who, others) = match says.choice {
            Choice::Auto => (
                "a container that nobody stands beside (of a pod, of crun)",
                format!(
                    "; others with {}",
                    subject.command(&format!("init --partition={name}=root"))
                ),
            ),
            _ => ("each container", String::new()),
        };
        return Some(Finding::ok(
            CHECK,
            format!(
                "{who} of pool {name} has its CPUs for itself alone, as a cpuset partition ({says}){others}"
            ),
        ));
    }
    if open.is_empty() {
        let message =
            format!("the CPUs {cpus} of pool {name} are isolated by the kernel's command line");
        return Some(Finding::ok(CHECK, message));
    }
    let why = match (wants, has_partitions) {
        (false, true) => "its file partition says none",
        _ => "this kernel has no cpuset partitions",
    };
    let message = format!(
        "CPUs {open} of exclusive pool {name} are not isolated, and {why}: the kernel may run others there"
    );
    let remedy = match has_partitions {
        true => subject.command(&format!("init --partition={name}=auto")),
        false => format!("boot with isolcpus={exclusive}, or Linux 6.8 or newer with cgroup v2"),
    };
    Some(Finding::warn(CHECK, message, remedy))
}

/// A shared pool whose programs the kernel does not move.
fn stuck(listing: &Listing, isolated: &CpuSet) -> Option<Finding> {
    let stuck = cpus_of(&listing.pool).intersection(isolated);
    (stuck.len() > 1).then(|| {
        let name = &listing.pool.name;
        Finding::warn(
            CHECK,
            format!(
                "the shared pool {name} has the isolated CPUs {stuck}: their load is not balanced"
            ),
            "have its programs place their threads themselves, or take those CPUs out of isolcpus",
        )
    })
}
