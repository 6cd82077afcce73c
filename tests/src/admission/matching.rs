//! Which requests a policy is about.

use serde::Deserialize;
use serde_json::Value;

use super::expression::Expression;
use super::policy::Named;
use super::review::Review;
use super::rewrite::Names;

/// `matchConstraints`, as far as it is understood.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Constraints {
    resource_rules: Vec<Rule>,
    #[serde(default)]
    match_policy: Option<String>,
    #[serde(default)]
    namespace_selector: Option<Value>,
    #[serde(default)]
    object_selector: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    api_groups: Vec<String>,
    api_versions: Vec<String>,
    operations: Vec<String>,
    resources: Vec<String>,
    #[serde(default)]
    scope: Option<String>,
}

impl Constraints {
    /// Refuses what would be passed over: selectors, scopes, and other versions of the same object.
    pub(super) fn check(&self) -> Result<(), String> {
        let selects = |selector: &Option<Value>| {
            selector.as_ref().and_then(Value::as_object).is_some_and(|fields| !fields.is_empty())
        };
        if selects(&self.namespace_selector) || selects(&self.object_selector) {
            return Err("matchConstraints: selectors are not supported here".into());
        }
        if self.match_policy.as_deref().is_some_and(|policy| policy != "Equivalent") {
            return Err("matchConstraints: matchPolicy must be Equivalent here".into());
        }
        let scoped = |rule: &Rule| rule.scope.as_deref().is_some_and(|scope| scope != "*");
        if self.resource_rules.iter().any(scoped) {
            return Err("matchConstraints: scope must be * here".into());
        }
        Ok(())
    }

    pub(super) fn matches(&self, review: &Review) -> bool {
        let any = |listed: &[String], asked: &str| listed.iter().any(|l| l == "*" || l == asked);
        self.resource_rules.iter().any(|rule| {
            any(&rule.api_groups, &review.resource.group)
                && any(&rule.api_versions, &review.resource.version)
                && any(&rule.operations, &review.operation)
                && rule.resources.iter().any(|resource| names_resource(resource, review))
        })
    }
}

/// Whether `pods`, `pods/status`, `pods/*`, `*`, `*/status` or `*/*` means the resource asked for. One
/// without a slash means no subresource.
fn names_resource(rule: &str, review: &Review) -> bool {
    let (resource, subresource) = rule.split_once('/').unwrap_or((rule, ""));
    let asked = review.subresource.as_deref().unwrap_or("");
    let same_resource = resource == "*" || resource == review.resource.resource;
    same_resource && (subresource == asked || subresource == "*")
}

/// `matchConditions`, compiled.
pub(super) fn conditions(named: &[Named], names: &Names) -> Result<Vec<Expression>, String> {
    let compile = |condition: &Named| {
        Expression::compile(&condition.expression, names)
            .map_err(|error| format!("matchConditions {}: {error}", condition.name))
    };
    named.iter().map(compile).collect()
}

/// Whether all conditions hold. One that does not decides, even if another one cannot be evaluated.
pub(super) fn hold(conditions: &[Expression], review: &Review) -> Result<bool, String> {
    let values: Vec<_> = conditions.iter().map(|condition| condition.holds(review)).collect();
    if values.contains(&Ok(false)) {
        return Ok(false);
    }
    values.into_iter().try_fold(true, |all, value| Ok(all && value?))
}
