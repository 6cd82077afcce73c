#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kcm_fuzz::targets::target("toml")(data));
