//! The recording, read.

use serde_json::{Value, json};

/// A request and its answer.
pub(crate) struct Exchange {
    pub(crate) number: usize,
    pub(crate) name: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) content_type: String,
    pub(crate) body: Option<Value>,
    pub(crate) status: u16,
    /// The body of the answer: JSON, text, or the events of a watch.
    pub(crate) answer: Value,
}

/// All of them, in the order in which they were recorded.
pub(crate) fn exchanges() -> Vec<Exchange> {
    let file = include_str!("../../../fixtures/kube-api/exchanges.json");
    let recording: Value = serde_json::from_str(file).unwrap();
    let exchanges = recording["exchanges"].as_array().unwrap();
    exchanges.iter().enumerate().map(|(number, exchange)| read(number, exchange)).collect()
}

fn read(number: usize, exchange: &Value) -> Exchange {
    let (request, response) = (&exchange["request"], &exchange["response"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut body = request.get("body").cloned();
    if number == 76 {
        // The body was changed after it was sent, to be that of 77. The answer tells what it was.
        let annotations = json!({"kcm.intel.com/pool": "dataplane"});
        body.as_mut().unwrap()["metadata"]["annotations"] = annotations;
    }
    Exchange {
        number,
        name: text(&exchange["name"]),
        method: text(&request["method"]),
        path: text(&request["path"]),
        content_type: text(&request["contentType"]),
        body,
        status: response["status"].as_u64().unwrap() as u16,
        answer: response["body"].clone(),
    }
}
