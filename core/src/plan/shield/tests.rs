use super::*;

fn wish(shield: &str) -> Wish {
    Wish { shield: cpus(shield), online: cpus("0-15"), possible: cpus("0-15"), ..Wish::default() }
}

fn found(kind: Kind, name: &str, now: &str) -> Found {
    Found::new(Item::new(kind, name), now)
}

/// What each item is set to, and what it had before; none where nothing is done.
fn set(plan: &Plan) -> Vec<(String, String)> {
    plan.steps.iter().map(|step| (step.before.clone(), step.wanted.clone())).collect()
}

fn kept(kind: Kind, name: &str, before: &str, set: &str) -> Kept {
    of(Item::new(kind, name), before, set)
}

fn of(item: Item, before: &str, set: &str) -> Kept {
    Kept { item, before: before.into(), set: set.into(), earlier: None }
}

#[test]
fn each_kind_is_given_what_keeps_work_off_the_shield() {
    let wish = Wish {
        isolated: cpus("9"),
        latency: Some(0),
        governor: Some("performance".into()),
        ..wish("2-5")
    };
    for (kind, name, before, wanted) in [
        (Kind::Irqbalance, "", "", "2-5,9"),
        (Kind::Irqbalance, "", "15", "2-5,9,15"),
        (Kind::NewInterrupts, "", "0-15", "0-1,6-15"),
        (Kind::Interrupt, "24", "0-7", "0-1,6-7"),
        // Served by the shield alone: it goes anywhere else.
        (Kind::Interrupt, "24", "3", "0-1,6-15"),
        (Kind::Slice, "user.slice", "", "0-1,6-15"),
        (Kind::Slice, "user.slice", "0-3", "0-1"),
        (Kind::Slice, "user.slice", "kernel 0-3", "0-1"),
        (Kind::Thread, "x", "1-2", "1"),
        // It would be taken from it by the cpuset.
        (Kind::Thread, "x", "7", "7"),
        (Kind::Workqueues, "", "0-15", "0-1,6-15"),
        (Kind::Watchdog, "", "0-15", "0-1,6-15"),
        (Kind::Statistics, "", "1", "120"),
        (Kind::Receive, "eth0/rx-0", "0-3", "0-1"),
        (Kind::Transmit, "eth0/tx-0", "4", "0-1,6-15"),
        (Kind::Latency, "3", "0", "n/a"),
        (Kind::Governor, "3", "powersave", "performance"),
    ] {
        let plan = on(&[found(kind, name, before)], &[], &wish);
        assert_eq!(set(&plan), [(before.into(), wanted.into())], "{kind:?} {before}");
        assert_eq!(plan.left, []);
    }
}

#[test]
fn what_keeps_off_the_shield_already_or_was_not_asked_for_stays_as_it_is() {
    for (kind, name, now) in [
        (Kind::Interrupt, "24", "0-1"),
        (Kind::Slice, "user.slice", "8-15"),
        (Kind::Workqueues, "", "0-1"),
        (Kind::Statistics, "", "300"),
        (Kind::Statistics, "", "garbage"),
        (Kind::Latency, "3", "0"),
        (Kind::Governor, "3", "powersave"),
        (Kind::KernelThread, "ksmd", "8-15"),
    ] {
        assert_eq!(on(&[found(kind, name, now)], &[], &wish("2-5")), Plan::default(), "{kind:?}");
    }
}

#[test]
fn what_cannot_be_moved_is_named_with_the_reason() {
    let mut wish = wish("2-5");
    wish.spared.insert("system.slice".into(), "docker".into());
    let fixed = |item| Found { fixed: Some("per CPU".into()), ..item };
    for (item, why) in [
        (fixed(found(Kind::KernelThread, "migration/3", "3")), "per CPU"),
        (found(Kind::KernelThread, "bound/3", "3"), "on these CPUs alone"),
        (found(Kind::Slice, "system.slice", ""), "docker"),
        (found(Kind::Slice, "user.slice", "2-3"), "AllowedCPUs=2-3 are the shield's alone"),
    ] {
        let plan = on(std::slice::from_ref(&item), &[], &wish);
        assert_eq!((plan.steps.len(), plan.left.len()), (0, 1), "{item:?}");
        assert!(plan.left[0].why.contains(why), "{:?}", plan.left[0]);
    }
    // One that is elsewhere is no matter.
    let elsewhere = fixed(found(Kind::KernelThread, "migration/9", "9"));
    assert_eq!(on(&[elsewhere], &[], &wish), Plan::default());
}

#[test]
fn a_second_on_changes_nothing_and_forgets_nothing() {
    let items =
        [found(Kind::Interrupt, "24", "0-1,6-15"), found(Kind::Slice, "user.slice", "0-1,6-15")];
    let kept = [
        kept(Kind::Interrupt, "24", "0-15", "0-1,6-15"),
        kept(Kind::Slice, "user.slice", "", "0-1,6-15"),
    ];
    let plan = on(&items, &kept, &wish("2-5"));
    assert!(plan.steps.iter().all(|step| step.now == step.wanted));
    let remembered: Vec<Kept> = plan.steps.iter().map(Step::kept).collect();
    assert_eq!(remembered, kept);
}

#[test]
fn after_another_init_it_is_planned_from_what_was_there_before() {
    let items = [
        found(Kind::Interrupt, "24", "0-1,6-15"),
        found(Kind::Interrupt, "25", "6-7"),
        found(Kind::Latency, "2", "n/a"),
    ];
    let kept = [
        kept(Kind::Interrupt, "24", "0-15", "0-1,6-15"),
        kept(Kind::Interrupt, "25", "4-7", "6-7"),
        kept(Kind::Latency, "2", "0", "n/a"),
    ];
    let plan = on(&items, &kept, &wish("12-13"));
    let expected = [("0-15", "0-11,14-15"), ("4-7", "4-7"), ("0", "0")];
    assert_eq!(set(&plan), expected.map(|(before, wanted)| (before.into(), wanted.into())));
}

#[test]
fn off_gives_back_what_is_still_ours_and_leaves_what_is_not() {
    let kept = [
        kept(Kind::Interrupt, "1", "0-15", "0-1,6-15"), // as it was set
        kept(Kind::Interrupt, "2", "0-15", "0-1,6-15"), // not come to
        kept(Kind::Interrupt, "3", "0-15", "0-1,6-15"), // set by somebody
        kept(Kind::Interrupt, "4", "0-15", "0-1,6-15"), // gone
    ];
    let items = [("1", "0-1,6-15"), ("2", "0-15"), ("3", "8"), ("5", "0-1,6-15")];
    let items = items.map(|(name, now)| found(Kind::Interrupt, name, now));
    let plan = off(&items, &kept);
    let names: Vec<&str> = plan.steps.iter().map(|step| step.item.name.as_str()).collect();
    assert_eq!(names, ["1", "2"]);
    assert!(plan.steps.iter().all(|step| step.wanted == "0-15"));
    assert_eq!((plan.left.len(), plan.left[0].item.name.as_str()), (1, "3"));
    assert!(plan.left[0].why.contains("was 0-15, and the shield set 0-1,6-15"));
}

#[test]
fn what_was_born_under_the_shield_is_given_what_it_would_have_had() {
    let kept = [kept(Kind::NewInterrupts, "", "0-15", "0-1")];
    let items = [
        found(Kind::Interrupt, "99", "0-1"),
        found(Kind::Interrupt, "98", "1"),
        Found { fixed: Some("no".into()), ..found(Kind::Interrupt, "97", "0-1") },
        // Those are born with every CPU.
        found(Kind::KernelThread, "nfsd", "0-1"),
    ];
    let plan = off(&items, &kept);
    let names: Vec<&str> = plan.steps.iter().map(|step| step.item.name.as_str()).collect();
    assert_eq!(names, ["99"]);
    assert_eq!(set(&plan), [("0-15".into(), "0-15".into())]);
}

#[test]
fn what_had_by_itself_what_is_born_under_the_shield_keeps_it() {
    let mut items = [
        found(Kind::NewInterrupts, "", "0-15"),
        found(Kind::Interrupt, "24", "0-1,6-15"),
        found(Kind::Interrupt, "25", "0-15"),
    ];
    let plan = on(&items, &[], &wish("2-5"));
    let mut kept: Vec<Kept> = plan.steps.iter().map(Step::kept).collect();
    items.iter_mut().for_each(|it| it.now = "0-1,6-15".into());
    let again = on(&items, &kept, &wish("2-5"));
    assert_eq!(again.steps.iter().map(Step::kept).collect::<Vec<_>>(), kept);
    // One that was born under it is not known.
    let born = [items.to_vec(), vec![found(Kind::Interrupt, "26", "0-1,6-15")]].concat();
    let back = |kept: &[Kept]| {
        let plan = off(&born, kept);
        plan.steps.into_iter().map(|step| (step.item.name, step.wanted)).collect::<Vec<_>>()
    };
    let expected = [("", "0-15"), ("24", "0-1,6-15"), ("25", "0-15"), ("26", "0-15")];
    assert_eq!(back(&kept), expected.map(|(name, wanted)| (name.into(), wanted.into())));
    // With other pools it is planned from what it would have had.
    let plan = on(&born, &kept, &wish("8"));
    kept = plan.steps.iter().map(Step::kept).collect();
    assert_eq!(kept.last().map(|kept| (&*kept.before, &*kept.set)), Some(("0-15", "0-7,9-15")));
}

#[test]
fn a_thread_that_has_bound_itself_since_keeps_that_when_its_slice_is_given_back() {
    let thread = Thread { pid: 50.try_into().unwrap(), start_time: 7 };
    let item = Item::thread(Kind::Thread, "worker", thread);
    let kept = [of(item.clone(), "2-3", "0-1")];
    for (now, wanted) in [("0-1", "2-3"), ("0", "0"), ("2-3", "2-3")] {
        let plan = off(&[Found::new(item.clone(), now)], &kept);
        assert_eq!(plan.steps[0].wanted, wanted);
    }
}

#[test]
fn slices_come_before_their_threads_and_irqbalance_first_and_last() {
    let thread = Thread { pid: 50.try_into().unwrap(), start_time: 7 };
    let items = [
        found(Kind::Interrupt, "24", "0-15"),
        Found::new(Item::thread(Kind::Thread, "worker", thread), "2-3"),
        found(Kind::Slice, "user.slice", ""),
        found(Kind::Irqbalance, "", ""),
    ];
    let plan = on(&items, &[], &wish("2-5"));
    let kinds = |plan: &Plan| plan.steps.iter().map(|step| step.item.kind).collect::<Vec<_>>();
    assert_eq!(kinds(&plan), [Kind::Irqbalance, Kind::Interrupt, Kind::Slice, Kind::Thread]);
    let kept: Vec<Kept> = plan.steps.iter().map(Step::kept).collect();
    let plan = off(&items, &kept);
    assert_eq!(kinds(&plan), [Kind::Interrupt, Kind::Slice, Kind::Thread, Kind::Irqbalance]);
}

#[test]
fn a_kinds_word_is_the_one_in_the_state_file() {
    for kind in [Kind::Irqbalance, Kind::NewInterrupts, Kind::KernelThread, Kind::Statistics] {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.word());
    }
    let text = serde_json::to_string(&kept(Kind::Interrupt, "24", "0-15", "0-1")).unwrap();
    assert_eq!(text, r#"{"kind":"interrupt","name":"24","before":"0-15","set":"0-1"}"#);
}
