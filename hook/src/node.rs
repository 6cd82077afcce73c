//! This node, as a hook on the host sees it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kcm_core::Node;
use kcm_core::host;
use kcm_core::host::cgroup::Hierarchy;
use kcm_core::host::procfs::Procfs;
use kcm_core::state::{ConfDir, LockTimeout};

/// All that a hook waits for, together. A runtime ends it after 20 s (`timeout`, where kcm installs
/// it), which leaves time to say why.
const DEADLINE: Duration = Duration::from_secs(15);

/// The same for giving back what a container that does not start was given.
const LAST: Duration = Duration::from_secs(18);

pub(crate) fn node(
    conf_dir: PathBuf,
    limit: LockTimeout,
    started: Instant,
) -> Result<Node, host::Error> {
    let procfs = Procfs::new("/proc");
    let hierarchy = Hierarchy::find(Path::new("/sys/fs/cgroup"), &procfs.own_cgroup()?)?;
    let conf = ConfDir::new(conf_dir, limit).until(started + DEADLINE);
    let hierarchy = Some(hierarchy);
    Ok(Node { conf, procfs, hierarchy, sys_root: "/".into() })
}

/// This node for the last thing that the hook does.
pub(crate) fn at_last(node: &Node, started: Instant) -> Node {
    Node { conf: node.conf.clone().until(started + LAST), ..node.clone() }
}
