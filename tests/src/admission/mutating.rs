//! MutatingAdmissionPolicy.

use serde::Deserialize;
use serde_json::Value;

use super::expression::Expression;
use super::matching::Constraints;
use super::policy::{FailurePolicy, Named, Scope, Shared, spec};
use super::review::Review;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    #[serde(default)]
    failure_policy: FailurePolicy,
    reinvocation_policy: String,
    param_kind: Option<Value>,
    match_constraints: Constraints,
    #[serde(default)]
    match_conditions: Vec<Named>,
    #[serde(default)]
    variables: Vec<Named>,
    mutations: Vec<Change>,
}

#[derive(Deserialize)]
#[serde(tag = "patchType", deny_unknown_fields)]
enum Change {
    JSONPatch {
        #[serde(rename = "jsonPatch")]
        patch: Source,
    },
    ApplyConfiguration {
        #[serde(rename = "applyConfiguration")]
        configuration: Source,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    expression: String,
}

/// A policy that changes objects.
#[derive(Debug)]
pub struct MutatingPolicy {
    scope: Scope,
    mutations: Vec<Mutation>,
}

#[derive(Debug)]
enum Mutation {
    Patch(Expression),
    Configuration(Expression),
}

impl MutatingPolicy {
    /// Reads a policy and compiles all of its expressions; what is wrong with it as a text.
    pub fn parse(policy: &Value) -> Result<Self, String> {
        let spec: Spec = spec(policy, "MutatingAdmissionPolicy")?;
        if spec.failure_policy != FailurePolicy::Fail {
            return Err("failurePolicy must be Fail here".into());
        }
        if !["Never", "IfNeeded"].contains(&spec.reinvocation_policy.as_str()) {
            return Err("reinvocationPolicy must be Never or IfNeeded".into());
        }
        let mut scope = Scope::compile(Shared {
            constraints: spec.match_constraints,
            conditions: spec.match_conditions,
            variables: spec.variables,
            has_params: spec.param_kind.is_some(),
        })?;
        scope.names.objects = true;
        let compile = |change: Change| {
            let compile = |source: &str| Expression::compile(source, &scope.names);
            Ok(match change {
                Change::JSONPatch { patch } => Mutation::Patch(compile(&patch.expression)?),
                Change::ApplyConfiguration { configuration } => {
                    Mutation::Configuration(compile(&configuration.expression)?)
                }
            })
        };
        let mutations: Result<_, String> = spec.mutations.into_iter().map(compile).collect();
        let mutations = mutations.map_err(|error| format!("mutations: {error}"))?;
        Ok(Self { scope, mutations })
    }

    /// Whether the policy is about this request. So it is if that cannot be told: `mutate` then fails.
    pub fn matches(&self, review: &Review) -> bool {
        self.scope.concerns(review).unwrap_or(true)
    }

    /// The object as the policy leaves it, or why the request is refused.
    pub fn mutate(&self, review: &Review) -> Result<Value, String> {
        let mut review = review.clone();
        if !self.scope.concerns(&review)? {
            return Ok(review.object);
        }
        for mutation in &self.mutations {
            match mutation {
                Mutation::Patch(expression) => {
                    let patch: json_patch::Patch =
                        serde_json::from_value(expression.json(&review)?)
                            .map_err(|error| format!("invalid JSON patch: {error}"))?;
                    json_patch::patch(&mut review.object, &patch)
                        .map_err(|error| error.to_string())?;
                }
                Mutation::Configuration(expression) => {
                    let configuration = expression.json(&review)?;
                    merge(&mut review.object, configuration, "")?;
                }
            }
        }
        Ok(review.object)
    }
}

/// Merges as server-side apply does, where there are no lists: how those merge, their schema says.
fn merge(object: &mut Value, configuration: Value, path: &str) -> Result<(), String> {
    match configuration {
        Value::Object(fields) => {
            if !object.is_object() {
                *object = serde_json::json!({});
            }
            fields.into_iter().try_for_each(|(key, value)| {
                let path = format!("{path}.{key}");
                merge(&mut object[key], value, &path)
            })
        }
        Value::Array(_) => Err(format!("{path}: lists are not supported here")),
        value => {
            *object = value;
            Ok(())
        }
    }
}
