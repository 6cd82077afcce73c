//! The command line: a handful of flags, parsed by hand because every container start pays for
//! what is linked here (clap: 0.4 MB and a tenth of the hook's whole time).

use std::ffi::OsString;
use std::path::PathBuf;

use kcm_core::pool::PoolName;

use crate::oci::Stage;

pub(crate) const USAGE: &str = "\
kcm-hook gives a container its own CPU cores. OCI runtimes call it; see kcm install.

Usage: kcm-hook [--conf-dir=/etc/kcm] [--default-pool=POOL [--allow-none=GLOB,...]]
                createRuntime|prestart|poststop      < OCI state JSON

  --conf-dir=DIR      the configuration directory (else $KCM_CONF_DIR, else /etc/kcm)
  --default-pool=POOL the shared pool for containers that ask for none
  --allow-none=GLOBS  namespaces whose containers may opt out of it with the value none
  --version           print the version";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Run(Args),
    Print(String),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Args {
    pub(crate) conf_dir: PathBuf,
    pub(crate) default_pool: Option<PoolName>,
    /// Globs of namespaces.
    pub(crate) allow_none: Vec<String>,
    /// None: the state's status decides.
    pub(crate) stage: Option<Stage>,
}

pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> anyhow::Result<Command> {
    let conf_dir = std::env::var_os("KCM_CONF_DIR").unwrap_or_else(|| "/etc/kcm".into());
    let mut args =
        Args { conf_dir: conf_dir.into(), default_pool: None, allow_none: Vec::new(), stage: None };
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let word = text(word)?;
        if !word.starts_with('-') {
            anyhow::ensure!(args.stage.is_none(), "more than one stage: {word:?}");
            args.stage = Some(word.parse()?);
            continue;
        }
        let (flag, value) = match word.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        let mut value = || match value
            .clone()
            .map_or_else(|| words.next().map(text).transpose(), |v| Ok(Some(v)))?
        {
            Some(value) if !value.is_empty() => Ok(value),
            _ => Err(anyhow::anyhow!("{flag} needs a value")),
        };
        match flag {
            "--conf-dir" => args.conf_dir = value()?.into(),
            "--default-pool" => args.default_pool = Some(value()?.parse()?),
            "--allow-none" => args.allow_none = value()?.split(',').map(str::to_owned).collect(),
            "--version" => {
                return Ok(Command::Print(format!("kcm-hook {}", env!("CARGO_PKG_VERSION"))));
            }
            "--help" | "-h" => return Ok(Command::Print(USAGE.into())),
            _ => anyhow::bail!("unknown flag {word:?}; see kcm-hook --help"),
        }
    }
    Ok(Command::Run(args))
}

fn text(word: OsString) -> anyhow::Result<String> {
    word.into_string().map_err(|word| anyhow::anyhow!("{word:?} is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &str) -> anyhow::Result<Args> {
        match parse(words.split_whitespace().map(OsString::from))? {
            Command::Run(args) => Ok(args),
            Command::Print(text) => anyhow::bail!(text),
        }
    }

    #[test]
    fn flags_take_their_value_in_either_form() {
        for words in [
            "--conf-dir=/c --default-pool=infra --allow-none=a,b-* createRuntime",
            "createRuntime --conf-dir /c --default-pool infra --allow-none a,b-*",
        ] {
            let args = parsed(words).unwrap();
            assert_eq!(args.conf_dir, PathBuf::from("/c"));
            assert_eq!(args.default_pool, Some("infra".parse().unwrap()));
            assert_eq!(args.allow_none, ["a", "b-*"]);
            assert_eq!(args.stage, Some(Stage::CreateRuntime));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (words, part) in [
            ("createContainer", "createRuntime and poststop"),
            ("startContainer", "createRuntime and poststop"),
            ("poststop poststop", "more than one stage"),
            ("--conf-dir", "--conf-dir needs a value"),
            ("--conf-dir= poststop", "--conf-dir needs a value"),
            ("--default-pool=../x", "no pool name"),
            ("--frobnicate", "unknown flag \"--frobnicate\""),
        ] {
            let error = parsed(words).unwrap_err().to_string();
            assert!(error.contains(part), "{words}: {error}");
        }
    }
}
