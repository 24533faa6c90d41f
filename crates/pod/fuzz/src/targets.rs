//! What is fuzzed: each function feeds one reader of the pod runtime with bytes of an outsider and checks what must hold for any bytes.
//!
//! The outsiders are whoever else makes containers on the engine (labels), a container (its log, its cgroup's texts by what it does), an image's
//! author (its users), and a network's plugins and whoever configures it. cargo-fuzz runs the functions with coverage; `tests/fuzz_corpus.rs` of berth-pod runs them over the kept
//! corpus and mutations of it on stable.

#![allow(dead_code, reason = "each fuzz target uses one")]

use std::path::Path;

use berth_docker::model::{ContainerInspect, TextMap};
use berth_pod::cni::{CniResult, Network, Version};
use berth_pod::labels;
use berth_pod::logs::line::{self, Encoder};
use berth_pod::logs::record::{self, Decoded, MAX_RECORD, Record};
use berth_pod::observe::{self, Observed};
use berth_pod::request::{ContainerRequest, SandboxRequest};
use berth_pod::stats::{Limit, mounts, text};
use berth_pod::users::ImageUsers;

/// An inspected container, as JSON: somebody else's, or a pod's whose labels go where they belong and nowhere else.
pub(crate) fn observed(data: &[u8]) {
    let Ok(inspect) = serde_json::from_slice::<ContainerInspect>(data) else {
        return;
    };
    let Some(observed) = observe::read(&inspect) else {
        return;
    };
    let all = &inspect.config.labels;
    assert!(labels::pod_of(all).is_some());
    let (own, annotations, given, pod, name) = match &observed {
        Observed::Sandbox(sandbox) => (
            &sandbox.labels,
            &sandbox.annotations,
            sandbox.given_labels(),
            &sandbox.pod,
            labels::SANDBOX_NAME,
        ),
        Observed::Container(container) => (
            &container.labels,
            &container.annotations,
            container.given_labels(),
            &container.pod,
            container.name.as_str(),
        ),
    };
    for (key, value) in own {
        assert!(!labels::is_own(key) && !key.starts_with(labels::ANNOTATION_PREFIX));
        assert_eq!(all.get(key), Some(value.as_str()));
        assert!(given.contains_key(key));
    }
    for (key, value) in annotations {
        let key = format!("{}{key}", labels::ANNOTATION_PREFIX);
        assert_eq!(all.get(&key), Some(value.as_str()));
    }
    let docker_name = labels::docker_name(name, pod, 7);
    if docker_name.matches('_').count() == 5 {
        assert_eq!(labels::attempt_of(&docker_name), Some(7));
    }
}

/// The label `berth.request`: what is read of it is written so that it reads back as the same, and one that cannot be read hides no
/// container.
pub(crate) fn request_label(data: &[u8]) {
    let Ok(label) = std::str::from_utf8(data) else {
        return;
    };
    let container = serde_json::from_str::<ContainerRequest>(label);
    if let Ok(request) = &container {
        let again = serde_json::to_string(request).unwrap();
        assert_eq!(
            &serde_json::from_str::<ContainerRequest>(&again).unwrap(),
            request
        );
    }
    if let Ok(request) = serde_json::from_str::<SandboxRequest>(label) {
        let again = serde_json::to_string(&request).unwrap();
        assert_eq!(
            serde_json::from_str::<SandboxRequest>(&again).unwrap(),
            request
        );
    }
    let inspect_of = |kind| {
        let mut inspect = ContainerInspect::default();
        inspect.config.labels = TextMap::from([
            (labels::POD_NAME, "web"),
            (labels::POD_NAMESPACE, "default"),
            (labels::POD_UID, "u-1"),
            (labels::CONTAINER_NAME, "app"),
            (labels::SANDBOX_ID, "5a"),
            (labels::TYPE, kind),
            (labels::REQUEST, label),
        ]);
        inspect
    };
    match observe::read(&inspect_of(labels::TYPE_CONTAINER)) {
        Some(Observed::Container(found)) => {
            assert_eq!(
                found.mounts,
                container.map(|request| request.mounts).unwrap_or_default()
            );
        }
        other => panic!("no container: {other:?}"),
    }
    let sandbox = observe::read(&inspect_of(labels::TYPE_SANDBOX));
    assert!(matches!(sandbox, Some(Observed::Sandbox(_))), "{sandbox:?}");
}

/// A file of Docker's `local` driver: a record is what it is whatever follows it, damage is passed over, and a line made of a record reads
/// back as it.
pub(crate) fn log_records(data: &[u8]) {
    let mut at = 0;
    // A reader begins anywhere and ends where nothing is left.
    while at < data.len() {
        let rest = &data[at..];
        match record::decode(rest) {
            Decoded::Record { record, size } => {
                assert!(size <= rest.len() && size <= MAX_RECORD);
                assert_eq!(
                    record::decode(&rest[..size]),
                    Decoded::Record { record, size }
                );
                assert_eq!(record::size_of_last(&rest[..size]), Some(size));
                one_line(&record);
                at += size;
            }
            Decoded::Incomplete { size } => {
                assert!(size > rest.len() && size <= MAX_RECORD);
                break;
            }
            Decoded::Damaged(_) => match record::resync(rest) {
                Some(skip) => {
                    assert!(skip > 0);
                    assert!(matches!(
                        record::decode(&rest[skip..]),
                        Decoded::Record { .. }
                    ));
                    at += skip;
                }
                None => break,
            },
        }
    }
    if let Some(size) = record::size_of_last(data) {
        assert!(size <= data.len());
    }
}

fn one_line(record: &Record<'_>) {
    let mut lines = Vec::new();
    let mut encoder = Encoder::default();
    encoder.encode(record, &mut lines);
    let first = lines.len();
    encoder.encode(record, &mut lines);
    assert_eq!(
        lines[..first],
        lines[first..],
        "the same record is the same line"
    );
    let pieces: Vec<_> = lines[..first]
        .split_inclusive(|byte| *byte == b'\n')
        .collect();
    let mut text = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        let read = line::parse(&piece[..piece.len() - 1]).unwrap();
        assert_eq!((read.stream, read.time), (record.stream, record.time));
        let is_last = index + 1 == pieces.len();
        assert_eq!(read.partial, is_last && record.partial);
        text.extend_from_slice(read.text);
        if !is_last {
            text.push(b'\n');
        }
    }
    assert_eq!(text, record.text);
}

/// The lines of a log: what reads as a record is written so that it reads back as the same.
pub(crate) fn log_lines(data: &[u8]) {
    for line in data.split(|byte| *byte == b'\n') {
        if let Some(record) = line::parse(line) {
            one_line(&record);
        }
    }
}

/// Files of cgroups and processes: a value is within its bounds, and more lines that say nothing change nothing.
pub(crate) fn cgroup_files(data: &[u8]) {
    if let Some(value) = text::number(data) {
        assert_eq!(text::number(value.to_string().as_bytes()), Some(value));
    }
    let (quota, _) = text::cpu_max(data);
    for limit in [text::limit(data), quota].into_iter().flatten() {
        assert!(limit.value().is_none_or(|value| value < 1 << 62));
    }
    if let Some(Limit::At(quota)) = text::cfs_quota(data) {
        assert_eq!(text::number(data), Some(quota));
    }
    if let Some(psi) = text::psi(data) {
        for part in [Some(psi.some), psi.full].into_iter().flatten() {
            for average in [part.avg10, part.avg60, part.avg300] {
                assert!((0.0..=100.0).contains(&average));
            }
        }
    }
    let longer = [data, b"\nnothing 7\n"].concat();
    assert_eq!(text::cpu_stat(&longer), text::cpu_stat(data));
    assert_eq!(text::cpuacct_stat(&longer), text::cpuacct_stat(data));
    assert_eq!(text::memory_stat_v1(&longer), text::memory_stat_v1(data));
    assert_eq!(text::memory_stat_v2(&longer), text::memory_stat_v2(data));
    assert_eq!(
        text::value(&longer, b"oom_kill"),
        text::value(data, b"oom_kill")
    );
    assert_eq!(text::io_stat(&longer), text::io_stat(data));
    assert_eq!(text::net_dev(&longer), text::net_dev(data));
    for interface in text::net_dev(data) {
        assert!(!interface.name.is_empty() && interface.name != "lo");
    }
    let middle = data
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(data.len());
    let mut devices: Vec<_> = text::blkio(&data[..middle], &data[middle..])
        .iter()
        .map(|io| (io.major, io.minor))
        .collect();
    let count = devices.len();
    devices.sort_unstable();
    devices.dedup();
    assert_eq!(devices.len(), count, "a device is counted once");
    text::max_open_files(data);
    if let Some(name) = text::device_name(data) {
        assert!(name.starts_with("/dev/") && name.len() > "/dev/".len());
    }
}

/// A mount table: a path is on a mount above it, and the layer that is written to has an absolute path.
pub(crate) fn mount_table(data: &[u8]) {
    let path = Path::new("/var/lib/docker/overlay2");
    if let Some(mount) = mounts::mount_of(mounts::mounts(data), path) {
        assert!(path.starts_with(&mount.point));
    }
    if let Some(upper) = mounts::upper_dir(data) {
        assert!(upper.is_absolute());
    }
}

/// The users of an image behind a line with who is looked for: a name or a number, and whoever is one by number is found.
pub(crate) fn passwd(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (wanted, passwd) = text.split_once('\n').unwrap_or((text, ""));
    let (user, group) = wanted.split_once(':').unwrap_or((wanted, ""));
    // Both lists have their fields in the same places; the members of a group are where a user's primary one is.
    let image = ImageUsers {
        passwd: passwd.to_owned(),
        group: passwd.to_owned(),
    };
    let found = image.primary_group(wanted);
    image.groups_of(user);
    if let Some((name, _)) = &found {
        assert!(!name.is_empty() && !name.contains(':'));
        assert!(user.is_empty() || name == user);
    }
    let is_number = |text: &str| text.is_empty() || text.parse::<i64>().is_ok();
    if is_number(user) && is_number(group) {
        assert!(found.is_some());
    }
}

/// What a CNI plugin gives: refused, or what it says of addresses fits together and reads back as the same.
pub(crate) fn cni_result(data: &[u8]) {
    let Ok(result) = CniResult::parse(data, Version::NEWEST) else {
        return;
    };
    for address in result.addresses() {
        let most = if address.address.address.is_ipv4() {
            32
        } else {
            128
        };
        assert!(address.address.prefix <= most);
        assert!(
            address
                .interface
                .is_none_or(|index| index < result.interfaces().len())
        );
    }
    for ip in result.ip().iter().chain(result.additional_ips()) {
        let is_it = |address: &berth_pod::cni::Address| address.address.address == *ip;
        assert!(result.addresses().iter().any(is_it));
    }
    assert!(result.json().contains_key("cniVersion"));
    let again = serde_json::to_vec(result.json()).unwrap();
    assert_eq!(CniResult::parse(&again, Version::OLDEST).unwrap(), result);
}

/// The configuration of a network: refused, or no name in it leads out of a directory, and it reads back as the same network.
pub(crate) fn cni_network(data: &[u8]) {
    let Ok(network) = Network::parse(data) else {
        return;
    };
    assert!((Version::OLDEST..=Version::NEWEST).contains(&network.version()));
    let names = network.plugins().iter().map(|plugin| plugin.kind());
    for name in names.chain([network.name()]) {
        assert!(!name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']));
    }
    if !network.plugins().is_empty() {
        let again = serde_json::to_vec(&network.to_json()).unwrap();
        let again = Network::parse(&again).unwrap();
        assert_eq!(
            (again.name(), again.version()),
            (network.name(), network.version())
        );
        assert_eq!(again.plugins(), network.plugins());
    }
}
