//! irqbalance, which spreads interrupts over all CPUs that nobody has told it to leave alone
//! (irqbalance(1), IRQBALANCE_BANNED_CPULIST). It is told by a drop-in of this boot, so that it is told
//! also when it is started anew; a second file, since one of the distribution's may have the variable
//! and the later one counts (systemd.exec(5), EnvironmentFile=).

use std::path::Path;
use std::time::{Duration, Instant};

use super::{Host, threads};
use crate::CpuSet;
use crate::host::files::{self, Wanted};
use crate::host::read;
use crate::host::sysfs::parse_mask;
use crate::plan::shield::{Found, Item, Kind};
use crate::task::Pid;

const SERVICE: &str = "irqbalance.service";
const DROP_IN: &str = "/run/systemd/system/irqbalance.service.d/50-kcm-shield.conf";
const VALUE: &str = "/run/systemd/system/irqbalance.service.d/kcm-shield.environment";
const VARIABLE: &str = "IRQBALANCE_BANNED_CPULIST";

/// How long it may take until the new one has its environment.
const PATIENCE: Duration = Duration::from_secs(5);

/// irqbalance, if it runs, or is told by us what to do when it does.
pub(super) fn find(host: &Host) -> Option<Found> {
    let now = banned(host)?;
    let fixed = process(host).filter(|&pid| !is_a_service(host, pid)).map(|pid| {
        format!(
            "irqbalance (process {pid}) was not started by systemd as {SERVICE}: start it with \
             {VARIABLE} in its environment, or it moves interrupts back"
        )
    });
    Some(Found { fixed, ..Found::new(Item::new(Kind::Irqbalance, ""), now) })
}

fn is_a_service(host: &Host, pid: Pid) -> bool {
    let cgroup = host.procfs.cgroup(pid).ok().flatten().unwrap_or_default();
    let is_its = cgroup.lines().any(|line| line.ends_with(&format!("/{SERVICE}")));
    is_its && host.systemd.is_some()
}

fn process(host: &Host) -> Option<Pid> {
    host.sees_processes.then(|| threads::named(&host.procfs, "irqbalance")).flatten()
}

/// The CPUs that irqbalance leaves alone; where it does not run, what our drop-in would tell it.
pub(super) fn banned(host: &Host) -> Option<String> {
    process(host).map(|pid| banned_by(host, pid)).or_else(|| {
        let text = read(Path::new(VALUE)).ok().flatten()?;
        let value = text.trim().strip_prefix(VARIABLE)?.strip_prefix('=')?;
        host.systemd.is_some().then(|| value.to_owned())
    })
}

fn banned_by(host: &Host, pid: Pid) -> String {
    let environ = read(&host.procfs.root().join(format!("{pid}/environ"))).ok().flatten();
    let environ = environ.unwrap_or_default();
    let value = |name: &str| {
        let mut pairs = environ.split('\0').filter_map(|pair| pair.split_once('='));
        pairs.find(|(given, _)| *given == name).map(|(_, value)| value)
    };
    let list = value(VARIABLE).map(|list| CpuSet::parse_possibly_empty(list).unwrap_or_default());
    let mask = || value("IRQBALANCE_BANNED_CPUS").and_then(|mask| parse_mask(mask).ok());
    list.or_else(mask).unwrap_or_default().to_string()
}

/// Has it leave CPUs alone. Without our drop-in first, where that is there: what it does then may be
/// what is wanted.
pub(super) fn ban(host: &mut Host, value: &str) -> Result<(), String> {
    if Path::new(DROP_IN).exists() || value.is_empty() {
        change(vec![Wanted::none(DROP_IN), Wanted::none(VALUE)])?;
        if let Some(folder) = Path::new(DROP_IN).parent() {
            files::remove_if_empty(folder);
        }
        restart(host, value)?;
    }
    if banned(host).is_none_or(|banned| banned == value) {
        return Ok(());
    }
    let drop_in = format!(
        "# Made by kcm shield on; kcm shield off removes it.\n[Service]\nEnvironmentFile={VALUE}\n"
    );
    change(vec![
        Wanted::file(DROP_IN, drop_in, Some(0o644)),
        Wanted::file(VALUE, format!("{VARIABLE}={value}\n"), Some(0o644)),
    ])?;
    restart(host, value)
}

fn change(wanted: Vec<Wanted>) -> Result<(), String> {
    let changes = files::changes(wanted).map_err(|e| e.to_string())?;
    files::apply(&changes).map_err(|e| e.to_string())
}

fn restart(host: &mut Host, value: &str) -> Result<(), String> {
    let Some(systemd) = &mut host.systemd else { return Err("systemd is not there".to_owned()) };
    systemd.reload().map_err(|e| e.to_string())?;
    systemd.restart_if_running(SERVICE).map_err(|e| e.to_string())?;
    let begun = Instant::now();
    // Between fork and exec it has another's environment.
    while banned(host).as_deref() != Some(value) && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
