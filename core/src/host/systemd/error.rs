//! What can go wrong between kcm and systemd.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::wire::Malformed;

/// Why systemd did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket is there, but takes no connection.
    #[error("cannot connect to systemd on {}: {cause}: kcm needs root, and systemd as PID 1 behind that socket", socket.display())]
    Connect {
        /// The private socket.
        socket: PathBuf,
        /// What `connect(2)` said.
        cause: io::Error,
    },
    /// The time for all calls is over.
    #[error("systemd did not answer on {} within {} s: see whether 'systemctl is-system-running' answers; if it hangs too, PID 1 is stuck and the node needs a restart", socket.display(), limit.as_secs_f64())]
    Timeout {
        /// The private socket.
        socket: PathBuf,
        /// The time for all calls of a connection together.
        limit: Duration,
    },
    /// The connection ended before the answer came, also on a second try.
    #[error("systemd closed the connection on {} without an answer: try again; if it stays so, read 'journalctl _PID=1', and see that kcm runs in systemd's PID namespace", socket.display())]
    Closed {
        /// The private socket.
        socket: PathBuf,
    },
    /// Reading or writing failed.
    #[error("cannot talk to systemd on {}: {cause}", socket.display())]
    Io {
        /// The private socket.
        socket: PathBuf,
        /// What the kernel said.
        cause: io::Error,
    },
    /// The peer did not accept `AUTH EXTERNAL`.
    #[error("systemd refused the login on {}: it answered '{answer}': run kcm as root, outside of a user namespace", socket.display())]
    Login {
        /// The private socket.
        socket: PathBuf,
        /// The peer's line.
        answer: String,
    },
    /// The peer sent no D-Bus message, or one that does not fit the call.
    #[error("the answer on {} is no D-Bus message that kcm understands: {cause}: see what listens there with 'ss -xlp'", socket.display())]
    Malformed {
        /// The private socket.
        socket: PathBuf,
        /// What is wrong with it.
        cause: Malformed,
    },
    /// systemd answered with an error.
    #[error(
        "systemd refused {method} for {scope}: {name}: {text}: see 'systemctl status {scope}' and 'journalctl _PID=1'"
    )]
    Refused {
        /// The D-Bus method.
        method: &'static str,
        /// The unit.
        scope: String,
        /// The D-Bus error name, as in `org.freedesktop.systemd1.NoSuchUnit`.
        name: String,
        /// systemd's explanation.
        text: String,
    },
    /// systemd did not come to start a unit.
    #[error(
        "systemd did not start {scope}: its job ended as '{result}': see 'systemctl status {scope}' and 'journalctl _PID=1'"
    )]
    NotStarted {
        /// The unit.
        scope: String,
        /// The job's result, as `failed`.
        result: String,
    },
    /// The name is none that a scope unit can have.
    #[error(
        "'{0}' is no name of a scope unit: it has to end in .scope and hold only letters, digits and :-_.\\@"
    )]
    ScopeName(String),
    /// No CPU or memory node; systemd would read it as *no restriction*.
    #[error(
        "{property} of {scope} would be empty, which systemd reads as all of them: name at least one"
    )]
    EmptySet {
        /// `AllowedCPUs` or `AllowedMemoryNodes`.
        property: &'static str,
        /// The unit.
        scope: String,
    },
}

/// The peer's text as one short line without control characters.
pub(super) fn printable(text: &str) -> String {
    const LONGEST: usize = 500;
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(clean).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_text_is_one_short_line() {
        assert_eq!(printable("a\nb\u{1b}[31mc\u{9b}\0é"), "a b [31mc  é");
        assert_eq!(printable(&"x".repeat(9999)).len(), 500);
    }

    #[test]
    fn a_hung_systemd_is_named_with_its_socket_and_the_remedy() {
        let error =
            Error::Timeout { socket: "/run/systemd/private".into(), limit: Duration::from_secs(5) };
        assert!(error.to_string().starts_with(
            "systemd did not answer on /run/systemd/private within 5 s: see whether 'systemctl"
        ));
    }
}
