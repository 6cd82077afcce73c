//! A command's words reach it as they were given, and the list is held for all that they say.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::isolate::{Gate, Isolate, must_be_held, nothing_must_be_held};

/// Writes each of its arguments with a NUL byte after it.
const WRITE_WORDS: &str = r#"for word; do printf '%s\0' "$word"; done >"$OUT""#;

const WORDS: &[&[u8]] = &[
    b"",
    b" ",
    b"a b",
    b"it's",
    b"\"quoted\"",
    b"foo && bar || baz",
    b"; exit 9",
    b"$HOME `id` $(id)",
    b"*",
    b"\\",
    b"two\nlines\n",
    b"\ttab",
    b"--pool=other",
    b"--cores=9",
    b"--no-affinity",
    b"--help",
    b"--",
    b"-c",
    "\u{fc}\u{1f980}".as_bytes(),
    b"not UTF-8: \xff\xfe",
    b"",
];

#[test]
fn words_arrive_as_they_were_given() {
    let folder = tempfile::tempdir().unwrap();
    for form in [&["/bin/sh", "--"], &["--", "/bin/sh"]] {
        let (conf_dir, out) = (one_list(), folder.path().join("words"));
        let words = WORDS.iter().map(|word| OsString::from_vec(word.to_vec()));
        let isolate = Isolate::new(&conf_dir, "p", form).words(["-c", WRITE_WORDS, "sh"]);
        let outcome = isolate.words(words).env("OUT", &out).run().succeeded();
        assert_eq!((outcome.out, outcome.err), (String::new(), String::new()));
        let arrived = fs::read(&out).unwrap();
        let arrived: Vec<&[u8]> = arrived.split(|&byte| byte == 0).collect();
        assert_eq!(arrived[..arrived.len() - 1], *WORDS, "{form:?}");
        nothing_must_be_held(&conf_dir);
    }
}

#[test]
fn a_list_is_held_for_all_commands_of_a_shells_argument() {
    let (conf_dir, bar) = (one_list(), Gate::new());
    let commands = format!("echo foo && {{ echo bar; {}; false; }} || echo baz", bar.wait());
    let words = ["/bin/bash", "--", "-c", &commands];
    let isolate = Isolate::new(&conf_dir, "p", &words).start();
    assert_eq!((isolate.line(0), isolate.line(1)), ("foo".to_owned(), "bar".to_owned()));
    must_be_held(&conf_dir, "0", isolate.pid());
    bar.open();
    let outcome = isolate.finish().succeeded();
    assert_eq!((&*outcome.out, &*outcome.err), ("foo\nbar\nbaz\n", ""));
    nothing_must_be_held(&conf_dir);
}

#[test]
fn a_command_alone_that_is_no_plain_word_is_shell_text() {
    let conf_dir = one_list();
    for (text, expected) in [
        ("env | grep ^KCM | sort", "KCM_CPUS_ASSIGNED=0\nKCM_CPUS_ASSIGNED_MASK=1\n"),
        ("echo $KCM_CPUS_ASSIGNED", "0\n"),
        ("echo one && false || echo two", "one\ntwo\n"),
        ("echo 'a  b'", "a  b\n"),
        ("echo\ttab", "tab\n"),
        ("echo;echo", "\n\n"),
        ("echo one\necho two\n", "one\ntwo\n"),
        ("(echo)", "\n"),
        ("echo \u{fc}", "\u{fc}\n"),
    ] {
        for form in [&[text] as &[&str], &["--", text]] {
            let outcome = Isolate::new(&conf_dir, "p", form).run().succeeded();
            assert_eq!((&*outcome.out, &*outcome.err), (expected, ""), "{form:?}");
        }
    }
    let outcome = Isolate::new(&conf_dir, "p", &["exit 7"]).run();
    assert_eq!((outcome.code, &*outcome.err), (Some(7), ""));
    nothing_must_be_held(&conf_dir);
}

fn one_list() -> ConfDir {
    ConfDir::new(&[("p", true, &["0"])])
}
