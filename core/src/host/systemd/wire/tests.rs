use super::*;

#[test]
fn values_are_aligned_and_terminated_as_the_specification_draws_them() {
    let mut writer = Writer::default();
    writer.raw(&[7]);
    writer.string("foo");
    writer.string("+");
    writer.signature("ay");
    writer.array(8, |w| w.raw(&[9]));
    let expected = b"\x07\0\0\0\x03\0\0\0foo\0\x01\0\0\0+\0\x02ay\0\0\0\x01\0\0\0\0\0\0\0\x09";
    assert_eq!(writer.into_bytes(), expected);
}

#[test]
fn numbers_are_read_in_the_order_of_the_message() {
    let bytes = [0xff, 0, 0, 0, 0, 0, 1, 2];
    for (order, number) in [(Order::Little, 0x0201_0000), (Order::Big, 0x0102)] {
        let mut reader = Reader::new(&bytes, 0, order);
        assert_eq!(reader.byte(), Ok(0xff));
        assert_eq!(reader.uint32(), Ok(number));
        assert!(reader.is_at_end());
        assert_eq!(reader.byte(), Err(Malformed::Truncated));
    }
}

#[test]
fn texts_that_lie_about_themselves_are_refused() {
    for (bytes, error) in [
        (&b"\x03\0\0\0foo"[..], Malformed::Truncated),
        (b"\xff\xff\xff\xfffoo\0", Malformed::Truncated),
        (b"\x02\0\0\0foo\0", Malformed::Text),
        (b"\x03\0\0\0f\0o\0", Malformed::Text),
        (b"\x01\0\0\0\xff\0", Malformed::Text),
        (b"\x03\0", Malformed::Truncated),
    ] {
        let result = Reader::new(bytes, 0, Order::Little).string();
        assert_eq!(result, Err(error), "{bytes:?}");
    }
}

#[test]
fn basic_types_are_skipped_and_containers_refused() {
    for (signature, width) in [("y", 9), ("q", 10), ("b", 12), ("t", 16), ("s", 17), ("g", 16)] {
        // Offset 8; as a string or signature: 4 or 6 characters.
        let bytes = match signature {
            "g" => &b"........\x06xxxxxx\0"[..],
            _ => b"........\x04\0\0\0xxxx\0",
        };
        let mut reader = Reader::new(bytes, 8, Order::Little);
        assert_eq!(reader.skip(signature), Ok(()), "{signature}");
        assert_eq!(reader.at, width, "{signature}");
    }
    for signature in ["v", "as", "(u)", "", "uu"] {
        let mut reader = Reader::new(&[0; 64], 0, Order::Little);
        assert_eq!(reader.skip(signature), Err(Malformed::Type), "{signature}");
    }
}
