//! Nothing keeps a container from running on CPUs that it has for itself alone: its own CFS quota is
//! lifted, and its pod's.

use std::time::Duration;

use super::Node;
use super::target::Target;
use crate::allocation::Allocation;
use crate::host::cgroup::Cgroup;
use crate::host::pod::{self, Pod, PutBack};
use crate::host::quota::{Quota, Throttle};
use crate::host::scope::{self, Scope};
use crate::notice::Notice;

/// For all that is asked of one pod.
const LIMIT: Duration = Duration::from_secs(3);

/// Why something may be kept from running on its own CPUs.
#[derive(Debug, thiserror::Error)]
pub enum NotLifted {
    /// It has a quota still.
    #[error("{0} after it was lifted; see who else sets it")]
    StillThere(Throttle),
    /// The cgroup file system, or systemd.
    #[error(transparent)]
    Failed(#[from] scope::Error),
}

impl From<crate::host::Error> for NotLifted {
    fn from(error: crate::host::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl Node {
    /// Lifts a container's own quota, which systemd was told of when it was bound, and may write later.
    pub fn lift_quota(&self, target: &Target) -> Result<(), NotLifted> {
        let scope = target.scope.as_ref().map(Scope::cgroup);
        for cgroup in [Some(&target.cgroup), scope].into_iter().flatten() {
            cgroup.set_cpu_quota(None)?;
            must_be_none(cgroup)?;
        }
        Ok(())
    }

    /// Lifts the quota of the pod that a container is in, if it is in one that has. What it was.
    pub fn lift_quota_of_pod(&self, container: &Cgroup) -> Result<Option<Quota>, NotLifted> {
        let Some(pod) = Pod::of(container) else { return Ok(None) };
        let lifted = pod.lift_quota(self.conf.time_left(LIMIT))?;
        must_be_none(pod.cgroup())?;
        Ok(lifted)
    }

    /// Has each pod have its quota again in which nobody is left for whom it was lifted, now that this
    /// one has ended, if one has.
    pub fn put_quotas_of_pods_back(&self, ended: Option<&Allocation>, notices: &mut Vec<Notice>) {
        let Some(hierarchy) = &self.hierarchy else { return };
        let limit = self.conf.time_left(LIMIT);
        let ended = ended.and_then(Allocation::cgroup_path);
        let done = match pod::put_quotas_back(hierarchy, ended, limit) {
            Ok(done) => done,
            Err(error) => {
                let said = format!("pods may be without their CFS quotas until they end: {error}");
                return notices.push(Notice::warning(said));
            }
        };
        for PutBack { pod, quota } in done {
            match quota {
                Ok(quota) => log::debug!("the CFS quota {quota} of {pod} is back"),
                Err(error) => notices.push(Notice::warning(format!(
                    "{pod} may be without its CFS quota until it ends: {error}"
                ))),
            }
        }
    }
}

fn must_be_none(cgroup: &Cgroup) -> Result<(), NotLifted> {
    match cgroup.cpu_quota()? {
        None => Ok(()),
        Some(quota) => {
            let cgroup = cgroup.path().to_owned();
            Err(NotLifted::StillThere(Throttle { cgroup, quota }))
        }
    }
}
