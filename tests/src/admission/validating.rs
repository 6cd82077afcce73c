//! ValidatingAdmissionPolicy.

use serde::Deserialize;
use serde_json::Value;

use super::expression::Expression;
use super::matching::Constraints;
use super::policy::{FailurePolicy, Named, Scope, Shared, spec};
use super::review::Review;

/// The longest message that an expression may make, in bytes.
const LONGEST_MESSAGE: usize = 5 * 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    #[serde(default)]
    failure_policy: FailurePolicy,
    param_kind: Option<Value>,
    match_constraints: Constraints,
    #[serde(default)]
    match_conditions: Vec<Named>,
    #[serde(default)]
    variables: Vec<Named>,
    validations: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    expression: String,
    message: Option<String>,
    message_expression: Option<String>,
}

/// A policy that accepts or refuses.
#[derive(Debug)]
pub struct ValidatingPolicy {
    scope: Scope,
    failure_policy: FailurePolicy,
    validations: Vec<Validation>,
}

#[derive(Debug)]
struct Validation {
    expression: Expression,
    message: Option<String>,
    message_expression: Option<Expression>,
}

impl ValidatingPolicy {
    /// Reads a policy and compiles all of its expressions; what is wrong with it as a text.
    pub fn parse(policy: &Value) -> Result<Self, String> {
        let spec: Spec = spec(policy, "ValidatingAdmissionPolicy")?;
        let scope = Scope::compile(Shared {
            constraints: spec.match_constraints,
            conditions: spec.match_conditions,
            variables: spec.variables,
            has_params: spec.param_kind.is_some(),
        })?;
        if spec.validations.is_empty() {
            return Err("spec: no validations".into());
        }
        let compile = |rule: Rule| {
            let compile = |source: &str| Expression::compile(source, &scope.names);
            let message_expression = rule.message_expression.as_deref().map(compile).transpose()?;
            let expression = compile(&rule.expression)?;
            Ok(Validation { expression, message: rule.message, message_expression })
        };
        let validations: Result<_, String> = spec.validations.into_iter().map(compile).collect();
        let validations = validations.map_err(|error| format!("validations: {error}"))?;
        Ok(Self { scope, failure_policy: spec.failure_policy, validations })
    }

    /// Whether the policy is about this request. So it is if that cannot be told: `review` then fails.
    pub fn matches(&self, review: &Review) -> bool {
        self.scope.concerns(review).unwrap_or(true)
    }

    /// Accepts the request, or says why not: the message of the first validation that fails, or of
    /// what cannot be evaluated. What the policy is not about is accepted.
    pub fn review(&self, review: &Review) -> Result<(), String> {
        if !self.or_ignored(self.scope.concerns(review), false)? {
            return Ok(());
        }
        for validation in &self.validations {
            if !self.or_ignored(validation.expression.holds(review), true)? {
                return Err(validation.message(review));
            }
        }
        Ok(())
    }

    fn or_ignored(&self, value: Result<bool, String>, otherwise: bool) -> Result<bool, String> {
        match self.failure_policy {
            FailurePolicy::Fail => value,
            FailurePolicy::Ignore => Ok(value.unwrap_or(otherwise)),
        }
    }
}

impl Validation {
    /// The message by expression if that makes one line, not too long; else the fixed one.
    fn message(&self, review: &Review) -> String {
        let made = self.message_expression.as_ref().and_then(|e| e.text(review).ok());
        let made = made.map(|text| text.trim().to_owned());
        let fits = |text: &String| {
            !text.is_empty() && text.len() <= LONGEST_MESSAGE && !text.contains('\n')
        };
        made.filter(fits)
            .or_else(|| self.message.clone())
            .unwrap_or_else(|| format!("failed expression: {}", self.expression.source()))
    }
}
