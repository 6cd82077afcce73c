//! The programs, and the engines that are to call the hook.

use std::path::{Path, PathBuf};

use kcm_core::host::trust::{Place, Unfit};
use nix::unistd::{AccessFlags, access};

use super::{Finding, Subject};
use crate::engines::{Engine, Wired, find, try_program};

/// A program is there, is root's alone, and runs.
pub(super) fn program(check: &str, path: &Path) -> Finding {
    let shown = path.display();
    let remedy = "kcm install";
    if !path.is_file() {
        return Finding::fail(check, format!("{shown} is not there"), remedy);
    }
    let unfit = Place::find(path).and_then(|place| Ok((place.writable(), place.not_executable()?)));
    match unfit {
        Err(e) => return Finding::fail(check, e.to_string(), remedy),
        Ok((Some(unfit), _)) => {
            let message = format!("others than root may change {shown}, which root runs: {unfit}");
            return Finding::fail(check, message, unfit.remedy());
        }
        Ok((None, Some(unfit))) => {
            return Finding::fail(check, unfit.to_string(), unfit.remedy());
        }
        Ok((None, None)) => {}
    }
    if access(path, AccessFlags::X_OK).is_err() {
        return Finding::fail(check, format!("{shown} cannot be executed"), remedy);
    }
    match try_program(path) {
        Ok(()) => Finding::ok(check, format!("{shown} is there")),
        Err(e) => Finding::fail(check, format!("{e:#}"), remedy),
    }
}

pub(super) fn all(subject: &Subject) -> Vec<Finding> {
    let is_there = |engine: &Engine| find(engine.program()).is_ok();
    let mut wanted = subject.engines.clone();
    let is_asked_for = !wanted.is_empty();
    if !is_asked_for {
        wanted.extend(Engine::ALL.into_iter().filter(is_there));
    }
    if wanted.is_empty() {
        let remedy = "install containerd, CRI-O or podman, or use kcm isolate";
        return vec![Finding::warn("engines", "no container engine is installed", remedy)];
    }
    wanted.into_iter().map(|engine| engine_check(subject, engine, is_asked_for)).collect()
}

fn engine_check(subject: &Subject, engine: Engine, is_asked_for: bool) -> Finding {
    let name = engine.name();
    let remedy = format!("kcm install --runtime={name}");
    if let Err(e) = find(engine.program()) {
        return Finding::fail(name, format!("{e:#}"), "install it");
    }
    let wired = engine.wired(&subject.hook, subject.conf.path());
    if let Ok(Wired::Yes(_) | Wired::Stale(_)) = &wired {
        match writable_by_others(engine) {
            Ok(None) => {}
            Ok(Some((path, unfit))) => {
                let path = path.display();
                let message =
                    format!("others than root may have it run another hook: {path}: {unfit}");
                return Finding::fail(name, message, unfit.remedy());
            }
            Err(e) => return Finding::fail(name, format!("{e:#}"), remedy),
        }
    }
    match wired {
        Err(e) => Finding::fail(name, format!("{e:#}"), remedy),
        Ok(Wired::Yes(how)) => Finding::ok(name, how),
        Ok(Wired::Stale(what)) => Finding::warn(name, what, remedy),
        Ok(Wired::No(what)) if is_asked_for => Finding::fail(name, what, remedy),
        Ok(Wired::No(what)) => {
            Finding::warn(name, what, format!("if its containers are to be pinned: {remedy}"))
        }
        Ok(Wired::Wrong(what)) => Finding::fail(name, what, remedy),
    }
}

/// The first of an engine's files that somebody else than root could change.
fn writable_by_others(engine: Engine) -> anyhow::Result<Option<(PathBuf, Unfit)>> {
    for path in engine.files()? {
        if let Some(unfit) = Place::find(&path)?.writable() {
            return Ok(Some((path, unfit)));
        }
    }
    Ok(None)
}
