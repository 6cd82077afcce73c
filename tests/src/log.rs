//! The system's log, as a test sees it.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::machine::until;

/// The test's own syslog.
#[derive(Debug)]
pub struct Log {
    lines: Arc<Mutex<Vec<String>>>,
}

impl Log {
    /// Listens from now on.
    pub fn listen(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (mut buffer, log) = ([0; 64 << 10], Arc::downgrade(&lines));
        socket.set_read_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
        std::thread::spawn(move || {
            loop {
                let read = socket.recv(&mut buffer);
                let Some(log) = log.upgrade() else { return };
                if let Ok(length) = read {
                    log.lock().unwrap().push(String::from_utf8_lossy(&buffer[..length]).into());
                }
            }
        });
        Self { lines }
    }

    /// What was logged so far.
    pub fn text(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    /// Waits until this was logged.
    pub fn has(&self, text: &str) {
        until(&format!("{text:?} in the log"), || self.text().contains(text).then_some(()));
    }
}
