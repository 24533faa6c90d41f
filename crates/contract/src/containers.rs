//! A container as such: creating, finding, inspecting, renaming, updating, what its processes do, and removing it.

use berth_docker::api::{RemoveContainer, TerminalSize};
use berth_docker::model::{
    ChangeKind, ContainerStatus, KeySet, RestartPolicy, RestartPolicyName, UpdateContainer,
};

use crate::Violation;
use crate::case::{Case, text, until, within};
use crate::violation::{ensure, equal, refused, too_old};

crate::group! {
    "containers";
    a_created_container_has_never_run,
    a_container_is_found_by_name_and_id_and_its_beginning,
    an_engine_invents_a_name,
    a_name_in_use_is_a_conflict,
    a_bad_name_is_refused,
    a_missing_image_is_not_found,
    a_platform_is_one_of_the_engines,
    a_renamed_container_has_only_the_new_name,
    a_rename_to_a_taken_name_is_a_conflict,
    an_update_changes_what_it_names,
    top_shows_the_processes,
    top_takes_arguments_of_ps,
    changes_tells_what_differs_from_the_image,
    stats_of_a_running_container_show_use,
    stats_of_an_ended_container_are_zeros,
    a_stats_stream_goes_on,
    a_terminal_has_the_size_it_is_told,
    an_export_has_the_files,
    a_running_container_is_removed_only_by_force,
    a_removed_container_is_gone,
    anonymous_volumes_go_only_when_asked_to,
    a_link_can_be_removed_alone,
    inspect_with_size_counts_what_was_written,
}

async fn a_created_container_has_never_run(case: Case) -> Result<(), Violation> {
    let created = case.docker().create_container(&case.idle()).await?;
    equal!(created.id.len(), 64, "the length of the id");
    equal!(created.warnings, Vec::<String>::new(), "the warnings");
    let inspect = case.docker().inspect_container(&created.id).await?;
    equal!(inspect.id, created.id, "the id");
    let state = inspect.state;
    equal!(state.status, ContainerStatus::Created, "the status");
    ensure!(
        !state.running && !state.paused && !state.restarting && !state.dead,
        "the state is {state:?}"
    );
    equal!(
        (state.pid, state.exit_code, state.error.as_str()),
        (0, 0, ""),
        "pid, exit code and error"
    );
    equal!(
        (state.started_at, state.finished_at),
        (None, None),
        "when it started and ended"
    );
    ensure!(inspect.created.is_some(), "it has no time of creation");
    equal!(inspect.restart_count, 0, "the restarts");
    Ok(())
}

async fn a_container_is_found_by_name_and_id_and_its_beginning(
    case: Case,
) -> Result<(), Violation> {
    let container = case.idle();
    let name = container.name.clone().unwrap_or_default();
    let id = case.create(&container).await?;
    for key in [name.as_str(), &id, &id[..12]] {
        let inspect = case.docker().inspect_container(key).await?;
        equal!(inspect.id, id, "the container that {key} finds");
        equal!(inspect.name, format!("/{name}"), "its name");
        equal!(inspect.bare_name(), name, "its name without a slash");
    }
    Ok(())
}

async fn an_engine_invents_a_name(case: Case) -> Result<(), Violation> {
    let mut container = case.idle();
    container.name = None;
    let id = case.create(&container).await?;
    let name = case
        .docker()
        .inspect_container(&id)
        .await?
        .bare_name()
        .to_owned();
    ensure!(!name.is_empty(), "it has no name");
    equal!(
        case.docker().inspect_container(&name).await?.id,
        id,
        "the container of the name {name}"
    );
    Ok(())
}

async fn a_name_in_use_is_a_conflict(case: Case) -> Result<(), Violation> {
    let container = case.idle();
    let first = case.create(&container).await?;
    let error = refused(case.docker().create_container(&container).await, &[409])?;
    ensure!(error.is_conflict(), "{error} is no conflict");
    // It is how a kubelet finds out whose the name is.
    ensure!(
        error.message().contains(&first),
        "the container that has the name is not named: {error}"
    );
    Ok(())
}

async fn a_bad_name_is_refused(case: Case) -> Result<(), Violation> {
    for name in ["no blanks", "-starts-with-a-dash", "with/slash", "a"] {
        let mut container = case.idle();
        container.name = Some(name.to_owned());
        refused(case.docker().create_container(&container).await, &[400])?;
    }
    Ok(())
}

async fn a_missing_image_is_not_found(case: Case) -> Result<(), Violation> {
    let mut container = case.idle();
    container.config.image = "berth.local/contract-no-such-image:1".to_owned();
    let error = refused(case.docker().create_container(&container).await, &[404])?;
    ensure!(
        error.message().contains("contract-no-such-image"),
        "the image is not named: {error}"
    );
    Ok(())
}

async fn a_platform_is_one_of_the_engines(case: Case) -> Result<(), Violation> {
    let architecture = case.docker().version().await?.arch;
    let mut container = case.idle();
    container.platform = Some(format!("linux/{architecture}"));
    if !case.speaks(41).await? {
        return too_old(
            case.docker().create_container(&container).await,
            "a platform",
        );
    }
    case.create(&container).await?;
    let mut other = case.idle();
    other.platform = Some("no-such-system/none".to_owned());
    refused(case.docker().create_container(&other).await, &[400, 404])?;
    Ok(())
}

async fn a_renamed_container_has_only_the_new_name(case: Case) -> Result<(), Violation> {
    let container = case.idle();
    let (old, new) = (container.name.clone().unwrap_or_default(), case.name());
    let id = case.start(&container).await?;
    case.docker().rename_container(&id, &new).await?;
    let inspect = case.docker().inspect_container(&new).await?;
    equal!(
        (inspect.id.as_str(), inspect.bare_name()),
        (id.as_str(), new.as_str()),
        "the container of the new name"
    );
    ensure!(inspect.state.running, "it does not run any more");
    refused(case.docker().inspect_container(&old).await, &[404])?;
    case.create(&container).await?;
    Ok(())
}

async fn a_rename_to_a_taken_name_is_a_conflict(case: Case) -> Result<(), Violation> {
    let (first, second) = (case.idle(), case.idle());
    let id = case.create(&first).await?;
    case.create(&second).await?;
    let taken = second.name.unwrap_or_default();
    refused(case.docker().rename_container(&id, &taken).await, &[409])?;
    equal!(
        case.docker()
            .inspect_container(&id)
            .await?
            .bare_name()
            .to_owned(),
        first.name.unwrap_or_default(),
        "the name"
    );
    Ok(())
}

async fn an_update_changes_what_it_names(case: Case) -> Result<(), Violation> {
    const MIB: i64 = 1 << 20;
    let mut container = case.idle();
    container.host_config.memory = 64 * MIB;
    container.host_config.memory_swap = 64 * MIB;
    container.host_config.cpu_shares = 512;
    let id = case.start(&container).await?;
    let update = UpdateContainer {
        memory: 96 * MIB,
        memory_swap: 96 * MIB,
        pids_limit: Some(77),
        restart_policy: Some(RestartPolicy {
            name: RestartPolicyName::OnFailure,
            maximum_retry_count: 3,
        }),
        ..UpdateContainer::default()
    };
    case.docker().update_container(&id, &update).await?;
    let host = case.docker().inspect_container(&id).await?.host_config;
    equal!(
        (host.memory, host.memory_swap, host.pids_limit),
        (96 * MIB, 96 * MIB, Some(77)),
        "the limits"
    );
    equal!(host.cpu_shares, 512, "the CPU shares, which were not named");
    equal!(
        host.restart_policy,
        update.restart_policy,
        "the restart policy"
    );
    // A limit below what the engine allows is refused and changes nothing.
    let small = UpdateContainer {
        memory: MIB,
        ..UpdateContainer::default()
    };
    refused(
        case.docker().update_container(&id, &small).await,
        &[400, 409, 500],
    )?;
    equal!(
        case.docker()
            .inspect_container(&id)
            .await?
            .host_config
            .memory,
        96 * MIB,
        "the memory after a refused update"
    );
    Ok(())
}

async fn top_shows_the_processes(case: Case) -> Result<(), Violation> {
    let id = case.running().await?;
    let top = case.docker().top(&id, None).await?;
    ensure!(
        top.titles.iter().any(|title| title == "PID"),
        "the columns are {:?}",
        top.titles
    );
    equal!(top.processes.len(), 1, "the number of processes");
    ensure!(
        top.processes[0].iter().any(|cell| cell.contains("sleep")),
        "the process is {:?}",
        top.processes[0]
    );
    equal!(
        top.processes[0].len(),
        top.titles.len(),
        "the number of columns"
    );
    let column = top
        .titles
        .iter()
        .position(|title| title == "PID")
        .unwrap_or_default();
    let pid = case.docker().inspect_container(&id).await?.state.pid;
    equal!(top.processes[0][column], pid.to_string(), "the process id");
    Ok(())
}

async fn top_takes_arguments_of_ps(case: Case) -> Result<(), Violation> {
    let id = case.running().await?;
    let top = case.docker().top(&id, Some("-eo pid,comm")).await?;
    equal!(top.titles, ["PID", "COMMAND"], "the columns");
    equal!(top.processes.len(), 1, "the number of processes");
    Ok(())
}

async fn changes_tells_what_differs_from_the_image(case: Case) -> Result<(), Violation> {
    let id = case
        .start(&case.shell("echo new >/tmp/new; rm /www/index.html; echo ready; exec sleep 600"))
        .await?;
    case.wait_for_line(&id, "ready").await?;
    let changes = case.docker().changes(&id).await?;
    for (path, kind) in [
        ("/tmp", ChangeKind::Modified),
        ("/tmp/new", ChangeKind::Added),
        ("/www", ChangeKind::Modified),
        ("/www/index.html", ChangeKind::Deleted),
    ] {
        let found = changes.iter().find(|change| change.path == path);
        equal!(
            found.map(|change| &change.kind),
            Some(&kind),
            "how {path} differs, in {changes:?}"
        );
    }
    Ok(())
}

async fn stats_of_a_running_container_show_use(case: Case) -> Result<(), Violation> {
    let mut container = case.shell("while :; do :; done");
    container.host_config.network_mode = "bridge".to_owned();
    container.host_config.memory = 64 << 20;
    let id = case.start(&container).await?;
    let docker = case.docker();
    let stats = until("it uses CPU time", || async {
        let stats = docker.stats(&id).await?;
        Ok((stats.cpu_stats.cpu_usage.total_usage > 0).then_some(stats))
    })
    .await?;
    equal!(stats.id, id, "the id");
    equal!(
        stats.name.trim_start_matches('/').to_owned(),
        container.name.unwrap_or_default(),
        "the name"
    );
    ensure!(stats.read.is_some(), "the sample has no time");
    ensure!(
        stats.memory_stats.usage > 0,
        "it uses no memory: {:?}",
        stats.memory_stats
    );
    equal!(stats.memory_stats.limit, 64 << 20, "the memory limit");
    ensure!(
        stats.cpu_stats.online_cpus > 0 && stats.cpu_stats.system_cpu_usage > 0,
        "{:?}",
        stats.cpu_stats
    );
    ensure!(
        stats.pids_stats.current >= 1,
        "it has {} processes",
        stats.pids_stats.current
    );
    ensure!(
        stats.networks.contains_key("eth0"),
        "its networks are {:?}",
        stats.networks.keys()
    );
    Ok(())
}

async fn stats_of_an_ended_container_are_zeros(case: Case) -> Result<(), Violation> {
    let id = case.start(&case.shell("exit 0")).await?;
    case.ended(&id).await?;
    let stats = case.docker().stats(&id).await?;
    equal!(
        (
            stats.memory_stats.usage,
            stats.cpu_stats.cpu_usage.total_usage,
            stats.pids_stats.current
        ),
        (0, 0, 0),
        "its use"
    );
    Ok(())
}

async fn a_stats_stream_goes_on(case: Case) -> Result<(), Violation> {
    let id = case.running().await?;
    let mut stream = case.docker().stats_stream(&id).await?;
    let mut samples = Vec::new();
    while samples.len() < 3 {
        match within("a sample", stream.next()).await? {
            Some(sample) => samples.push(sample?),
            None => {
                return Err(Violation::new(format!(
                    "it ended after {} samples",
                    samples.len()
                )));
            }
        }
    }
    let [_, second, third] = &samples[..] else {
        return Err(Violation::new("not three samples"));
    };
    ensure!(
        second.read < third.read,
        "the times are {:?} and {:?}",
        second.read,
        third.read
    );
    equal!(third.preread, second.read, "the time of the sample before");
    equal!(
        third.precpu_stats.cpu_usage.total_usage,
        second.cpu_stats.cpu_usage.total_usage,
        "the CPU time before"
    );
    Ok(())
}

async fn a_terminal_has_the_size_it_is_told(case: Case) -> Result<(), Violation> {
    let mut container = case.shell("read line; stty size");
    container.config.tty = true;
    container.config.open_stdin = true;
    let id = case.create(&container).await?;
    let options = berth_docker::api::AttachOptions {
        stdin: true,
        ..Default::default()
    };
    let mut attached = case.docker().attach(&id, &options).await?;
    case.docker().start_container(&id).await?;
    case.docker()
        .resize_container_tty(
            &id,
            TerminalSize {
                height: 31,
                width: 97,
            },
        )
        .await?;
    attached.input.write_all(b"go\n").await?;
    crate::case::read_until(&mut attached.output, "31 97").await?;
    Ok(())
}

async fn an_export_has_the_files(case: Case) -> Result<(), Violation> {
    let id = case.start(&case.shell("echo exported >/tmp/mark")).await?;
    case.ended(&id).await?;
    let mut stream = case.docker().export_container(&id).await?;
    let mut archive = Vec::new();
    while let Some(piece) = within("the archive", stream.next()).await? {
        archive.extend_from_slice(&piece?);
    }
    for entry in tar::Archive::new(archive.as_slice()).entries()? {
        let mut entry = entry?;
        if entry.path()?.to_str() == Some("tmp/mark") {
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut content)?;
            equal!(text(content)?, "exported\n", "the file");
            return Ok(());
        }
    }
    Err(Violation::new("the file is not in the archive"))
}

async fn a_running_container_is_removed_only_by_force(case: Case) -> Result<(), Violation> {
    let id = case.running().await?;
    refused(
        case.docker()
            .remove_container(&id, RemoveContainer::default())
            .await,
        &[409],
    )?;
    ensure!(
        case.docker().inspect_container(&id).await?.state.running,
        "it does not run any more"
    );
    case.docker()
        .remove_container(
            &id,
            RemoveContainer {
                force: true,
                ..RemoveContainer::default()
            },
        )
        .await?;
    refused(case.docker().inspect_container(&id).await, &[404])?;
    Ok(())
}

async fn a_removed_container_is_gone(case: Case) -> Result<(), Violation> {
    let container = case.idle();
    let id = case.create(&container).await?;
    case.docker()
        .remove_container(&id, RemoveContainer::default())
        .await?;
    refused(case.docker().inspect_container(&id).await, &[404])?;
    refused(
        case.docker()
            .remove_container(&id, RemoveContainer::default())
            .await,
        &[404],
    )?;
    // Its name is free again.
    case.create(&container).await?;
    Ok(())
}

async fn anonymous_volumes_go_only_when_asked_to(case: Case) -> Result<(), Violation> {
    for volumes in [true, false] {
        let mut container = case.idle();
        container.config.volumes = KeySet::from(["/data"]);
        let id = case.create(&container).await?;
        let mounts = case.docker().inspect_container(&id).await?.mounts;
        let mount = crate::case::only(mounts, "mount")?;
        equal!(mount.destination, "/data", "where the volume is");
        ensure!(!mount.name.is_empty(), "the volume has no name");
        case.docker()
            .remove_container(
                &id,
                RemoveContainer {
                    volumes,
                    ..RemoveContainer::default()
                },
            )
            .await?;
        if volumes {
            refused(case.docker().inspect_volume(&mount.name).await, &[404])?;
        } else {
            case.docker().inspect_volume(&mount.name).await?;
            case.docker().remove_volume(&mount.name, false).await?;
        }
    }
    Ok(())
}

async fn a_link_can_be_removed_alone(case: Case) -> Result<(), Violation> {
    let (mut server, mut client) = (case.idle(), case.idle());
    let (server_name, client_name) = (
        server.name.clone().unwrap_or_default(),
        client.name.clone().unwrap_or_default(),
    );
    server.host_config.network_mode = "bridge".to_owned();
    client.host_config.network_mode = "bridge".to_owned();
    client.host_config.links = vec![format!("{server_name}:alias")];
    let server_id = case.start(&server).await?;
    let client_id = case.create(&client).await?;
    let links = case
        .docker()
        .inspect_container(&client_id)
        .await?
        .host_config
        .links;
    equal!(
        links,
        [format!("/{server_name}:/{client_name}/alias")],
        "the links"
    );
    let link = RemoveContainer {
        link: true,
        ..RemoveContainer::default()
    };
    case.docker()
        .remove_container(&format!("{client_name}/alias"), link)
        .await?;
    equal!(
        case.docker()
            .inspect_container(&client_id)
            .await?
            .host_config
            .links,
        Vec::<String>::new(),
        "the links"
    );
    ensure!(
        case.docker()
            .inspect_container(&server_id)
            .await?
            .state
            .running,
        "the container linked to does not run"
    );
    Ok(())
}

async fn inspect_with_size_counts_what_was_written(case: Case) -> Result<(), Violation> {
    let id = case
        .start(&case.shell("head -c 100000 /dev/zero >/tmp/big"))
        .await?;
    equal!(case.ended(&id).await?, 0, "the exit code");
    let plain = case.docker().inspect_container(&id).await?;
    equal!(
        (plain.size_rw, plain.size_root_fs),
        (None, None),
        "the sizes that were not asked for"
    );
    let sized = case.docker().inspect_container_with_size(&id).await?;
    ensure!(
        sized.size_rw >= Some(100_000),
        "the size of what was written is {:?}",
        sized.size_rw
    );
    ensure!(
        sized.size_root_fs > sized.size_rw,
        "the size of everything is {:?}",
        sized.size_root_fs
    );
    Ok(())
}
