use super::*;
use proptest::prelude::*;

/// What Linux 6.1.0-56 (Debian) with CPUs 0-7 shows in `/sys/devices/system/cpu/isolated` for each
/// command line; measured in QEMU.
const MEASURED: [(&str, &str); 28] = [
    ("isolcpus=2-5", "2-5"),
    ("isolcpus=02", "2"),
    ("isolcpus=2,,3,", "2-3"),
    ("isolcpus=2-N", "2-7"),
    ("isolcpus=0-7:1/4", "0,4"),
    ("isolcpus=0,ALL:1/2", "0,2,4,6"),
    ("isolcpus=", ""),
    // Flags.
    ("isolcpus=nohz,domain,managed_irq,2-3", "2-3"),
    ("isolcpus=managed_irq,domain,2-3", "2-3"),
    ("isolcpus=managed_irq,2-3", ""),
    ("isolcpus=nohz,2-3", ""),
    ("isolcpus=foo_bar,2", "2"),
    ("isolcpus=all,2-3", "2-3"),
    // Repetition.
    ("isolcpus=2-5 isolcpus=3", "2-5"),
    ("isolcpus=2-5 isolcpus=2-5", "2-5"),
    ("isolcpus=managed_irq,1 isolcpus=2", "2"),
    ("isolcpus= isolcpus=3", "3"),
    ("nohz_full=1-3 isolcpus=nohz,domain,2-3", ""),
    ("nohz_full=1-3 isolcpus=2-3", "2-3"),
    // Quotes.
    ("\"isolcpus=1,2\"", "1-2"),
    ("isolcpus=\"1-2\"", "1-2"),
    ("isolcpus=\"domain, 1 3\"", "1,3"),
    // The boot CPU stays.
    ("isolcpus=0,all", "1-7"),
    ("isolcpus=0-N", "1-7"),
    // What belongs to init.
    ("isolcpus=2 -- isolcpus=3", "2"),
    ("-- isolcpus=2", ""),
    ("isolcpus", ""),
    ("quiet", ""),
];

/// What the same kernel drops with a warning, or takes no CPU from.
const DROPPED: [(&str, &str); 11] = [
    ("isolcpus=all", "takes 'all' for a flag and finds no list"),
    ("isolcpus=domain,N quiet", "takes 'N' for a flag"),
    ("isolcpus=nohz", "takes 'nohz' for a flag"),
    ("isolcpus=foo2,2", "'foo2' is no flag"),
    ("isolcpus=3-1", "its part '3-1': the range '3-1' ends before"),
    ("isolcpus=4,N-2", "its part 'N-2': the range '7-2' ends before"),
    ("isolcpus=1,\"2\"", "its part '\"2\"'"),
    ("isolcpus=+2", "its part '+2'"),
    ("isolcpus=2,8", "its part '8': the machine's last CPU is 7"),
    ("isolcpus=0-8:1/2", "its part '0-8:1/2': the machine's last"),
    ("isolcpus=0-7:0/4", "its part '0-7:0/4'"),
];

fn set(text: &str) -> CpuSet {
    CpuSet::parse_possibly_empty(text).unwrap()
}

#[test]
fn the_cpus_are_those_that_the_kernel_isolates() {
    for (cmdline, isolated) in MEASURED {
        for cmdline in
            [cmdline.to_owned(), format!("console=ttyS0 quiet dyndbg=\"a b\" {cmdline}\n")]
        {
            let cpus = isolcpus(&cmdline, 7).unwrap().unwrap_or_default();
            assert_eq!(cpus, set(isolated), "{cmdline}");
        }
    }
}

#[test]
fn what_the_kernel_drops_is_named() {
    for (cmdline, part) in DROPPED {
        let error = isolcpus(cmdline, 7).unwrap_err().to_string();
        assert!(error.contains(part), "{cmdline}: {error}");
    }
}

#[test]
fn absent_differs_from_isolating_nothing() {
    for absent in ["", "quiet", "isolcpus", "xisolcpus=1", "-- isolcpus=1", "a=\"isolcpus=1\""] {
        assert_eq!(isolcpus(absent, 7), Ok(None), "{absent}");
    }
    assert_eq!(isolcpus("isolcpus=nohz,1", 7), Ok(Some(CpuSet::new())));
}

#[test]
fn strides_and_large_machines() {
    let isolated = isolcpus("isolcpus=nohz,domain,0-31:2/8,1000-N", 1023);
    assert_eq!(isolated, Ok(Some(set("0-1,8-9,16-17,24-25,1000-1023"))));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_without_a_panic(
        text in "(isolcpus=|nohz_full=|domain,|all|N|--|[-0-9,:/\" =a-z\u{e9}\n]){0,12}|.{0,40}",
        last in 0..9000u32,
    ) {
        let _ = isolcpus(&text, last);
    }

    #[test]
    fn a_printed_set_is_read_back(cpus in proptest::collection::btree_set(1..512u32, 1..64)) {
        let cpus: CpuSet = cpus.into_iter().collect();
        let cmdline = format!("ro isolcpus=managed_irq,domain,{cpus} quiet");
        prop_assert_eq!(isolcpus(&cmdline, 511), Ok(Some(cpus)));
    }
}
