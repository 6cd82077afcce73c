//! Text from outside in messages: annotations, names, files, answers of servers. Cut, and cleaned of
//! whatever would make it look like something else.

/// The first 80 characters of a user's text, for an error message.
pub fn shorten(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The text as one line of at most `limit` bytes, with nothing in it that cannot be seen: it must not
/// look like another line, move a cursor, or turn its own words round. Of a longer one `…` stands for
/// the middle, so that both what it is about and what to do about it remain.
pub fn one_line(text: &str, limit: usize) -> String {
    let clean = |c: char| if is_unseen(c) { '\u{fffd}' } else { c };
    let most = limit.saturating_sub(MARK.len_utf8());
    // A replacement is at most three times as long as what it stands for.
    if text.len() <= limit {
        let line: String = text.chars().map(clean).collect();
        if line.len() <= limit {
            return line;
        }
    }
    let (mut length, third) = (0, most / 3);
    let mut fits = |c: &char, room: usize| {
        length += c.len_utf8();
        length <= room
    };
    let head: String = text.chars().map(clean).take_while(|c| fits(c, most - third)).collect();
    length = 0;
    let mut fits = |c: &char| {
        length += c.len_utf8();
        length <= third
    };
    let tail: Vec<char> = text.chars().rev().map(clean).take_while(|c| fits(c)).collect();
    head.chars().chain([MARK]).chain(tail.into_iter().rev()).collect()
}

/// Stands for what is left out.
const MARK: char = '…';

/// Whether a character is none that is seen in its place: controls (`Cc`), formats (`Cf`: what turns
/// the direction of writing, joins or is of no width), line and paragraph separators (`Zl`, `Zp`),
/// and fillers that look like nothing (Unicode 16, DerivedGeneralCategory.txt and
/// `Default_Ignorable_Code_Point`).
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
            | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_can_be_seen_stays_and_what_cannot_is_replaced() {
        for (text, expected) in [
            ("pool 'a' \u{e9} \u{4e2d} …", "pool 'a' \u{e9} \u{4e2d} …"),
            ("a\nb\u{1b}[2Jc\u{7f}\u{85}", "a\u{fffd}b\u{fffd}[2Jc\u{fffd}\u{fffd}"),
            ("a\u{202e}b\u{2066}c\u{2069}\u{200f}", "a\u{fffd}b\u{fffd}c\u{fffd}\u{fffd}"),
            ("a\u{2028}b\u{2029}c", "a\u{fffd}b\u{fffd}c"),
            ("a\u{200b}b\u{feff}c\u{ad}\u{e0041}", "a\u{fffd}b\u{fffd}c\u{fffd}\u{fffd}"),
        ] {
            assert_eq!(one_line(text, 100), expected, "{text:?}");
        }
    }

    #[test]
    fn a_long_line_keeps_its_beginning_and_its_end() {
        let text = format!("annotation x is {:?}: not a number", "7".repeat(1 << 20));
        let line = one_line(&text, 200);
        assert!(line.len() <= 200 && line.contains('…'), "{line}");
        assert!(line.starts_with("annotation x is \"777"), "{line}");
        assert!(line.ends_with("777\": not a number"), "{line}");
        assert_eq!(shorten(&"7".repeat(81)), format!("{}…", "7".repeat(80)));
    }

    proptest! {
        #[test]
        fn any_line_is_clean_and_no_longer_than_it_may_be(text in ".{0,300}|[\u{0}-\u{ffff}]{0,99}",
                                                          limit in 3..400usize) {
            let line = one_line(&text, limit);
            prop_assert!(line.len() <= limit && !line.chars().any(is_unseen));
            let is_short = text.len() <= limit && !text.chars().any(is_unseen);
            prop_assert!(!is_short || line == text);
        }
    }
}
