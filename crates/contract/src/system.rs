//! The engine itself: ping, version, info, disk use, build cache, and registry credentials without a registry.

use std::time::{Duration, SystemTime};

use berth_docker::api::{DiskUsageType, SystemDfOptions};
use berth_docker::auth::Credentials;
use berth_docker::model::SystemDf;
use berth_docker::{ApiVersion, Method, Operation, Request};

use crate::Violation;
use crate::case::{Case, until};
use crate::violation::{ensure, equal, refused, too_old};

crate::group! {
    "system";
    ping_tells_the_api_version_and_the_system,
    version_names_the_parts_of_the_engine,
    the_version_spoken_is_one_of_the_engines,
    info_tells_of_the_host,
    info_and_version_agree,
    info_counts_every_container_once,
    the_engines_clock_is_this_machines,
    disk_usage_lists_containers_and_volumes,
    disk_usage_of_one_kind_has_no_other,
    credentials_for_a_registry_that_is_not_there_are_refused,
    an_operation_of_ones_own_reaches_the_engine,
    an_unknown_path_is_not_found,
    ; with a registry:
    a_registry_for_everyone_accepts_any_credentials,
}

async fn ping_tells_the_api_version_and_the_system(case: Case) -> Result<(), Violation> {
    let ping = case.docker().ping().await?;
    let version: Option<ApiVersion> = ping.api_version.parse().ok();
    ensure!(
        version >= Some(ApiVersion::FLOOR),
        "the API version is {:?}",
        ping.api_version
    );
    equal!(ping.os_type, "linux", "the system");
    // Engines before 23.0 (API 1.42) do not always say which builder they have.
    let silent = ping.builder_version.is_empty() && !case.engine_is(42).await?;
    ensure!(
        silent || ["1", "2"].contains(&ping.builder_version.as_str()),
        "the builder is {:?}",
        ping.builder_version
    );
    ensure!(
        ping.server.starts_with("Docker/"),
        "the server is {:?}",
        ping.server
    );
    equal!(ping.libpod_api_version, None, "the mark of Podman");
    Ok(())
}

async fn version_names_the_parts_of_the_engine(case: Case) -> Result<(), Violation> {
    let version = case.docker().version().await?;
    equal!(version.os, "linux", "the system");
    for (what, value) in [
        ("version", &version.version),
        ("architecture", &version.arch),
        ("kernel", &version.kernel_version),
        ("commit", &version.git_commit),
        ("Go version", &version.go_version),
    ] {
        ensure!(!value.is_empty(), "there is no {what}");
    }
    let (api, oldest) = (
        version.api_version.parse::<ApiVersion>(),
        version.min_api_version.parse::<ApiVersion>(),
    );
    match (api, oldest) {
        (Ok(api), Ok(oldest)) => ensure!(
            oldest <= api,
            "the oldest API version {oldest} is above {api}"
        ),
        _ => {
            return Err(Violation::new(format!(
                "{:?} or {:?} is no API version",
                version.api_version, version.min_api_version
            )));
        }
    }
    let Some(engine) = version
        .components
        .iter()
        .find(|component| component.name == "Engine")
    else {
        return Err(Violation::new(format!(
            "no component is the Engine: {:?}",
            version.components
        )));
    };
    equal!(
        engine.version,
        version.version,
        "the version of the component"
    );
    equal!(
        engine.details.get("ApiVersion"),
        Some(version.api_version.as_str()),
        "the API version of the component"
    );
    Ok(())
}

async fn the_version_spoken_is_one_of_the_engines(case: Case) -> Result<(), Violation> {
    let version = case.docker().version().await?;
    let spoken = case.api().await?;
    let (newest, oldest) = (
        version.api_version.parse::<ApiVersion>().ok(),
        version.min_api_version.parse::<ApiVersion>().ok(),
    );
    ensure!(
        newest >= Some(spoken),
        "{spoken} is spoken with an engine of {newest:?}"
    );
    ensure!(
        oldest <= Some(spoken),
        "{spoken} is spoken with an engine that takes {oldest:?} at least"
    );
    equal!(
        case.docker().ping().await?.api_version,
        version.api_version,
        "the API version of ping"
    );
    Ok(())
}

async fn info_tells_of_the_host(case: Case) -> Result<(), Violation> {
    let info = case.docker().info().await?;
    for (what, value) in [
        ("ID", &info.id),
        ("host name", &info.name),
        ("storage driver", &info.driver),
        ("data directory", &info.docker_root_dir),
        ("log driver", &info.logging_driver),
        ("cgroup driver", &info.cgroup_driver),
        ("kernel", &info.kernel_version),
        ("operating system", &info.operating_system),
        ("architecture", &info.architecture),
    ] {
        ensure!(!value.is_empty(), "there is no {what}");
    }
    equal!(info.os_type, "linux", "the system");
    ensure!(info.ncpu > 0, "there are {} CPUs", info.ncpu);
    ensure!(
        info.mem_total > 0,
        "there are {} bytes of memory",
        info.mem_total
    );
    ensure!(
        info.runtimes.contains_key(&info.default_runtime),
        "{:?} is not one of {:?}",
        info.default_runtime,
        info.runtimes
    );
    if case.engine_is(41).await? {
        ensure!(
            ["1", "2"].contains(&info.cgroup_version.as_str()),
            "the cgroup version is {:?}",
            info.cgroup_version
        );
    }
    Ok(())
}

async fn info_and_version_agree(case: Case) -> Result<(), Violation> {
    let (info, version) = (case.docker().info().await?, case.docker().version().await?);
    equal!(info.server_version, version.version, "the version of info");
    equal!(
        info.kernel_version,
        version.kernel_version,
        "the kernel of info"
    );
    Ok(())
}

async fn info_counts_every_container_once(case: Case) -> Result<(), Violation> {
    case.running().await?;
    case.create(&case.idle()).await?;
    let info = case.docker().info().await?;
    let sum = info.containers_running + info.containers_paused + info.containers_stopped;
    equal!(info.containers, sum, "the number of containers");
    ensure!(
        info.containers_running >= 1,
        "{} containers run",
        info.containers_running
    );
    ensure!(
        info.containers_stopped >= 1,
        "{} containers do not run",
        info.containers_stopped
    );
    ensure!(info.images >= 1, "there are {} images", info.images);
    Ok(())
}

async fn the_engines_clock_is_this_machines(case: Case) -> Result<(), Violation> {
    let before = SystemTime::now();
    let engine = SystemTime::from(case.engine_time().await?);
    let apart = engine
        .duration_since(before)
        .unwrap_or_else(|error| error.duration());
    ensure!(
        apart < Duration::from_secs(60),
        "the clocks are {apart:?} apart"
    );
    Ok(())
}

/// Asks again while another such call is under way, which older engines refuse.
async fn disk_usage(case: &Case, options: &SystemDfOptions) -> Result<SystemDf, Violation> {
    until("disk use is told", || async {
        match case.docker().system_df(options).await {
            Err(error) if error.is_conflict() || error.message().contains("already running") => {
                Ok(None)
            }
            result => Ok(Some(result?)),
        }
    })
    .await
}

async fn disk_usage_lists_containers_and_volumes(case: Case) -> Result<(), Violation> {
    let volume = case.docker().create_volume(&case.volume()).await?.name;
    let container = case.create(&case.idle()).await?;
    // From API 1.52 on the single objects are in the totals, and with `verbose` nowhere else.
    let usage = disk_usage(
        &case,
        &SystemDfOptions {
            verbose: true,
            ..SystemDfOptions::default()
        },
    )
    .await?;
    let (containers, volumes, images) =
        match (usage.container_usage, usage.volume_usage, usage.image_usage) {
            (Some(containers), Some(volumes), Some(images)) => {
                ensure!(
                    case.speaks(52).await?,
                    "the totals of API 1.52 are there before it"
                );
                ensure!(
                    containers.total_count >= 1,
                    "{} containers are counted",
                    containers.total_count
                );
                (containers.items, volumes.items, images.items)
            }
            _ => {
                ensure!(
                    !case.speaks(52).await?,
                    "the totals of API 1.52 are missing"
                );
                (usage.containers, usage.volumes, usage.images)
            }
        };
    ensure!(
        containers.iter().any(|summary| summary.id == container),
        "the container is missing"
    );
    ensure!(!images.is_empty(), "there are no images");
    let Some(found) = volumes.iter().find(|found| found.name == volume) else {
        return Err(Violation::new("the volume is missing"));
    };
    equal!(
        found.usage_data.as_ref().map(|usage| usage.ref_count),
        Some(0),
        "the containers that use the volume"
    );
    Ok(())
}

async fn disk_usage_of_one_kind_has_no_other(case: Case) -> Result<(), Violation> {
    let volume = case.docker().create_volume(&case.volume()).await?.name;
    case.create(&case.idle()).await?;
    let options = SystemDfOptions {
        types: vec![DiskUsageType::Volume],
        verbose: true,
    };
    if !case.speaks(42).await? {
        return too_old(
            case.docker().system_df(&options).await,
            "disk use of some types",
        );
    }
    let usage = disk_usage(&case, &options).await?;
    let volumes = usage
        .volume_usage
        .map_or(usage.volumes, |usage| usage.items);
    ensure!(
        volumes.iter().any(|found| found.name == volume),
        "the volume is missing"
    );
    ensure!(
        usage.containers.is_empty() && usage.images.is_empty(),
        "others are there"
    );
    ensure!(
        usage.container_usage.is_none() && usage.image_usage.is_none(),
        "totals of others are there"
    );
    Ok(())
}

async fn credentials_for_a_registry_that_is_not_there_are_refused(
    case: Case,
) -> Result<(), Violation> {
    // Port 1 of this host: nobody listens there.
    let credentials = Credentials::password("someone", "a secret").for_server("127.0.0.1:1");
    let error = refused(case.docker().check_auth(&credentials).await, &[500])?;
    ensure!(
        !error.to_string().contains("a secret"),
        "the error tells the password: {error}"
    );
    Ok(())
}

async fn an_operation_of_ones_own_reaches_the_engine(case: Case) -> Result<(), Violation> {
    let docker = case.docker();
    let operation = Operation::new("contract_ping");
    let reply = docker
        .send(Request::new(operation, Method::Get, "/_ping"))
        .await?;
    equal!(reply.status, 200, "the status");
    equal!(&reply.body[..], b"OK", "the reply");
    let volumes: berth_docker::model::VolumeList = docker
        .send_json(Request::new(operation, Method::Get, "/volumes").query("filters", case.own()))
        .await?;
    equal!(volumes.volumes.len(), 0, "the volumes");
    let mut bytes = docker
        .send_stream(Request::new(operation, Method::Get, "/_ping"))
        .await?;
    equal!(
        bytes.next().await.transpose()?.as_deref(),
        Some(b"OK".as_slice()),
        "the streamed reply"
    );
    equal!(docker.metrics().errors(operation), 0, "errors counted");
    Ok(())
}

async fn an_unknown_path_is_not_found(case: Case) -> Result<(), Violation> {
    let request = Request::new(
        Operation::new("contract_unknown"),
        Method::Get,
        "/contract/nothing/here",
    );
    refused(case.docker().send(request).await, &[404])?;
    Ok(())
}

async fn a_registry_for_everyone_accepts_any_credentials(case: Case) -> Result<(), Violation> {
    let credentials = Credentials::password("someone", "a secret").for_server(case.registry()?);
    let result = case.docker().check_auth(&credentials).await?;
    equal!(result.status, "Login Succeeded", "the status");
    Ok(())
}
