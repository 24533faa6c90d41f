//! Pulls an image if it is not there, runs a command in a container of it, prints its output, and ends with its exit code:
//! `cargo run --example run -- busybox echo hello`.

use std::io::Write as _;
use std::process::ExitCode;

use berth_docker::api::{AttachOptions, RemoveContainer, WaitCondition};
use berth_docker::auth::Keychain;
use berth_docker::model::{ContainerConfig, CreateContainer};
use berth_docker::pull::PullImage;
use berth_docker::{Docker, Source};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let image = words
        .next()
        .ok_or("name an image, and the command with its arguments")?;
    let docker = Docker::from_env()?;

    match docker.inspect_image(&image).await {
        Err(error) if error.is_not_found() => pull(&docker, &image).await?,
        result => drop(result?),
    }
    let config = ContainerConfig {
        image,
        cmd: words.collect(),
        ..Default::default()
    };
    let id = docker
        .create_container(&CreateContainer {
            config,
            ..Default::default()
        })
        .await?
        .id;
    let result = run(&docker, &id).await;
    docker
        .remove_container(
            &id,
            RemoveContainer {
                force: true,
                volumes: true,
                ..Default::default()
            },
        )
        .await?;
    Ok(ExitCode::from(u8::try_from(result?).unwrap_or(1)))
}

async fn pull(docker: &Docker, image: &str) -> Result<(), Box<dyn std::error::Error>> {
    let credentials = Keychain::from_env()?.for_image(image).await?;
    let mut pull = docker
        .pull_image(
            image,
            PullImage {
                credentials: credentials.as_ref(),
                ..Default::default()
            },
        )
        .await?;
    while let Some(progress) = pull.next().await {
        eprint!("\r\x1b[K{}", progress?);
    }
    eprintln!();
    Ok(())
}

async fn run(docker: &Docker, id: &str) -> Result<i64, berth_docker::Error> {
    // Attached before the start, so that nothing is missed.
    let mut attached = docker.attach(id, &AttachOptions::default()).await?;
    docker.start_container(id).await?;
    while let Some(frame) = attached.output.next().await {
        let frame = frame?;
        // A closed terminal is no reason to leave the container behind.
        let _ = match frame.source {
            Source::Stderr => std::io::stderr().write_all(&frame.bytes),
            _ => std::io::stdout().write_all(&frame.bytes),
        };
    }
    Ok(docker
        .wait_container(id, WaitCondition::NotRunning)
        .await?
        .status_code)
}
