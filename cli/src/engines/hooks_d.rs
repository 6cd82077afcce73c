//! CRI-O and podman: a hooks.d file where the engine looks, and, where nothing can be written there, a
//! drop-in that has it look where something can.

use std::path::{Path, PathBuf};

use anyhow::Context;
use kcm_core::host::files::{self, Wanted};
use kcm_shim_config::MADE_BY;
use kcm_shim_config::hook::{HookCall, called_with};
use kcm_shim_config::hooks_d;
use kcm_shim_config::hooks_dirs::{self, Reader};
use nix::unistd::{AccessFlags, access};

use super::{Called, Wired, Wiring};

/// Engines read a folder's files by name, and a later folder's file replaces an earlier one's of the
/// same name.
const FILE: &str = "50-kcm.json";

/// Where both engines look if nothing is configured. (What podman's manual says of
/// `/etc/containers/oci/hooks.d` does not hold for podman 4: it looks here alone.)
const DEFAULT: &str = "/usr/share/containers/oci/hooks.d";

/// Where they are told to look if nothing can be written there.
const WRITABLE: &str = "/etc/containers/oci/hooks.d";

/// Where an engine's configuration is: the main files, and the folder of drop-ins.
struct Places {
    main: &'static [&'static str],
    drop_ins: &'static str,
}

const DROP_IN: &str = "50-kcm.conf";

fn places(reader: Reader) -> Places {
    match reader {
        Reader::Crio => {
            Places { main: &["/etc/crio/crio.conf"], drop_ins: "/etc/crio/crio.conf.d" }
        }
        Reader::Podman => Places {
            main: &["/usr/share/containers/containers.conf", "/etc/containers/containers.conf"],
            drop_ins: "/etc/containers/containers.conf.d",
        },
    }
}

pub(super) fn install(reader: Reader, call: &HookCall) -> anyhow::Result<Wiring> {
    let dirs = looked_into(reader)?;
    let hook = |dir: &str| ours_at(&Path::new(dir).join(FILE), hooks_d::render(call)?, is_our_hook);
    if let Some(dir) = dirs.iter().rev().find(|dir| is_writable(Path::new(dir))) {
        return Ok(Wiring { files: hook(dir)?, restart_for: Vec::new() });
    }
    let all: Vec<&str> = dirs.iter().map(String::as_str).chain([WRITABLE]).collect();
    let drop_in = Path::new(places(reader).drop_ins).join(DROP_IN);
    let mut files = hook(WRITABLE)?;
    files.extend(ours_at(&drop_in, hooks_dirs::drop_in(reader, &all), is_our_drop_in)?);
    Ok(Wiring { files, restart_for: restart_for(reader, drop_in) })
}

pub(super) fn uninstall(reader: Reader) -> anyhow::Result<Wiring> {
    let drop_in = Path::new(places(reader).drop_ins).join(DROP_IN);
    let mut files = not_ours_at(&drop_in, is_our_drop_in)?;
    // A configuration that the engine itself could not read does not keep kcm in.
    let mut dirs = looked_into(reader).unwrap_or_else(|e| {
        log::warn!("{e:#}; looking for kcm's file in the usual folders alone");
        Vec::new()
    });
    dirs.extend([DEFAULT.to_owned(), WRITABLE.to_owned()]);
    for dir in dirs {
        files.extend(not_ours_at(&Path::new(&dir).join(FILE), is_our_hook)?);
    }
    Ok(Wiring { files, restart_for: restart_for(reader, drop_in) })
}

pub(super) fn wired(reader: Reader, hook: &Path, conf_dir: &Path) -> anyhow::Result<Wired> {
    let looked_into = looked_into_now(reader)?;
    let Some((path, text)) = our_hook(&looked_into)? else {
        let dirs = looked_into.join(", ");
        return Ok(Wired::No(format!("no {FILE} of kcm's is where it looks for hooks: {dirs}")));
    };
    let shown = path.display();
    let file: serde_json::Value = serde_json::from_str(&text).with_context(|| shown.to_string())?;
    if let Some(wrong) = super::what_is_wrong(&file["hook"], hook, conf_dir) {
        return Ok(Wired::Wrong(format!("{shown}: {wrong}")));
    }
    Ok(match hooks_d::what_it_misses(&file) {
        Some(misses) => Wired::Stale(format!("{shown}: {misses}")),
        None => Wired::Yes(format!("{shown} names {}", hook.display())),
    })
}

/// By its files alone.
pub(super) fn called(reader: Reader, conf_dir: &Path) -> anyhow::Result<Option<Called>> {
    let Some((path, text)) = our_hook(&looked_into_now(reader)?)? else { return Ok(None) };
    let file: serde_json::Value =
        serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    let hook = Some(&file["hook"]).filter(|hook| super::is_for(hook, conf_dir));
    Ok(hook.map(|hook| Called {
        default_pool: called_with(hook)[1]
            .filter(|_| hooks_d::is_for_all(&file))
            .map(str::to_owned),
    }))
}

pub(super) fn files(reader: Reader) -> anyhow::Result<Vec<PathBuf>> {
    let hook = our_hook(&looked_into_now(reader)?)?.map(|(path, _)| path);
    let drop_in = Path::new(places(reader).drop_ins).join(DROP_IN);
    Ok(hook.into_iter().chain([drop_in].into_iter().filter(|path| path.exists())).collect())
}

/// The file that counts in these folders, if it is ours, with its text.
fn our_hook(dirs: &[String]) -> anyhow::Result<Option<(PathBuf, String)>> {
    let mut found = None;
    for dir in dirs {
        let path = Path::new(dir).join(FILE);
        found = files::read_text(&path)?.map(|text| (path, text)).or(found);
    }
    Ok(found.filter(|(_, text)| is_our_hook(text)))
}

/// podman reads it whenever it is run.
fn restart_for(reader: Reader, drop_in: PathBuf) -> Vec<PathBuf> {
    match reader {
        Reader::Crio => vec![drop_in],
        Reader::Podman => Vec::new(),
    }
}

/// The folders that an engine looks into by its own configuration, without what we have added.
fn looked_into(reader: Reader) -> anyhow::Result<Vec<String>> {
    named_dirs(reader, |text| !is_our_drop_in(text))
}

/// The same, with that.
fn looked_into_now(reader: Reader) -> anyhow::Result<Vec<String>> {
    named_dirs(reader, |_| true)
}

fn named_dirs(reader: Reader, counts: fn(&str) -> bool) -> anyhow::Result<Vec<String>> {
    let Places { main, drop_ins } = places(reader);
    let mut configs: Vec<PathBuf> = main.iter().map(PathBuf::from).collect();
    configs.extend(files::with_suffix(drop_ins.as_ref(), ".conf")?);
    let mut dirs = None;
    for path in configs {
        let Some(text) = files::read_text(&path)?.filter(|text| counts(text)) else {
            continue;
        };
        let named = hooks_dirs::named(reader, &text);
        // The last file that names any decides.
        dirs = named.with_context(|| path.display().to_string())?.or(dirs);
    }
    Ok(dirs.unwrap_or_else(|| vec![DEFAULT.to_owned()]))
}

/// Whether a folder, or, where it is to be made, the one above it, can be written to.
fn is_writable(folder: &Path) -> bool {
    let existing = folder.ancestors().find(|path| path.exists());
    existing.is_some_and(|path| access(path, AccessFlags::W_OK).is_ok())
}

fn is_our_hook(text: &str) -> bool {
    text.contains("/kcm-hook\"")
}

fn is_our_drop_in(text: &str) -> bool {
    text.starts_with(MADE_BY)
}

/// A file of ours, and, where somebody else's is there, that one beside it.
fn ours_at(path: &Path, text: String, is_ours: fn(&str) -> bool) -> anyhow::Result<Vec<Wanted>> {
    let theirs = files::read_text(path)?.filter(|text| !is_ours(text));
    let backup = theirs.map(|text| Wanted::file(backup_of(path), text, Some(0o600)));
    Ok(backup.into_iter().chain([Wanted::file(path, text, Some(0o644))]).collect())
}

/// That file as it was before: none, or somebody else's.
fn not_ours_at(path: &Path, is_ours: fn(&str) -> bool) -> anyhow::Result<Vec<Wanted>> {
    let backup = backup_of(path);
    Ok(match (files::read_text(path)?.filter(|text| is_ours(text)), files::read(&backup)?) {
        (None, _) => Vec::new(),
        (Some(_), None) => vec![Wanted::none(path)],
        (Some(_), Some(theirs)) => vec![Wanted::file(path, theirs, None), Wanted::none(backup)],
    })
}

fn backup_of(path: &Path) -> PathBuf {
    path.with_added_extension("kcm-backup")
}
