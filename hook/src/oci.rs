//! What the runtime says of the container: the OCI state on standard input and the bundle's
//! `config.json`, each in a tolerant partial view, since newer runtimes add fields and values.

use std::collections::BTreeMap;
use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

use anyhow::Context;
use kcm_core::allocation::Owner;
use kcm_core::host::quota::Quota;
use kcm_core::host::regular;
use serde::Deserialize;

const STATE_LIMIT: u64 = 1 << 20;
const BUNDLE_LIMIT: u64 = 1 << 24;

pub(crate) type Annotations = BTreeMap<String, String>;

/// The stages at which this hook works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    CreateRuntime,
    Poststop,
}

/// The OCI runtime specification's State, as far as it matters here.
#[derive(Debug, Deserialize)]
pub(crate) struct State {
    id: String,
    #[serde(default)]
    status: Option<String>,
    /// As the runtime sees it at createRuntime: the host's PID. Absent or 0 once it has ended.
    #[serde(default)]
    pub(crate) pid: Option<i64>,
    #[serde(default)]
    bundle: Option<String>,
    #[serde(default)]
    annotations: Option<Annotations>,
}

/// The bundle's configuration, as far as it matters here.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Bundle {
    #[serde(default)]
    annotations: Option<Annotations>,
    #[serde(default)]
    linux: Option<Linux>,
}

#[derive(Debug, Default, Deserialize)]
struct Linux {
    #[serde(default)]
    resources: Option<Resources>,
}

#[derive(Debug, Default, Deserialize)]
struct Resources {
    #[serde(default)]
    cpu: Option<Cpu>,
    /// cgroup v2's own files.
    #[serde(default)]
    unified: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
struct Cpu {
    #[serde(default)]
    cpus: Option<String>,
    #[serde(default)]
    quota: Option<i64>,
    #[serde(default)]
    period: Option<u64>,
}

impl FromStr for Stage {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> anyhow::Result<Self> {
        match word {
            "createRuntime" | "prestart" => Ok(Self::CreateRuntime),
            "poststop" => Ok(Self::Poststop),
            _ => anyhow::bail!(
                "kcm-hook cannot run at stage {word:?}: configure it for createRuntime and \
                 poststop (at other stages the state does not have the container's host PID)"
            ),
        }
    }
}

impl State {
    /// Reads all of the input, since some runtimes fail when a hook leaves some (crun before 1.17).
    pub(crate) fn read(input: impl Read) -> anyhow::Result<Self> {
        let mut bytes = Vec::new();
        input
            .take(STATE_LIMIT + 1)
            .read_to_end(&mut bytes)
            .context("cannot read standard input")?;
        anyhow::ensure!(
            bytes.len() as u64 <= STATE_LIMIT,
            "the container state on standard input is larger than 1 MiB"
        );
        serde_json::from_slice(&bytes)
            .context("standard input is not an OCI container state; a runtime calls this program")
    }

    /// The container's id as the runtime gave it, for messages.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The container's id as an owner's name.
    pub(crate) fn owner(&self) -> anyhow::Result<Owner> {
        Ok(self.id.parse()?)
    }

    /// Whether the container is being restored from a checkpoint: runc calls its hooks then with the
    /// status of before, that of a container that has ended, and the PID of the new init.
    pub(crate) fn is_restored(&self) -> bool {
        self.status.as_deref() == Some("stopped") && self.pid.is_some_and(|pid| pid > 0)
    }

    pub(crate) fn stage_by_status(&self) -> anyhow::Result<Stage> {
        match self.status.as_deref() {
            // No runtime tells poststop the PID of an init that has ended.
            Some("stopped") if self.is_restored() => Ok(Stage::CreateRuntime),
            Some("stopped") => Ok(Stage::Poststop),
            Some("creating" | "created") => Ok(Stage::CreateRuntime),
            other => anyhow::bail!(
                "no stage given, and the state's status {other:?} does not tell; configure the \
                 hook with createRuntime or poststop as its last argument"
            ),
        }
    }

    /// The container's annotations: the state's, or the bundle's where the state has no such key;
    /// none where there is no bundle to read either.
    pub(crate) fn annotations(&self) -> anyhow::Result<Option<Annotations>> {
        match &self.annotations {
            Some(annotations) => Ok(Some(annotations.clone())),
            None => Ok(self.bundle()?.map(|bundle| bundle.annotations.unwrap_or_default())),
        }
    }

    /// The bundle's configuration; none where no bundle is named, or none is to be seen from here.
    pub(crate) fn bundle(&self) -> anyhow::Result<Option<Bundle>> {
        let Some(bundle) = self.bundle.as_deref().filter(|path| !path.is_empty()) else {
            return Ok(None);
        };
        let path = Path::new(bundle).join("config.json");
        let text = match regular::read_text(&path, BUNDLE_LIMIT) {
            Ok(text) => text,
            Err(e) if matches!(e.kind(), NotFound | NotADirectory | PermissionDenied) => {
                return Ok(None);
            }
            Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
        };
        let parsed = serde_json::from_str(&text);
        parsed.map(Some).with_context(|| format!("{} is not an OCI configuration", path.display()))
    }
}

impl Bundle {
    /// The CPUs that somebody gave the container already; none where nobody did.
    pub(crate) fn cpus(&self) -> Option<&str> {
        self.cpu()?.cpus.as_deref().filter(|cpus| !cpus.trim().is_empty())
    }

    /// The container's CFS quota.
    pub(crate) fn quota(&self) -> Option<Quota> {
        let resources = self.linux.as_ref()?.resources.as_ref()?;
        let file = resources.unified.as_ref().and_then(|files| files.get("cpu.max"));
        if let Some(quota) = file.and_then(|text| text.parse().ok()) {
            return Some(quota);
        }
        let cpu = resources.cpu.as_ref()?;
        Quota::new(cpu.quota?, cpu.period)
    }

    fn cpu(&self) -> Option<&Cpu> {
        self.linux.as_ref()?.resources.as_ref()?.cpu.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As received from runc 1.1.5 and crun 1.8.1.
    const RUNC: &str = r#"{"ociVersion":"1.0.2-dev","id":"c1","status":"creating","pid":28946,"bundle":"/b","annotations":{"a":"b"}}"#;
    const CRUN: &str = r#"{"ociVersion":"1.0","id":"c1","pid":0,"root":"rootfs","bundle":"/b","status":"stopped","annotations":{"a":"b"}}"#;

    /// As received from `runc restore` 1.1.5.
    const RESTORED: &str = r#"{"ociVersion":"1.0.2-dev","id":"c1","status":"stopped","pid":23876,"bundle":"/b","annotations":{"a":"b"}}"#;

    fn read(text: &str) -> anyhow::Result<State> {
        State::read(text.as_bytes())
    }

    #[test]
    fn states_of_real_runtimes_are_read() {
        let runc = read(RUNC).unwrap();
        assert_eq!(runc.pid, Some(28946));
        assert_eq!(runc.annotations().unwrap().unwrap()["a"], "b");
        assert_eq!(runc.stage_by_status().unwrap(), Stage::CreateRuntime);
        let crun = read(CRUN).unwrap();
        assert_eq!((crun.pid, crun.stage_by_status().unwrap()), (Some(0), Stage::Poststop));
        let restored = read(RESTORED).unwrap();
        assert_eq!(restored.stage_by_status().unwrap(), Stage::CreateRuntime);
        assert!(restored.is_restored() && !runc.is_restored() && !crun.is_restored());
    }

    #[test]
    fn what_newer_runtimes_add_is_passed_over() {
        let state = read(r#"{"id":"c","status":"frozen","pid":5,"x":[{"y":1}]}"#).unwrap();
        assert!(state.stage_by_status().unwrap_err().to_string().contains("frozen"));
        assert_eq!(state.annotations().unwrap(), None);
    }

    #[test]
    fn hostile_input_is_refused() {
        let deep = "[".repeat(100_000);
        let huge = format!(r#"{{"id":"{}"}}"#, "x".repeat(2 << 20));
        for text in [
            "",
            "{",
            "[]",
            r#"{"id":1}"#,
            r#"{"pid":5}"#,
            r#"{"id":"c","annotations":{"a":1}}"#,
            &deep,
            &huge,
        ] {
            assert!(read(text).is_err());
        }
        for id in ["", "..", "a/b", r"a\nb", &"x".repeat(201)] {
            assert!(read(&format!(r#"{{"id":"{id}"}}"#)).unwrap().owner().is_err(), "{id}");
        }
    }

    #[test]
    fn the_bundle_tells_who_else_sets_cpus() {
        let bundle = |cpu: &str| -> Bundle {
            serde_json::from_str(&format!(r#"{{"linux":{{"resources":{{"cpu":{cpu}}}}}}}"#))
                .unwrap()
        };
        assert_eq!(bundle(r#"{"cpus":"0-3","quota":-1}"#).cpus(), Some("0-3"));
        assert_eq!(bundle(r#"{"cpus":""}"#).cpus(), None);
        let quota = |cpu: &str| bundle(cpu).quota().map(|quota| quota.to_string());
        assert_eq!(quota(r#"{"quota":50000}"#).as_deref(), Some("50000 100000"));
        assert_eq!(quota(r#"{"quota":50000,"period":20000}"#).as_deref(), Some("50000 20000"));
        assert_eq!((quota(r#"{"quota":-1}"#), quota(r#"{"period":20000}"#)), (None, None));
        let unified = r#"{"linux":{"resources":{"unified":{"cpu.max":"30000 100000"}}}}"#;
        let bundle: Bundle = serde_json::from_str(unified).unwrap();
        assert_eq!(bundle.quota().map(|quota| quota.to_string()).as_deref(), Some("30000 100000"));
        assert_eq!(serde_json::from_str::<Bundle>("{}").unwrap().cpus(), None);
    }

    proptest! {
        #[test]
        fn any_input_is_read_or_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = State::read(&bytes[..]);
        }

        #[test]
        fn a_damaged_state_is_read_or_refused_without_a_panic(at in 0..RUNC.len(), with in ".{0,3}") {
            let _ = read(&format!("{}{with}{}", &RUNC[..at], &RUNC[at..]));
            let _ = read(&RUNC[..at]);
        }
    }
}
