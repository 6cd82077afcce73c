//! The log: syslog (`LOG_DAEMON`, tag `kcm-hook[pid]`), or standard error where there is none.

use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::sync::Mutex;

use kcm_core::log_level;
use kcm_core::notice::{self, Notice};
use kcm_core::text;
use log::{Level, Log, Metadata, Record};
use syslog::{LogFormat, Logger, LoggerBackend, Severity};

/// Opened at the first line: most containers cause none.
struct Syslog {
    logger: Mutex<Option<Logger<LoggerBackend, Local>>>,
}

/// The target of a line that does not go to standard error where there is no syslog: it is there
/// anyway, or it names other tenants' containers, and a pod's author reads what is there.
const NOT_PRINTED: &str = "not printed";

/// Logs by the level of `KCM_LOG_LEVEL`; a malformed one must not stop a node's every container.
pub(crate) fn init() {
    let level = log_level::from_environment();
    // Only a second logger could be refused.
    let _ = log::set_boxed_logger(Box::new(Syslog { logger: Mutex::new(None) }));
    log::set_max_level(*level.as_ref().unwrap_or(&log::LevelFilter::Info));
    if let Err(error) = level {
        log::warn!("{error}; INFO is used");
    }
}

/// Logs why the container does not start, and prints it: the one line that the runtime shows to
/// whoever started the container.
pub(crate) fn failure(error: &anyhow::Error) {
    let line = one_line(&format!("{error:#}"));
    log::error!(target: NOT_PRINTED, "{line}");
    print(&line);
}

/// Logs what was gathered under the lock.
pub(crate) fn log_all(notices: &[Notice]) {
    for Notice { level, text, confidential } in notices {
        let target = if *confidential { NOT_PRINTED } else { module_path!() };
        match level {
            notice::Level::Info => log::info!(target: target, "{text}"),
            notice::Level::Warning => log::warn!(target: target, "{text}"),
        }
    }
}

/// To standard error; a runtime that does not listen is no reason to fail.
fn print(line: &str) {
    let _ = std::io::stderr().write_all(format!("kcm-hook: {line}\n").as_bytes());
}

/// Bytes of a line, whatever was put into it: a daemon takes 1,024 with priority and tag (RFC 3164,
/// 4.1), and an event of Kubernetes as many.
const LINE: usize = 960;

fn one_line(text: &str) -> String {
    text::one_line(text, LINE)
}

impl Log for Syslog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = one_line(&record.args().to_string());
        let sent = self.logger.lock().is_ok_and(|mut logger| {
            let logger = match &mut *logger {
                Some(open) => Some(open),
                closed => connect().map(|new| closed.insert(new)),
            };
            logger.is_some_and(|logger| send(logger, record.level(), &line).is_ok())
        });
        if !sent && record.target() != NOT_PRINTED {
            print(&format!("{} {line}", log_level::name(record.level())));
        }
    }

    fn flush(&self) {}
}

/// RFC 3164 as a local daemon takes it: priority, tag and text. The daemon's own time stamp is the
/// one that it keeps, and formatting another costs more than the rest of the line.
struct Local;

/// RFC 3164, table 1: system daemons.
const LOG_DAEMON: u8 = 3 << 3;

impl LogFormat<&str> for Local {
    fn format<W: Write>(&self, to: &mut W, severity: Severity, line: &str) -> syslog::Result<()> {
        let (priority, pid) = (LOG_DAEMON | severity as u8, std::process::id());
        write!(to, "<{priority}>kcm-hook[{pid}]: {line}").map_err(syslog::Error::Write)
    }
}

/// A container must not wait for a log: the socket never blocks.
fn connect() -> Option<Logger<LoggerBackend, Local>> {
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    socket.connect("/dev/log").ok()?;
    Some(Logger::new(LoggerBackend::Unix(socket), Local))
}

fn send(logger: &mut Logger<LoggerBackend, Local>, level: Level, line: &str) -> syslog::Result<()> {
    match level {
        Level::Error => logger.err(line),
        Level::Warn => logger.warning(line),
        Level::Info => logger.info(line),
        Level::Debug | Level::Trace => logger.debug(line),
    }
}
