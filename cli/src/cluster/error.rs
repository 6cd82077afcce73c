//! Why a call to the API server failed, for whoever reads the log at night: verb, object, HTTP
//! status, cause, and what to do.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use kcm_core::text::one_line;
use kube_core::Status;

use super::limits::TooLong;
use super::{FIELD_MANAGER, GROUP, Object, Verb};

/// Bytes of what the server says.
const LONGEST_MESSAGE: usize = 2 << 10;

/// A call that failed for good.
#[derive(Debug)]
pub(crate) struct CallError {
    /// What was to be done.
    pub(crate) verb: Verb,
    /// With what.
    pub(crate) object: Object,
    /// Why it was not.
    pub(crate) cause: Cause,
}

/// Why a call failed.
#[derive(Debug)]
pub(crate) enum Cause {
    /// The API server says no.
    Refused(Box<Status>),
    /// It did not answer, or nonsense.
    Failed(kube::Error),
    /// It did not answer in time.
    TimedOut(Duration),
}

impl Cause {
    /// The HTTP status.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(status) => Some(status.code),
            _ => None,
        }
    }

    /// Whether the same call may succeed a little later.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            // Patches that break the schema of a custom resource are a 500 (measured, 1.36).
            Self::Refused(status) => {
                status.code == 429 || (status.code >= 500 && !breaks_schema(status))
            }
            Self::Failed(error) => {
                matches!(error, kube::Error::Service(_) | kube::Error::HyperError(_))
                    && !is_of_too_long(error)
            }
            Self::TimedOut(_) => true,
        }
    }
}

impl From<kube::Error> for Cause {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Refused(status),
            other => Self::Failed(other),
        }
    }
}

/// Whether what answered was cut.
fn is_of_too_long(error: &(dyn std::error::Error + 'static)) -> bool {
    error.is::<TooLong>() || error.source().is_some_and(is_of_too_long)
}

fn breaks_schema(status: &Status) -> bool {
    status.message.starts_with("failed to create typed patch object")
}

impl CallError {
    /// There was no answer in this time.
    pub(crate) fn timed_out(verb: Verb, object: Object, limit: Duration) -> Self {
        Self { verb, object, cause: Cause::TimedOut(limit) }
    }

    /// Whether an apply would have changed fields that others own.
    pub(crate) fn is_of_other_owners(&self) -> bool {
        let text = "Apply failed";
        matches!(&self.cause, Cause::Refused(s) if s.code == 409 && s.message.starts_with(text))
    }

    /// Whether an object of this name is there already.
    pub(crate) fn is_of_one_that_exists(&self) -> bool {
        matches!(&self.cause, Cause::Refused(status) if status.is_already_exists())
    }

    /// What to do about it; empty where nobody can know.
    fn remedy(&self) -> String {
        let Cause::Refused(status) = &self.cause else {
            return match self.verb {
                Verb::Watch => String::new(),
                _ if matches!(&self.cause, Cause::Failed(error) if is_of_too_long(error)) => {
                    "; is it the API server that answers there?".to_owned()
                }
                _ => "; is the API server up, and can it be reached from here?".to_owned(),
            };
        };
        let ours = self.object.group == GROUP;
        match status.code {
            401 => "; the token or certificate is not valid (any more): mount a service account's token, \
                    or mend the kubeconfig"
                .to_owned(),
            403 => {
                let rule = self.object.rule(self.verb);
                let place = match self.object.is_done_on_nodes(self.verb) {
                    true => " (packaging/kubernetes/base/rbac.yaml has all)",
                    false => "",
                };
                format!("; missing is the rule {rule}{place}")
            }
            404 if ours && status.reason != "NotFound" => {
                "; the cluster does not know this kind: kcm crds | kubectl apply --server-side -f -"
                    .to_owned()
            }
            422 | 500 if ours && (breaks_schema(status) || status.code == 422) => {
                "; the cluster's definition of the kind is of another version of kcm: kcm crds | \
                 kubectl apply --server-side -f -"
                    .to_owned()
            }
            409 if self.is_of_other_owners() => {
                format!("; others than {FIELD_MANAGER} own these fields")
            }
            _ => String::new(),
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, object) = (self.verb, &self.object);
        write!(f, "cannot {verb} {object}: ")?;
        match &self.cause {
            Cause::Refused(status) => {
                let text = one_line(&status.message.replace('\n', " "), LONGEST_MESSAGE);
                write!(f, "HTTP status {}: {text}", status.code)?;
            }
            Cause::Failed(error) => f.write_str(&chain_of(error))?,
            Cause::TimedOut(limit) => write!(f, "no answer within {} s", limit.as_secs())?,
        }
        f.write_str(&self.remedy())
    }
}

impl std::error::Error for CallError {}

/// An error with all that caused it, each said once: many of those of HTTP libraries say only
/// "error", and their source says which, or repeat it.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut texts = vec![error.to_string()];
    let mut source = error.source();
    while let Some(error) = source {
        let text = error.to_string();
        if !texts.iter().any(|said| said.contains(&text)) {
            texts.push(text);
        }
        source = error.source();
    }
    texts.join(": ")
}

/// An error of kube's with all that caused it.
pub(super) fn chain_of(error: &kube::Error) -> String {
    match error.source() {
        // Its own text is "ServiceError: …", the source's text.
        Some(source) => chain(source),
        None => error.to_string(),
    }
}
