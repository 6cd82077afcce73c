//! What both kinds of policy have in common.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::expression::Expression;
use super::matching::{self, Constraints};
use super::review::Review;
use super::rewrite::Names;

/// An expression with a name: a variable or a condition.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) expression: String,
}

/// `failurePolicy`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub(super) enum FailurePolicy {
    /// What cannot be evaluated is refused.
    #[default]
    Fail,
    /// What cannot be evaluated is passed over.
    Ignore,
}

/// The fields of a specification that both kinds have.
pub(super) struct Shared {
    pub(super) constraints: Constraints,
    pub(super) conditions: Vec<Named>,
    pub(super) variables: Vec<Named>,
    pub(super) has_params: bool,
}

/// Which requests a policy is about, and the names that its other expressions may use.
#[derive(Debug)]
pub(super) struct Scope {
    constraints: Constraints,
    conditions: Vec<Expression>,
    pub(super) names: Names,
}

impl Scope {
    pub(super) fn compile(shared: Shared) -> Result<Self, String> {
        shared.constraints.check()?;
        let mut roots = vec!["object", "oldObject", "request"];
        if shared.has_params {
            roots.push("params");
        }
        let mut names = Names { roots, ..Names::default() };
        // Variables do not exist yet when the conditions are evaluated.
        let conditions = matching::conditions(&shared.conditions, &names)?;
        for variable in shared.variables {
            let compiled = Expression::compile(&variable.expression, &names)
                .map_err(|error| format!("variables {}: {error}", variable.name))?;
            names.variables.insert(variable.name, compiled.ast);
        }
        Ok(Self { constraints: shared.constraints, conditions, names })
    }

    /// Whether the policy is about this request; an error if a condition cannot be evaluated.
    pub(super) fn concerns(&self, review: &Review) -> Result<bool, String> {
        if !self.constraints.matches(review) {
            return Ok(false);
        }
        matching::hold(&self.conditions, review)
    }
}

/// The specification of a policy of this kind. A field that is not known is an error.
pub(super) fn spec<T: DeserializeOwned>(policy: &Value, kind: &str) -> Result<T, String> {
    if policy["apiVersion"] != "admissionregistration.k8s.io/v1" || policy["kind"] != kind {
        return Err(format!("no {kind} of admissionregistration.k8s.io/v1"));
    }
    serde_json::from_value(policy["spec"].clone()).map_err(|error| format!("spec: {error}"))
}
