use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::super::fixtures::*;
use super::super::transient::start_transient_unit;
use super::super::{NewScope, Value, get, set_unit_properties, unit_path};
use super::*;
use crate::CpuSet;

fn decoded(bytes: &[u8]) -> Message {
    Message::decode(bytes).unwrap()
}

#[test]
fn the_calls_are_the_bytes_that_the_specification_asks_for() {
    let path = unit_path("init.scope");
    let scope = "org.freedesktop.systemd1.Scope";
    assert_eq!(get(&path, scope, "ControlGroup").encode(1), GET);
    let (cpus, nodes): (CpuSet, CpuSet) = ("0,8-9".parse().unwrap(), "0".parse().unwrap());
    let properties =
        [("AllowedCPUs", Value::Cpus(&cpus)), ("AllowedMemoryNodes", Value::Cpus(&nodes))];
    assert_eq!(set_unit_properties("init.scope", &properties).encode(1), SET);
    let properties = [("CPUQuotaPerSecUSec", Value::Number(u64::MAX))];
    assert_eq!(set_unit_properties("init.scope", &properties).encode(1), SET_QUOTA);
}

#[test]
fn a_new_scope_is_the_bytes_that_the_specification_asks_for() {
    let (name, description, slice) = ("x.scope", "a test", "user-0.slice");
    let scope = NewScope { name, description, slice, pid: 4711 };
    assert_eq!(start_transient_unit(&scope).encode(1), START);
}

#[test]
fn the_end_of_a_job_is_told_by_its_signal_alone() {
    let job = "/org/freedesktop/systemd1/job/77";
    assert_eq!(decoded(JOB).object(), Ok(job));
    for (bytes, result) in [(JOB_DONE, "done"), (JOB_FAILED, "failed")] {
        assert_eq!(decoded(bytes).job_removed(), Some(JobRemoved { job, result }));
    }
    for bytes in [JOB, UNIT_NEW, GROUP, START, &with(JOB_DONE, 1, METHOD_RETURN)] {
        assert_eq!(decoded(bytes).job_removed(), None);
    }
    assert_eq!(decoded(GROUP).object(), Err(Malformed::Type));
}

#[test]
fn a_truth_is_zero_or_one() {
    assert_eq!(decoded(DELEGATED).bool_in_variant(), Ok(true));
    let last = DELEGATED.len() - 4;
    assert_eq!(decoded(&with(DELEGATED, last, 0)).bool_in_variant(), Ok(false));
    assert_eq!(decoded(&with(DELEGATED, last, 2)).bool_in_variant(), Err(Malformed::Type));
    assert_eq!(decoded(GROUP).bool_in_variant(), Err(Malformed::Type));
}

#[test]
fn an_answer_has_its_serial_and_its_value() {
    for (bytes, group) in [(GROUP, "/init.scope"), (BIG_GROUP, "/init.scope"), (NO_GROUP, "")] {
        let answer = decoded(bytes);
        assert!(answer.answers(1) && !answer.answers(2));
        assert_eq!((answer.error(), answer.string_in_variant()), (None, Ok(group)));
    }
    assert_eq!(decoded(DONE).string_in_variant(), Err(Malformed::Type));
}

#[test]
fn an_error_has_a_name_and_perhaps_a_text() {
    let (name, text) = ("org.freedesktop.systemd1.NoSuchUnit", "Unit cri-nope.scope not found.");
    assert_eq!(decoded(NO_SUCH_UNIT).error(), Some((name, text)));
    assert_eq!(decoded(BIG_NO_TEXT).error(), Some(("a.B\nc.D", "")));
    assert!(decoded(BIG_NO_TEXT).answers(1));
}

#[test]
fn signals_calls_and_unknown_kinds_answer_nothing() {
    assert!(!decoded(UNIT_NEW).answers(1));
    assert!(!decoded(GET).answers(1));
    for kind in [0, 1, 4, 5, 255] {
        assert!(!decoded(&with(GROUP, 1, kind)).answers(1), "kind {kind}");
    }
}

#[test]
fn what_is_no_message_is_refused_and_says_why() {
    for (bytes, error) in [
        (with(GROUP, 0, b'H'), Malformed::ByteOrder(b'H')),
        (with(GROUP, 3, 2), Malformed::Version(2)),
        (with(GROUP, 7, 0x10), Malformed::TooLarge(0x1000_0048 + 0x14)),
        (with(GROUP, 15, 0xff), Malformed::TooLarge(0xff00_0048 + 0x14)),
        (with(GROUP, 4, 0x15), Malformed::Truncated),
        (GROUP[..GROUP.len() - 1].to_vec(), Malformed::Truncated),
        (GROUP[..15].to_vec(), Malformed::Truncated),
        (Vec::new(), Malformed::Truncated),
        // REPLY_SERIAL as an INT32, SENDER as a variant, SENDER's length past the end.
        (with(GROUP, 18, b'i'), Malformed::Type),
        (with(GROUP, 26, b'v'), Malformed::Type),
        (with(GROUP, 29, 0xff), Malformed::Truncated),
        (with(GROUP, 33, 0), Malformed::Text),
        (with(GROUP, 33, 0xff), Malformed::Text),
    ] {
        assert_eq!(Message::decode(&bytes), Err(error), "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_value_of_another_type_or_past_the_end_is_refused() {
    // Offsets: 69 the body's signature, 73 the variant's, 76 the string's length.
    for (bytes, error) in [
        (with(GROUP, 73, b'o'), Malformed::Type),
        (with(GROUP, 69, b's'), Malformed::Type),
        (with(GROUP, 76, 0x0c), Malformed::Truncated),
        (with(GROUP, 76, 0x0a), Malformed::Text),
    ] {
        assert_eq!(decoded(&bytes).string_in_variant(), Err(error));
    }
}

/// Everything that is done with a peer's bytes.
fn read_all(bytes: &[u8]) {
    if let Ok(message) = Message::decode(bytes) {
        let _ = (message.answers(1), message.error(), message.string_in_variant());
        let _ = (message.object(), message.bool_in_variant(), message.job_removed());
        assert!(message.body.len() <= MAX_MESSAGE);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        read_all(&bytes);
        // The same behind a prefix that fits them, so that the header fields are reached.
        for mark in [b'l', b'B'] {
            let mut message = vec![mark, 2, 0, 1];
            let (fields, body) = bytes.split_at(bytes.len() / 2);
            let padding = fields.len().next_multiple_of(8) - fields.len();
            for number in [body.len() as u32, 1, fields.len() as u32] {
                message.extend(if mark == b'l' { number.to_le_bytes() } else { number.to_be_bytes() });
            }
            message.extend(fields);
            message.extend(vec![0; padding]);
            message.extend(body);
            prop_assert_eq!(Message::length(message.first_chunk().unwrap()), Ok(message.len()));
            read_all(&message);
        }
    }

    #[test]
    fn changed_messages_do_no_harm(
        original in select(&ALL[..]),
        changes in proptest::collection::vec((any::<Index>(), any::<u8>()), 0..6),
        cut in proptest::option::of(any::<Index>()),
    ) {
        let mut bytes = original.to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.map_or(usize::MAX, |cut| cut.index(original.len())));
        read_all(&bytes);
    }
}
