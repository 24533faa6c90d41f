//! The fuzz targets over their kept corpus, and over mutations of it: what stable Rust can do of `cargo fuzz run`.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

#[path = "../../../dev/fuzz_replay.rs"]
mod replay;
#[path = "../fuzz/src/targets.rs"]
mod targets;

replay::targets! { observed, request_label, log_records, log_lines, cgroup_files, mount_table, passwd, cni_result, cni_network, }
