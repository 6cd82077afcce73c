//! The evaluator of admission policies decides as a real API server did.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use kcm_tests::admission::{MutatingPolicy, Review, User, ValidatingPolicy, defaulted};
use serde_json::{Value, json};

/// What was recorded of a real API server.
fn recorded() -> Vec<Value> {
    let text = include_str!("../fixtures/admission/recorded.json");
    serde_json::from_str::<Value>(text).unwrap()["exchanges"].as_array().unwrap().clone()
}

fn policy(kind: &str, name: &str) -> Value {
    let found = recorded().into_iter().map(|exchange| exchange["body"].clone());
    let mut found = found.filter(|body| body["kind"] == kind && body["metadata"]["name"] == name);
    found.next().unwrap()
}

fn validating(name: &str) -> ValidatingPolicy {
    ValidatingPolicy::parse(&policy("ValidatingAdmissionPolicy", name)).unwrap()
}

/// The recorded pods of that name, number aside.
fn pods(name: &str) -> Vec<Value> {
    let is_pod = |exchange: &Value| {
        let body = &exchange["body"];
        let numbered = body["metadata"]["name"].as_str().unwrap_or_default();
        body["kind"] == "Pod" && numbered.trim_end_matches(|c: char| c.is_ascii_digit()) == name
    };
    recorded().into_iter().filter(is_pod).collect()
}

/// What the server said, without the part that names policy and binding.
fn verdict(exchange: &Value) -> Result<(), String> {
    match exchange["message"].as_str() {
        None => Ok(()),
        Some(message) => Err(message.split_once("denied request: ").unwrap().1.to_owned()),
    }
}

fn params() -> Value {
    json!({"data": {"exclusivePools": "dataplane", "runtimeClass": "kcm"}})
}

#[test]
fn pods_are_accepted_and_refused_as_recorded() {
    for (name, pod, count, refused) in
        [("t", "refused", 1, 1), ("t", "accepted", 1, 0), ("kcm-pools", "a", 9, 5)]
    {
        let policy = validating(name);
        let mut seen = (0, 0);
        for exchange in pods(pod) {
            let mut review = Review::create("pods", defaulted(&exchange["body"]));
            review.params = Some(params());
            assert!(policy.matches(&review));
            assert_eq!(policy.review(&review), verdict(&exchange), "{}", exchange["name"]);
            seen.0 += 1;
            seen.1 += usize::from(verdict(&exchange).is_err());
        }
        assert_eq!(seen, (count, refused), "{name} {pod}");
    }
}

#[test]
fn a_service_account_may_change_the_node_of_its_token_as_recorded() {
    let policy = validating("kcm-own-node");
    let extra = [("authentication.kubernetes.io/node-name".to_owned(), vec!["127.0.0.1".into()])];
    let kcm = User {
        name: "system:serviceaccount:default:kcm".into(),
        groups: vec![],
        extra: extra.into(),
    };
    let mut count = 0;
    for exchange in recorded().iter().filter(|exchange| exchange["method"] == "PATCH") {
        let name = exchange["path"].as_str().unwrap().split('/').nth(4).unwrap();
        let node = json!({"metadata": {"name": name}});
        let mut review = Review::update("nodes/status", node.clone(), node);
        review.user = User { name: "admin".into(), ..User::default() };
        assert!(!policy.matches(&review), "it is about one service account");
        assert_eq!(policy.review(&review), Ok(()));
        review.user = kcm.clone();
        assert_eq!(policy.review(&review), verdict(exchange), "{name}");
        count += 1;
    }
    assert_eq!(count, 2);
}

#[test]
fn a_pod_comes_out_changed_as_recorded() {
    let policy = MutatingPolicy::parse(&policy("MutatingAdmissionPolicy", "kcm-defaults")).unwrap();
    let exchange = &pods("m")[0];
    let pod = policy.mutate(&Review::create("pods", defaulted(&exchange["body"]))).unwrap();
    assert_eq!(pod["metadata"]["annotations"], exchange["annotations"]);
    assert_eq!(pod["spec"]["runtimeClassName"], exchange["runtimeClassName"]);
    assert_eq!(pod["spec"]["containers"], defaulted(&exchange["body"])["spec"]["containers"]);

    let other = defaulted(&json!({"metadata": {}, "spec": {"containers": [{"name": "c"}]}}));
    let review = Review::create("pods", other.clone());
    assert!(!policy.matches(&review));
    assert_eq!(policy.mutate(&review), Ok(other));
}

/// A policy of one validation, about the creation of pods.
fn policy_of(spec: Value) -> Value {
    let mut policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "spec": {"matchConstraints": {"resourceRules": [{
            "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"],
        }]}},
    });
    policy["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    policy
}

fn validation(expression: &str) -> Value {
    json!({"validations": [{"expression": expression, "message": "refused"}]})
}

#[test]
fn an_expression_has_the_values_that_kubernetes_gives_it() {
    let mut review = Review::create(
        "pods",
        json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": {"priority": 5}}),
    );
    review.user.name = "me".into();
    for expression in [
        "object.spec.priority == 5",
        "object.spec.?absent.orValue('x') == 'x'",
        "!has(object.metadata.annotations)",
        "'a,b'.split(',') == ['a', 'b']",
        "'abcdef'.substring(2) == 'cdef' && 'abcdef'.substring(2, 4) == 'cd'",
        "'abc'.startsWith('ab') && 'abc'.endsWith('bc') && 'abc'.matches('^[a-c]+$')",
        "{'a': 1, 'b': 2}.filter(k, k == 'b') == ['b']",
        "[1] + [2] == [1, 2]",
        "request.operation == 'CREATE' && request.userInfo.username == 'me'",
        "request.name == 'p' && request.namespace == 'ns' && request.resource.resource == 'pods'",
        "!has(request.userInfo.extra) && !has(request.subResource)",
        "oldObject == null",
        // What one side decides, the other may not be able to tell.
        "object.absent == 1 || true",
        "true || object.absent == 1",
    ] {
        let policy = ValidatingPolicy::parse(&policy_of(validation(expression))).unwrap();
        assert_eq!(policy.review(&review), Ok(()), "{expression}");
    }
}

#[test]
fn what_cannot_be_evaluated_is_refused() {
    let review = Review::create("pods", json!({"spec": {}}));
    for (expression, cause) in [
        ("object.spec.absent == 1", "No such key: absent"),
        ("[1][2] == 1", "out of bounds"),
        ("'a'.substring(3) == ''", "out of range"),
        ("1", "no bool"),
    ] {
        let policy = ValidatingPolicy::parse(&policy_of(validation(expression))).unwrap();
        let message = policy.review(&review).unwrap_err();
        assert!(message.contains(cause), "{expression}: {message}");
        assert!(message.starts_with(&format!("expression '{expression}'")), "{message}");
        let mut spec = validation(expression);
        spec["failurePolicy"] = json!("Ignore");
        let policy = ValidatingPolicy::parse(&policy_of(spec)).unwrap();
        assert_eq!(policy.review(&review), Ok(()), "{expression}");
    }
    let mut spec = validation("true");
    spec["matchConditions"] = json!([{"name": "odd", "expression": "object.spec.absent == 1"}]);
    let policy = ValidatingPolicy::parse(&policy_of(spec.clone())).unwrap();
    assert!(policy.matches(&review));
    assert!(policy.review(&review).unwrap_err().contains("No such key: absent"));
    let no = json!({"name": "no", "expression": "false"});
    spec["matchConditions"].as_array_mut().unwrap().push(no);
    assert!(!ValidatingPolicy::parse(&policy_of(spec)).unwrap().matches(&review));
}

#[test]
fn variables_are_evaluated_where_they_are_used() {
    let review = Review::create("pods", json!({"spec": {}}));
    let mut spec = json!({
        "variables": [
            {"name": "odd", "expression": "object.spec.absent"},
            {"name": "names", "expression": "['a', 'b']"},
            {"name": "more", "expression": "variables.names + ['c']"},
        ],
        "validations": [{"expression": "variables.names.all(n, n in variables.more)"}],
    });
    let policy = ValidatingPolicy::parse(&policy_of(spec.clone())).unwrap();
    assert_eq!(policy.review(&review), Ok(()));
    spec["validations"][0]["expression"] = json!("variables.odd == 1");
    let policy = ValidatingPolicy::parse(&policy_of(spec)).unwrap();
    assert!(policy.review(&review).unwrap_err().contains("No such key: absent"));
}

#[test]
fn a_message_by_expression_gives_way_to_the_fixed_one() {
    let review = Review::create("pods", json!({"spec": {"x": "y"}}));
    for (by_expression, expected) in [
        ("'x is ' + object.spec.x", "x is y"),
        ("object.spec.absent", "fixed"),
        ("''", "fixed"),
        ("'two\\nlines'", "fixed"),
        ("'a'.replace('a', 'a'.replace('a', 'long'))", "long"),
    ] {
        let rule =
            json!({"expression": "false", "message": "fixed", "messageExpression": by_expression});
        let policy = policy_of(json!({"validations": [rule]}));
        let policy = ValidatingPolicy::parse(&policy).unwrap();
        assert_eq!(policy.review(&review), Err(expected.into()), "{by_expression}");
    }
    let rule = json!({"expression": "false"});
    let policy = ValidatingPolicy::parse(&policy_of(json!({"validations": [rule]}))).unwrap();
    assert_eq!(policy.review(&review), Err("failed expression: false".into()));
}

#[test]
fn a_policy_is_about_the_operations_and_resources_that_it_names() {
    let parse = |resources: &[&str]| {
        let mut policy = policy_of(validation("false"));
        let rule = &mut policy["spec"]["matchConstraints"]["resourceRules"][0];
        rule["resources"] = json!(resources);
        rule["operations"] = json!(["UPDATE"]);
        ValidatingPolicy::parse(&policy).unwrap()
    };
    let object = json!({"metadata": {"name": "x"}});
    for (resources, asked, expected) in [
        (["nodes"].as_slice(), "nodes", true),
        (&["nodes"], "nodes/status", false),
        (&["nodes", "nodes/status"], "nodes/status", true),
        (&["nodes/*"], "nodes/status", true),
        (&["*/*"], "nodes/status", true),
        (&["*"], "nodes/status", false),
        (&["pods"], "nodes", false),
    ] {
        let review = Review::update(asked, object.clone(), object.clone());
        assert_eq!(parse(resources).matches(&review), expected, "{resources:?} {asked}");
        assert!(!parse(resources).matches(&Review { operation: "CREATE".into(), ..review }));
    }
    let mut review = Review::update("nodes", object.clone(), object);
    review.resource.group = "example.com".into();
    assert!(!parse(&["nodes"]).matches(&review));
}

#[test]
fn a_policy_that_the_server_would_not_take_is_refused() {
    let parse = |spec: Value| ValidatingPolicy::parse(&policy_of(spec)).unwrap_err();
    for (expression, cause) in [
        ("object.", "compilation failed"),
        ("objekt.spec == 1", "undeclared reference to 'objekt'"),
        ("params.data['x'] == 'y'", "undeclared reference to 'params'"),
        ("variables.absent == 1", "undefined field 'absent'"),
        ("object.spec.frobnicate()", "undeclared reference to 'frobnicate'"),
        ("Object{} == object", "undeclared reference to 'Object'"),
        ("[1].all(x, y == 1)", "undeclared reference to 'y'"),
        ("[1].all(x, true) && x == 1", "undeclared reference to 'x'"),
    ] {
        let message = parse(validation(expression));
        assert!(message.contains(cause), "{expression}: {message}");
    }
    assert!(parse(json!({"validation": []})).contains("unknown field `validation`"));
    assert!(parse(json!({"validations": []})).contains("no validations"));
    let mut selective = validation("true");
    selective["matchConstraints"] =
        json!({"resourceRules": [], "objectSelector": {"matchLabels": {"a": "b"}}});
    assert!(parse(selective).contains("selectors"));
    assert!(ValidatingPolicy::parse(&json!({"kind": "Pod"})).is_err());
}

/// A mutation of pods, by this expression.
fn mutation(patch_type: &str, field: &str, expression: &str) -> Result<MutatingPolicy, String> {
    let mut policy = policy_of(json!({
        "reinvocationPolicy": "Never",
        "mutations": [{"patchType": patch_type, field: {"expression": expression}}],
    }));
    policy["kind"] = json!("MutatingAdmissionPolicy");
    MutatingPolicy::parse(&policy)
}

#[test]
fn mutations_patch_and_merge() {
    let pod = json!({"metadata": {"labels": {"a": "1"}}, "spec": {"nodeName": "n"}});
    for (patch_type, field, expression, expected) in [
        (
            "JSONPatch",
            "jsonPatch",
            "[JSONPatch{op: 'add', path: '/metadata/labels/b~1c', value: '2'}]",
            Ok(json!({"metadata": {"labels": {"a": "1", "b/c": "2"}}, "spec": {"nodeName": "n"}})),
        ),
        ("JSONPatch", "jsonPatch", "[JSONPatch{op: 'add', path: '/x/y', value: 1}]", Err("path")),
        ("JSONPatch", "jsonPatch", "[JSONPatch{op: 'odd', path: '/x'}]", Err("invalid JSON patch")),
        (
            "ApplyConfiguration",
            "applyConfiguration",
            "Object{metadata: Object.metadata{labels: {'b': '2'}}, spec: Object.spec{hostPID: true}}",
            Ok(json!({
                "metadata": {"labels": {"a": "1", "b": "2"}},
                "spec": {"nodeName": "n", "hostPID": true},
            })),
        ),
        (
            "ApplyConfiguration",
            "applyConfiguration",
            "Object{spec: Object.spec{containers: []}}",
            Err(".spec.containers: lists are not supported here"),
        ),
    ] {
        let policy = mutation(patch_type, field, expression).unwrap();
        let outcome = policy.mutate(&Review::create("pods", pod.clone()));
        match (outcome, expected) {
            (Err(message), Err(part)) => assert!(message.contains(part), "{expression}: {message}"),
            (outcome, expected) => assert_eq!(outcome, expected.map_err(str::to_owned)),
        }
    }
    for (expression, cause) in [
        ("Object{spec: Object.metadata{}}", "expected \"Object.spec\""),
        ("Pod{}", "undeclared reference to 'Pod'"),
        ("JSONPatch{operation: 'add'}", "undefined field 'operation'"),
    ] {
        let message = mutation("ApplyConfiguration", "applyConfiguration", expression).unwrap_err();
        assert!(message.contains(cause), "{expression}: {message}");
    }
}

#[test]
fn limits_are_requests_where_none_are_given() {
    let pod = json!({"spec": {
        "containers": [{"name": "a"}, {"name": "b", "resources": {"limits": {"x/y": "2"}}}],
        "initContainers": [{"name": "c", "resources": {"limits": {"x/y": "2"}, "requests": {"x/y": "1"}}}],
    }});
    let pod = defaulted(&pod);
    let resources = |pointer: &str| pod.pointer(pointer).unwrap()["resources"].clone();
    assert_eq!(resources("/spec/containers/0"), json!({}));
    assert_eq!(
        resources("/spec/containers/1"),
        json!({"limits": {"x/y": "2"}, "requests": {"x/y": "2"}})
    );
    assert_eq!(resources("/spec/initContainers/0")["requests"], json!({"x/y": "1"}));
}
