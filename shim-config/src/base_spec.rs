//! The base spec of a containerd runtime handler (`base_runtime_spec`): what containerd makes each
//! container's spec of, with our hooks in it.

use serde_json::{Map, Value};

use crate::Error;
use crate::hook::{HookCall, STAGES};

/// Where a spec is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `ctr oci spec`: for `ctr`'s own containers. What it limits, and CRI would not, is left out.
    Ctr,
    /// The user's own base spec: all of it is meant.
    User,
}

/// Left out of what `ctr oci spec` prints. They would reach every container: CRI sets its own only
/// where a pod asks for some.
const OF_CTR_ALONE: [(&str, &str); 3] =
    [("process", "rlimits"), ("linux", "seccomp"), ("process", "apparmorProfile")];

/// The spec without what is left out of it, to compare.
pub fn stripped(spec: &str, origin: Origin) -> Result<Value, Error> {
    let mut spec: Value = serde_json::from_str(spec).map_err(|e| Error::Syntax(e.to_string()))?;
    if let Some(number) = number_that_is_not_kept(&spec) {
        return Err(Error::Content(format!(
            "the number {number} is no integer of 64 bits, as all of the OCI specification's are"
        )));
    }
    if origin == Origin::Ctr {
        for (section, key) in OF_CTR_ALONE {
            if let Some(section) = spec.get_mut(section).and_then(Value::as_object_mut) {
                section.remove(key);
            }
        }
    }
    Ok(spec)
}

/// A spec with our hooks as it is without them, to compare.
pub fn without_ours(spec: &str) -> Result<Value, Error> {
    let mut spec = stripped(spec, Origin::User)?;
    if let Some(hooks) = spec.get_mut("hooks").and_then(Value::as_object_mut) {
        for stage in STAGES {
            if let Some(all) = hooks.get_mut(stage).and_then(Value::as_array_mut) {
                all.retain(|hook| !is_ours(hook));
            }
        }
        hooks.retain(|_, all| !all.as_array().is_some_and(Vec::is_empty));
        if hooks.is_empty()
            && let Some(spec) = spec.as_object_mut()
        {
            spec.remove("hooks");
        }
    }
    Ok(spec)
}

/// The spec with our hooks, after those that it has; what we do not know stays as it is. Ours are not
/// added a second time.
pub fn with_hooks(spec: &str, origin: Origin, call: &HookCall) -> Result<String, Error> {
    let mut spec = stripped(spec, origin)?;
    let hooks = object(&mut spec, "the spec")?.entry("hooks").or_insert_with(|| Map::new().into());
    // Go writes an empty one so.
    if hooks.is_null() {
        *hooks = Map::new().into();
    }
    for stage in STAGES {
        let hook = serde_json::to_value(call.at(Some(stage))?);
        let hook = hook.map_err(|e| Error::Hook(e.to_string()))?;
        let stages =
            object(hooks, "its hooks")?.entry(stage).or_insert_with(|| Value::Array(Vec::new()));
        if stages.is_null() {
            *stages = Value::Array(Vec::new());
        }
        let wrong = || Error::Content(format!("its hooks of stage {stage} are no list"));
        let all = stages.as_array_mut().ok_or_else(wrong)?;
        all.retain(|other| !is_ours(other));
        all.push(hook);
    }
    let text = serde_json::to_string_pretty(&spec).map_err(|e| Error::Hook(e.to_string()))?;
    Ok(text + "\n")
}

/// Any other number than an integer of 64 bits would be written otherwise than it was read.
fn number_that_is_not_kept(value: &Value) -> Option<String> {
    match value {
        Value::Number(number) => number.is_f64().then(|| number.to_string()),
        Value::Array(all) => all.iter().find_map(number_that_is_not_kept),
        Value::Object(all) => all.values().find_map(number_that_is_not_kept),
        _ => None,
    }
}

/// Whether a hook calls `kcm-hook`, wherever that is installed.
pub fn is_ours(hook: &Value) -> bool {
    hook["path"].as_str().and_then(|path| path.rsplit('/').next()) == Some("kcm-hook")
}

fn object<'a>(value: &'a mut Value, what: &str) -> Result<&'a mut Map<String, Value>, Error> {
    value.as_object_mut().ok_or_else(|| Error::Content(format!("{what} is no object")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hook::example;
    use serde_json::json;

    fn ours(stage: &str) -> Value {
        json!({
            "path": "/opt/kcm/kcm-hook", "args": ["kcm-hook", "--conf-dir=/etc/kcm", stage],
            "env": ["KCM_LOCK_TIMEOUT=10"], "timeout": 20,
        })
    }

    fn edited(spec: Value, origin: Origin) -> Value {
        let text = with_hooks(&spec.to_string(), origin, &example(None)).unwrap();
        assert_eq!(with_hooks(&text, origin, &example(None)).unwrap(), text, "a second time");
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn what_ctr_prints_loses_its_limits_and_gains_two_hooks() {
        let spec = json!({
            "ociVersion": "9.9", "new": {"field": [1]},
            "process": {"rlimits": [{"type": "RLIMIT_NOFILE"}], "apparmorProfile": "x", "cwd": "/"},
            "linux": {"seccomp": {}, "namespaces": [{"type": "time"}]},
        });
        let expected = json!({
            "ociVersion": "9.9", "new": {"field": [1]},
            "process": {"cwd": "/"}, "linux": {"namespaces": [{"type": "time"}]},
            "hooks": {"createRuntime": [ours("createRuntime")], "poststop": [ours("poststop")]},
        });
        assert_eq!(edited(spec, Origin::Ctr), expected);
    }

    #[test]
    fn a_number_that_would_not_be_kept_as_it_is_is_refused() {
        for number in ["33333333333333333333333333333333", "0.1", "1e3", "18446744073709551616"] {
            let spec = format!("{{\"new\": [{{\"field\": {number}}}]}}");
            let error = with_hooks(&spec, Origin::User, &example(None)).unwrap_err().to_string();
            assert!(error.contains("is no integer of 64 bits"), "{error}");
        }
        let spec = json!({"new": [u64::MAX, i64::MIN, 0]});
        assert_eq!(edited(spec, Origin::User)["new"], json!([u64::MAX, i64::MIN, 0]));
    }

    #[test]
    fn a_users_own_spec_keeps_its_limits_and_its_hooks_which_come_first() {
        let theirs = json!({"path": "/usr/bin/theirs"});
        let spec = json!({
            "process": {"rlimits": [1]}, "linux": {"seccomp": {"a": 1}},
            "hooks": {"createRuntime": [theirs], "poststart": [theirs], "poststop": null},
        });
        let found = edited(spec, Origin::User);
        assert_eq!(found["hooks"]["createRuntime"], json!([theirs, ours("createRuntime")]));
        assert_eq!(found["hooks"]["poststop"], json!([ours("poststop")]));
        assert_eq!(found["hooks"]["poststart"], json!([theirs]));
        assert_eq!(
            (&found["process"]["rlimits"], &found["linux"]["seccomp"]["a"]),
            (&json!([1]), &json!(1))
        );
    }

    #[test]
    fn an_older_installation_of_ours_is_replaced() {
        let mut older = ours("createRuntime");
        older["path"] = "/opt/bin/kcm-hook".into();
        let found = edited(json!({"hooks": {"createRuntime": [older]}}), Origin::User);
        assert_eq!(found["hooks"]["createRuntime"], json!([ours("createRuntime")]));
    }

    #[test]
    fn what_is_no_spec_is_refused() {
        for text in ["", "[]", "{\"hooks\": 1}", "{\"hooks\": {\"poststop\": {}}}"] {
            assert!(with_hooks(text, Origin::User, &example(None)).is_err(), "{text}");
        }
    }
}
