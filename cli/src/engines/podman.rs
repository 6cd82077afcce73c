//! podman: a hooks.d file.

use std::path::PathBuf;

use anyhow::Context;
use kcm_core::host::files;
use kcm_shim_config::hook::HookCall;
use kcm_shim_config::hooks_dirs::Reader;

use super::{Wiring, configured_hooks_dirs, hooks_d_file, no_hooks_d_file};

/// Where podman looks if nothing is configured: for packages, and for administrators.
const FOR_PACKAGES: &str = "/usr/share/containers/oci/hooks.d";
const FOR_ADMINISTRATORS: &str = "/etc/containers/oci/hooks.d";

pub(super) fn install(call: &HookCall) -> anyhow::Result<Wiring> {
    let folder = match hooks_dirs()? {
        None => FOR_ADMINISTRATORS.to_owned(),
        Some(dirs) if dirs.iter().any(|dir| dir == FOR_ADMINISTRATORS) => {
            FOR_ADMINISTRATORS.to_owned()
        }
        Some(dirs) => dirs.last().cloned().with_context(|| {
            format!(
                "containers.conf names no hooks_dir, so that podman calls no hook at all; add \
                 {FOR_ADMINISTRATORS} to engine.hooks_dir"
            )
        })?,
    };
    Ok(Wiring { files: hooks_d_file(&folder, call)?, restart_for: Vec::new() })
}

pub(super) fn uninstall() -> anyhow::Result<Wiring> {
    let mut folders = vec![FOR_PACKAGES.to_owned(), FOR_ADMINISTRATORS.to_owned()];
    folders.extend(hooks_dirs()?.into_iter().flatten());
    Ok(Wiring { files: no_hooks_d_file(&folders)?, restart_for: Vec::new() })
}

fn hooks_dirs() -> anyhow::Result<Option<Vec<String>>> {
    let main = ["/usr/share/containers/containers.conf", "/etc/containers/containers.conf"];
    let mut configs: Vec<PathBuf> = main.map(PathBuf::from).to_vec();
    configs.extend(files::with_suffix("/etc/containers/containers.conf.d".as_ref(), ".conf")?);
    configured_hooks_dirs(Reader::Podman, &configs)
}
