//! CRI-O: a hooks.d file, and, where CRI-O does not look into a folder that can be written, a drop-in
//! that has it look into one.

use std::path::{Path, PathBuf};

use kcm_core::host::files;
use kcm_shim_config::MADE_BY;
use kcm_shim_config::hook::HookCall;
use kcm_shim_config::hooks_dirs::{Reader, crio_drop_in};
use nix::unistd::{AccessFlags, access};

use super::{Wiring, configured_hooks_dirs, hooks_d_file, no_hooks_d_file, not_ours_at, ours_at};

/// Where CRI-O looks if nothing is configured.
const DEFAULT: &str = "/usr/share/containers/oci/hooks.d";
/// Where it is told to look if it cannot be written there.
const WRITABLE: &str = "/etc/containers/oci/hooks.d";
const DROP_INS: &str = "/etc/crio/crio.conf.d";
const DROP_IN: &str = "/etc/crio/crio.conf.d/50-kcm.conf";

pub(super) fn install(call: &HookCall) -> anyhow::Result<Wiring> {
    let dirs = hooks_dirs()?;
    let writable = dirs.iter().rev().find(|dir| is_writable(Path::new(dir)));
    if let Some(dir) = writable {
        return Ok(Wiring { files: hooks_d_file(dir, call)?, restart_for: Vec::new() });
    }
    let all: Vec<&str> = dirs.iter().map(String::as_str).chain([WRITABLE]).collect();
    let mut files = hooks_d_file(WRITABLE, call)?;
    files.extend(ours_at(Path::new(DROP_IN), crio_drop_in(&all), is_our_drop_in)?);
    Ok(Wiring { files, restart_for: vec![DROP_IN.into()] })
}

pub(super) fn uninstall() -> anyhow::Result<Wiring> {
    let mut folders = hooks_dirs()?;
    folders.extend([DEFAULT.to_owned(), WRITABLE.to_owned()]);
    let mut files = not_ours_at(Path::new(DROP_IN), is_our_drop_in)?;
    files.extend(no_hooks_d_file(&folders)?);
    Ok(Wiring { files, restart_for: vec![DROP_IN.into()] })
}

fn is_our_drop_in(text: &str) -> bool {
    text.starts_with(MADE_BY)
}

/// The folders that CRI-O's own configuration names, but for what we have added.
fn hooks_dirs() -> anyhow::Result<Vec<String>> {
    let mut configs: Vec<PathBuf> = vec!["/etc/crio/crio.conf".into()];
    configs.extend(files::with_suffix(DROP_INS.as_ref(), ".conf")?);
    configs.retain(|path| path != Path::new(DROP_IN));
    let configured = configured_hooks_dirs(Reader::Crio, &configs)?;
    Ok(configured.unwrap_or_else(|| vec![DEFAULT.to_owned()]))
}

/// Whether a folder, or, where it is to be made, the one above it, can be written to.
fn is_writable(folder: &Path) -> bool {
    let existing = folder.ancestors().find(|path| path.exists());
    existing.is_some_and(|path| access(path, AccessFlags::W_OK).is_ok())
}
