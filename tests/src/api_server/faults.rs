//! Faults that a test injects, and changes that somebody makes just before a request.

use std::fmt;
use std::time::Duration;

use super::Cluster;
use super::answer::{self, Answer};
use super::request::{Seen, Target};
use serde_json::{Value, json};

type Condition = Box<dyn Fn(&Seen) -> bool + Send>;

/// What goes wrong with a request, how often, and with which ones.
pub struct Fault {
    what: What,
    left: usize,
    on: Condition,
    pub(super) fired: bool,
}

/// What happens in place of the answer, or before it.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// The answer is this status; seconds of `Retry-After`.
    Status(u16, Option<u64>),
    /// The connection is closed with no answer.
    Reset,
    /// The request is handled after so long.
    Hang(Duration),
    /// The watch is cut, in the middle of a line, after so many events.
    Cut(usize),
    /// The watch ends with an ERROR event of status 410 after so many events.
    GoneEvent(usize),
}

impl Fault {
    fn new(what: What) -> Self {
        Self { what, left: 1, on: Box::new(|_| true), fired: false }
    }

    /// An answer of this status (409, 410, 429, 500, 503, …) with a body such as the API server has.
    pub fn status(code: u16) -> Self {
        Self::new(What::Status(code, None))
    }

    /// 429 that tells when to come again.
    pub fn too_many_requests(retry_after: u64) -> Self {
        Self::new(What::Status(429, Some(retry_after)))
    }

    /// 409: somebody else has changed the object.
    pub fn conflict() -> Self {
        Self::status(409)
    }

    /// 410: the resourceVersion is too old, as the answer's status.
    pub fn gone() -> Self {
        Self::status(410)
    }

    /// 410 as an event of the watch, after so many others.
    pub fn gone_after(events: usize) -> Self {
        Self::new(What::GoneEvent(events))
    }

    /// The connection is closed with no answer.
    pub fn reset() -> Self {
        Self::new(What::Reset)
    }

    /// The request is handled only after so long.
    pub fn hang(how_long: Duration) -> Self {
        Self::new(What::Hang(how_long))
    }

    /// The watch's connection is closed in the middle of a line, after one event.
    pub fn cut() -> Self {
        Self::cut_after(1)
    }

    /// The watch's connection is closed in the middle of a line, after so many events.
    pub fn cut_after(events: usize) -> Self {
        Self::new(What::Cut(events))
    }

    /// How many requests are hit; one, if it is not said.
    pub fn times(mut self, times: usize) -> Self {
        self.left = times;
        self
    }

    /// Which requests are hit. What concerns watches hits only them in any case.
    pub fn on(mut self, condition: impl Fn(&Seen) -> bool + Send + 'static) -> Self {
        self.on = Box::new(condition);
        self
    }

    fn hits(&self, seen: &Seen) -> bool {
        let possible = match self.what {
            What::Cut(_) | What::GoneEvent(_) => seen.verb == "watch",
            _ => true,
        };
        self.left > 0 && possible && (self.on)(seen)
    }

    /// The first of the faults that hits the request.
    pub(super) fn next(faults: &mut [Self], seen: &Seen) -> Option<What> {
        let fault = faults.iter_mut().find(|fault| fault.hits(seen))?;
        fault.left -= 1;
        fault.fired = true;
        Some(fault.what.clone())
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {} times", self.what, self.left)
    }
}

/// The answer that stands for a status.
pub(super) fn answer(code: u16, retry_after: Option<u64>, target: &Target) -> Answer {
    let mut answer = match code {
        409 => answer::conflict(&target.kind, &target.name),
        410 => answer::expired(),
        429 => {
            let details = retry_after.map_or(Value::Null, |s| json!({"retryAfterSeconds": s}));
            let message = "Too many requests, please try again later.";
            Answer::failure(429, "TooManyRequests", message, details)
        }
        500 => Answer::failure(
            500,
            "InternalError",
            "Internal error occurred: injected by a test",
            json!({"causes": [{"message": "injected by a test"}]}),
        ),
        503 => {
            let message = "the server is currently unable to handle the request";
            Answer::failure(503, "ServiceUnavailable", message, Value::Null)
        }
        other => Answer::failure(other, "", "injected by a test", Value::Null),
    };
    answer.retry_after = retry_after;
    answer
}

type Edit = Box<dyn FnOnce(&Cluster) + Send>;

/// Something that happens once, just before a request is handled.
pub(super) struct Before {
    pub(super) on: Condition,
    pub(super) edit: Edit,
}

impl fmt::Debug for Before {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an edit before a request")
    }
}
