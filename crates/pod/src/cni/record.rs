//! What is on record of pods in networks: one file for each, written before the first plugin runs.
//!
//! A record without a result means that plugins may have run: whatever they did is undone from it, also after berth was killed. It holds the
//! network as it was, so a pod leaves the network that it joined, whatever is configured by then.
//!
//! The files have the form of the reference implementation's cache (`cniCacheV1`), in a directory of our own: others who clean up the shared
//! one take away what they do not know, and so would we. Files of theirs are read for sandboxes that another runtime had added before berth
//! took over. The directory has to survive a reboot, because the addresses that IPAM plugins keep do; the files are not synced, because the
//! pods do not survive a crash of the host, and a file that was cut off then still says by its name whose it is.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::cidr::Cidr;
use super::config::Network;
use super::request::Arguments;
use super::result::CniResult;
use super::{CniError, INTERFACE};
use crate::spec::SandboxId;

/// The `kind` of a record that the reference implementation writes, too.
const KIND: &str = "cniCacheV1";

/// The `owner` of our records. The directory may turn out to be shared with other runtimes, whose pods are not ours to take out.
const OWNER: &str = "berth";

/// What is put behind the name of a record that nobody could read.
const UNREADABLE: &str = ".unreadable";

/// The directory of records below that of the cache.
const RESULTS: &str = "results";

/// The file that remembers the ranges of the pods' addresses: a kubelet tells them once.
const POD_CIDRS: &str = "pod-cidrs";

/// The largest record that is read, in bytes: a configuration and a result, one of them as base64.
const MAX_RECORD: u64 = 4 << 20;

/// A pod in a network, or on its way in or out.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    /// Where it is kept.
    pub(super) path: PathBuf,
    /// Whether another runtime has written it.
    pub(super) adopted: bool,
    pub(super) sandbox: SandboxId,
    pub(super) network: Arc<Network>,
    pub(super) arguments: Arguments,
    pub(super) capabilities: Map<String, Value>,
    /// What the plugins gave; `None` when they did not get to an end.
    pub(super) result: Option<Arc<CniResult>>,
}

/// What is on record of a sandbox.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    /// It can be read.
    Whole(Arc<Record>),
    /// Only whose it is can be told, by its name.
    Unreadable { path: PathBuf, network: String },
}

impl Entry {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Whole(record) => &record.path,
            Self::Unreadable { path, .. } => path,
        }
    }
}

/// The file's words.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Words {
    kind: String,
    container_id: String,
    config: String,
    if_name: String,
    network_name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    netns: String,
    #[serde(default)]
    cni_args: Option<Arguments>,
    #[serde(default)]
    capability_args: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<Value>,
    /// Who wrote it; other runtimes write nothing here and read nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    owner: String,
}

impl Record {
    /// The record as its file has it. `netns` is for those who look at it; nobody goes there by it, since by then it may be another's.
    pub(super) fn to_bytes(&self, netns: &Path) -> Vec<u8> {
        let words = Words {
            kind: KIND.to_owned(),
            container_id: self.sandbox.as_str().to_owned(),
            config: STANDARD.encode(self.network.to_json().to_string()),
            if_name: INTERFACE.to_owned(),
            network_name: self.network.name().to_owned(),
            netns: netns.to_string_lossy().into_owned(),
            cni_args: Some(self.arguments.clone()),
            capability_args: Some(self.capabilities.clone()),
            result: self
                .result
                .as_ref()
                .map(|result| result.json().clone().into()),
            owner: OWNER.to_owned(),
        };
        // A structure of texts and JSON values always has a text.
        serde_json::to_vec(&words).unwrap_or_default()
    }

    /// Reads a record; `None` if it is none of the pod's interface.
    pub(super) fn parse(bytes: &[u8], path: PathBuf, adopted: bool) -> Option<Self> {
        let words: Words = serde_json::from_slice(bytes).ok()?;
        if words.kind != KIND || words.if_name != INTERFACE || words.container_id.is_empty() {
            return None;
        }
        let config = STANDARD.decode(&words.config).ok()?;
        let network = Arc::new(Network::parse(&config).ok()?);
        let result = match words.result {
            None => None,
            Some(result) => {
                let result = CniResult::parse(result.to_string().as_bytes(), network.version());
                Some(Arc::new(result.ok()?))
            }
        };
        Some(Self {
            path,
            adopted: adopted || words.owner != OWNER,
            sandbox: SandboxId::new(words.container_id),
            network,
            arguments: words.cni_args.unwrap_or_default(),
            capabilities: words.capability_args.unwrap_or_default(),
            result,
        })
    }
}

/// The records, read once and kept; nobody else writes ours.
#[derive(Debug)]
pub(super) struct Records {
    dir: PathBuf,
    adopted_dirs: Vec<PathBuf>,
    entries: Mutex<Option<HashMap<SandboxId, Entry>>>,
}

impl Records {
    pub(super) fn new(dir: PathBuf, adopted_dirs: Vec<PathBuf>) -> Self {
        Self {
            dir,
            adopted_dirs,
            entries: Mutex::new(None),
        }
    }

    /// Where the record of a sandbox in a network is.
    pub(super) fn path(&self, network: &str, sandbox: &SandboxId) -> PathBuf {
        self.dir
            .join(RESULTS)
            .join(format!("{network}-{sandbox}-{INTERFACE}"))
    }

    fn with<T>(
        &self,
        act: impl FnOnce(&mut HashMap<SandboxId, Entry>) -> T,
    ) -> Result<T, CniError> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entries) = entries.as_mut() {
            return Ok(act(entries));
        }
        let mut read = HashMap::new();
        // What is not ours first: ours count where both know a sandbox.
        for dir in &self.adopted_dirs {
            let results = dir.join(RESULTS);
            if let Err(source) = scan(&results, true, &mut read) {
                let path = results.display();
                tracing::warn!(%path, error = %source, "what another runtime added to networks is not known");
            }
        }
        let results = self.dir.join(RESULTS);
        scan(&results, false, &mut read).map_err(|source| CniError::Record {
            path: results,
            source,
        })?;
        Ok(act(entries.insert(read)))
    }

    pub(super) fn get(&self, sandbox: &SandboxId) -> Result<Option<Entry>, CniError> {
        self.with(|entries| entries.get(sandbox).cloned())
    }

    /// Those of our own.
    pub(super) fn own(&self) -> Result<Vec<(SandboxId, Entry)>, CniError> {
        self.with(|entries| {
            let own = |entry: &Entry| !matches!(entry, Entry::Whole(record) if record.adopted);
            entries
                .iter()
                .filter(|(_, entry)| own(entry))
                .map(|(sandbox, entry)| (sandbox.clone(), entry.clone()))
                .collect()
        })
    }

    pub(super) fn put(&self, record: Record, netns: &Path) -> Result<Arc<Record>, CniError> {
        let record = Arc::new(record);
        self.with(|entries| {
            replace(&record.path, &record.to_bytes(netns)).map_err(|source| CniError::Record {
                path: record.path.clone(),
                source,
            })?;
            entries.insert(record.sandbox.clone(), Entry::Whole(Arc::clone(&record)));
            Ok(record)
        })?
    }

    pub(super) fn remove(&self, sandbox: &SandboxId) -> Result<(), CniError> {
        self.with(|entries| {
            let Some(entry) = entries.get(sandbox) else {
                return Ok(());
            };
            match fs::remove_file(entry.path()) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(CniError::Record {
                        path: entry.path().to_owned(),
                        source,
                    });
                }
                _ => {}
            }
            entries.remove(sandbox);
            Ok(())
        })?
    }

    /// Forgets a record that cannot be read, and keeps its file under another name for whoever cleans the network by hand.
    pub(super) fn set_aside(&self, sandbox: &SandboxId, path: &Path) -> Result<(), CniError> {
        let mut aside = path.as_os_str().to_owned();
        aside.push(UNREADABLE);
        self.with(|entries| {
            match fs::rename(path, &aside) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(CniError::Record {
                        path: path.to_owned(),
                        source,
                    });
                }
                _ => {}
            }
            tracing::warn!(
                %sandbox, kept = %Path::new(&aside).display(),
                "what a pod was given by its network is not known and may not have been freed: its record cannot be read, and its network is \
                 not configured any more"
            );
            entries.remove(sandbox);
            Ok(())
        })?
    }

    /// The ranges that were remembered; none when there is no such file, or it cannot be understood.
    pub(super) fn pod_cidrs(&self) -> Vec<Cidr> {
        let path = self.dir.join(POD_CIDRS);
        let text = match read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the ranges of the pods' addresses cannot be read");
                return Vec::new();
            }
        };
        text.split_whitespace()
            .filter_map(|cidr| cidr.parse().ok())
            .collect()
    }

    pub(super) fn keep_pod_cidrs(&self, cidrs: &[Cidr]) -> Result<(), CniError> {
        let lines: String = cidrs.iter().map(|cidr| format!("{cidr}\n")).collect();
        let path = self.dir.join(POD_CIDRS);
        replace(&path, lines.as_bytes()).map_err(|source| CniError::Record { path, source })
    }
}

/// Reads the records of a directory; one that is missing has none.
fn scan(dir: &Path, adopted: bool, entries: &mut HashMap<SandboxId, Entry>) -> io::Result<()> {
    let files = match fs::read_dir(dir) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for file in files {
        let path = file?.path();
        let Some((network, sandbox)) = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(parts)
        else {
            // Half of a file that was being written when berth was killed; the one it was to replace is beside it.
            if !adopted && path.extension().is_some_and(|extension| extension == "new") {
                let _ = fs::remove_file(&path);
            }
            continue;
        };
        let record = read(&path)
            .ok()
            .and_then(|bytes| Record::parse(&bytes, path.clone(), adopted))
            .filter(|record| record.sandbox == sandbox);
        let entry = match record {
            Some(record) => Entry::Whole(Arc::new(record)),
            // Others may write files of forms that we do not know.
            None if adopted => continue,
            None => {
                tracing::warn!(path = %path.display(), "the record of a pod's network cannot be read");
                Entry::Unreadable { path, network }
            }
        };
        entries.insert(sandbox, entry);
    }
    Ok(())
}

/// The network and the sandbox that a record's name says. A sandbox's ID has no `-`, a network's name may.
fn parts(name: &str) -> Option<(String, SandboxId)> {
    let rest = name.strip_suffix(INTERFACE)?.strip_suffix('-')?;
    let (network, sandbox) = rest.rsplit_once('-')?;
    let whole = !network.is_empty() && !sandbox.is_empty();
    whole.then(|| (network.to_owned(), SandboxId::new(sandbox)))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?
        .take(MAX_RECORD)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Puts a file in the place of another, or makes it, so that nobody ever sees a half of it.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let new = path.with_added_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = match options.open(&new) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            options.open(&new)?
        }
        opened => opened?,
    };
    file.write_all(bytes)?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cni::config::Version;

    fn record(records: &Records, sandbox: &str, result: Option<&str>) -> Record {
        let network = Network::parse(
            br#"{"cniVersion": "1.0.0", "name": "my-net", "plugins": [{"type": "bridge", "mtu": 1400}]}"#,
        )
        .unwrap();
        let sandbox = SandboxId::new(sandbox);
        Record {
            path: records.path(network.name(), &sandbox),
            adopted: false,
            sandbox,
            network: Arc::new(network),
            arguments: vec![("K8S_POD_NAME".into(), "web".into())],
            capabilities: serde_json::from_str(r#"{"portMappings": []}"#).unwrap(),
            result: result
                .map(|text| Arc::new(CniResult::parse(text.as_bytes(), Version::NEWEST).unwrap())),
        }
    }

    fn whole(entry: Option<Entry>) -> Arc<Record> {
        match entry {
            Some(Entry::Whole(record)) => record,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn records_are_there_again_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("made/when/needed");
        let records = Records::new(dir.clone(), Vec::new());
        let (one, two) = (
            record(&records, "aa", None),
            record(
                &records,
                "bb",
                Some(r#"{"ips": [{"address": "10.1.0.5/16"}]}"#),
            ),
        );
        let netns = Path::new("/proc/7/ns/net");
        records.put(one.clone(), netns).unwrap();
        records.put(two.clone(), netns).unwrap();
        let again = Records::new(dir.clone(), Vec::new());
        for expected in [&one, &two] {
            let found = whole(again.get(&expected.sandbox).unwrap());
            // A network that is read back has its plugins inlined.
            assert_eq!(found.network.to_json(), expected.network.to_json());
            assert_eq!(
                (&found.path, &found.result),
                (&expected.path, &expected.result)
            );
            assert_eq!(found.arguments, expected.arguments);
            assert_eq!(found.capabilities, expected.capabilities);
        }
        assert_eq!(again.own().unwrap().len(), 2);
        again.remove(&one.sandbox).unwrap();
        again.remove(&one.sandbox).unwrap();
        assert!(!one.path.exists() && again.get(&one.sandbox).unwrap().is_none());
        assert_eq!(Records::new(dir, Vec::new()).own().unwrap().len(), 1);
    }

    #[test]
    fn a_file_has_the_form_of_the_reference_implementation() {
        let records = Records::new("/r".into(), Vec::new());
        let record = record(&records, "aa", Some(r#"{"cniVersion": "1.0.0"}"#));
        assert_eq!(record.path, Path::new("/r/results/my-net-aa-eth0"));
        let bytes = record.to_bytes(Path::new("/proc/7/ns/net"));
        let mut json: Value = serde_json::from_slice(&bytes).unwrap();
        let config = STANDARD.decode(json["config"].as_str().unwrap()).unwrap();
        assert_eq!(Network::parse(&config).unwrap().name(), "my-net");
        json["config"] = Value::Null;
        assert_eq!(
            json,
            serde_json::json!({
                "kind": "cniCacheV1", "containerId": "aa", "config": null, "ifName": "eth0", "networkName": "my-net",
                "netns": "/proc/7/ns/net", "cniArgs": [["K8S_POD_NAME", "web"]],
                "capabilityArgs": {"portMappings": []}, "result": {"cniVersion": "1.0.0"}, "owner": "berth",
            })
        );
    }

    #[test]
    fn what_another_runtime_has_added_is_known_but_not_listed() {
        let theirs = tempfile::tempdir().unwrap();
        let other = Records::new(theirs.path().into(), Vec::new());
        other
            .put(record(&other, "aa", None), Path::new(""))
            .unwrap();
        fs::write(theirs.path().join("results/my-net-bb-eth0"), "{\"ips\":[]}").unwrap();
        fs::write(theirs.path().join("results/else"), "").unwrap();
        let ours = tempfile::tempdir().unwrap();
        let adopted = vec![theirs.path().into(), "/nowhere".into()];
        let records = Records::new(ours.path().into(), adopted);
        assert!(whole(records.get(&SandboxId::new("aa")).unwrap()).adopted);
        assert!(records.get(&SandboxId::new("bb")).unwrap().is_none());
        assert!(records.own().unwrap().is_empty());
    }

    #[test]
    fn a_file_that_was_cut_off_says_by_its_name_whose_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let results = dir.path().join(RESULTS);
        fs::create_dir(&results).unwrap();
        fs::write(results.join("my-net-aa-eth0"), "{\"kind\":").unwrap();
        fs::write(results.join("my-net-bb-eth0.new"), "{").unwrap();
        let records = Records::new(dir.path().into(), Vec::new());
        let own = records.own().unwrap();
        assert!(
            matches!(&own[..], [(id, Entry::Unreadable { network, .. })] if id.as_str() == "aa" && network == "my-net"),
            "{own:?}"
        );
        assert!(!results.join("my-net-bb-eth0.new").exists());
    }

    #[test]
    fn the_ranges_of_the_pods_addresses_are_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::new(dir.path().into(), Vec::new());
        assert!(records.pod_cidrs().is_empty());
        let cidrs = ["10.244.1.0/24", "fd00::/64"].map(|cidr| cidr.parse().unwrap());
        records.keep_pod_cidrs(&cidrs).unwrap();
        assert_eq!(records.pod_cidrs(), cidrs);
        records.keep_pod_cidrs(&[]).unwrap();
        assert!(records.pod_cidrs().is_empty());
    }
}
