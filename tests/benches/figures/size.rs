//! The executables.

use std::fs;
use std::process::Command;

use kcm_tests::programs::program;

use crate::report::Report;

const MIB: f64 = 1048576.0;

/// Size, and whether they need nothing else.
pub(crate) fn sizes(report: &mut Report) {
    for (name, limit) in [("kcm-hook", 1.5), ("kcm", 12.0)] {
        let path = program(name);
        let size = fs::metadata(&path).unwrap().len() as f64 / MIB;
        let elf = Command::new("readelf").args(["-lSW"]).arg(&path).output().unwrap();
        assert!(elf.status.success(), "readelf (binutils) cannot read {}", path.display());
        let elf = String::from_utf8(elf.stdout).unwrap();
        let (fixed, stripped) = (!elf.contains("INTERP"), !elf.contains(".symtab"));
        let form = format!(
            "{}, {}",
            if fixed { "static" } else { "dynamic" },
            if stripped { "stripped" } else { "not stripped" }
        );
        let limit =
            (format!("≤ {limit} MiB, static, stripped"), size <= limit && fixed && stripped);
        let value = format!("{size:.3} MiB, {form}");
        report.fact(&format!("size of `{name}`"), &value, Some((&limit.0, limit.1)));
    }
}
