//! What each request that is not a watch does.

use serde_json::{Value, json};

use super::Cluster;
use super::admission;
use super::answer::{self, Answer};
use super::clock;
use super::defaults;
use super::logs;
use super::ownership::{Manager, Managers};
use super::patching;
use super::pods;
use super::request::{Seen, Target};
use super::selectors::Selector;
use super::store::Key;
use super::users::{Identity, User};

/// A request with what is known about it.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) seen: &'a Seen,
    pub(super) target: &'a Target,
    pub(super) who: &'a Identity,
    /// The field manager of a write that names none: the start of the user agent.
    pub(super) agent: &'a str,
}

impl Call<'_> {
    /// The answer. Faults of the request are answers, too.
    pub(super) fn answer(&self) -> Answer {
        let result = self.check_query().and_then(|()| match self.seen.operation().as_str() {
            "get" => self.get(),
            "list" => self.list(),
            "create" => self.create(),
            "delete" => self.delete(),
            "merge" | "json" | "status/merge" | "status/json" => patching::patch(self),
            "apply" => patching::apply(self),
            "log/get" => logs::log(self),
            "token/create" => self.token(),
            other => Err(answer::unknown(other)),
        });
        result.unwrap_or_else(|failure| failure)
    }

    /// Refuses a parameter of the query that is not known for this operation.
    pub(super) fn check_query(&self) -> Result<(), Answer> {
        let known: &[&str] = match self.seen.operation().as_str() {
            "list" => &[
                "labelSelector",
                "fieldSelector",
                "limit",
                "continue",
                "resourceVersion",
                "resourceVersionMatch",
                "timeoutSeconds",
                "watch",
                "allowWatchBookmarks",
            ],
            "watch" => &[
                "labelSelector",
                "fieldSelector",
                "resourceVersion",
                "resourceVersionMatch",
                "timeoutSeconds",
                "watch",
                "allowWatchBookmarks",
            ],
            "get" => &["resourceVersion"],
            "log/get" => &["container", "tailLines", "previous"],
            "delete" => &["gracePeriodSeconds", "propagationPolicy"],
            "apply" => &["fieldManager", "force", "dryRun", "fieldValidation"],
            _ => &["fieldManager", "dryRun", "fieldValidation"],
        };
        let is_fine = |(name, value): &(String, String)| {
            known.contains(&name.as_str())
                && match name.as_str() {
                    "dryRun" => value == "All",
                    "force" | "watch" | "allowWatchBookmarks" | "previous" => {
                        matches!(value.as_str(), "true" | "false" | "1" | "0")
                    }
                    "fieldValidation" => matches!(value.as_str(), "Strict" | "Warn" | "Ignore"),
                    _ => true,
                }
        };
        match self.seen.query.iter().find(|pair| !is_fine(pair)) {
            Some((name, value)) => Err(answer::unknown(&format!("the parameter {name}={value}"))),
            None => Ok(()),
        }
    }

    pub(super) fn key(&self) -> Key {
        Key::new(&self.target.kind, &self.target.namespace, &self.target.name)
    }

    pub(super) fn not_found(&self) -> Answer {
        answer::not_found(&self.target.kind, &self.target.name)
    }

    /// Who is noted as the owner of what is written.
    pub(super) fn manager(&self) -> Manager {
        let name = self.seen.parameter("fieldManager").unwrap_or(self.agent);
        Manager::updating(name, &self.target.subresource)
    }

    pub(super) fn is_dry(&self) -> bool {
        self.seen.parameter("dryRun").is_some()
    }

    fn get(&self) -> Result<Answer, Answer> {
        let object = self.cluster.object(&self.key()).ok_or_else(|| self.not_found())?;
        Ok(Answer::json(200, (*object).clone()))
    }

    fn list(&self) -> Result<Answer, Answer> {
        let selector = Selector::of(self.seen)?;
        let kind = &self.target.kind;
        let number = |name: &str| match self.seen.parameter(name).unwrap_or("0") {
            "" => Ok(0),
            text => text.parse::<u64>().map_err(|_| answer::unknown(name)),
        };
        let limit = match number("limit")? {
            0 => usize::MAX,
            limit => limit as usize,
        };
        let asked = number("resourceVersion")?;
        // The name after which the last page ended. The real one is opaque, and so this looks.
        let after = self.seen.parameter("continue").filter(|token| !token.is_empty());
        let after = after.map(|token| token.strip_prefix("after-").ok_or_else(answer::expired));
        let after = after.transpose()?;
        let state = self.cluster.lock();
        let version = state.store.version;
        let exact = self.seen.parameter("resourceVersionMatch") == Some("Exact");
        if asked > version || (exact && asked != version) {
            return Err(answer::unknown(&format!("a list at resourceVersion {asked}")));
        }
        let all = state.store.list(&kind.group, &kind.resource, &self.target.namespace);
        let rest = all.filter(|(key, _)| after.is_none_or(|after| key.name.as_str() > after));
        let rest: Vec<_> = rest.filter(|(_, object)| selector.selects(object)).collect();
        let page = &rest[..limit.min(rest.len())];
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if page.len() < rest.len() {
            let (last, _) = page[page.len() - 1];
            metadata["continue"] = format!("after-{}", last.name).into();
            metadata["remainingItemCount"] = json!(rest.len() - page.len());
        } else if kind.is_custom() {
            metadata["continue"] = "".into();
        }
        let items: Vec<Value> = page.iter().map(|(_, object)| self.item(object)).collect();
        let body = json!({"kind": format!("{}List", kind.kind), "apiVersion": kind.api_version(),
            "metadata": metadata, "items": items});
        Ok(Answer::json(200, body))
    }

    /// An object in a list: those of kinds that are built in do not tell their kind.
    fn item(&self, object: &Value) -> Value {
        let mut item = object.clone();
        if !self.target.kind.is_custom()
            && let Some(fields) = item.as_object_mut()
        {
            fields.remove("kind");
            fields.remove("apiVersion");
        }
        item
    }

    fn create(&self) -> Result<Answer, Answer> {
        let kind = &self.target.kind;
        let mut object = self.manifest()?;
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if name.is_empty() {
            return Err(answer::unknown("an object without a name"));
        }
        let key = Key::new(kind, &self.target.namespace, &name);
        if kind.namespaced {
            object["metadata"]["namespace"] = key.namespace.as_str().into();
        }
        let named = Target { name: name.clone(), ..self.target.clone() };
        defaults::complete(&key.group, &key.resource, &mut object);
        let mut object = admission::change(self, &named, object)?;
        if kind.kind == "Pod" {
            pods::validate(kind, &object)?;
        }
        admission::review(self, &named, &Value::Null, &object)?;
        let manager = self.manager();
        self.cluster.write(|state| {
            if state.store.get(&key).is_some() {
                return Err(answer::already_exists(kind, &name));
            }
            state.store.born(kind, &key, &mut object);
            if self.is_dry() {
                return Ok(Answer::json(201, object));
            }
            let mut managers = Managers::default();
            if kind.kind != "Pod" {
                managers.updated(&manager, &Value::Null, &object);
            }
            let created = state.store.put(&key, object, managers);
            Ok(Answer::json(201, (*created).clone()))
        })
    }

    /// The body as an object of the kind that the path names.
    pub(super) fn manifest(&self) -> Result<Value, Answer> {
        let (body, kind) = (&self.seen.body, &self.target.kind);
        if body["kind"] != kind.kind || body["apiVersion"] != kind.api_version() {
            let message = format!(
                "{} in version {:?} cannot be handled as a {}: no kind that fits is in the body",
                kind.kind,
                kind.api_version(),
                kind.kind
            );
            return Err(answer::bad_request(&message));
        }
        let namespace = body["metadata"]["namespace"].as_str();
        if namespace.is_some_and(|namespace| namespace != self.target.namespace) {
            return Err(answer::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        Ok(body.clone())
    }

    fn delete(&self) -> Result<Answer, Answer> {
        let known = ["apiVersion", "kind", "gracePeriodSeconds", "propagationPolicy"];
        let fields = self.seen.body.as_object().into_iter().flatten();
        if let Some((name, value)) = fields.into_iter().find(|f| !known.contains(&f.0.as_str())) {
            return Err(answer::unknown(&format!("to delete with {name}: {value}")));
        }
        let key = self.key();
        let asked = self.seen.parameter("gracePeriodSeconds").and_then(|text| text.parse().ok());
        let asked = asked.or_else(|| self.seen.body["gracePeriodSeconds"].as_u64());
        self.cluster.write(|state| {
            let old = state.store.get(&key).ok_or_else(|| self.not_found())?;
            let mut last = (*old).clone();
            if self.target.kind.kind != "Pod" {
                let mut details = answer::details(&self.target.kind, &key.name);
                details["uid"] = old["metadata"]["uid"].clone();
                state.store.remove(&key, last);
                return Ok(Answer::json(
                    200,
                    json!({"kind": "Status", "apiVersion": "v1",
                    "metadata": {}, "status": "Success", "details": details}),
                ));
            }
            let grace = asked.or_else(|| old["spec"]["terminationGracePeriodSeconds"].as_u64());
            // A pod that no kubelet has is not waited for.
            let at_once = grace == Some(0) || old["status"].get("startTime").is_none();
            let grace = if at_once { 0 } else { grace.unwrap_or(30) };
            if last["metadata"].get("deletionTimestamp").is_none() {
                let generation = last["metadata"]["generation"].as_u64().unwrap_or_default();
                last["metadata"]["generation"] = json!(generation + 1);
            }
            last["metadata"]["deletionTimestamp"] = clock::in_seconds(grace as i64).into();
            last["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
            let deleted = if at_once {
                state.store.remove(&key, last)
            } else {
                let managers = state.store.managers(&key);
                state.store.put(&key, last, managers)
            };
            Ok(Answer::json(200, (*deleted).clone()))
        })
    }

    fn token(&self) -> Result<Answer, Answer> {
        let account = self.cluster.object(&self.key()).ok_or_else(|| self.not_found())?;
        let spec = &self.manifest_of("TokenRequest", "authentication.k8s.io/v1")?["spec"];
        let (namespace, name) = (&self.target.namespace, &self.target.name);
        let mut user =
            User { name: format!("system:serviceaccount:{namespace}:{name}"), ..User::default() };
        let bound = &spec["boundObjectRef"];
        if let Some(pod) = bound["name"].as_str() {
            let key = Key::core("pods", namespace, pod);
            let there =
                self.cluster.object(&key).filter(|pod| pod["metadata"]["uid"] == bound["uid"]);
            let there =
                there.ok_or_else(|| answer::unknown("a token bound to a pod that is not there"))?;
            user.node = there["spec"]["nodeName"].as_str().map(str::to_owned);
        }
        let seconds = spec["expirationSeconds"].as_i64().unwrap_or(3600);
        let token = self.cluster.lock().tokens.request(user);
        Ok(Answer::json(
            201,
            json!({
                "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
                "metadata": {"name": name, "namespace": namespace, "creationTimestamp": clock::now(),
                    "uid": account["metadata"]["uid"]},
                "spec": {"audiences": ["https://kubernetes.default.svc"], "expirationSeconds": seconds,
                    "boundObjectRef": bound},
                "status": {"token": token, "expirationTimestamp": clock::in_seconds(seconds)},
            }),
        ))
    }

    fn manifest_of(&self, kind: &str, version: &str) -> Result<&Value, Answer> {
        let body = &self.seen.body;
        if body["kind"] == kind && body["apiVersion"] == version {
            Ok(body)
        } else {
            Err(answer::unknown(&format!("a {kind} of another kind or version")))
        }
    }
}
