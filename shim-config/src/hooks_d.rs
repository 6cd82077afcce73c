//! The `hooks.d` file of CRI-O and podman, schema 1.0.0 (oci-hooks(5)).

use std::collections::BTreeMap;
use std::path::PathBuf;

use oci_spec::runtime::{Hook, HookBuilder};
use serde::Serialize;

/// Whole annotation keys, since engines match patterns anywhere in a key.
const POOL_KEY: &str = r"^kcm\.intel\.com/pool(\..+)?$";

/// Seconds after which the engine's runtime ends the hook.
const TIMEOUT: i64 = 20;

/// Seconds that the hook may wait for the lock, and hold it: twice this is the hook's timeout, so
/// that the hook can say what was wrong before it is ended.
const LOCK_TIMEOUT: u32 = 10;

/// How an engine is to call the hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HooksD {
    /// The installed `kcm-hook`, an absolute path.
    pub program: PathBuf,
    /// The configuration directory.
    pub conf_dir: PathBuf,
    /// Has the hook run for every container, and gives those that ask for no pool this one.
    pub default_pool: Option<DefaultPool>,
}

/// The pool of containers that ask for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultPool {
    /// A shared pool.
    pub pool: String,
    /// Globs of the namespaces in which a container may opt out with `none`.
    pub allow_none: Vec<String>,
}

/// Why a hook cannot be written down.
#[derive(Debug, thiserror::Error)]
#[error("cannot render the hook: {0}")]
pub struct Error(String);

/// The file's shape.
#[derive(Serialize)]
struct File {
    version: &'static str,
    hook: Hook,
    when: When,
    stages: [&'static str; 2],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum When {
    Annotations(BTreeMap<&'static str, &'static str>),
    Always(bool),
}

impl HooksD {
    /// The file's text: JSON, indented, with a final newline. Both stages share one entry, so the
    /// hook is called without a stage and goes by the status in the container's state.
    pub fn render(&self) -> Result<String, Error> {
        let when = match self.default_pool {
            Some(_) => When::Always(true),
            None => When::Annotations([(POOL_KEY, ".*")].into()),
        };
        // One unknown stage in the folder would stop every container of the engine.
        let stages = ["createRuntime", "poststop"];
        let file = File { version: "1.0.0", hook: self.hook()?, when, stages };
        let json = serde_json::to_string_pretty(&file).map_err(|e| Error(e.to_string()))?;
        Ok(json + "\n")
    }

    fn hook(&self) -> Result<Hook, Error> {
        let mut args = vec!["kcm-hook".into(), format!("--conf-dir={}", self.conf_dir.display())];
        if let Some(DefaultPool { pool, allow_none }) = &self.default_pool {
            args.push(format!("--default-pool={pool}"));
            if !allow_none.is_empty() {
                args.push(format!("--allow-none={}", allow_none.join(",")));
            }
        }
        HookBuilder::default()
            .path(self.program.clone())
            .args(args)
            // It replaces the engine's environment.
            .env(vec![format!("KCM_LOCK_TIMEOUT={LOCK_TIMEOUT}")])
            .timeout(TIMEOUT)
            .build()
            .map_err(|e| Error(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hooks_d(default_pool: Option<DefaultPool>) -> HooksD {
        HooksD { program: "/opt/kcm/kcm-hook".into(), conf_dir: "/etc/kcm".into(), default_pool }
    }

    #[test]
    fn without_a_default_pool_annotated_containers_alone_are_hooked() {
        let expected = r#"{
  "version": "1.0.0",
  "hook": {
    "path": "/opt/kcm/kcm-hook",
    "args": [
      "kcm-hook",
      "--conf-dir=/etc/kcm"
    ],
    "env": [
      "KCM_LOCK_TIMEOUT=10"
    ],
    "timeout": 20
  },
  "when": {
    "annotations": {
      "^kcm\\.intel\\.com/pool(\\..+)?$": ".*"
    }
  },
  "stages": [
    "createRuntime",
    "poststop"
  ]
}
"#;
        assert_eq!(hooks_d(None).render().unwrap(), expected);
    }

    #[test]
    fn with_a_default_pool_every_container_is_hooked() {
        let pool =
            DefaultPool { pool: "infra".into(), allow_none: vec!["kube-*".into(), "x".into()] };
        let text = hooks_d(Some(pool)).render().unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["when"], serde_json::json!({"always": true}));
        assert_eq!(json["hook"]["args"][2], "--default-pool=infra");
        assert_eq!(json["hook"]["args"][3], "--allow-none=kube-*,x");
    }
}
