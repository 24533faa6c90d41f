//! The file of settings of `berth cri`: each flag can stand in it, and comes last, after the command line and the environment.
//!
//! A setting becomes the default of its flag, so that one set of rules holds for both, and a new flag is a setting at once.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use berth_kubelet::manifest::{self, MAX_BYTES, Setting};
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, CommandFactory as _, FromArgMatches as _, Parser as _};

use crate::cli::{Cli, Command};
use crate::exit::{Code, Failure};

const SUBCOMMAND: &str = "cri";

/// Flags that say where the settings are, or end everything: nothing for a file.
const NO_SETTINGS: [&str; 3] = ["config", "help", "version"];

/// Why there is nothing to do.
pub(crate) enum NotParsed {
    /// The command line is wrong, or asks for help.
    Arguments(clap::Error),
    /// The file is wrong.
    File(Failure),
}

/// Reads the command line, and the file of settings that it names.
pub(crate) fn parse(arguments: Vec<OsString>) -> Result<Cli, NotParsed> {
    let cli = Cli::try_parse_from(&arguments).map_err(NotParsed::Arguments)?;
    let Command::Cri(args) = &cli.command else {
        return Ok(cli);
    };
    let Some(path) = &args.config else {
        return Ok(cli);
    };
    let command = with_defaults(path).map_err(NotParsed::File)?;
    command
        .try_get_matches_from(arguments)
        .and_then(|matches| Cli::from_arg_matches(&matches))
        .map_err(NotParsed::Arguments)
}

/// The command line's rules with the settings of a file as defaults.
fn with_defaults(path: &Path) -> Result<clap::Command, Failure> {
    let file = path.display().to_string();
    let unusable = |message: String| Failure::new(Code::Usage, message);
    let mut bytes = Vec::new();
    File::open(path)
        // One byte more than is taken shows that there is too much.
        .and_then(|file| file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| unusable(format!("--config {file}: {error}")))?;
    let mut command = Cli::command();
    let flags = flags(&command);
    let names: Vec<String> = flags.iter().map(|flag| flag.setting.clone()).collect();
    let settings =
        manifest::settings(&bytes, &file, &names).map_err(|errors| unusable(errors.to_string()))?;
    let mut problems = Vec::new();
    for setting in settings {
        let Some(flag) = flags.iter().find(|flag| flag.setting == setting.name) else {
            continue;
        };
        if let Err(message) = check(flag, &setting) {
            problems.push(manifest::refused(&file, &setting, message).to_string());
            continue;
        }
        let set = |arg: Arg| arg.default_values(setting.values.clone());
        command = if flag.global {
            command.mut_arg(&flag.id, set)
        } else {
            command.mut_subcommand(SUBCOMMAND, |cri| cri.mut_arg(&flag.id, set))
        };
    }
    if problems.is_empty() {
        Ok(command)
    } else {
        Err(unusable(problems.join("\n")))
    }
}

/// A flag that can be set in a file.
struct Flag {
    setting: String,
    id: String,
    long: String,
    global: bool,
    list: bool,
}

fn flags(command: &clap::Command) -> Vec<Flag> {
    let cri = command.find_subcommand(SUBCOMMAND);
    let own = cri.into_iter().flat_map(clap::Command::get_arguments);
    let global = command.get_arguments().filter(|arg| arg.is_global_set());
    own.map(|arg| (arg, false))
        .chain(global.map(|arg| (arg, true)))
        .filter_map(|(arg, global)| {
            let long = arg.get_long().filter(|long| !NO_SETTINGS.contains(long))?;
            Some(Flag {
                setting: camel_case(long),
                id: arg.get_id().to_string(),
                long: long.to_owned(),
                global,
                list: matches!(arg.get_action(), ArgAction::Append),
            })
        })
        .collect()
}

fn camel_case(long: &str) -> String {
    let mut words = long.split('-');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |mut name, word| {
        let mut letters = word.chars();
        name.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        name.push_str(letters.as_str());
        name
    })
}

/// Whether the flag takes the values; why not.
fn check(flag: &Flag, setting: &Setting) -> Result<(), String> {
    if setting.values.len() > 1 && !flag.list {
        return Err("expected one value, found a list".to_owned());
    }
    for value in &setting.values {
        let given = format!("--{}={value}", flag.long);
        let Err(error) = Cli::try_parse_from(["berth", SUBCOMMAND, &given]) else {
            continue;
        };
        // What else a flag needs may stand elsewhere.
        if error.kind() == ErrorKind::MissingRequiredArgument {
            continue;
        }
        let why = match std::error::Error::source(&error) {
            Some(source) => source.to_string(),
            None => {
                let text = error.to_string();
                let first = text.lines().next().unwrap_or_default();
                first.trim_start_matches("error: ").to_owned()
            }
        };
        return Err(format!("{value:?}: {why}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cli::CriArgs;

    fn parsed(text: &str, further: &[&str]) -> Result<(Cli, String), String> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("berth.yaml");
        fs::write(&path, text).expect("a file");
        let path = path.display().to_string();
        let mut arguments = vec!["berth", "cri", "--config", &path];
        arguments.extend(further);
        match parse(arguments.into_iter().map(OsString::from).collect()) {
            Ok(cli) => Ok((cli, path)),
            Err(NotParsed::Arguments(error)) => Err(error.to_string()),
            Err(NotParsed::File(failure)) => Err(failure.message.replace(&path, "berth.yaml")),
        }
    }

    fn cri(cli: &Cli) -> &CriArgs {
        match &cli.command {
            Command::Cri(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn settings_hold_where_no_flag_says_otherwise() {
        let text = "\
network: cni
cniConfDir: [/a, /b]
cniBinDir: /c,/d
streamingBindAddr: 127.0.0.1:10010
imagePullProgressDeadline: 90
dockerEndpoint: fake://
runtimeRequestTimeout: 30s
logLevel: info
";
        let (cli, _) = parsed(text, &["--network", "docker", "--log-level=debug"]).expect("valid");
        let args = cri(&cli);
        assert_eq!(args.network, "docker");
        assert_eq!(args.cni_conf_dir, [Path::new("/a"), Path::new("/b")]);
        assert_eq!(args.cni_bin_dir, [Path::new("/c"), Path::new("/d")]);
        assert_eq!(args.streaming_bind_addr.port(), 10010);
        assert_eq!(args.image_pull_progress_deadline.as_secs(), 90);
        assert_eq!(cli.engine.docker_endpoint.as_deref(), Some("fake://"));
        assert_eq!(cli.engine.runtime_request_timeout.as_secs(), 30);
        assert_eq!(cli.log_level, "debug");
        let (cli, _) = parsed(text, &["--cni-conf-dir", "/only"]).expect("valid");
        assert_eq!(cri(&cli).cni_conf_dir, [Path::new("/only")]);
        assert_eq!(
            (cri(&cli).network.as_str(), cli.log_level.as_str()),
            ("cni", "info")
        );
    }

    #[test]
    fn a_wrong_setting_is_told_with_its_place_and_the_rule() {
        for (text, words) in [
            (
                "netwrok: cni\n",
                "berth.yaml:1:1: unknown setting \"netwrok\" (did you mean \"network\"?)",
            ),
            (
                "network: cni\nmetricsBindAddr: 0.0.0.0:9000\n",
                "berth.yaml:2:18: metricsBindAddr: \"0.0.0.0:9000\": others can reach it",
            ),
            (
                "streamingBindAddr: \":10010\"\n",
                "berth.yaml:1:20: streamingBindAddr: \":10010\": it names no address",
            ),
            (
                "listen: [a, b]\n",
                "berth.yaml:1:9: listen: expected one value, found a list",
            ),
            (
                "runtimeRequestTimeout: soon\n",
                "berth.yaml:1:24: runtimeRequestTimeout: \"soon\": a duration is",
            ),
            ("config: other.yaml\n", "unknown setting \"config\""),
        ] {
            let error = parsed(text, &[]).expect_err(text);
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn the_packaged_file_is_valid() {
        let text = include_str!("../../../../packaging/cri.yaml");
        let (cli, _) = parsed(text, &[]).expect("it is packaged");
        assert_eq!(cri(&cli).socket_group.as_deref(), Some("root"));
    }

    #[test]
    fn every_flag_can_be_a_setting() {
        let names: Vec<String> = flags(&Cli::command())
            .into_iter()
            .map(|flag| flag.setting)
            .collect();
        for name in [
            "listen",
            "podInfraContainerImage",
            "stateDir",
            "dockerEndpoint",
        ] {
            assert!(names.contains(&name.to_owned()), "{names:?}");
        }
        assert!(!names.contains(&"help".to_owned()));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let arguments = ["berth", "cri", "--config", "/nonexistent/berth.yaml"];
        match parse(arguments.map(OsString::from).into()) {
            Err(NotParsed::File(failure)) => {
                assert!(failure.message.contains("/nonexistent/berth.yaml"));
            }
            _ => panic!("it was read"),
        }
    }
}
