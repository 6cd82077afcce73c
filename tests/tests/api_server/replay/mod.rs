//! Every recorded exchange, sent to the double in the order in which it was recorded.

mod compare;
mod pods;
mod recording;

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use kcm_tests::api_server::{ApiServer, Ask, Outcome, Reply};
use serde_json::{Value, json};

use recording::Exchange;

const NODE: &str = "127.0.0.1";
/// From here on the recording is of another, new cluster: its resourceVersions begin anew.
const SECOND_CLUSTER: usize = 40;
/// Requests that were sent one after the other, before kubelet and scheduler had done with the first.
const SLOW: [RangeInclusive<usize>; 2] = [5..=7, 34..=36];

#[test]
fn every_recorded_request_is_answered_as_the_api_server_did() {
    let exchanges = recording::exchanges();
    assert_eq!(exchanges.len(), 89);
    let (first, second) = exchanges.split_at(SECOND_CLUSTER);
    let mut differences = Replay::new(first_cluster()).run(first);
    differences.extend(Replay::new(new_cluster()).run(second));
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// A cluster of one node.
fn new_cluster() -> ApiServer {
    let api = ApiServer::start();
    api.kubelet(pods::outcome);
    api.back_off(Duration::from_secs(600));
    api.add_node(NODE);
    api.settle();
    api
}

/// The first one, where a pod `t1` has come and gone twice: once it succeeded, and once it could not start.
fn first_cluster() -> ApiServer {
    let api = new_cluster();
    for message in [None, Some("failed to create containerd task")] {
        api.kubelet(move |pod| match message {
            Some(message) => {
                Outcome::StartFails { container: "main".into(), message: message.into() }
            }
            None => Outcome::usual(pod),
        });
        api.create("/api/v1/namespaces/default/pods", pods::t1());
        api.settle();
        let gone =
            Ask { method: "DELETE".into(), ..Ask::get("/api/v1/namespaces/default/pods/t1") };
        assert_eq!(api.send(&gone).unwrap().status, 200);
        api.settle();
    }
    api.kubelet(pods::outcome);
    api
}

struct Replay {
    api: ApiServer,
    /// What the double has in place of recorded resourceVersions and uids.
    ours: HashMap<String, String>,
    /// The last token that was requested.
    token: String,
}

impl Replay {
    fn new(api: ApiServer) -> Self {
        Self { api, ours: HashMap::new(), token: String::new() }
    }

    fn run(mut self, exchanges: &[Exchange]) -> Vec<String> {
        let mut differences = Vec::new();
        for exchange in exchanges {
            self.prepare(exchange);
            let reply = self.api.send(&self.ask(exchange)).expect("an answer");
            let found = self.compare(exchange, &reply);
            let named = found
                .into_iter()
                .map(|difference| format!("{} {}: {difference}", exchange.number, exchange.name));
            differences.extend(named);
        }
        differences
    }

    /// Lets happen what happened between the recorded requests.
    fn prepare(&self, exchange: &Exchange) {
        let slow = SLOW.iter().any(|requests| requests.contains(&exchange.number));
        self.api.pace(Duration::from_millis(if slow { 400 } else { 5 }));
        if exchange.number == 36 {
            // The watch began when the scheduler had been there, and the kubelet had not.
            let pod = "/api/v1/namespaces/default/pods/accepted";
            while self.api.get(pod).unwrap()["spec"].get("nodeName").is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        if exchange.number == 88 {
            self.api.add_node("other");
        }
        let follows_at_once = SLOW.iter().any(|requests| {
            requests.contains(&exchange.number) && *requests.start() != exchange.number
        });
        if !follows_at_once {
            self.api.settle();
        }
    }

    fn ask(&self, exchange: &Exchange) -> Ask {
        let token = match exchange.number {
            26 => "wrong",
            29 | 30 | 87 | 88 => self.token.as_str(),
            _ => "",
        };
        Ask {
            method: exchange.method.clone(),
            path: exchange.path.clone(),
            content_type: exchange.content_type.clone(),
            body: exchange.body.clone().map(|body| self.translated(body)),
            token: token.into(),
            agent: "python-requests/2.32.3".into(),
        }
    }

    /// The body with the double's resourceVersions and uids in place of the recorded ones.
    fn translated(&self, body: Value) -> Value {
        match body {
            Value::String(text) => self.ours.get(&text).cloned().unwrap_or(text).into(),
            Value::Array(items) => items.into_iter().map(|item| self.translated(item)).collect(),
            Value::Object(fields) => fields
                .into_iter()
                .map(|(name, value)| (name, self.translated(value)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            other => other,
        }
    }

    fn compare(&mut self, exchange: &Exchange, reply: &Reply) -> Vec<String> {
        let mut differences = Vec::new();
        if reply.status != exchange.status {
            differences
                .push(format!("{} in place of {}: {}", reply.status, exchange.status, reply.text));
        }
        let (mut expected, found) = (exchange.answer.clone(), reply.json());
        if exchange.number == 60 {
            // The kubelet makes up a limit of memory here (8 EiB) for a container that has none.
            expected["status"]["resources"] = json!({});
        }
        match exchange.number {
            36 | 37 => differences.extend(compare::watch(&expected, &reply.events())),
            _ if expected.is_string() => {
                differences.extend(compare::same("", &expected, &json!(reply.text)));
            }
            _ => {
                differences.extend(compare::bodies(&expected, &found));
                differences.extend(self.learn(&expected, &found));
            }
        }
        if let Some(token) = found["status"]["token"].as_str() {
            self.token = token.into();
        }
        differences
    }

    /// Notes what the double has in place of the recorded identities. The same one stands for the same one:
    /// so an object that was left as it was has kept its resourceVersion.
    fn learn(&mut self, expected: &Value, found: &Value) -> Option<String> {
        for field in ["resourceVersion", "uid"] {
            let (Some(theirs), Some(ours)) =
                (expected["metadata"][field].as_str(), found["metadata"][field].as_str())
            else {
                continue;
            };
            let known = self.ours.insert(theirs.into(), ours.into());
            if known.as_deref().is_some_and(|known| known != ours) {
                return Some(format!("{field} {theirs} was {known:?}, and is now {ours}"));
            }
        }
        None
    }
}
