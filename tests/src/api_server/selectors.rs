//! Label selectors and field selectors.

use serde_json::Value;

use super::answer::{self, Answer};
use super::request::Seen;

/// Which objects a list or a watch is about.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector(Vec<Term>);

#[derive(Clone, Debug)]
struct Term {
    place: Vec<String>,
    wants: Wants,
}

#[derive(Clone, Debug)]
enum Wants {
    Equal(String),
    Unequal(String),
    Present,
    Absent,
}

impl Selector {
    /// Both selectors of a request. Sets (`in (a, b)`) and other fields are unknown here.
    pub(super) fn of(seen: &Seen) -> Result<Self, Answer> {
        let mut terms = Vec::new();
        for term in terms_of(seen.parameter("labelSelector")) {
            if term.contains(['(', ' ']) {
                return Err(answer::unknown(&format!("labelSelector {term}")));
            }
            let (name, wants) = wanted(term);
            let place = ["metadata", "labels", name].map(str::to_owned).to_vec();
            terms.push(Term { place, wants });
        }
        for term in terms_of(seen.parameter("fieldSelector")) {
            let (name, wants) = wanted(term);
            let is_pod_field = name == "spec.nodeName" && seen.resource == "pods";
            if !(name == "metadata.name" || is_pod_field) {
                return Err(answer::unknown(&format!("fieldSelector {term}")));
            }
            terms.push(Term { place: name.split('.').map(str::to_owned).collect(), wants });
        }
        Ok(Self(terms))
    }

    /// Whether an object is selected.
    pub(super) fn selects(&self, object: &Value) -> bool {
        self.0.iter().all(|term| {
            let found = term.place.iter().try_fold(object, |value, name| value.get(name));
            let found = found.and_then(Value::as_str);
            match &term.wants {
                Wants::Equal(value) => found.unwrap_or_default() == value,
                Wants::Unequal(value) => found.unwrap_or_default() != value,
                Wants::Present => found.is_some(),
                Wants::Absent => found.is_none(),
            }
        })
    }
}

fn terms_of(parameter: Option<&str>) -> impl Iterator<Item = &str> {
    parameter.into_iter().flat_map(|list| list.split(',')).filter(|term| !term.is_empty())
}

fn wanted(term: &str) -> (&str, Wants) {
    if let Some((name, value)) = term.split_once("!=") {
        (name, Wants::Unequal(value.into()))
    } else if let Some((name, value)) = term.split_once('=') {
        (name, Wants::Equal(value.trim_start_matches('=').into()))
    } else if let Some(name) = term.strip_prefix('!') {
        (name, Wants::Absent)
    } else {
        (term, Wants::Present)
    }
}
