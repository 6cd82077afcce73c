//! The programs, and the engines that are to call the hook.

use std::path::Path;

use kcm_core::host::files;
use nix::unistd::{AccessFlags, access};

use super::{Finding, Subject};
use crate::engines::{Engine, Wired, find};

pub(super) fn program(check: &str, path: &Path) -> Finding {
    let shown = path.display();
    let remedy = "kcm install";
    if !path.is_file() {
        return Finding::fail(check, format!("{shown} is not there"), remedy);
    }
    if access(path, AccessFlags::X_OK).is_err() {
        return Finding::fail(check, format!("{shown} cannot be executed"), remedy);
    }
    match files::is_writable_by_others(path) {
        Ok(false) => Finding::ok(check, format!("{shown} is there")),
        Ok(true) => Finding::fail(
            check,
            format!("{shown} or its folder can be written by others than root, who runs it"),
            format!("chmod go-w {shown} and its folder"),
        ),
        Err(e) => Finding::fail(check, e.to_string(), remedy),
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
    match engine.wired(&subject.hook, subject.conf.path()) {
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
