//! What all pictures share: SVG 1.1 that stands alone, and is readable in light and dark.

use crate::logging::one_line;

/// How everything looks. Who reads it may prefer dark (`prefers-color-scheme`). Each colour stands where it
/// is used: what is no browser (librsvg, Inkscape) knows no variables, and would draw all in black.
const STYLE: &str = "\
.ground{fill:#fff}text{fill:#1b1f24;font:12px ui-monospace,Menlo,Consolas,monospace}.faint{fill:#656d76}\
.line{stroke:#d0d7de}.a{fill:#0969da}.b{fill:#bc4c00}.c{fill:#8250df}.d{fill:#1a7f37}.e{fill:#bf3989}\
.head{font-weight:bold}.right{text-anchor:end}.middle{text-anchor:middle}\
@media(prefers-color-scheme:dark){.ground{fill:#0d1117}text{fill:#e6edf3}.faint{fill:#9198a1}\
.line{stroke:#3d444d}.a{fill:#4493f8}.b{fill:#f0883e}.c{fill:#ab7df8}.d{fill:#3fb950}.e{fill:#f778ba}}";

/// Pixels of a character, a little more than any usual monospaced font of that size has.
const CHARACTER: f64 = 7.25;

/// A picture of this size around its parts.
pub(crate) fn document(title: &str, width: u32, height: u32, parts: &str) -> String {
    let title = text(title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
         <rect class=\"ground\" width=\"100%\" height=\"100%\"/>\n{parts}</svg>\n"
    )
}

/// Anybody's text as content or attribute: on one line, and without what XML does not allow
/// (XML 1.0, 2.2 Characters).
pub(crate) fn text(text: &str) -> String {
    let mut escaped = String::new();
    for c in one_line(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// The first characters of a text that is wider than so many pixels.
pub(crate) fn fit(text: &str, pixels: u32) -> String {
    let most = (f64::from(pixels) / CHARACTER) as usize;
    // Of other scripts than Europe's a character may be as wide as two.
    let width = |c: char| if c < '\u{1100}' || c == '…' { 1 } else { 2 };
    if text.chars().map(width).sum::<usize>() <= most {
        return text.to_owned();
    }
    let mut left = most.saturating_sub(1);
    let fits = |c: &char| {
        let fits = width(*c) <= left;
        left = if fits { left - width(*c) } else { 0 };
        fits
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobodys_name_ends_an_element() {
        assert_eq!(
            text("<a href=\"x\">'&amp;\n\u{1b}\u{ffff}"),
            "&lt;a href=&quot;x&quot;&gt;&#39;&amp;amp;\u{fffd}\u{fffd}\u{fffd}"
        );
    }

    #[test]
    fn a_text_is_cut_where_it_would_be_wider_than_its_place() {
        for (all, pixels, expected) in [
            ("abc", 22, "abc"),
            ("abcd", 22, "ab…"),
            ("名前", 29, "名前"),
            ("名前が", 29, "名…"),
            ("a名前", 29, "a名…"),
            ("abc", 7, ""),
            ("abc", 8, "…"),
        ] {
            let fitted = fit(all, pixels);
            assert!(fitted == expected || expected.is_empty() && fitted == "…", "{all}: {fitted}");
        }
    }

    #[test]
    fn what_knows_no_variables_and_no_media_queries_draws_it_in_its_colours() {
        assert!(!STYLE.contains("var("));
        let (light, dark) = STYLE.split_once("@media").unwrap();
        let colours = |style: &str| style.matches('#').count();
        assert_eq!(colours(light), colours(dark));
    }
}
