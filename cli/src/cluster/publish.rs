//! Reports as custom resources, written by server-side apply.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::{Duration, Instant};

use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::crds::{NodeReportObject, NodeReported, NodeSummary};
use super::crds::{ReconcileReportObject, ReconcileReported, ReconcileSummary, ReportKind};
use super::{CallError, Cluster, FIELD_MANAGER, GROUP, Object, VERSION, Verb, call, run};
use crate::report::node::NodeReport;
use crate::report::reconcile::ReconcileReport;

/// How often a report that has not changed is written again, so that its time shows that somebody
/// still looks; less up to a fifth, lest all nodes write at once.
const REFRESH: Duration = Duration::from_secs(600);

/// How long it may take in all: a round of `reconcile --repair` must not wait for a server that
/// hangs.
const LIMIT: Duration = Duration::from_secs(15);

/// A report in the form of its custom resource, but for name and time.
#[derive(Debug, PartialEq)]
pub(crate) struct Document {
    kind: ReportKind,
    fields: Value,
}

/// Writes the reports of a node, those that say something new.
pub(crate) struct Publisher {
    node: String,
    namespace: String,
    /// What was written last, and when it is due again.
    last: Option<(Document, Instant)>,
}

impl Publisher {
    /// For this node, in this namespace.
    pub(crate) fn new(node: String, namespace: String) -> Self {
        Self { node, namespace, last: None }
    }

    /// Writes a report, unless the last one said the same and is not old.
    pub(crate) fn publish(&mut self, document: Document) -> anyhow::Result<()> {
        let now = Instant::now();
        if !self.is_due(&document, now) {
            return Ok(());
        }
        run(async {
            let cluster = Cluster::from_environment().await?;
            match tokio::time::timeout(LIMIT, self.write(&cluster, &document)).await {
                Ok(written) => Ok(written?),
                Err(_) => {
                    let object = self.object(document.kind);
                    Err(CallError::timed_out(Verb::Apply, object, LIMIT).into())
                }
            }
        })?;
        log::debug!("published {} {}", document.kind.name(), self.node);
        self.last = Some((document, now + jittered(REFRESH)));
        Ok(())
    }

    /// Whether it says something new, or the last one is old.
    fn is_due(&self, document: &Document, now: Instant) -> bool {
        self.last.as_ref().is_none_or(|(last, due)| last != document || now >= *due)
    }

    fn object(&self, kind: ReportKind) -> Object {
        Object::of(GROUP, kind.plural(), &self.node).inside(&self.namespace)
    }

    async fn write(&self, cluster: &Cluster, document: &Document) -> Result<(), CallError> {
        let kind = document.kind;
        let resource = ApiResource {
            group: GROUP.to_owned(),
            version: VERSION.to_owned(),
            api_version: format!("{GROUP}/{VERSION}"),
            kind: kind.name().to_owned(),
            plural: kind.plural().to_owned(),
        };
        let reports: Api<DynamicObject> =
            Api::namespaced_with(cluster.client.clone(), &self.namespace, &resource);
        let object = self.object(kind);
        let patch = Patch::Apply(document.object(&self.node));
        let params = PatchParams::apply(FIELD_MANAGER);
        match call(Verb::Apply, &object, || reports.patch(&self.node, &params, &patch)).await {
            // It says what is true of this node; whoever else wrote into it does not know better.
            Err(error) if error.is_of_other_owners() => {
                log::warn!("{error}; taking them back");
                let params = params.force();
                call(Verb::Apply, &object, || reports.patch(&self.node, &params, &patch)).await?;
            }
            written => drop(written?),
        }
        Ok(())
    }
}

impl Document {
    /// The object to apply, with the time of now.
    fn object(&self, node: &str) -> Value {
        let now = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        let mut object = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"),
            "kind": self.kind.name(),
            "metadata": {"name": node},
            "last_updated": now,
        });
        if let (Some(object), Value::Object(fields)) = (object.as_object_mut(), &self.fields) {
            object.extend(fields.clone());
        }
        object
    }
}

impl From<NodeReport> for Document {
    fn from(NodeReport { checks, description, topology }: NodeReport) -> Self {
        let summary = NodeSummary::of(&checks, description.as_ref());
        let report = NodeReported { checks, description, summary };
        let object = NodeReportObject { report, topology };
        Self { kind: ReportKind::Node, fields: json!(object) }
    }
}

impl From<ReconcileReport> for Document {
    fn from(found: ReconcileReport) -> Self {
        let summary = ReconcileSummary::of(&found);
        let object = ReconcileReportObject { report: ReconcileReported { found, summary } };
        Self { kind: ReportKind::Reconcile, fields: json!(object) }
    }
}

/// Somewhat less than this time, at random.
fn jittered(time: Duration) -> Duration {
    // Each state is seeded at random.
    let part = RandomState::new().hash_one(0) % 200;
    time - time / 1000 * u32::try_from(part).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reclaimed(pool: &str) -> Document {
        Document { kind: ReportKind::Reconcile, fields: json!({"report": {"pool": pool}}) }
    }

    #[test]
    fn a_report_is_written_when_it_says_something_new_or_is_old() {
        let mut publisher = Publisher::new("worker-1".to_owned(), "default".to_owned());
        let now = Instant::now();
        assert!(publisher.is_due(&reclaimed("a"), now));
        publisher.last = Some((reclaimed("a"), now + REFRESH));
        for (document, later, due) in [
            (reclaimed("a"), Duration::ZERO, false),
            (reclaimed("a"), REFRESH - Duration::from_secs(1), false),
            (reclaimed("a"), REFRESH, true),
            (reclaimed("b"), Duration::ZERO, true),
        ] {
            assert_eq!(publisher.is_due(&document, now + later), due, "{document:?} {later:?}");
        }
    }

    #[test]
    fn nodes_do_not_write_all_at_once() {
        let times: Vec<Duration> = (0..100).map(|_| jittered(REFRESH)).collect();
        assert!(times.iter().all(|time| (REFRESH * 4 / 5..=REFRESH).contains(time)));
        assert!(times.iter().any(|time| *time != times[0]));
    }
}
