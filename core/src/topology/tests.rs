use super::*;

fn set(text: &str) -> CpuSet {
    CpuSet::parse_possibly_empty(text).unwrap()
}

/// A machine of sockets, each a list of cores, each a CPU list: `"0,8 1,9; 2,10 3,11"`.
fn siblings(machine: &str) -> Vec<Siblings> {
    let mut all = Vec::new();
    for socket in machine.split(';') {
        let cores: Vec<CpuSet> = socket.split_whitespace().map(set).collect();
        let package = cores.iter().fold(CpuSet::new(), |a, b| a.union(b));
        for core in cores {
            all.extend(core.iter().map(|cpu| Siblings {
                cpu,
                core: core.clone(),
                socket: package.clone(),
            }));
        }
    }
    all
}

fn topology(machine: &str, online: &str, isolated: &str) -> Topology {
    let nodes = BTreeMap::new();
    Topology::new(siblings(machine), &set(online), &nodes, &set(isolated))
}

#[test]
fn cores_and_sockets_are_numbered_as_their_first_cpu_is_met() {
    for (machine, online, numbers) in [
        ("0,4 1,5; 2,6 3,7", "0-7", "0:0:0 1:1:0 2:2:1 3:3:1 4:0:0 5:1:0 6:2:1 7:3:1"),
        ("0-1 2-3; 4-5", "0-5", "0:0:0 1:0:0 2:1:0 3:1:0 4:2:1 5:2:1"),
        // Sockets take turns: socket 1 has CPU 1.
        ("0 2; 1 3", "0-3", "0:0:0 1:1:1 2:2:0 3:3:1"),
        // A hole in the CPU numbers, and a socket whose first CPU is not CPU 0.
        ("5,7; 2,3", "2-7", "2:0:0 3:0:0 5:1:1 7:1:1"),
        // An offline CPU that the kernel still describes keeps its core's number.
        ("0 1 2", "0,2", "0:0:0 2:2:0"),
    ] {
        let cpus = topology(machine, online, "").cpus;
        let told: Vec<String> =
            (cpus.iter()).map(|c| format!("{}:{}:{}", c.id, c.core, c.socket)).collect();
        assert_eq!(told.join(" "), numbers, "{machine}");
    }
}

#[test]
fn a_core_is_isolated_if_all_its_online_cpus_are() {
    let cores = topology("0,4 1,5 2,6 3,7", "0-6", "0,3-5,99").cores();
    let told = |is: fn(&Core) -> bool| cores.iter().map(is).collect::<Vec<_>>();
    assert_eq!(told(Core::is_isolated), [true, false, false, true]);
    assert_eq!(told(Core::is_partially_isolated), [false, true, false, false]);
    assert_eq!((&cores[3].cpus, &cores[1].isolated), (&set("3"), &set("5")));
}

#[test]
fn cores_come_in_socket_order_then_core_order() {
    let sockets = topology("0 2; 1 3", "0-3", "").sockets();
    let ids = |s: &Socket| s.cores.iter().map(|c| c.id).collect::<Vec<_>>();
    assert_eq!(sockets.iter().map(ids).collect::<Vec<_>>(), [[0, 2], [1, 3]]);
}

#[test]
fn a_machine_without_numa_nodes_is_one_node() {
    assert_eq!(topology("0 2; 1 3", "0-2", "").nodes(), [(0, set("0-2"))]);
}

#[test]
fn nodes_keep_the_kernels_number_and_leave_out_memory_only_ones() {
    let nodes = BTreeMap::from([(0, set("")), (1, set("0-1")), (8, set("2-3"))]);
    let topology = Topology::new(siblings("0 1; 2 3"), &set("0-2"), &nodes, &set(""));
    assert_eq!(topology.nodes(), [(1, set("0-1")), (8, set("2"))]);
    assert_eq!(topology.cpus[2].node, Some(8));
}
