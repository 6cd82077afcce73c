//! What is fuzzed by `make deep`, here on the inputs that were kept, and on some thousand changes of
//! them that are the same in each run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

#[path = "../../fuzz/src/targets/mod.rs"]
mod targets;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Changed inputs a target.
const CHANGES: u64 = 1500;

/// For one input; it takes microseconds, where nobody else is at work.
const LIMIT: Duration = Duration::from_secs(10);

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 2, "no corpus of {name}");
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// A few steps of a xorshift generator.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides.max(1)
    }
}

/// Some bytes of an input are others, are gone, are there again, or come from another input.
fn change(input: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=dice.throw(6) {
        let at = dice.throw(bytes.len());
        let end = (at + dice.throw(16)).min(bytes.len());
        match dice.throw(5) {
            0 if !bytes.is_empty() => bytes[at] = dice.throw(256) as u8,
            1 => drop(bytes.drain(at..end)),
            2 => bytes.splice(at..at, input[..end.min(input.len())].to_vec()).for_each(drop),
            3 => {
                let from = dice.throw(other.len());
                let part = other[from..(from + 24).min(other.len())].to_vec();
                bytes.splice(at..end, part).for_each(drop);
            }
            _ => bytes.insert(at, b"\0,-:/0129\"{[\n\xff"[dice.throw(14)]),
        }
    }
    bytes
}

#[test]
fn whatever_was_kept_and_what_is_near_it_is_read_or_refused() {
    for (name, target) in targets::ALL {
        let corpus = corpus(name);
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
        let run = |input: &[u8]| {
            let begun = Instant::now();
            target(input);
            assert!(begun.elapsed() < LIMIT, "{name} takes {:?}: {input:?}", begun.elapsed());
        };
        corpus.iter().for_each(|input| run(input));
        for _ in 0..CHANGES {
            let [input, other] = [0; 2].map(|_| &corpus[dice.throw(corpus.len())]);
            run(&change(input, other, &mut dice));
        }
        println!("{name}: {} kept inputs, {CHANGES} changes of them", corpus.len());
    }
}
