//! The manifest files of a command line, read and validated before anything is changed.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::PathBuf;

use berth_kubelet::manifest::{self, MAX_BYTES, Validate};
use berth_kubelet::pod::Pod;

use crate::exit::{Code, Failure};
use crate::output;

/// The pods of all files, in order. Every problem of every file is in the failure; warnings are printed.
pub(crate) fn load(files: &[PathBuf], validate: Validate) -> Result<Vec<Pod>, Failure> {
    let mut pods: Vec<Pod> = Vec::new();
    let mut problems = Vec::new();
    let mut first_seen: HashMap<(String, String), String> = HashMap::new();
    for file in files {
        let (name, bytes) = match read(file) {
            Ok(read) => read,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        match manifest::parse(&bytes, &name, validate) {
            Err(errors) => problems.push(errors.to_string()),
            Ok(parsed) => {
                for warning in &parsed.warnings {
                    anstream::eprintln!(
                        "{}warning:{} {warning}",
                        output::WARNING,
                        output::WARNING.render_reset()
                    );
                }
                for pod in parsed.pods {
                    let key = (pod.metadata.namespace.clone(), pod.metadata.name.clone());
                    match first_seen.get(&key) {
                        Some(other) => problems.push(format!(
                            "{name}: the pod {}/{} is in {other} already",
                            key.0, key.1
                        )),
                        None => {
                            first_seen.insert(key, name.clone());
                            pods.push(pod);
                        }
                    }
                }
            }
        }
    }
    if problems.is_empty() {
        Ok(pods)
    } else {
        Err(Failure::new(Code::Usage, problems.join("\n")))
    }
}

fn read(file: &PathBuf) -> Result<(String, Vec<u8>), String> {
    // One byte more than is taken shows that there is too much.
    let limit = MAX_BYTES as u64 + 1;
    let mut bytes = Vec::new();
    if file.as_os_str() == "-" {
        let name = "<stdin>".to_owned();
        std::io::stdin()
            .lock()
            .take(limit)
            .read_to_end(&mut bytes)
            .map_err(|error| format!("{name}: {error}"))?;
        return Ok((name, bytes));
    }
    let name = file.display().to_string();
    let open = std::fs::File::open(file).map_err(|error| format!("{name}: {error}"))?;
    open.take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("{name}: {error}"))?;
    Ok((name, bytes))
}
