//! What answers in the API server's place and sends without end.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

use kcm_tests::kcm::{kcm, run};
use tempfile::TempDir;

use super::node::pools;

/// A server that answers whatever is asked with this, and then with this again and again, until the
/// client has gone.
fn server(head: &'static str, again: &'static str) -> (TempDir, PathBuf) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((mut client, _)) = listener.accept() {
            std::thread::spawn(move || {
                let _ = client.read(&mut [0; 8 << 10]);
                let again = again.repeat((64 << 10) / again.len());
                let _ = client.write_all(head.as_bytes());
                while client.write_all(again.as_bytes()).is_ok() {}
            });
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    let config = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("http://127.0.0.1:{port}")}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    fs::write(&path, config.to_string()).unwrap();
    (folder, path)
}

/// Bytes of memory that a command may have: an empty one has a tenth of it.
const MOST: u64 = 256 << 20;

#[test]
fn an_answer_without_end_is_an_error_that_names_what_was_asked() {
    let conf = pools();
    let body = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{\"kind\":\"";
    let huge = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
                content-length: 99999999999\r\n\r\n{\"kind\":\"";
    let refused = "HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\n\r\n{\"message\":\"";
    for (head, again) in [(body, "x"), (huge, "x"), (refused, "\u{202e}no\u{2028}"), (body, " ")] {
        let (_folder, kubeconfig) = server(head, again);
        let discover: &[&str] = &["discover", "--node-name=worker-1"];
        let report = &["node-report", "--publish", "--node-name=worker-1"];
        let init = &["cluster-init", "--all-hosts"];
        for (words, parts) in [
            (discover, ["/api/v1/nodes/worker-1", "longer than 4 MiB"]),
            (report, ["nodereports", "longer than 4 MiB"]),
            (init, ["/api/v1/nodes?", "longer than 32 MiB"]),
        ] {
            // More memory than that is not to be had, and who asks for it ends by a signal.
            let mut command = Command::new("prlimit");
            command.arg(format!("--as={MOST}")).arg(kcm().get_program()).args(words);
            command.env_clear().env("KUBECONFIG", &kubeconfig).env("KCM_CONF_DIR", conf.path());
            command.env("PATH", std::env::var_os("PATH").unwrap());
            let outcome = run(&mut command);
            assert_eq!((outcome.code, outcome.signal), (Some(1), None), "{words:?}");
            let error = outcome.lines("ERROR").join(" ");
            for part in parts.iter().chain(&["is it the API server that answers there?"]) {
                assert!(error.contains(part), "{part:?}: {error}");
            }
            assert!(outcome.err.len() < 16 << 10 && !error.contains('\u{202e}'));
        }
    }
}
