//! The two custom resources, and their definitions, made of the types of the reports.

use kube_core::schema::StructuralSchemaRewriter;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde::Serialize;
use serde_json::{Value, json};

use super::{GROUP, VERSION};
use crate::report::description::Description;
use crate::report::node::{Checks, Topology};
use crate::report::reconcile::ReconcileReport;

/// Which report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReportKind {
    /// What a node has.
    Node,
    /// What was found and mended there.
    Reconcile,
}

impl ReportKind {
    /// The kind of the custom resource.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Node => "NodeReport",
            Self::Reconcile => "ReconcileReport",
        }
    }

    /// Its plural.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Node => "nodereports",
            Self::Reconcile => "reconcilereports",
        }
    }
}

/// A NodeReport, but for what each object of Kubernetes has.
#[derive(Debug, JsonSchema, Serialize)]
pub(crate) struct NodeReportObject {
    /// What was found.
    pub(crate) report: NodeReported,
    /// The CPUs of the machine.
    pub(crate) topology: Topology,
}

/// What a NodeReport says.
#[derive(Debug, JsonSchema, Serialize)]
pub(crate) struct NodeReported {
    /// What was looked at, and what is wrong.
    pub(crate) checks: Checks,
    /// The configuration directory; null where it cannot be read.
    pub(crate) description: Option<Description>,
    /// In a few numbers.
    pub(crate) summary: NodeSummary,
}

/// A NodeReport in a few numbers.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeSummary {
    /// CPU lists of exclusive pools that nobody holds.
    pub(crate) exclusive_free: u32,
    /// CPU lists of exclusive pools.
    pub(crate) exclusive_total: u32,
    /// Whether all checks are.
    pub(crate) ok: bool,
    /// Pools.
    pub(crate) pools: u32,
}

/// A ReconcileReport, but for what each object of Kubernetes has.
#[derive(Debug, JsonSchema, Serialize)]
pub(crate) struct ReconcileReportObject {
    /// What was found.
    pub(crate) report: ReconcileReported,
}

/// What a ReconcileReport says.
#[derive(Debug, JsonSchema, Serialize)]
pub(crate) struct ReconcileReported {
    /// What the last round found.
    #[serde(flatten)]
    pub(crate) found: ReconcileReport,
    /// In a few numbers.
    pub(crate) summary: ReconcileSummary,
}

/// A ReconcileReport in a few numbers.
#[derive(Debug, JsonSchema, Serialize)]
pub(crate) struct ReconcileSummary {
    /// Processes that may run on other CPUs than theirs.
    pub(crate) mismatched: u32,
    /// CPU lists that dead processes held.
    pub(crate) reclaimed: u32,
}

impl NodeSummary {
    /// What the columns of `kubectl get` show.
    pub(crate) fn of(checks: &Checks, description: Option<&Description>) -> Self {
        let pools = description.map(|description| &description.pools);
        let lists = pools.into_iter().flat_map(|pools| pools.values());
        let lists = lists.filter(|pool| pool.exclusive).flat_map(|pool| pool.cpu_lists.values());
        let lists: Vec<_> = lists.collect();
        Self {
            exclusive_free: count(lists.iter().filter(|list| list.tasks.is_empty()).count()),
            exclusive_total: count(lists.len()),
            ok: checks.are_ok(),
            pools: count(pools.map_or(0, |pools| pools.len())),
        }
    }
}

impl ReconcileSummary {
    /// What the columns of `kubectl get` show.
    pub(crate) fn of(found: &ReconcileReport) -> Self {
        Self {
            mismatched: count(found.mismatched_cpu_masks.len()),
            reclaimed: count(found.reclaimed_cpu_lists.len()),
        }
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The definitions of both kinds (apiextensions.k8s.io/v1).
pub(crate) fn definitions() -> [Value; 2] {
    let age = column("Age", "date", ".metadata.creationTimestamp");
    let updated = column("Updated", "date", ".last_updated");
    [
        definition(
            ReportKind::Node,
            schema::<NodeReportObject>(),
            &[
                column("OK", "boolean", ".report.summary.ok"),
                column("Pools", "integer", ".report.summary.pools"),
                column("Free", "integer", ".report.summary.exclusiveFree"),
                column("Total", "integer", ".report.summary.exclusiveTotal"),
                updated.clone(),
                age.clone(),
            ],
        ),
        definition(
            ReportKind::Reconcile,
            schema::<ReconcileReportObject>(),
            &[
                column("Reclaimed", "integer", ".report.summary.reclaimed"),
                column("Mismatched", "integer", ".report.summary.mismatched"),
                updated,
                age,
            ],
        ),
    ]
}

fn column(name: &str, kind: &str, path: &str) -> Value {
    json!({"name": name, "type": kind, "jsonPath": path})
}

fn definition(kind: ReportKind, mut schema: Value, columns: &[Value]) -> Value {
    let (name, plural) = (kind.name(), kind.plural());
    // Those of all objects of Kubernetes are the API server's own.
    schema["properties"]["last_updated"] = json!({
        "type": "string", "format": "date-time", "description": "When it was written."
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{GROUP}")},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": name, "listKind": format!("{name}List"),
                "plural": plural, "singular": name.to_lowercase(),
            },
            "scope": "Namespaced",
            "versions": [{
                "name": VERSION, "served": true, "storage": true,
                "schema": {"openAPIV3Schema": schema},
                "additionalPrinterColumns": columns,
            }],
        },
    })
}

/// A structural schema: nothing refers to anything, and every part has its type (Kubernetes'
/// documentation, "Specifying a structural schema").
fn schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let settings = settings
        .with_transform(StructuralSchemaRewriter)
        .with_transform(RecursiveTransform(without_numeric_formats));
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.remove("title");
    schema.to_value()
}

/// The API server knows int32, int64, float and double alone.
fn without_numeric_formats(schema: &mut Schema) {
    let is_other =
        |format: &Value| format.as_str().is_some_and(|format| format.starts_with("uint"));
    if schema.get("format").is_some_and(is_other) {
        schema.remove("format");
    }
}
