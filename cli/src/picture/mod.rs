//! What all pictures share: SVG 1.1 that stands alone, and is readable in light and dark.

use crate::logging::one_line;

/// How everything looks. Who reads it may prefer dark (`prefers-color-scheme`).
const STYLE: &str = "\
:root{--ground:#fff;--ink:#1b1f24;--faint:#656d76;--line:#d0d7de;--a:#0969da;--b:#bc4c00;--c:#8250df;\
--d:#1a7f37;--e:#bf3989}\
@media(prefers-color-scheme:dark){:root{--ground:#0d1117;--ink:#e6edf3;--faint:#9198a1;--line:#3d444d;\
--a:#4493f8;--b:#f0883e;--c:#ab7df8;--d:#3fb950;--e:#f778ba}}\
.ground{fill:var(--ground)}text{fill:var(--ink);font:12px ui-monospace,Menlo,Consolas,monospace}\
.head{font-weight:bold}.faint{fill:var(--faint)}.right{text-anchor:end}.middle{text-anchor:middle}\
.line{stroke:var(--line)}.a{fill:var(--a)}.b{fill:var(--b)}.c{fill:var(--c)}.d{fill:var(--d)}.e{fill:var(--e)}";

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

/// The first characters of a text that has more than fit.
pub(crate) fn fit(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    kept + "…"
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
        assert_eq!((fit("abc", 3), fit("abcd", 3)), ("abc".into(), "ab…".into()));
    }
}
