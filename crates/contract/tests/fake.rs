//! The checks on the fake engine, in each of the API versions at which engines began to answer differently.

mod harness;

use std::process::ExitCode;

use berth_contract::Subject;
use berth_docker::api::{ImportImage, PutArchive, RemoveContainer, RemoveImage};
use berth_docker::model::{ContainerConfig, CreateContainer};
use berth_docker::{Body, ConnectOptions, Docker, Error};
use berth_fake_engine::{FakeEngine, RegistryAnswer, RegistryBehaviour};

const IMAGE: &str = "berth.local/demo:1";

/// A registry that has what the checks push to it.
const REGISTRY: &str = "127.0.0.1:5000";

/// An image of the fake's own with a shell, out of which [`IMAGE`] is made.
const BASE: &str = "busybox";

/// The oldest and the newest that the fake speaks, and between them those of Debian's engine (20.10) and of the engines
/// that brought new lists of networks (25) and of images (28).
const VERSIONS: [&str; 6] = ["1.40", "1.41", "1.44", "1.48", "1.52", "1.55"];

fn main() -> ExitCode {
    let newest = berth_docker::ApiVersion::CEILING.to_string();
    assert_eq!(
        VERSIONS.last(),
        Some(&newest.as_str()),
        "the newest version that the client speaks is one of those that are checked"
    );
    let arguments = harness::arguments(8);
    let runtime = harness::runtime();
    let mut trials = Vec::new();
    let mut subjects = Vec::new();
    for version in VERSIONS {
        let engine = engine(version);
        runtime
            .block_on(make_image(&client(&engine)))
            .expect("the image can be made");
        // A client of its own, so that what was done above does not count as checked.
        let subject = Subject::new(client(&engine), IMAGE).with_registry(REGISTRY);
        let prefix = format!("{version}::");
        trials.extend(harness::trials(runtime, &prefix, &subject));
        subjects.push((prefix, subject));
    }
    harness::run(&arguments, trials, subjects)
}

fn engine(version: &str) -> FakeEngine {
    let registries = RegistryBehaviour::default()
        // Checks know that nothing listens there.
        .rule("127.0.0.1:1/*", RegistryAnswer::Unreachable)
        .rule(format!("{REGISTRY}/*"), RegistryAnswer::Pushed);
    FakeEngine::builder()
        .api_version(version)
        .image(BASE)
        .registry(registries)
        // Checks name paths below it that are there, and some that are not.
        .bind_root("/tmp")
        .build()
        .expect("the fake engine can be made")
}

fn client(engine: &FakeEngine) -> Docker {
    let engine = engine.clone();
    Docker::builder(ConnectOptions::new(
        "fake://".parse().expect("fake:// is an endpoint"),
    ))
    .dialer(move || Ok(engine.connect()))
    .build()
    .expect("a client can be made")
}

/// Makes the image as `dev/sample-image` does for real engines: busybox and a page in `/www`, in one layer.
async fn make_image(docker: &Docker) -> Result<(), Error> {
    let container = CreateContainer {
        config: ContainerConfig {
            image: BASE.to_owned(),
            ..ContainerConfig::default()
        },
        ..CreateContainer::default()
    };
    let id = docker.create_container(&container).await?.id;
    let page = Body::Bytes(page().into());
    docker
        .put_archive(&id, "/", page, PutArchive::default())
        .await?;
    let mut files = Vec::new();
    let mut archive = docker.export_container(&id).await?;
    while let Some(piece) = archive.next().await {
        files.extend_from_slice(&piece?);
    }
    let options = ImportImage {
        reference: IMAGE.to_owned(),
        changes: ["ENV PATH=/bin", "CMD [\"/bin/sh\"]"]
            .map(str::to_owned)
            .into(),
        ..ImportImage::default()
    };
    docker
        .import_image(Body::Bytes(files.into()), &options)
        .await?;
    docker
        .remove_container(&id, RemoveContainer::default())
        .await?;
    docker.remove_image(BASE, RemoveImage::default()).await?;
    Ok(())
}

fn page() -> Vec<u8> {
    let content: &[u8] = b"Hello from a pod that berth runs.\n";
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    let mut archive = tar::Builder::new(Vec::new());
    archive
        .append_data(&mut header, "www/index.html", content)
        .and_then(|()| archive.into_inner())
        .expect("writing to memory does not fail")
}
