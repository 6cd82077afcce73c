//! This node, as a hook on the host sees it.

use std::path::{Path, PathBuf};

use kcm_core::Node;
use kcm_core::host;
use kcm_core::host::cgroup::Hierarchy;
use kcm_core::host::procfs::Procfs;
use kcm_core::state::{ConfDir, LockTimeout};

pub(crate) fn node(conf_dir: PathBuf, limit: LockTimeout) -> Result<Node, host::Error> {
    let procfs = Procfs::new("/proc");
    let hierarchy = Hierarchy::find(Path::new("/sys/fs/cgroup"), &procfs.own_cgroup()?)?;
    let (conf, hierarchy) = (ConfDir::new(conf_dir, limit), Some(hierarchy));
    Ok(Node { conf, procfs, hierarchy, sys_root: "/".into() })
}
