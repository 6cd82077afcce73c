//! How an engine is to call the hook.

use std::path::PathBuf;

use oci_spec::runtime::{Hook, HookBuilder};
use serde_json::Value;

use crate::Error;

/// Seconds after which the engine's runtime ends the hook.
const TIMEOUT: i64 = 20;

/// Seconds that the hook may wait for the lock, and hold it: twice this is the hook's timeout, so
/// that the hook can say what was wrong before it is ended.
const LOCK_TIMEOUT: u32 = 10;

/// When a runtime calls the hook: the stages that the hook knows what to do in.
pub const STAGES: [&str; 2] = ["createRuntime", "poststop"];

const CONF_DIR: &str = "--conf-dir=";
const DEFAULT_POOL: &str = "--default-pool=";

/// How an engine is to call the hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookCall {
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

impl HookCall {
    /// The call in a stage; without one the hook goes by the status in the container's state.
    pub(crate) fn at(&self, stage: Option<&str>) -> Result<Hook, Error> {
        let mut args = vec!["kcm-hook".into(), format!("{CONF_DIR}{}", self.conf_dir.display())];
        if let Some(DefaultPool { pool, allow_none }) = &self.default_pool {
            args.push(format!("{DEFAULT_POOL}{pool}"));
            if !allow_none.is_empty() {
                args.push(format!("--allow-none={}", allow_none.join(",")));
            }
        }
        args.extend(stage.map(str::to_owned));
        HookBuilder::default()
            .path(self.program.clone())
            .args(args)
            // It replaces the engine's environment.
            .env(vec![format!("KCM_LOCK_TIMEOUT={LOCK_TIMEOUT}")])
            .timeout(TIMEOUT)
            .build()
            .map_err(|e| Error::Hook(e.to_string()))
    }
}

/// The configuration directory and the default pool that a hook in an engine's files is called with.
pub fn called_with(hook: &Value) -> [Option<&str>; 2] {
    [CONF_DIR, DEFAULT_POOL].map(|flag| {
        let args = hook["args"].as_array().into_iter().flatten();
        args.filter_map(Value::as_str).find_map(|arg| arg.strip_prefix(flag))
    })
}

#[cfg(test)]
pub(crate) fn example(default_pool: Option<&str>) -> HookCall {
    let default_pool =
        default_pool.map(|pool| DefaultPool { pool: pool.into(), allow_none: vec![] });
    HookCall { program: "/opt/kcm/kcm-hook".into(), conf_dir: "/etc/kcm".into(), default_pool }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_rendered_is_read_again_and_what_is_no_hook_says_nothing() {
        for pool in [None, Some("infra")] {
            let hook = serde_json::to_value(example(pool).at(Some("poststop")).unwrap()).unwrap();
            assert_eq!(called_with(&hook), [Some("/etc/kcm"), pool]);
        }
        for hook in [
            Value::Null,
            serde_json::json!({"args": "--default-pool=infra"}),
            serde_json::json!({"args": [1, ["--default-pool=infra"], "--default-pool", "infra"]}),
        ] {
            assert_eq!(called_with(&hook), [None; 2], "{hook}");
        }
    }
}
