use super::*;
use crate::notice::Level::Warning;
use crate::topology::Cpu;

/// A machine of sockets, each a list of cores, each a CPU list: `"0,8 1,9; 2,10 3,11"`. CPUs in
/// `isolated` are isolated; CPUs that are not named are offline.
fn machine(sockets: &str, isolated: &str) -> Topology {
    let isolated = set(isolated);
    let (mut cpus, mut core) = (Vec::new(), 0);
    for (socket, cores) in (0..).zip(sockets.split(';')) {
        for siblings in cores.split_whitespace() {
            cpus.extend(set(siblings).iter().map(|id| Cpu {
                id,
                core,
                socket,
                node: None,
                isolated: isolated.contains(id),
            }));
            core += 1;
        }
    }
    Topology { cpus }
}

fn set(text: &str) -> CpuSet {
    CpuSet::parse_possibly_empty(text).unwrap()
}

fn plan(topology: &Topology, dataplane: usize, controlplane: usize) -> Result<InitPlan, String> {
    let request = InitRequest { dataplane_cores: dataplane, controlplane_cores: controlplane };
    init(topology, request).map_err(|refusal| refusal.to_string())
}

/// The lists of the three pools: `"0,8 1,9 | 2,10 | 3,11"`.
fn pools(plan: &InitPlan) -> String {
    let lists = |pool: &PlannedPool| {
        let lists: Vec<String> = pool.cpu_lists.iter().map(CpuSet::to_string).collect();
        lists.join(" ")
    };
    plan.pools.iter().map(lists).collect::<Vec<_>>().join(" | ")
}

fn warnings(plan: &InitPlan) -> Vec<&str> {
    let warnings = plan.notices.iter().filter(|n| n.level == Warning);
    warnings.map(|n| n.text.as_str()).collect()
}

/// The machine of the original's operator manual: one socket, 8 cores, 16 CPUs.
const SEEDS: &str = "0,8 1,9 2,10 3,11 4,12 5,13 6,14 7,15";

#[test]
fn cores_go_to_the_pools_in_socket_then_core_order() {
    for (sockets, isolated, dataplane, controlplane, expected) in [
        (SEEDS, "0-4,8-12", 4, 1, "0,8 1,9 2,10 3,11 | 4,12 | 5-7,13-15"),
        (SEEDS, "", 4, 1, "0,8 1,9 2,10 3,11 | 4,12 | 5-7,13-15"),
        // Isolated cores at the end: infra gets the first ones.
        (SEEDS, "3-7,11-15", 4, 1, "3,11 4,12 5,13 6,14 | 7,15 | 0-2,8-10"),
        // Zero is allowed, and makes a pool without lists.
        (SEEDS, "", 0, 1, " | 0,8 | 1-7,9-15"),
        (SEEDS, "", 4, 0, "0,8 1,9 2,10 3,11 |  | 4-7,12-15"),
        (SEEDS, "", 0, 0, " |  | 0-15"),
        (SEEDS, "7,15", 0, 0, " |  | 0-6,8-14"),
        // The last core that may be asked for.
        (SEEDS, "", 6, 1, "0,8 1,9 2,10 3,11 4,12 5,13 | 6,14 | 7,15"),
        // A partially isolated core is not isolated: infra has it.
        (SEEDS, "0-1,8", 1, 0, "0,8 |  | 1-7,9-15"),
        // With none but partially isolated cores, it is as with none isolated.
        ("0,2 1,3", "0-1", 1, 0, "0,2 |  | 1,3"),
        // An isolated core whose other CPU is offline.
        ("0 1,9 2,10", "0,8", 1, 0, "0 |  | 1-2,9-10"),
        // Two sockets, interleaved; the first socket is used up first.
        ("0,8 2,10; 1,9 3,11", "", 2, 1, "0,8 2,10 | 1,9 | 3,11"),
        ("0-1 2-3; 4-5 6-7", "2-5", 1, 1, "2-3 | 4-5 | 0-1,6-7"),
        // Four sockets, no SMT, holes.
        ("0 4; 1 5; 2 7; 3 9", "", 5, 2, "0 4 1 5 2 | 3,7 | 9"),
    ] {
        let plan = plan(&machine(sockets, isolated), dataplane, controlplane).unwrap();
        assert_eq!(pools(&plan), expected, "{sockets} isolcpus={isolated}");
        let kinds: Vec<_> = plan.pools.iter().map(|p| (p.name, p.exclusive)).collect();
        assert_eq!(kinds, [("dataplane", true), ("controlplane", false), ("infra", false)]);
    }
}

#[test]
fn too_few_cores_are_refused_with_the_numbers_and_what_to_do() {
    const ISOLATED: &str = "Cannot use isolated cores for data plane and control plane cores: \
                            not enough isolated cores 2 compared to requested";
    for (isolated, dataplane, controlplane, expected) in [
        ("", 9, 1, "9 cores requested for dataplane. Only 8 cores available"),
        ("", 7, 2, "2 cores requested for controlplane. Only 1 cores available"),
        ("", 8, 1, "1 cores requested for controlplane. Only 0 cores available"),
        ("", 7, 1, "No more free cores left to assign for infra"),
        ("0-1,8-9", 2, 1, ISOLATED),
        ("0-1,8-9", 3, 0, ISOLATED),
        ("0-1,8-9", usize::MAX, 1, ISOLATED),
        ("0-1,8-9,10", 3, 0, ISOLATED),
        ("0-15", 7, 1, "No more free cores left to assign for infra. Every core is isolated"),
    ] {
        let refusal = plan(&machine(SEEDS, isolated), dataplane, controlplane).unwrap_err();
        assert!(refusal.starts_with(expected), "isolcpus={isolated}: {refusal}");
    }
    assert!(plan(&Topology::default(), 0, 0).is_err());
}

#[test]
fn the_operator_hears_what_was_added() {
    let plan = plan(&machine(SEEDS, ""), 1, 2).unwrap();
    let texts: Vec<_> = plan.notices.iter().map(|n| n.text.as_str()).collect();
    assert!(texts[0].contains("only core granularity is guaranteed"));
    let added = [
        "Adding cpu list 0,8 to dataplane pool.",
        "Adding cpu list 1-2,9-10 to controlplane pool.",
        "Adding cpu list 3-7,11-15 to infra pool.",
    ];
    assert_eq!(texts[1..], added);
    assert_eq!(warnings(&plan), [""; 0]);
}

#[test]
fn the_operator_is_warned_of_what_was_hardly_meant() {
    for (sockets, isolated, expected) in [
        // One isolated core for each, without SMT: nothing to say.
        ("0 1 2 3", "1-2", vec![]),
        (
            "0 1 2 3 4",
            "1-4",
            vec![
                "Not all isolated cores will be used by data and control plane. 4 are isolated, \
                 2 are requested: the CPUs 3-4 are in no pool, and the kernel gives them no work.",
            ],
        ),
        (
            "0,4 1,5 2,6 3,7",
            "0-2,4-5",
            vec![
                "Physical core 2 is partially isolated: of its CPUs 2,6 only 2 are. It counts \
                 as not isolated. To isolate it, add 6 to isolcpus.",
                "The shared pool controlplane has the isolated CPUs 1,5: the kernel does not \
                 balance load between isolated CPUs, so programs in it must place their threads \
                 themselves.",
            ],
        ),
        (
            "0,4 1,5 2,6 3,7",
            "0-1",
            vec![
                "Physical core 0 is partially isolated: of its CPUs 0,4 only 0 are. It counts \
                 as not isolated. To isolate it, add 4 to isolcpus.",
                "Physical core 1 is partially isolated: of its CPUs 1,5 only 1 are. It counts \
                 as not isolated. To isolate it, add 5 to isolcpus.",
            ],
        ),
    ] {
        let plan = plan(&machine(sockets, isolated), 1, 1).unwrap();
        assert_eq!(warnings(&plan), expected, "{sockets} isolcpus={isolated}");
    }
}

#[test]
fn infra_with_several_isolated_cpus_is_warned_of_too() {
    let plan = plan(&machine("0,4 1,5 2,6 3,7", "0-2,4"), 1, 0).unwrap();
    let last = warnings(&plan).pop().unwrap_or_default();
    assert!(last.starts_with("The shared pool infra has the isolated CPUs 1-2:"), "{last}");
}

#[test]
fn a_machine_of_1024_cpus_is_planned_whole() {
    let cores: Vec<String> = (0..512).map(|n| format!("{n},{}", n + 512)).collect();
    let sockets = [&cores[..256], &cores[256..]].map(|cores| cores.join(" "));
    let plan = plan(&machine(&sockets.join(";"), "8-511,520-1023"), 500, 4).unwrap();
    let pools = plan.pools;
    assert_eq!(pools[0].cpu_lists.len(), 500);
    assert_eq!(pools[0].cpu_lists[499], set("507,1019"));
    assert_eq!(pools[1].cpu_lists, [set("508-511,1020-1023")]);
    assert_eq!(pools[2].cpu_lists, [set("0-7,512-519")]);
}
