//! Nothing keeps a container from running on CPUs that it has for itself alone: its own CFS quota is
//! lifted, and its pod's.

use std::time::Duration;

use super::Node;
use super::target::Target;
use crate::allocation::Allocation;
use crate::host::cgroup::Cgroup;
use crate::host::pod::Pod;
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
    /// Lifts a container's own quota, which systemd was told of when it was bound.
    pub fn lift_quota(&self, target: &Target) -> Result<(), NotLifted> {
        target.cgroup.set_cpu_quota(None)?;
        must_be_none(&target.cgroup)?;
        target.scope.as_ref().map_or(Ok(()), |scope| must_be_none(Scope::cgroup(scope)))
    }

    /// Lifts the quota of the pod that a container is in, if it is in one that has. What it was.
    pub fn lift_quota_of_pod(&self, container: &Cgroup) -> Result<Option<Quota>, NotLifted> {
        let Some(pod) = Pod::of(container) else { return Ok(None) };
        let lifted = pod.lift_quota(self.conf.time_left(LIMIT))?;
        must_be_none(pod.cgroup())?;
        Ok(lifted)
    }

    /// Has the pod of a container that has ended have its quota again, if it was lifted for that one
    /// last.
    pub fn put_quota_of_pod_back(&self, ended: &Allocation, notices: &mut Vec<Notice>) {
        let container = ended.cgroup_path().zip(self.hierarchy.as_ref());
        let pod = container.and_then(|(path, hierarchy)| Pod::of(&hierarchy.at(path)));
        pod.into_iter().for_each(|pod| self.put_back(&pod, notices));
    }

    /// Has each pod have its quota again in which nobody is left for whom it was lifted.
    pub fn put_quotas_of_pods_back(&self, notices: &mut Vec<Notice>) {
        match self.hierarchy.as_ref().map(Pod::all) {
            Some(Ok(pods)) => pods.iter().for_each(|pod| self.put_back(pod, notices)),
            Some(Err(error)) => notices
                .push(Notice::warning(format!("pods may be without their CFS quotas: {error}"))),
            None => {}
        }
    }

    fn put_back(&self, pod: &Pod, notices: &mut Vec<Notice>) {
        let path = pod.cgroup().path();
        match pod.put_quota_back(self.conf.time_left(LIMIT)) {
            Ok(Some(quota)) => log::debug!("the CFS quota {quota} of {path} is back"),
            Ok(None) => {}
            Err(error) => notices.push(Notice::warning(format!(
                "{path} may be without its CFS quota until it ends: {error}"
            ))),
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
