use super::super::events::tests::{CAPTURED, read};
use super::*;

fn account(text: &str, cpus: &[u32], window: (u64, u64)) -> (BTreeMap<u32, OfCpu>, Account) {
    let mut account =
        Account::new(cpus.iter().copied(), Window::open(window.0, window.1 - window.0), true);
    account.end_at(window.1);
    read(text).0.into_iter().for_each(|event| account.take(event));
    let closed = account.close_all(&HashMap::new());
    (closed, account)
}

/// Lines of events on CPU 1, each written as `thread µs event`.
fn lines(events: &str) -> String {
    let line = |line: &str| {
        let mut words = line.trim().splitn(3, ' ');
        let (thread, at, what) =
            (words.next().unwrap(), words.next().unwrap(), words.next().unwrap_or_default());
        if thread == "lost" {
            return format!("CPU:1 [LOST {at} EVENTS]\n");
        }
        let what = match what.split_once("->") {
            Some((from, to)) => format!(
                "sched_switch: prev_comm=t{from} prev_pid={from} prev_prio=120 prev_state=S ==> \
                 next_comm=t{to} next_pid={to} next_prio=120"
            ),
            None => what.to_owned(),
        };
        format!("{:>16}-{thread:<7} [001] d..2. 0.{at:0>6}: {what}\n", format!("t{thread}"))
    };
    events.lines().map(str::trim).filter(|text| !text.is_empty()).map(line).collect()
}

fn within(context: Context, name: &str) -> Source {
    Source::Within(context, name.to_owned())
}

/// (count, time, longest) in microseconds.
fn of(cpu: &OfCpu, source: &Source) -> (u64, u64, u64) {
    let total = cpu.totals.get(source).cloned().unwrap_or_default();
    (total.count, total.time / 1000, total.longest / 1000)
}

const US: u64 = 1000;

#[test]
fn each_microsecond_is_the_innermosts() {
    let text = lines(
        "
        7 10 7->8
        8 20 local_timer_entry: vector=236
        8 23 local_timer_exit: vector=236
        8 23 softirq_entry: vec=1 [action=TIMER]
        8 25 irq_handler_entry: irq=1 name=eth0
        8 29 irq_handler_exit: irq=1 ret=handled
        8 30 softirq_exit: vec=1 [action=TIMER]
        8 40 8->0
        0 50 0->8
        8 55 8->7
        ",
    );
    let (closed, account) = account(&text, &[1], (0, 100 * US));
    let cpu = &closed[&1];
    assert_eq!(of(cpu, &Source::Thread(7)), (2, 55, 45));
    assert_eq!(of(cpu, &Source::Thread(8)), (2, 25, 20));
    assert_eq!(of(cpu, &Source::Thread(0)), (1, 10, 10));
    let on_cpu = |thread| cpu.totals[&Source::Thread(thread)].on_cpu / US;
    assert_eq!((on_cpu(7), on_cpu(8), on_cpu(0)), (55, 35, 10));
    assert_eq!(of(cpu, &within(Context::Vector, "local_timer")), (1, 3, 3));
    assert_eq!(of(cpu, &within(Context::Softirq, "TIMER")), (1, 3, 3));
    assert_eq!(of(cpu, &within(Context::Interrupt, "eth0")), (1, 4, 4));
    let all: u64 = cpu.totals.values().map(|total| total.time).sum();
    assert_eq!((all, cpu.unaccounted), (100 * US, 0));
    let kept: u64 = account.stretches.iter().map(|stretch| stretch.end - stretch.begin).sum();
    assert_eq!(kept, all);
    assert_eq!(account.names[&8], "t8");
}

#[test]
fn what_is_outside_of_the_window_is_not_counted() {
    let text = lines(
        "
        7 10 local_timer_entry: vector=236
        7 12 local_timer_exit: vector=236
        7 15 7->8
        8 18 softirq_entry: vec=1 [action=TIMER]
        8 22 softirq_exit: vec=1 [action=TIMER]
        8 30 8->9
        9 45 irq_handler_exit: irq=1 ret=handled
        9 48 softirq_entry: vec=1 [action=TIMER]
        9 52 softirq_exit: vec=1 [action=TIMER]
        9 60 9->7
        7 62 local_timer_entry: vector=236
        7 64 local_timer_exit: vector=236
        ",
    );
    let (closed, _) = account(&text, &[1], (20 * US, 50 * US));
    let cpu = &closed[&1];
    assert_eq!(of(cpu, &Source::Thread(8)), (1, 8, 8));
    assert_eq!(of(cpu, &Source::Thread(9)), (1, 18, 18));
    assert_eq!(of(cpu, &within(Context::Softirq, "TIMER")), (2, 4, 2));
    for none in [Source::Thread(7), within(Context::Vector, "local_timer")] {
        assert_eq!(of(cpu, &none), (0, 0, 0), "{none:?}");
    }
}

#[test]
fn a_loss_is_told_and_nobody_is_given_its_time() {
    let text = lines(
        "
        7 10 7->8
        8 20 local_timer_entry: vector=236
        lost 33
        9 60 softirq_entry: vec=1 [action=TIMER]
        9 70 softirq_exit: vec=1 [action=TIMER]
        ",
    );
    let (closed, _) = account(&text, &[1], (0, 100 * US));
    let cpu = &closed[&1];
    assert_eq!((cpu.lost_events, cpu.unaccounted), (33, 40 * US));
    assert_eq!(of(cpu, &Source::Thread(9)), (1, 30, 30));
    assert_eq!(of(cpu, &Source::Thread(8)), (1, 10, 10));
}

#[test]
fn who_came_without_a_word_has_the_time_that_the_kernel_says_or_all_of_it() {
    let ran = "sched_stat_runtime: comm=t8 pid=8 runtime=12000 [ns]";
    let told = format!(
        "7 10 7->0\n8 30 local_timer_entry: vector=1\n8 32 {ran}\n8 32 local_timer_exit: vector=1\n8 40 8->0\n"
    );
    let untold = "7 10 7->0\n8 40 8->0\n";
    for (events, run, idle) in [(told.as_str(), 18, 70), (untold, 30, 60)] {
        let (closed, _) = account(&lines(events), &[1], (0, 100 * US));
        let cpu = &closed[&1];
        assert_eq!(of(cpu, &Source::Thread(8)).1, run, "{events}");
        assert_eq!(of(cpu, &Source::Thread(0)).1, idle, "{events}");
        let all: u64 = cpu.totals.values().map(|total| total.time).sum();
        assert_eq!(all, 100 * US);
    }
    // Away from a thread, not from idle.
    let away = told.replace("7->0", "7->6");
    let (closed, _) = account(&lines(&away), &[1], (0, 100 * US));
    assert_eq!(of(&closed[&1], &Source::Thread(6)).1, 10);
    assert_eq!(closed[&1].totals[&Source::Thread(6)].on_cpu, 10 * US);
    assert_eq!(of(&closed[&1], &Source::Thread(8)).1, 18);
    // Of another thread, by whoever woke it.
    let others = "7 10 7->0\n8 30 sched_stat_runtime: comm=x pid=9 runtime=5000 [ns]\n8 40 8->0\n";
    let (closed, _) = account(&lines(others), &[1], (0, 100 * US));
    assert_eq!(of(&closed[&1], &Source::Thread(8)).1, 30);
}

#[test]
fn a_cpu_of_which_nothing_is_told_is_not_idle_for_that() {
    let mut account = Account::new([1, 2, 3].into_iter(), Window::open(0, 100), false);
    account.end_at(100);
    read(&lines("7 0 7->8\n")).0.into_iter().for_each(|event| account.take(event));
    assert_eq!(account.silent(), [2, 3]);
    let closed = account.close_all(&HashMap::from([(2, 4711)]));
    assert_eq!(closed[&2].totals[&Source::Thread(4711)].time, 100);
    assert!(closed[&3].totals.is_empty());
    assert_eq!(closed[&3].unaccounted, 100);
    assert!(account.stretches.is_empty());
}

#[test]
fn the_captured_events_make_up_their_window() {
    let events = read(CAPTURED).0;
    let (begin, end) = (events[0].at, events[events.len() - 1].at);
    let (closed, _) = account(CAPTURED, &[0, 1], (begin, end));
    let cpu = &closed[&1];
    let all: u64 = cpu.totals.values().map(|total| total.time).sum();
    assert_eq!((all, cpu.lost_events), (end - begin, 0));
    // It came out of idle without a word, after 24295.627139: had run for 910.825 µs at 628022.
    let grep = of(cpu, &Source::Thread(17152));
    assert!((878..=885).contains(&grep.1), "{grep:?}");
}

#[test]
fn memory_has_a_limit_whatever_is_started() {
    let mut account = Account::new([1].into_iter(), Window::open(0, u64::MAX / 2), true);
    let count = SOURCES as i32 + 100;
    for n in 1..count {
        let what = What::Switch { from: (n, String::new()), to: (n + 1, String::new()) };
        let at = u64::from(n.unsigned_abs());
        account.take(Event { cpu: 1, thread: n, at, what });
    }
    account.end_at(count as u64);
    let closed = account.close_all(&HashMap::new());
    assert_eq!(account.sources.len(), SOURCES + 1);
    assert!(closed[&1].totals[&Source::Thread(MANY)].time > 90);
}
