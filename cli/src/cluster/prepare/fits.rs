//! Whether a pod that is there already is the one that would be made.

use serde_json::Value;

/// Where a pod that is there differs from the one wanted, in words; none where it fits. Fields that
/// are not wanted in particular may be anything: the API server fills in defaults.
pub(super) fn difference(wanted: &Value, found: &Value) -> Option<String> {
    let parts = ["/metadata/labels", "/spec"];
    parts.iter().find_map(|part| {
        let name = part.trim_start_matches('/').replace('/', ".");
        compare(&name, wanted.pointer(part)?, found.pointer(part).unwrap_or(&Value::Null))
    })
}

fn compare(at: &str, wanted: &Value, found: &Value) -> Option<String> {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => wanted.iter().find_map(|(key, value)| {
            compare(&format!("{at}.{key}"), value, found.get(key).unwrap_or(&Value::Null))
        }),
        (Value::Array(items), Value::Array(there)) => match key_of(items) {
            Some(key) => items.iter().find_map(|item| {
                let name = item[key].as_str().unwrap_or_default();
                let same = there.iter().find(|other| other[key] == item[key]);
                compare(&format!("{at}[{name}]"), item, same.unwrap_or(&Value::Null))
            }),
            None => (wanted != found).then(|| differ(at, wanted, found)),
        },
        _ => (wanted != found).then(|| differ(at, wanted, found)),
    }
}

/// By which field the API server tells the items of a list apart.
fn key_of(items: &[Value]) -> Option<&'static str> {
    let keys = ["mountPath", "name", "key"];
    keys.into_iter().find(|key| !items.is_empty() && items.iter().all(|i| i.get(key).is_some()))
}

fn differ(at: &str, wanted: &Value, found: &Value) -> String {
    format!("{at} is {found}, not {wanted}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::difference;

    #[test]
    fn what_the_api_server_adds_does_not_matter() {
        let wanted = json!({"metadata": {"labels": {"a": "b"}}, "spec": {
            "containers": [{"name": "c", "args": ["x"], "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
            "tolerations": [{"key": "kcm", "operator": "Exists"}],
        }});
        let found = json!({"metadata": {"labels": {"a": "b", "c": "d"}, "uid": "1"}, "spec": {
            "containers": [{"name": "c", "args": ["x"], "resources": {}, "volumeMounts": [
                {"name": "token", "mountPath": "/t"}, {"name": "v", "mountPath": "/v"}]}],
            "tolerations": [{"key": "other"}, {"key": "kcm", "operator": "Exists"}],
            "dnsPolicy": "ClusterFirst",
        }});
        assert_eq!(difference(&wanted, &found), None);
    }

    #[test]
    fn what_differs_is_named() {
        let wanted =
            json!({"spec": {"nodeName": "n", "containers": [{"name": "c", "args": ["x"]}]}});
        for (found, text) in [
            (
                json!({"nodeName": "n", "containers": [{"name": "c", "args": ["x", "y"]}]}),
                r#"spec.containers[c].args is ["x","y"], not ["x"]"#,
            ),
            (
                json!({"nodeName": "n", "containers": [{"name": "d", "args": ["x"]}]}),
                r#"spec.containers[c] is null, not {"args":["x"],"name":"c"}"#,
            ),
            (
                json!({"nodeName": "m", "containers": [{"name": "c", "args": ["x"]}]}),
                r#"spec.nodeName is "m", not "n""#,
            ),
        ] {
            assert_eq!(difference(&wanted, &json!({"spec": found})).as_deref(), Some(text));
        }
    }
}
