//! The manifests in `examples/` are valid, and stay readable whatever is done to them.

use std::path::PathBuf;

use berth_kubelet::manifest::{Validate, parse};
use proptest::prelude::*;

/// Every example, by file name.
fn examples() -> Vec<(String, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut examples: Vec<(String, String)> = std::fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .map(|path| {
            let name = path
                .file_name()
                .expect("a file")
                .to_string_lossy()
                .into_owned();
            (name, std::fs::read_to_string(&path).expect("readable"))
        })
        .collect();
    examples.sort();
    examples
}

#[test]
fn every_example_is_valid_without_a_warning() {
    let examples = examples();
    assert!(examples.len() >= 8, "found {}", examples.len());
    for (name, text) in examples {
        let parsed = parse(text.as_bytes(), &name, Validate::Strict)
            .unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(parsed.warnings, [], "{name}");
    }
}

#[test]
fn every_example_printed_as_json_reads_as_the_same_pods() {
    for (name, text) in examples() {
        for pod in parse(text.as_bytes(), &name, Validate::Strict)
            .expect("valid")
            .pods
        {
            let json = serde_json::to_vec(&pod).expect("serialises");
            let again =
                parse(&json, &name, Validate::Strict).unwrap_or_else(|errors| panic!("{errors}"));
            assert_eq!(again.pods, [pod], "{name}");
        }
    }
}

/// A change to a text: at a place (as a fraction), remove some characters and put others there.
fn edit(text: &str, place: f64, remove: usize, insert: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )]
    let at = (place * chars.len() as f64) as usize;
    let end = (at + remove).min(chars.len());
    chars[..at].iter().collect::<String>() + insert + &chars[end..].iter().collect::<String>()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_are_read_or_refused_with_a_reason(bytes in prop::collection::vec(any::<u8>(), 0..300), warn in any::<bool>()) {
        refused_with_a_place_or_read(&bytes, warn)?;
    }

    #[test]
    fn any_text_of_yaml_signs_is_read_or_refused(text in "([-?:,\\[\\]{}#&*!|>'\"%@` \n\ta1~<.]|kind|: |- |\n  ){0,80}", warn in any::<bool>()) {
        refused_with_a_place_or_read(text.as_bytes(), warn)?;
    }

    #[test]
    fn any_text_of_json_signs_is_read_or_refused(text in "[\\[{]([\\[\\]{}\":,\\\\ut0-9eE.+\\- \n]|true|null|\"a\":){0,80}", warn in any::<bool>()) {
        refused_with_a_place_or_read(text.as_bytes(), warn)?;
    }

    #[test]
    fn a_damaged_example_is_read_or_refused(
        index in any::<prop::sample::Index>(),
        as_json in any::<bool>(),
        edits in prop::collection::vec((0.0..1.0, 0_usize..12, "[-a-z0-9:{}\\[\\]&*'\" \n#!|>]{0,6}"), 1..5),
        warn in any::<bool>(),
    ) {
        let examples = examples();
        let (name, text) = index.get(&examples);
        let mut text = text.clone();
        if as_json {
            let pods = parse(text.as_bytes(), name, Validate::Strict).expect("valid").pods;
            text = serde_json::to_string_pretty(&pods[0]).expect("serialises");
        }
        for (place, remove, insert) in edits {
            text = edit(&text, place, remove, &insert);
        }
        refused_with_a_place_or_read(text.as_bytes(), warn)?;
    }
}

/// What holds for every input: no panic; problems are in order, inside the file, and say something; pods that come out read back as
/// the same pods.
fn refused_with_a_place_or_read(bytes: &[u8], warn: bool) -> Result<(), TestCaseError> {
    let validate = if warn {
        Validate::Warn
    } else {
        Validate::Strict
    };
    let lines = String::from_utf8_lossy(bytes).split('\n').count() + 1;
    match parse(bytes, "<stdin>", validate) {
        Ok(parsed) => {
            prop_assert!(!parsed.pods.is_empty());
            for pod in parsed.pods {
                let json = serde_json::to_vec(&pod).expect("serialises");
                let again = parse(&json, "<stdin>", Validate::Strict)
                    .map_err(|errors| TestCaseError::fail(errors.to_string()))?;
                prop_assert_eq!(again.pods, [pod]);
            }
        }
        Err(errors) => {
            prop_assert!(!errors.problems.is_empty());
            prop_assert!(errors.problems.is_sorted_by_key(|problem| problem.at));
            for problem in errors.problems {
                prop_assert!((1..=lines).contains(&problem.at.line), "{}", problem);
                prop_assert!(
                    problem.at.column >= 1 && !problem.message.is_empty(),
                    "{}",
                    problem
                );
            }
        }
    }
    Ok(())
}
