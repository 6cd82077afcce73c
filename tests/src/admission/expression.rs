//! One expression: compiled once, evaluated for each request.

use std::sync::{Arc, LazyLock};

use cel::objects::{Key, Map};
use cel::{Context, Env, IdedExpr, Value, extensions};
use serde_json::Value as Json;

use super::review::Review;
use super::rewrite::{Names, rewrite};

/// The language with the functions on strings that Kubernetes adds.
static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    env.add_extension(extensions::strings).unwrap();
    Arc::new(env)
});

/// An expression that can be evaluated.
#[derive(Clone, Debug)]
pub(super) struct Expression {
    source: String,
    pub(super) ast: IdedExpr,
}

impl Expression {
    pub(super) fn compile(source: &str, names: &Names) -> Result<Self, String> {
        let failed = |cause: String| format!("compilation failed: {cause} in {source:?}");
        let mut ast = ENV.parser().parse(source).map_err(|errors| failed(errors.to_string()))?;
        rewrite(&mut ast, names).map_err(failed)?;
        Ok(Self { source: source.to_owned(), ast })
    }

    pub(super) fn evaluate(&self, review: &Review) -> Result<Value, String> {
        let mut context = Context::with_env(ENV.clone());
        let params = review.params.as_ref().unwrap_or(&Json::Null);
        for (name, value) in [
            ("object", &review.object),
            ("oldObject", &review.old_object),
            ("request", &review.request()),
            ("params", params),
        ] {
            context.add_variable_from_value(name, from_json(value));
        }
        let failed =
            |cause| format!("expression '{}' resulted in error: {cause}", self.source.trim());
        Value::resolve(&self.ast, &context).map_err(failed)
    }

    /// The value of an expression that is a condition.
    pub(super) fn holds(&self, review: &Review) -> Result<bool, String> {
        match self.evaluate(review)? {
            Value::Bool(value) => Ok(value),
            other => Err(format!("expression '{}' gives {other:?}, no bool", self.source)),
        }
    }

    /// The value of an expression that makes a text.
    pub(super) fn text(&self, review: &Review) -> Result<String, String> {
        match self.evaluate(review)? {
            Value::String(text) => Ok(text.to_string()),
            other => Err(format!("expression '{}' gives {other:?}, no string", self.source)),
        }
    }

    /// The value of an expression that makes objects.
    pub(super) fn json(&self, review: &Review) -> Result<Json, String> {
        self.evaluate(review)?.json().map_err(|error| error.to_string())
    }

    pub(super) fn source(&self) -> &str {
        self.source.trim()
    }
}

/// Whole numbers are `int` in the objects of Kubernetes, never `uint`.
fn from_json(value: &Json) -> Value {
    match value {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match number.as_i64() {
            Some(number) => Value::Int(number),
            None => Value::Float(number.as_f64().unwrap()),
        },
        Json::String(text) => Value::String(Arc::new(text.clone())),
        Json::Array(items) => {
            Value::List(Arc::new(items.iter().map(from_json).collect::<Vec<_>>()))
        }
        Json::Object(fields) => {
            let pair = |(key, value): (&String, &Json)| (Key::from(key.clone()), from_json(value));
            Value::Map(Map { map: Arc::new(fields.iter().map(pair).collect()) })
        }
    }
}
