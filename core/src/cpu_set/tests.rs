use super::*;
use proptest::prelude::*;

fn set(text: &str) -> CpuSet {
    text.parse().unwrap()
}

#[test]
fn takes_what_the_kernel_takes_and_prints_its_canonical_form() {
    for (text, canonical) in [
        ("0-3,8", "0-3,8"),
        ("5,13,6,14", "5-6,13-14"),
        (" 1 , 3\n", "1,3"),
        ("0-31:2/8", "0-1,8-9,16-17,24-25"),
        ("0-9:1/2", "0,2,4,6,8"),
        ("7,7,6-7", "6-7"),
        ("0-8191", "0-8191"),
        ("007", "7"),
    ] {
        assert_eq!(set(text).to_string(), canonical, "{text:?}");
    }
}

#[test]
fn refuses_the_rest_and_names_the_part() {
    for (text, error) in [
        ("", ParseError::Empty),
        (" \n", ParseError::Empty),
        ("3-1", ParseError::Backwards("3-1".into())),
        ("-1", ParseError::Malformed("-1".into())),
        ("1,x", ParseError::Malformed("x".into())),
        ("1,,2", ParseError::Malformed("".into())),
        ("+1", ParseError::Malformed("+1".into())),
        ("1-", ParseError::Malformed("1-".into())),
        ("4:1/2", ParseError::Malformed("4:1/2".into())),
        ("0-4:0/2", ParseError::Malformed("0-4:0/2".into())),
        ("0-4:3/2", ParseError::Malformed("0-4:3/2".into())),
        ("0-4:1/0", ParseError::Malformed("0-4:1/0".into())),
        ("8192", ParseError::TooLarge("8192".into())),
        ("0,99999999999999999999", ParseError::TooLarge("99999999999999999999".into())),
        ("0-99999", ParseError::TooLarge("0-99999".into())),
    ] {
        assert_eq!(text.parse::<CpuSet>(), Err(error), "{text:?}");
    }
}

#[test]
fn an_empty_kernel_file_is_an_empty_set() {
    assert_eq!(CpuSet::parse_possibly_empty("\n"), Ok(CpuSet::new()));
    assert!(CpuSet::parse_possibly_empty("x").is_err());
}

#[test]
fn set_operations() {
    let (a, b) = (set("0-3,64,200"), set("2-5,64"));
    assert_eq!(a.union(&b), set("0-5,64,200"));
    assert_eq!(a.intersection(&b), set("2-3,64"));
    assert_eq!(a.difference(&b), set("0-1,200"));
    assert!(set("2").is_subset(&a) && !b.is_subset(&a) && CpuSet::new().is_subset(&a));
    assert!(!a.is_subset(&set("0-3,64")) && set("200").is_subset(&a));
    assert_eq!((CpuSet::new().first(), set("130,200").first()), (None, Some(130)));
    assert_eq!((a.len(), a.first(), a.contains(200), a.contains(201)), (6, Some(0), true, false));
    assert_eq!(set("8-9").to_bytes(), [0, 3, 0, 0, 0, 0, 0, 0]);
}

/// What parsing a text costs, in steps; a range is one, and so is a word of the result.
fn work(text: &str) -> usize {
    work::DONE.set(0);
    let _ = text.parse::<CpuSet>();
    work::DONE.get()
}

#[test]
fn whatever_is_repeated_costs_no_more_than_the_bytes_it_is_written_in() {
    let varied = (0..9_000u32).map(|i| format!("{}-8191:1/{}", i % 64, 2 + i % 4_000));
    let varied: Vec<String> = varied.collect();
    for text in [
        vec!["0-8191"; 20_000].join(","),
        vec!["1-8190"; 20_000].join(","),
        vec!["0-8191:1/2"; 20_000].join(","),
        vec!["0-8191:4095/4096"; 20_000].join(","),
        vec!["0-8191:1/1"; 20_000].join(","),
        vec!["8191"; 20_000].join(","),
        varied.join(","),
    ] {
        let (steps, most) = (work(&text), text.len() + MAX_CPU as usize + 1);
        assert!(steps <= most, "{}…: {steps} steps, {} bytes", &text[..20], text.len());
    }
    assert_eq!(set(&["0-8191"; 20_000].join(",")), set("0-8191"));
}

#[test]
fn every_cpu_may_be_named_once_by_strides_and_not_over_and_over() {
    assert_eq!(set("0-8191:1/2,1-8191:1/2"), set("0-8191"));
    let text = "0-8191:1/2,0-8191:1/2,0-8191:1/2";
    let error = text.parse::<CpuSet>().unwrap_err();
    assert_eq!(error, ParseError::TooMany("0-8191:1/2".into()));
    let long = format!("0,{}", "x".repeat(60_000)).parse::<CpuSet>().unwrap_err();
    assert!(long.to_string().len() < 200 && long.to_string().contains("xxx…"), "{long}");
}

/// The same, one CPU after the other.
fn slowly(text: &str) -> Result<CpuSet, ParseError> {
    let parts = text.split(',').map(|part| Stride::parse(part.trim()));
    let mut cpus = CpuSet::new();
    for part in parts {
        let Stride { first, last, used, group } = part?;
        (first..=last).filter(|n| (n - first) % group < used).for_each(|n| cpus.insert(n));
    }
    Ok(cpus)
}

proptest! {
    #[test]
    fn ranges_and_strides_in_any_number_are_what_they_are_one_cpu_after_the_other(
        parts in proptest::collection::vec(
            (0..=MAX_CPU, 0..700u32, 1..300u32, 0..300u32, any::<bool>()), 1..24,
        ),
    ) {
        let text = |&(first, length, used, unused, is_stride): &(u32, u32, u32, u32, bool)| {
            let last = (first + length).min(MAX_CPU);
            match is_stride {
                true => format!("{first}-{last}:{used}/{}", used + unused),
                false => format!("{first}-{last}"),
            }
        };
        let text = parts.iter().map(text).collect::<Vec<_>>().join(",");
        match text.parse::<CpuSet>() {
            Err(ParseError::TooMany(_)) => {
                let ranges = text.split(',').map(|part| Stride::parse(part).unwrap());
                let ranges = ranges.filter(|part| part.used != part.group);
                let ranges = ranges.map(|part| (part.first..=part.last).step_by(part.group as usize));
                prop_assert!(ranges.map(Iterator::count).sum::<usize>() > MAX_CPU as usize + 1);
            }
            parsed => {
                prop_assert_eq!(validate(&text), parsed.clone().map(drop));
                prop_assert_eq!(parsed, slowly(&text));
            }
        }
    }

    #[test]
    fn any_text_is_what_it_is_one_cpu_after_the_other(text in "[-0-9,:/ ]{1,40}") {
        prop_assume!(!text.trim().is_empty());
        prop_assert_eq!(text.parse::<CpuSet>(), slowly(&text));
        prop_assert_eq!(validate(&text), slowly(&text).map(drop));
    }

    #[test]
    fn printing_and_parsing_are_inverse(cpus in proptest::collection::btree_set(0..=MAX_CPU, 1..64)) {
        let set: CpuSet = cpus.iter().copied().collect();
        prop_assert_eq!(set.to_string().parse::<CpuSet>().unwrap(), set.clone());
        prop_assert!(set.iter().eq(cpus.iter().copied()));
    }

    #[test]
    fn any_text_parses_or_is_refused_without_a_panic(text in "[-0-9,:/ x\n]{0,40}|.{0,40}") {
        if let Ok(set) = text.parse::<CpuSet>() {
            prop_assert!(!set.is_empty());
        }
    }
}

#[test]
fn a_mask_is_written_as_the_kernel_reads_it() {
    for (list, expected) in [
        ("", "0"),
        ("0", "1"),
        ("0-15", "ffff"),
        ("0-1,6-15", "ffc3"),
        ("31", "80000000"),
        ("32", "1,00000000"),
        ("0-63", "ffffffff,ffffffff"),
        ("31,64", "1,00000000,80000000"),
        ("96", "1,00000000,00000000,00000000"),
    ] {
        let cpus = CpuSet::parse_possibly_empty(list).unwrap();
        assert_eq!(cpus.to_mask(), expected, "{list}");
        assert_eq!(crate::host::sysfs::parse_mask(expected).unwrap(), cpus);
    }
}

#[test]
fn it_is_serialised_as_its_text_and_no_other_text_is_taken_for_it() {
    for (list, text) in [("2-3,8", "\"2-3,8\""), ("", "\"\"")] {
        let cpus = CpuSet::parse_possibly_empty(list).unwrap();
        assert_eq!(serde_json::to_string(&cpus).unwrap(), text);
        assert_eq!(serde_json::from_str::<CpuSet>(text).unwrap(), cpus);
    }
    assert!(serde_json::from_str::<CpuSet>("\"3-2\"").is_err());
}
