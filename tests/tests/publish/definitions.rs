//! The definitions of the kinds: the file is what the types say, and they fit what is published.

use std::fs;

use kcm_tests::kcm::{kcm, run};
use serde_json::Value;

use super::cluster::{NODE_REPORT, RECONCILE_REPORT, cluster, definitions, pools, publish};

#[test]
fn the_manifest_is_what_the_program_prints() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/kubernetes/base/crds.yaml");
    let printed = run(kcm().arg("crds")).succeeded().out;
    let hint = "make it anew: kcm crds > packaging/kubernetes/base/crds.yaml";
    assert_eq!(fs::read_to_string(file).unwrap(), printed, "{hint}");
}

fn definition(kind: &str) -> Value {
    let definitions = definitions();
    let found = definitions.into_iter().find(|it| it["spec"]["names"]["kind"] == kind);
    found.unwrap()
}

#[test]
fn columns_show_what_an_operator_asks_first() {
    for (kind, columns) in [
        ("NodeReport", vec!["OK", "Pools", "Free", "Total", "Updated", "Age"]),
        ("ReconcileReport", vec!["Reclaimed", "Mismatched", "Updated", "Age"]),
    ] {
        let definition = definition(kind);
        let shown = definition["spec"]["versions"][0]["additionalPrinterColumns"].clone();
        let names: Vec<&str> =
            shown.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
        assert_eq!(names, columns);
    }
}

/// The value at a simple JSON path: `.a.b`.
fn at<'a>(object: &'a Value, path: &str) -> &'a Value {
    object.pointer(&path.replace('.', "/")).unwrap_or(&Value::Null)
}

#[test]
fn each_column_has_a_value_of_its_type() {
    let (api, conf) = (cluster(), pools());
    for (command, kind, path) in [
        ("node-report", "NodeReport", NODE_REPORT),
        ("reconcile", "ReconcileReport", RECONCILE_REPORT),
    ] {
        run(&mut publish(&api, &conf, &[command])).succeeded();
        let object = api.get(path).unwrap();
        let definition = definition(kind);
        let columns = &definition["spec"]["versions"][0]["additionalPrinterColumns"];
        for column in columns.as_array().unwrap() {
            let value = at(&object, column["jsonPath"].as_str().unwrap());
            let fits = match column["type"].as_str().unwrap() {
                "boolean" => value.is_boolean(),
                "integer" => value.is_u64(),
                "date" => value.as_str().is_some_and(|text| text.contains('T')),
                other => panic!("{other}"),
            };
            assert!(fits, "{column}: {value}");
        }
    }
}

/// What an API server would prune: fields that the schema does not know.
fn unknown(schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let known = &schema["properties"][name];
                let known = if known.is_null() { &schema["additionalProperties"] } else { known };
                match known.is_null() {
                    true => found.push(format!("{at}.{name}")),
                    false => unknown(known, value, &format!("{at}.{name}"), found),
                }
            }
        }
        Value::Array(items) => {
            items.iter().for_each(|item| unknown(&schema["items"], item, at, found));
        }
        _ => {}
    }
}

#[test]
fn the_schema_knows_every_field_that_is_published() {
    let (api, conf) = (cluster(), pools());
    std::fs::write(conf.tasks_path("dataplane", "0"), "4194305").unwrap();
    for (command, kind, path) in [
        ("reconcile", "ReconcileReport", RECONCILE_REPORT),
        ("node-report", "NodeReport", NODE_REPORT),
    ] {
        run(&mut publish(&api, &conf, &[command])).succeeded();
        let mut object = api.get(path).unwrap();
        for name in ["apiVersion", "kind", "metadata"] {
            object.as_object_mut().unwrap().remove(name);
        }
        let definition = definition(kind);
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let mut found = Vec::new();
        unknown(schema, &object, "", &mut found);
        assert!(found.is_empty(), "{kind}: {found:?}");
        // A check that finds nothing wrong in anything would be none.
        object["report"]["summary"]["more"] = 1.into();
        unknown(schema, &object, "", &mut found);
        assert_eq!(found, [".report.summary.more"]);
    }
}

/// Every part of a structural schema has a type, and nothing refers to anything.
fn is_structural(schema: &Value, at: &str) {
    assert!(schema["type"].is_string(), "{at} has no type: {schema}");
    for key in ["$ref", "anyOf", "oneOf", "allOf", "not", "definitions"] {
        assert!(schema[key].is_null(), "{at} has {key}");
    }
    for (name, part) in schema["properties"].as_object().into_iter().flatten() {
        is_structural(part, &format!("{at}.{name}"));
    }
    for key in ["items", "additionalProperties"] {
        if schema[key].is_object() {
            is_structural(&schema[key], &format!("{at}.{key}"));
        }
    }
}

#[test]
fn schemas_are_structural() {
    for definition in definitions() {
        let version = &definition["spec"]["versions"][0];
        assert_eq!((&version["name"], &version["served"]), (&"v1".into(), &true.into()));
        is_structural(&version["schema"]["openAPIV3Schema"], "");
    }
}
