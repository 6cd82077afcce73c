//! Times as Kubernetes writes them.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Now, in whole seconds, RFC 3339.
pub(super) fn now() -> String {
    in_seconds(0)
}

/// So many seconds from now.
pub(super) fn in_seconds(seconds: i64) -> String {
    let when = OffsetDateTime::now_utc() + time::Duration::seconds(seconds);
    when.replace_nanosecond(0).unwrap().format(&Rfc3339).unwrap()
}
