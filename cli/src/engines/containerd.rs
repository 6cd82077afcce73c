//! containerd: a runtime handler `kcm`, with a base spec that has our hooks. Up to 1.x in the main
//! file, from 2.0 on in a drop-in.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use kcm_core::host::files::{self, Wanted};
use kcm_shim_config::base_spec::{self, Origin, is_ours};
use kcm_shim_config::containerd::{self as toml, HANDLER, Handlers};
use kcm_shim_config::hook::{HookCall, STAGES, called_with};

use super::{Called, Wired, Wiring, run};

const CONFIG: &str = "/etc/containerd/config.toml";
const BACKUP: &str = "/etc/containerd/config.toml.kcm-backup";
const DROP_IN: &str = "/etc/containerd/conf.d/50-kcm.toml";
pub(super) const BASE_SPEC: &str = "/etc/containerd/kcm-base-spec.json";

/// A main file where there was none.
const NEW_V2: &str = "version = 2\n";
const NEW_V3: &str = "version = 3\n";

pub(super) fn install(call: &HookCall) -> anyhow::Result<Wiring> {
    let handlers = Handlers { base_spec: BASE_SPEC, default_too: call.default_pool.is_some() };
    let (major, version) = version()?;
    let config = Config::read()?;
    let mut files = Vec::new();
    let (merged, main) = if major >= 2 {
        let before = config.without_import()?;
        let merged = dump(&without_drop_in(&before)?)?;
        let drop_in = toml::drop_in(&before, &merged, &handlers).context(CONFIG)?;
        check_drop_in(&before, &drop_in, &version)?;
        files.push(Wanted::file(DROP_IN, drop_in, Some(0o644)));
        (merged, toml::import(&before, DROP_IN).context(CONFIG)?)
    } else {
        let before = config.without_handler()?;
        let edited = toml::add(&before, &handlers).context(CONFIG)?;
        check(&without_drop_in(&edited)?, &version)?;
        (before, edited)
    };
    files.insert(0, base_spec(&merged, call)?);
    files.extend(config.backup(&main));
    files.push(Wanted::file(CONFIG, main, None));
    Ok(Wiring { files, restart_for: vec![CONFIG.into(), DROP_IN.into(), BASE_SPEC.into()] })
}

pub(super) fn uninstall() -> anyhow::Result<Wiring> {
    let config = Config::read()?;
    let mut main = config.removed()?;
    main.extend([Wanted::none(DROP_IN), Wanted::none(BASE_SPEC), Wanted::none(BACKUP)]);
    Ok(Wiring { files: main, restart_for: vec![CONFIG.into(), DROP_IN.into()] })
}

pub(super) fn files() -> Vec<PathBuf> {
    let all = [CONFIG, DROP_IN, BASE_SPEC].map(PathBuf::from);
    all.into_iter().filter(|path| path.exists()).collect()
}

pub(super) fn wired(hook: &Path, conf_dir: &Path) -> anyhow::Result<Wired> {
    let Some(main) = files::read_text(Path::new(CONFIG))? else {
        return Ok(Wired::No(format!("there is no {CONFIG}, and so no handler {HANDLER}")));
    };
    let dumped = dump(&absolute(&main)?).context("containerd does not take its configuration")?;
    if !toml::has_handler(&dumped, BASE_SPEC)? {
        return Ok(Wired::No(format!("it has no runtime handler {HANDLER} with {BASE_SPEC}")));
    }
    let Some(text) = files::read_text(Path::new(BASE_SPEC))? else {
        return Ok(Wired::Wrong(format!("{BASE_SPEC} is not there: containerd will not start")));
    };
    let spec: serde_json::Value = serde_json::from_str(&text).context(BASE_SPEC)?;
    for stage in STAGES {
        let hooks = spec["hooks"][stage].as_array().map(Vec::as_slice).unwrap_or_default();
        let ours = hooks.iter().find(|hook| is_ours(hook));
        let wrong = match ours {
            None => Some("it has no hook of kcm's".to_owned()),
            Some(entry) => super::what_is_wrong(entry, hook, conf_dir),
        };
        if let Some(wrong) = wrong {
            return Ok(Wired::Wrong(format!("{BASE_SPEC}, {stage}: {wrong}")));
        }
    }
    let config = Config::read()?;
    let before = if version()?.0 >= 2 {
        dump(&without_drop_in(&config.without_import()?)?)?
    } else {
        config.without_handler()?
    };
    let (now, origin) = origin(&before)?;
    if base_spec::without_ours(&text)? != base_spec::stripped(&now, origin)? {
        return Ok(Wired::Stale(format!(
            "{BASE_SPEC} is not what containerd makes specs of today: it was made by another version"
        )));
    }
    Ok(Wired::Yes(format!("it has the runtime handler {HANDLER}, and {BASE_SPEC} its hooks")))
}

/// By its files alone: the main file and our drop-in, where that imports it.
pub(super) fn called(conf_dir: &Path) -> anyhow::Result<Option<Called>> {
    let Some(main) = files::read_text(Path::new(CONFIG))? else { return Ok(None) };
    let is_imported = imports_of(&main)?.iter().any(|path| path == DROP_IN);
    let drop_in = match is_imported {
        true => files::read_text(Path::new(DROP_IN))?,
        false => None,
    };
    let all: Vec<&str> = [Some(main.as_str()), drop_in.as_deref()].into_iter().flatten().collect();
    let is_our_spec = |spec: Option<String>| spec.as_deref() == Some(BASE_SPEC);
    let [ours, default] = toml::base_specs(&all).context(CONFIG)?.map(is_our_spec);
    let text = if ours || default { files::read_text(Path::new(BASE_SPEC))? } else { None };
    let Some(text) = text else { return Ok(None) };
    let spec: serde_json::Value = serde_json::from_str(&text).context(BASE_SPEC)?;
    let hooks = spec["hooks"][STAGES[0]].as_array().into_iter().flatten();
    let hook = hooks.into_iter().find(|hook| is_ours(hook) && super::is_for(hook, conf_dir));
    Ok(hook.map(|hook| Called {
        default_pool: called_with(hook)[1].filter(|_| default).map(str::to_owned),
    }))
}

/// The main file as it is, and as it was before kcm changed it.
struct Config {
    now: Option<String>,
    backup: Option<String>,
}

impl Config {
    fn read() -> anyhow::Result<Self> {
        let [now, backup] = [CONFIG, BACKUP].map(|path| files::read_text(Path::new(path)));
        Ok(Self { now: now?, backup: backup? })
    }

    /// What it was before kcm changed it, if what kcm made of that is what it is now.
    fn untouched(&self) -> Option<Before<'_>> {
        let now = self.now.as_deref()?;
        let is_made_of = |before: &Before<'_>| {
            let with = |default_too| Handlers { base_spec: BASE_SPEC, default_too };
            let edited = |default_too| toml::add(&before.text(NEW_V2), &with(default_too));
            let main = before.text(NEW_V3);
            let imported = toml::import(&main, DROP_IN).ok().filter(|made| *made != main);
            [edited(false), edited(true)].into_iter().flatten().chain(imported).any(|it| it == now)
        };
        let backup = self.backup.as_deref().map(Before::File);
        backup.into_iter().chain([Before::Nothing]).find(is_made_of)
    }

    /// The main file to put the handler into.
    fn without_handler(&self) -> anyhow::Result<String> {
        match (&self.now, self.untouched()) {
            (_, Some(before)) => Ok(before.text(NEW_V2)),
            (Some(now), None) if !is_blank(now) => {
                let text = toml::remove(now, BASE_SPEC, self.backup.as_deref());
                text.context(CONFIG)
            }
            (now, None) => Ok(Before::of(now.as_deref()).text(NEW_V2)),
        }
    }

    /// The main file to have import the drop-in.
    fn without_import(&self) -> anyhow::Result<String> {
        match (&self.now, self.untouched()) {
            (_, Some(before)) => Ok(before.text(NEW_V3)),
            (Some(now), None) if !is_blank(now) => {
                toml::remove_import(now, DROP_IN).context(CONFIG)
            }
            (now, None) => Ok(Before::of(now.as_deref()).text(NEW_V3)),
        }
    }

    /// A copy of the user's own file, where it is about to be changed for the first time.
    fn backup(&self, new: &str) -> Option<Wanted> {
        let now = self.now.as_deref().filter(|now| *now != new && self.untouched().is_none())?;
        // With our handler in it, it is none of the user's own.
        let is_ours = now.contains(BASE_SPEC) || now.contains(DROP_IN);
        (!is_ours || self.backup.is_none()).then(|| Wanted::file(BACKUP, now, Some(0o600)))
    }

    /// The main file without us; no file where there was none.
    fn removed(&self) -> anyhow::Result<Vec<Wanted>> {
        let Some(now) = &self.now else { return Ok(Vec::new()) };
        let before = match self.untouched() {
            Some(Before::File(before)) => before.to_owned(),
            Some(Before::Nothing) => return Ok(vec![Wanted::none(CONFIG)]),
            None if !(now.contains(BASE_SPEC) || now.contains(DROP_IN)) => return Ok(Vec::new()),
            None => {
                let text = toml::remove(now, BASE_SPEC, self.backup.as_deref()).context(CONFIG)?;
                toml::remove_import(&text, DROP_IN).context(CONFIG)?
            }
        };
        Ok(vec![Wanted::file(CONFIG, before, None)])
    }
}

/// What was there before kcm.
#[derive(Clone, Copy)]
enum Before<'a> {
    Nothing,
    File(&'a str),
}

impl<'a> Before<'a> {
    fn of(text: Option<&'a str>) -> Self {
        text.map_or(Self::Nothing, Self::File)
    }

    /// A main file that can be edited: one that says nothing is given the version.
    fn text(self, new: &str) -> String {
        match self {
            Self::Nothing => new.to_owned(),
            Self::File(text) if is_blank(text) => format!("{new}{text}"),
            Self::File(text) => text.to_owned(),
        }
    }
}

/// Whether a file has nothing but blanks and comments.
fn is_blank(text: &str) -> bool {
    text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
}

/// The base spec: the default handler's own, or what containerd makes specs of otherwise.
fn base_spec(config: &str, call: &HookCall) -> anyhow::Result<Wanted> {
    let (spec, origin) = origin(config)?;
    let spec = base_spec::with_hooks(&spec, origin, call);
    let spec = spec.context("the spec that containerd makes specs of")?;
    // A hook in it runs as root: nobody else may write it, or need read it.
    Ok(Wanted::file(BASE_SPEC, spec, Some(0o600)))
}

/// What the default handler makes specs of.
fn origin(config: &str) -> anyhow::Result<(String, Origin)> {
    Ok(match toml::own_base_spec(config).context(CONFIG)? {
        Some(path) => {
            let spec = files::read_text(Path::new(&path))?;
            let missing = || format!("{CONFIG} names {path}, which is not there");
            (spec.with_context(missing)?, Origin::User)
        }
        None => (run("ctr", &["oci", "spec"])?, Origin::Ctr),
    })
}

/// The major version of containerd, and all of it.
fn version() -> anyhow::Result<(u32, String)> {
    let said = run("containerd", &["--version"])?;
    let words = said.split_whitespace().map(|word| word.trim_start_matches('v'));
    let major = |word: &str| word.split_once('.')?.0.parse().ok();
    let found = words.into_iter().find_map(|word| Some((major(word)?, word.to_owned())));
    found.with_context(|| {
        format!("containerd --version says {:?}: which version is that?", said.trim())
    })
}

/// The configuration as containerd merges it from this main file and all that it imports.
fn dump(main: &str) -> anyhow::Result<String> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let path = folder.path().join("config.toml");
    let wanted = Wanted::file(&path, main, Some(0o600));
    files::apply(&files::changes(vec![wanted])?)?;
    run("containerd", &["--config".as_ref(), path.as_os_str(), "config".as_ref(), "dump".as_ref()])
}

/// Fails unless containerd reads the drop-in as it is meant.
fn check_drop_in(main: &str, drop_in: &str, version: &str) -> anyhow::Result<()> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let path = folder.path().join("50-kcm.toml");
    files::apply(&files::changes(vec![Wanted::file(&path, drop_in, Some(0o600))])?)?;
    let mut imports = imports_of(main)?;
    imports.retain(|path| path != DROP_IN);
    imports.push(path.display().to_string());
    check(&toml::with_imports(main, &imports)?, version)
}

/// Fails unless containerd reads the edited file as it is meant.
fn check(edited: &str, version: &str) -> anyhow::Result<()> {
    let dumped = dump(edited).context("containerd does not take the edited configuration")?;
    let has = toml::has_handler(&dumped, BASE_SPEC)?;
    ensure!(
        has,
        "containerd {version} does not see the handler {HANDLER} in the edited configuration: a file \
         that it imports replaces the CRI plugin's settings; move those into {CONFIG}"
    );
    Ok(())
}

/// A main file that imports all that it did but our drop-in, for a copy of it elsewhere.
fn without_drop_in(main: &str) -> anyhow::Result<String> {
    let mut imports = imports_of(main)?;
    imports.retain(|path| path != DROP_IN);
    Ok(toml::with_imports(main, &imports)?)
}

/// A main file that imports all that it did, for a copy of it elsewhere.
fn absolute(main: &str) -> anyhow::Result<String> {
    Ok(toml::with_imports(main, &imports_of(main)?)?)
}

/// The files that a main file imports, by absolute paths.
fn imports_of(main: &str) -> anyhow::Result<Vec<String>> {
    let mut imports: Vec<PathBuf> = Vec::new();
    for pattern in toml::imports(main).context(CONFIG)? {
        let pattern = Path::new("/etc/containerd").join(pattern);
        let name = pattern.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match (name.strip_prefix('*'), pattern.parent()) {
            (Some(suffix), Some(folder)) if !suffix.contains(['*', '?', '[']) => {
                imports.extend(files::with_suffix(folder, suffix)?);
            }
            _ if name.contains(['*', '?', '[']) => {
                bail!("{CONFIG} imports {}: a pattern that kcm does not know", pattern.display())
            }
            _ => imports.push(pattern),
        }
    }
    Ok(imports.iter().map(|path| path.display().to_string()).collect())
}
