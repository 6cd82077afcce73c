//! The `hooks.d` file of CRI-O and podman, schema 1.0.0 (oci-hooks(5)).

use std::collections::BTreeMap;

use oci_spec::runtime::Hook;
use serde::Serialize;

use crate::Error;
use crate::hook::{HookCall, STAGES};

/// From a key's beginning, since engines match patterns anywhere in it; and every key of ours, so
/// that the hook can refuse one with a slip in it.
const OUR_KEYS: &str = r"^kcm\.intel\.com/";

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

/// The file's text: JSON, indented, with a final newline. Both stages share one entry, so the hook is
/// called without a stage.
pub fn render(call: &HookCall) -> Result<String, Error> {
    let when = match call.default_pool {
        Some(_) => When::Always(true),
        None => When::Annotations([(OUR_KEYS, ".*")].into()),
    };
    // One unknown stage in the folder would stop every container of the engine.
    let file = File { version: "1.0.0", hook: call.at(None)?, when, stages: STAGES };
    let json = serde_json::to_string_pretty(&file).map_err(|e| Error::Hook(e.to_string()))?;
    Ok(json + "\n")
}

/// Whether a file has its hook called for every container.
pub fn is_for_all(file: &serde_json::Value) -> bool {
    file["when"]["always"] == true
}

/// What is wrong with when a file of ours has the hook called; none where it is for every container
/// that says anything of kcm. Releases before this one asked for the pool's keys alone.
pub fn what_it_misses(file: &serde_json::Value) -> Option<String> {
    let when = &file["when"];
    let misses_none = is_for_all(file) || when["annotations"][OUR_KEYS] == ".*";
    (!misses_none).then(|| {
        format!(
            "it has the hook called when {when} alone: a container with a slip in its annotation \
             would run unpinned"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hook::example;

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
      "^kcm\\.intel\\.com/": ".*"
    }
  },
  "stages": [
    "createRuntime",
    "poststop"
  ]
}
"#;
        assert_eq!(render(&example(None)).unwrap(), expected);
    }

    #[test]
    fn with_a_default_pool_every_container_is_hooked() {
        let mut call = example(Some("infra"));
        call.default_pool.as_mut().unwrap().allow_none = vec!["kube-*".into(), "x".into()];
        let text = render(&call).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["when"], serde_json::json!({"always": true}));
        assert_eq!(json["hook"]["args"][2], "--default-pool=infra");
        assert_eq!(json["hook"]["args"][3], "--allow-none=kube-*,x");
    }

    #[test]
    fn a_file_that_misses_annotated_containers_is_told_from_one_that_does_not() {
        let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        for pool in [None, Some("infra")] {
            let file = parsed(&render(&example(pool)).unwrap());
            assert_eq!((what_it_misses(&file), is_for_all(&file)), (None, pool.is_some()));
        }
        for when in [
            r#"{"annotations": {"^kcm\\.intel\\.com/pool(\\..+)?$": ".*"}}"#,
            r#"{"annotations": {"^kcm\\.intel\\.com/": "x"}}"#,
            r#"{"always": false}"#,
            r#"{"commands": ["sleep"]}"#,
            "{}",
        ] {
            let found = what_it_misses(&parsed(&format!(r#"{{"when": {when}}}"#)));
            assert!(found.is_some_and(|text| text.starts_with("it has the hook called when {")));
        }
    }
}
