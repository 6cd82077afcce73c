use super::super::report::{Gaps, OfCpu, Origin, Source};
use super::super::window::Window;
use super::*;

/// A run of a second in which so many had this much of each part, on two CPUs.
fn report(name: &str, many: usize, share: u64) -> Report {
    let window = Window { begin: 0, end: 1_200_000_000, asked: 1_200_000_000 };
    let timeline: BTreeMap<u32, u64> = (0..BUCKETS).map(|part| (part, share)).collect();
    let source = |n: usize| Source {
        count: 10_000_000_000,
        kind: [Kind::KernelThread, Kind::Interrupt, Kind::Other][n % 3],
        name: format!("{name}{n}"),
        place: n
            .is_multiple_of(2)
            .then(|| "/kubepods.slice/cri-containerd-0123456789abcdef.scope".into()),
        timeline: timeline.clone(),
        total_ns: Some(999_999_000_000),
        ..Source::default()
    };
    let gaps =
        Gaps { histogram: BTreeMap::from([(20, u64::MAX), (5_000_000_000, 1)]), ..Gaps::default() };
    let of_cpu = |cpu| OfCpu {
        cpu,
        gaps: Some(gaps.clone()),
        sources: (0..many).map(source).collect(),
        foreign_ns: 1 << 50,
        ..OfCpu::default()
    };
    Report {
        cpus: "0-1".into(),
        each_cpu: vec![of_cpu(0), of_cpu(1)],
        notices: Vec::new(),
        subject: format!("container {}", name.repeat(8)),
        source: Origin::Tracefs,
        window,
    }
}

/// The value of an attribute.
fn number(element: &str, name: &str) -> f64 {
    let rest = element.split_once(&format!(" {name}=\"")).unwrap().1;
    rest.split_once('"').unwrap().0.parse().unwrap()
}

/// Where each text begins and ends, by its line.
fn texts(svg: &str) -> BTreeMap<u32, Vec<(f64, f64, String)>> {
    let mut lines: BTreeMap<u32, Vec<(f64, f64, String)>> = BTreeMap::new();
    for element in svg.lines().filter(|line| line.starts_with("<text")) {
        let words = element.split_once('>').unwrap().1.trim_end_matches("</text>");
        // As wide as monospaced fonts of 12 pixels are; of other scripts twice.
        let width: f64 = words.chars().map(|c| if c < '\u{1100}' { 7.23 } else { 14.46 }).sum();
        let (x, y) = (number(element, "x"), number(element, "y") as u32);
        let begin = match element {
            it if it.contains("right") => x - width,
            it if it.contains("middle") => x - width / 2.0,
            _ => x,
        };
        lines.entry(y).or_default().push((begin, begin + width, words.to_owned()));
    }
    lines
}

#[test]
fn no_text_is_wider_than_its_place_whatever_names_there_are() {
    for name in ["a-name-as-long-as-no-thread-has-one-", "名前がとても長い", "i"] {
        let both = Comparison { before: report(name, 20, 1), now: report(name, 20, 2) };
        for (y, mut line) in texts(&render_both(&both)) {
            line.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(line[0].0 >= 0.0, "{y}: {line:?}");
            assert!(line.last().unwrap().1 <= f64::from(WIDTH), "{y}: {line:?}");
            for pair in line.windows(2) {
                assert!(pair[0].1 <= pair[1].0, "{y}: {pair:?}");
            }
            // Between a row's texts is its timeline.
            if let [label, total] = &line[..]
                && total.2.contains('×')
            {
                assert!(label.1 <= f64::from(LEFT) && total.0 >= f64::from(RIGHT), "{y}: {line:?}");
            }
        }
    }
}

fn heights(svg: &str, class: &str) -> Vec<f64> {
    let begin = format!("<rect class=\"{class}\"");
    svg.lines().filter(|line| line.starts_with(&begin)).map(|line| number(line, "height")).collect()
}

#[test]
fn of_two_runs_the_same_time_is_as_high_and_no_more_than_the_cpus_have() {
    let (before, now) = (report("x", 3, 10_000_000), report("x", 3, 1_000_000));
    let svg = render_both(&Comparison { before: before.clone(), now });
    // One of each run is a kernel thread, which had all of both CPUs.
    let heights = heights(&svg, "c");
    let (high, low) = heights.split_at(heights.len() / 2);
    assert!(high.iter().all(|&height| height == high[0]), "{high:?}");
    assert!(low.iter().all(|&height| (height * 10.0 - high[0]).abs() <= 0.5), "{low:?}");
    assert!(svg.contains("the highest bar is 100.000 % of the CPUs"), "{svg}");
    assert!(svg.contains("the highest bar is 10.000 % of the CPUs"), "{svg}");

    // The end was late: the last part is longer.
    let mut late = before;
    late.window.end += 10_000_000;
    for source in late.each_cpu.iter_mut().flat_map(|cpu| &mut cpu.sources) {
        source.timeline.insert(BUCKETS - 1, 20_000_000);
    }
    let heights: Vec<f64> = self::heights(&render(&late), "c");
    assert!(heights.iter().all(|&height| height == heights[0]), "{heights:?}");
}

#[test]
fn the_longest_gap_is_in_the_picture_however_long_it_is() {
    let svg = render(&report("x", 1, 1));
    let bars: Vec<&str> = svg.lines().filter(|line| line.contains("width=\"6\"")).collect();
    assert_eq!(bars.len(), 2, "{bars:#?}");
    assert!(number(bars[1], "x") > 850.0 && number(bars[1], "x") < f64::from(WIDTH - 60));
}
