use super::*;

/// Captured on Linux 6.18 from `trace_pipe` of an instance with `tracing_cpumask` 2 and the clock
/// `mono`. One of the threads is named `a`, line end, `b [001] x`; of switches out of idle this
/// machine's kernel tells nothing on its CPU 1.
pub(crate) const CAPTURED: &str = include_str!("captured/linux-6.18.txt");

pub(crate) fn read(text: &str) -> (Vec<Event>, u64) {
    let (mut events, mut reader) = (Vec::new(), Reader::default());
    let mut give = |event| events.push(event);
    // In pieces that end anywhere, as reads do.
    text.as_bytes().chunks(7).for_each(|piece| reader.take(piece, &mut give));
    reader.flush(&mut give);
    (events, reader.not_understood)
}

fn only(text: &str) -> Option<What> {
    let (mut events, _) = read(text);
    assert!(events.len() < 2, "{events:?}");
    events.pop().map(|event| event.what)
}

#[test]
fn every_captured_event_is_understood_also_those_of_a_thread_with_a_line_end_in_its_name() {
    let (events, not_understood) = read(CAPTURED);
    assert_eq!(not_understood, 0);
    let of = |name: &str| CAPTURED.matches(name).count();
    let count = |is_it: fn(&What) -> bool| events.iter().filter(|e| is_it(&e.what)).count();
    assert_eq!(count(|what| matches!(what, What::Switch { .. })), of(": sched_switch: "));
    assert_eq!(count(|what| matches!(what, What::Ran { .. })), of(": sched_stat_runtime: "));
    assert_eq!(count(|what| matches!(what, What::Enter(..))), of("_entry: "));
    assert_eq!(count(|what| matches!(what, What::Leave(..))), of("_exit: "));
    assert!(events.iter().all(|event| event.cpu == 1));
    assert!(events.is_sorted_by_key(|event| event.at));
    let hostile = "a\nb [001] x".to_owned();
    let left = What::Switch { from: (17100, hostile), to: (17148, "bash".to_owned()) };
    let event = Event { cpu: 1, thread: 17100, at: 24_295_621_091_000, what: left };
    assert!(events.contains(&event), "{events:#?}");
}

#[test]
fn events_of_other_kernels_and_devices_are_understood() {
    let at = |rest: &str| format!("          <idle>-0     [003] d.h1   102.000007: {rest}\n");
    let name = |text: &str| text.to_owned();
    for (text, expected) in [
        (
            // Linux 5.10: flags of four characters.
            at("irq_handler_entry: irq=36 name=virtio1-req.0"),
            What::Enter(Context::Interrupt, name("virtio1-req.0")),
        ),
        (at("irq_handler_exit: irq=36 ret=handled"), What::Leave(Context::Interrupt, name(""))),
        (at("softirq_entry: vec=1 [action=TIMER]"), What::Enter(Context::Softirq, name("TIMER"))),
        (at("irq_work_exit: vector=246"), What::Leave(Context::Vector, name("irq_work"))),
        (at("nmi_handler: perf_event_nmi_handler() delta_ns: 4611 handled: 1"), What::Nmi(4611)),
        (
            at("sched_process_fork: comm=a pid=9 b pid=7 child_comm=c child_pid=1 child_pid=8"),
            What::Fork { child: 8 },
        ),
        (at("sched_process_fork: parent_pid=7 child_pid=8"), What::Fork { child: 8 }),
        (
            at("sched_stat_runtime: comm=x pid=1 y pid=7 runtime=12 [ns] vruntime=3 [ns]"),
            What::Ran { thread: 7, time: 12 },
        ),
        (at("tracing_mark_write: kcm noise begin"), What::Marker(name("kcm noise begin"))),
        (name("CPU:3 [LOST 33 EVENTS]\n"), What::Lost(33)),
        (name("CPU:3 [LOST EVENTS]\n"), What::Lost(0)),
    ] {
        let (events, bad) = read(&text);
        assert_eq!((events.len(), bad), (1, 0), "{text}");
        assert_eq!((events[0].cpu, &events[0].what), (3, &expected), "{text}");
        let is_timed = !matches!(expected, What::Lost(_));
        assert_eq!(events[0].at, if is_timed { 102_000_007_000 } else { 0 });
    }
}

#[test]
fn a_name_that_looks_like_an_event_is_a_name() {
    let switch = |from: &str, to: &str| {
        format!(
            "{from:>16}-7       [001] d..2. 5.000001: sched_switch: prev_comm={from} prev_pid=7 \
             prev_prio=120 prev_state=S ==> next_comm={to} next_pid=8 next_prio=120\n"
        )
    };
    for (from, to) in [
        ("a", "b"),
        (" prev_pid=0", " next_pid=0"),
        (" ==> next_comm=", " ==> next_comm="),
        ("x prev_pid=0 p", "x next_pid=9 n"),
        ("\nCPU:1 [LOST", "EVENTS]\n"),
        ("\n\n\n", "-1 [1] . 1.1: x"),
        ("x-5 [001] d..2", "\n-5 [001] d..2. "),
        ("-5 [001]", "\u{fffd}\u{fffd}\u{fffd}-1"),
        ("5.000001: s: ", ": sched_switch:"),
    ] {
        let expected = What::Switch { from: (7, from.to_owned()), to: (8, to.to_owned()) };
        assert_eq!(only(&switch(from, to)), Some(expected), "{from:?} {to:?}");
    }
}

#[test]
fn what_is_no_event_is_counted_and_does_no_harm() {
    let header = "            bash-7       [001] d..2. 5.000001: ";
    for (text, expected) in [
        ("", 0),
        ("\n", 1),
        ("garbage\n", 1),
        ("CPU:x [LOST 1 EVENTS]\n", 1),
        ("            bash-7       [001] d..2. 5.0001: sched_switch: x\n", 1),
        ("            bash-99999999999999999999 [001] d..2. 5.000001: softirq_exit: x\n", 1),
        ("            bash-7 [001] d..2. 99999999999999999999.000001: softirq_exit: x\n", 1),
        (&format!("{header}sched_switch: prev_comm=a\n"), 1),
        (&format!("{header}sched_switch: prev_comm=a prev_pid=99999999999 \n"), 1),
        (&format!("{header}softirq_entry: vec=1\n"), 1),
        (&format!("{header}something_else: x\n"), 0),
    ] {
        let (events, not_understood) = read(text);
        assert_eq!((events.len(), not_understood), (0, expected), "{text:?}");
    }
    let long =
        format!("{header}tracing_mark_write: {}\n{}\n", "x".repeat(1 << 20), "y".repeat(1 << 20));
    let (events, _) = read(&long);
    let [Event { what: What::Marker(text), .. }] = &events[..] else { panic!("{events:?}") };
    assert!(text.len() <= LINE);
}
