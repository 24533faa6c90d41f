//! What a container is configured with: it comes back from inspect, and the process finds it.

use berth_docker::model::{
    BindOptions, CreateContainer, EndpointSettings, HealthConfig, LogConfig, Mount, MountType,
    TmpfsOptions, Ulimit, VolumeOptions,
};

use crate::Violation;
use crate::case::{Case, Output, strings};
use crate::violation::{ensure, equal, refused, too_old};

crate::group! {
    "config";
    the_portable_configuration_comes_back,
    the_hosts_configuration_comes_back,
    the_process_finds_its_environment,
    an_entrypoint_precedes_the_command,
    labels_keep_every_character,
    a_bind_shows_the_host_directory,
    a_read_only_bind_cannot_be_written,
    a_volume_is_shared_between_containers,
    a_tmpfs_starts_empty,
    a_read_only_root_cannot_be_written,
    a_user_of_the_image_runs_the_process,
    host_names_are_in_the_hosts_file,
    annotations_come_back,
    a_part_of_a_volume_can_be_mounted,
    a_missing_bind_source_is_refused,
    a_container_can_share_anothers_network,
    what_an_engine_is_too_old_for_is_refused_by_name,
    a_container_of_no_command_is_refused,
}

async fn the_portable_configuration_comes_back(case: Case) -> Result<(), Violation> {
    let mut container = case.idle();
    let config = &mut container.config;
    config.hostname = "host-of-it".to_owned();
    config.domainname = "example.org".to_owned();
    config.user = "nobody".to_owned();
    config.env = strings(["A=1", "B=two words", "EMPTY="]);
    config.working_dir = "/tmp".to_owned();
    config.entrypoint = Some(strings(["/bin/sleep"]));
    config.cmd = strings(["600"]);
    config.stop_signal = "SIGINT".to_owned();
    config.stop_timeout = Some(7);
    config.tty = true;
    config.open_stdin = true;
    config.stdin_once = true;
    config.exposed_ports = ["81/tcp", "82/udp"].into();
    config.healthcheck = Some(HealthConfig {
        test: strings(["CMD", "true"]),
        interval: 60_000_000_000,
        timeout: 2_000_000_000,
        retries: 4,
        start_period: 5_000_000_000,
        start_interval: 0,
    });
    let id = case.create(&container).await?;
    let inspect = case.docker().inspect_container(&id).await?;
    let (sent, got) = (&container.config, &inspect.config);
    equal!(got.hostname, sent.hostname, "Hostname");
    equal!(got.domainname, sent.domainname, "Domainname");
    equal!(got.user, sent.user, "User");
    ensure!(
        sent.env.iter().all(|entry| got.env.contains(entry)),
        "Env is {:?}",
        got.env
    );
    ensure!(
        got.env.iter().any(|entry| entry.starts_with("PATH=")),
        "Env has no PATH: {:?}",
        got.env
    );
    equal!(got.working_dir, sent.working_dir, "WorkingDir");
    equal!(got.entrypoint, sent.entrypoint, "Entrypoint");
    equal!(got.cmd, sent.cmd, "Cmd");
    equal!(got.image, sent.image, "Image");
    equal!(got.stop_signal, sent.stop_signal, "StopSignal");
    equal!(got.stop_timeout, sent.stop_timeout, "StopTimeout");
    equal!(
        (got.tty, got.open_stdin, got.stdin_once),
        (true, true, true),
        "Tty, OpenStdin, StdinOnce"
    );
    equal!(got.exposed_ports, sent.exposed_ports, "ExposedPorts");
    equal!(got.healthcheck, sent.healthcheck, "Healthcheck");
    equal!(got.labels, sent.labels, "Labels");
    equal!(
        (inspect.path.as_str(), &inspect.args),
        ("/bin/sleep", &strings(["600"])),
        "Path and Args"
    );
    Ok(())
}

async fn the_hosts_configuration_comes_back(case: Case) -> Result<(), Violation> {
    let mut container = case.idle();
    let host = &mut container.host_config;
    host.memory = 64 << 20;
    host.memory_reservation = 32 << 20;
    host.memory_swap = 128 << 20;
    host.cpu_shares = 300;
    host.cpu_period = 50_000;
    host.cpu_quota = 25_000;
    host.pids_limit = Some(50);
    host.oom_score_adj = 500;
    host.shm_size = 8 << 20;
    host.cap_add = strings(["CAP_NET_ADMIN"]);
    host.cap_drop = strings(["CAP_CHOWN"]);
    host.dns = strings(["192.0.2.53"]);
    host.dns_search = strings(["example.org"]);
    host.dns_options = strings(["ndots:3"]);
    host.extra_hosts = strings(["there:192.0.2.9"]);
    host.group_add = strings(["1234"]);
    host.ipc_mode = "private".to_owned();
    host.security_opt = strings(["no-new-privileges"]);
    host.sysctls = [("net.ipv4.ip_unprivileged_port_start", "0")]
        .into_iter()
        .collect();
    host.ulimits = vec![Ulimit {
        name: "nofile".to_owned(),
        soft: 512,
        hard: 1024,
    }];
    host.init = Some(true);
    host.log_config = Some(LogConfig {
        kind: "json-file".to_owned(),
        config: [("max-size", "1m"), ("max-file", "2")]
            .into_iter()
            .collect(),
    });
    host.masked_paths = Some(strings(["/proc/keys"]));
    host.readonly_paths = Some(strings(["/proc/sys"]));
    let id = case.create(&container).await?;
    let got = case.docker().inspect_container(&id).await?.host_config;
    let sent = &container.host_config;
    equal!(
        (got.memory, got.memory_reservation, got.memory_swap),
        (64 << 20, 32 << 20, 128 << 20),
        "the memory limits"
    );
    equal!(
        (got.cpu_shares, got.cpu_period, got.cpu_quota),
        (300, 50_000, 25_000),
        "the CPU limits"
    );
    equal!(
        (got.pids_limit, got.oom_score_adj, got.shm_size),
        (Some(50), 500, 8 << 20),
        "PidsLimit, OomScoreAdj, ShmSize"
    );
    equal!(
        (&got.cap_add, &got.cap_drop),
        (&sent.cap_add, &sent.cap_drop),
        "the capabilities"
    );
    equal!(
        (&got.dns, &got.dns_search, &got.dns_options),
        (&sent.dns, &sent.dns_search, &sent.dns_options),
        "the resolver"
    );
    equal!(got.extra_hosts, sent.extra_hosts, "ExtraHosts");
    equal!(got.group_add, sent.group_add, "GroupAdd");
    equal!(
        (&got.ipc_mode, &got.network_mode),
        (&sent.ipc_mode, &sent.network_mode),
        "the modes"
    );
    equal!(got.security_opt, sent.security_opt, "SecurityOpt");
    equal!(got.sysctls, sent.sysctls, "Sysctls");
    equal!(got.ulimits, sent.ulimits, "Ulimits");
    equal!(got.init, Some(true), "Init");
    equal!(got.log_config, sent.log_config, "LogConfig");
    equal!(
        (&got.masked_paths, &got.readonly_paths),
        (&sent.masked_paths, &sent.readonly_paths),
        "the protected paths"
    );
    Ok(())
}

async fn the_process_finds_its_environment(case: Case) -> Result<(), Violation> {
    let mut container = case.shell("echo \"$A|$B|${EMPTY-unset}|$(pwd)|$(hostname)\"");
    container.config.env = strings(["A=1", "B=two words", "EMPTY="]);
    container.config.working_dir = "/tmp".to_owned();
    container.config.hostname = "host-of-it".to_owned();
    let (code, output) = case.run(&container).await?;
    equal!(
        (code, output),
        (0, Output::of_stdout("1|two words||/tmp|host-of-it\n")),
        "what it found"
    );
    Ok(())
}

async fn an_entrypoint_precedes_the_command(case: Case) -> Result<(), Violation> {
    let mut container = case.idle();
    container.config.entrypoint = Some(strings(["/bin/echo", "from", "the entrypoint"]));
    container.config.cmd = strings(["and", "the command"]);
    let (_, output) = case.run(&container).await?;
    equal!(
        output,
        Output::of_stdout("from the entrypoint and the command\n"),
        "what it printed"
    );
    Ok(())
}

async fn labels_keep_every_character(case: Case) -> Result<(), Violation> {
    let odd = [
        ("io.kubernetes.pod.name", "web-0"),
        ("annotation.json", "{\"a\":[1,2],\"b\":\"x\\ny\"}"),
        ("unicode", "żółw 🐢"),
        ("empty", ""),
        ("control", "tab\tnewline\nquote\"backslash\\"),
    ];
    let mut container = case.idle();
    for (key, value) in odd {
        container.config.labels.insert(key, value);
    }
    let id = case.create(&container).await?;
    equal!(
        case.docker().inspect_container(&id).await?.config.labels,
        container.config.labels,
        "the labels"
    );
    Ok(())
}

async fn a_bind_shows_the_host_directory(case: Case) -> Result<(), Violation> {
    // The engine makes the directory; what one container writes there is what the next one reads.
    let directory = format!("/tmp/{}", case.name());
    let mut writer = case.shell("echo written >/data/file");
    writer.host_config.binds = vec![format!("{directory}:/data")];
    let id = case.start(&writer).await?;
    equal!(case.ended(&id).await?, 0, "the writer's exit code");
    let mount = crate::case::only(case.docker().inspect_container(&id).await?.mounts, "mount")?;
    equal!(
        (&mount.kind, mount.source.as_str()),
        (&MountType::Bind, directory.as_str()),
        "the mount"
    );
    equal!(
        (mount.destination.as_str(), mount.rw),
        ("/data", true),
        "the mount"
    );
    let mut reader = case.shell("cat /data/file; rm /data/file");
    reader.host_config.mounts = vec![Mount {
        kind: MountType::Bind,
        source: directory.clone(),
        target: "/data".to_owned(),
        ..Mount::default()
    }];
    let (code, output) = case.run(&reader).await?;
    equal!(
        (code, output),
        (0, Output::of_stdout("written\n")),
        "what the reader found"
    );
    let name = directory.rsplit('/').next().unwrap_or_default();
    let mut remover = case.shell(&format!("rmdir /host/{name}"));
    remover.host_config.binds = strings(["/tmp:/host"]);
    equal!(
        case.run(&remover).await?,
        (0, Output::default()),
        "the removal of the directory"
    );
    Ok(())
}

async fn a_read_only_bind_cannot_be_written(case: Case) -> Result<(), Violation> {
    let volume = case.docker().create_volume(&case.volume()).await?.name;
    for by_mount in [false, true] {
        let mut container = case.shell("echo x >/data/file");
        if by_mount {
            let kind = MountType::Volume;
            let mount = Mount {
                kind,
                source: volume.clone(),
                target: "/data".to_owned(),
                read_only: true,
                ..Mount::default()
            };
            container.host_config.mounts = vec![mount];
        } else {
            container.host_config.binds = vec![format!("{volume}:/data:ro")];
        }
        let id = case.start(&container).await?;
        ensure!(case.ended(&id).await? != 0, "it could be written");
        let error = case.log(&id).await?.stderr;
        ensure!(error.contains("Read-only file system"), "it said {error:?}");
        let mount = crate::case::only(case.docker().inspect_container(&id).await?.mounts, "mount")?;
        ensure!(!mount.rw, "inspect calls it writable");
    }
    Ok(())
}

async fn a_volume_is_shared_between_containers(case: Case) -> Result<(), Violation> {
    let volume = case.docker().create_volume(&case.volume()).await?.name;
    let mut writer = case.shell("echo shared >/data/file");
    writer.host_config.binds = vec![format!("{volume}:/data")];
    let id = case.start(&writer).await?;
    equal!(case.ended(&id).await?, 0, "the writer's exit code");
    let mount = crate::case::only(case.docker().inspect_container(&id).await?.mounts, "mount")?;
    equal!(
        (&mount.kind, mount.name.as_str(), mount.driver.as_str()),
        (&MountType::Volume, volume.as_str(), "local"),
        "the mount"
    );
    let mut reader = case.shell("cat /data/file");
    reader.host_config.volumes_from = vec![format!("{id}:ro")];
    let (_, output) = case.run(&reader).await?;
    equal!(
        output,
        Output::of_stdout("shared\n"),
        "what the reader found"
    );
    Ok(())
}

async fn a_tmpfs_starts_empty(case: Case) -> Result<(), Violation> {
    let mut container = case.shell("ls -a /www /mem; echo x >/mem/file && cat /mem/file");
    container.host_config.tmpfs = [("/www", "size=64k")].into_iter().collect();
    let options = TmpfsOptions {
        size_bytes: 65_536,
        mode: 0o700,
        ..TmpfsOptions::default()
    };
    container.host_config.mounts = vec![Mount {
        kind: MountType::Tmpfs,
        target: "/mem".to_owned(),
        tmpfs_options: Some(options),
        ..Mount::default()
    }];
    let (code, output) = case.run(&container).await?;
    equal!(code, 0, "the exit code with {output:?}");
    ensure!(
        !output.stdout.contains("index.html"),
        "the image's files are there: {:?}",
        output.stdout
    );
    ensure!(
        output.stdout.ends_with("x\n"),
        "it could not be written: {:?}",
        output.stdout
    );
    Ok(())
}

async fn a_read_only_root_cannot_be_written(case: Case) -> Result<(), Violation> {
    let mut container = case.shell("echo x >/tmp/file");
    container.host_config.readonly_rootfs = true;
    let (code, output) = case.run(&container).await?;
    ensure!(code != 0, "it could be written");
    ensure!(
        output.stderr.contains("Read-only file system"),
        "it said {:?}",
        output.stderr
    );
    Ok(())
}

async fn a_user_of_the_image_runs_the_process(case: Case) -> Result<(), Violation> {
    for (user, expected) in [
        ("", "0:0\n"),
        ("nobody", "65534:65534\n"),
        ("1000:2000", "1000:2000\n"),
        ("1000", "1000:0\n"),
    ] {
        let mut container = case.shell("echo $(id -u):$(id -g)");
        container.config.user = user.to_owned();
        let (_, output) = case.run(&container).await?;
        equal!(
            output,
            Output::of_stdout(expected),
            "the ids of user {user:?}"
        );
    }
    Ok(())
}

async fn host_names_are_in_the_hosts_file(case: Case) -> Result<(), Violation> {
    let mut container = case.shell("cat /etc/hosts /etc/hostname");
    container.config.hostname = "host-of-it".to_owned();
    container.host_config.network_mode = "bridge".to_owned();
    container.host_config.extra_hosts = strings(["there:192.0.2.9"]);
    let (_, output) = case.run(&container).await?;
    ensure!(
        output.stdout.contains("192.0.2.9\tthere"),
        "the hosts are {:?}",
        output.stdout
    );
    ensure!(
        output.stdout.contains("\thost-of-it\n"),
        "its own name is missing: {:?}",
        output.stdout
    );
    ensure!(
        output.stdout.ends_with("host-of-it\n"),
        "the name is {:?}",
        output.stdout
    );
    Ok(())
}

async fn annotations_come_back(case: Case) -> Result<(), Violation> {
    let mut container = case.idle();
    container.host_config.annotations = [("example.org/note", "kept")].into_iter().collect();
    if !case.speaks(43).await? {
        return too_old(
            case.docker().create_container(&container).await,
            "HostConfig.Annotations",
        );
    }
    let id = case.create(&container).await?;
    let annotations = case
        .docker()
        .inspect_container(&id)
        .await?
        .host_config
        .annotations;
    equal!(
        annotations,
        container.host_config.annotations,
        "the annotations"
    );
    Ok(())
}

async fn a_part_of_a_volume_can_be_mounted(case: Case) -> Result<(), Violation> {
    let volume = case.docker().create_volume(&case.volume()).await?.name;
    let mut writer = case.shell("mkdir /data/part; echo inside >/data/part/file");
    writer.host_config.binds = vec![format!("{volume}:/data")];
    let id = case.start(&writer).await?;
    equal!(case.ended(&id).await?, 0, "the writer's exit code");
    let mut reader = case.shell("cat /part/file");
    reader.host_config.mounts = vec![Mount {
        kind: MountType::Volume,
        source: volume,
        target: "/part".to_owned(),
        volume_options: Some(VolumeOptions {
            subpath: "part".to_owned(),
            ..VolumeOptions::default()
        }),
        ..Mount::default()
    }];
    if !case.speaks(45).await? {
        return too_old(
            case.docker().create_container(&reader).await,
            "VolumeOptions.Subpath",
        );
    }
    let (_, output) = case.run(&reader).await?;
    equal!(
        output,
        Output::of_stdout("inside\n"),
        "what the reader found"
    );
    Ok(())
}

async fn a_missing_bind_source_is_refused(case: Case) -> Result<(), Violation> {
    let source = format!("/tmp/{}", case.name());
    let mount = Mount {
        kind: MountType::Bind,
        source: source.clone(),
        target: "/data".to_owned(),
        ..Mount::default()
    };
    let mut container = case.idle();
    container.host_config.mounts = vec![mount];
    let error = refused(case.docker().create_container(&container).await, &[400])?;
    ensure!(
        error.message().contains(&source),
        "the path is not named: {error}"
    );
    Ok(())
}

async fn a_container_can_share_anothers_network(case: Case) -> Result<(), Violation> {
    let mut owner = case.idle();
    owner.host_config.network_mode = "bridge".to_owned();
    owner.config.hostname = "owner".to_owned();
    let owner = case.start(&owner).await?;
    let mut guest = case.idle();
    guest.host_config.network_mode = format!("container:{owner}");
    let id = case.start(&guest).await?;
    let inspect = case.docker().inspect_container(&id).await?;
    equal!(
        inspect.host_config.network_mode,
        format!("container:{owner}"),
        "the network mode"
    );
    equal!(
        inspect.network_settings.ip_address(),
        None,
        "an address of its own"
    );
    let (_, output) = case.exec(&id, &case.command("hostname")).await?;
    equal!(output, Output::of_stdout("owner\n"), "its host name");
    // Names and ports belong to the owner of the network.
    guest.name = Some(case.name());
    guest.config.hostname = "guest".to_owned();
    refused(case.docker().create_container(&guest).await, &[400, 409])?;
    Ok(())
}

async fn what_an_engine_is_too_old_for_is_refused_by_name(case: Case) -> Result<(), Violation> {
    type Ask = fn(&mut CreateContainer);
    let asks: [(u16, &str, Ask); 8] = [
        (41, "HostConfig.CgroupnsMode", |container| {
            container.host_config.cgroupns_mode = "private".to_owned()
        }),
        (42, "HostConfig.ConsoleSize", |container| {
            container.host_config.console_size = vec![30, 100]
        }),
        (42, "BindOptions.CreateMountpoint", |container| {
            let options = BindOptions {
                create_mountpoint: true,
                ..BindOptions::default()
            };
            container.host_config.mounts = vec![Mount {
                kind: MountType::Bind,
                source: "/tmp".to_owned(),
                target: "/data".to_owned(),
                bind_options: Some(options),
                ..Mount::default()
            }];
        }),
        (44, "Healthcheck.StartInterval", |container| {
            container.config.healthcheck = Some(HealthConfig {
                test: strings(["CMD", "true"]),
                start_period: 1_000_000_000,
                start_interval: 100_000_000,
                ..HealthConfig::default()
            });
        }),
        (44, "BindOptions.ReadOnlyNonRecursive", |container| {
            let options = BindOptions {
                read_only_non_recursive: true,
                ..BindOptions::default()
            };
            container.host_config.mounts = vec![Mount {
                kind: MountType::Bind,
                source: "/tmp".to_owned(),
                target: "/data".to_owned(),
                read_only: true,
                bind_options: Some(options),
                ..Mount::default()
            }];
        }),
        (44, "MacAddress", |container| {
            container.host_config.network_mode = "bridge".to_owned();
            let endpoint = EndpointSettings {
                mac_address: "02:42:c6:12:34:56".to_owned(),
                ..EndpointSettings::default()
            };
            container.networking_config.endpoints_config = [("bridge".to_owned(), endpoint)].into();
        }),
        (46, "TmpfsOptions.Options", |container| {
            let options = TmpfsOptions {
                options: vec![strings(["noexec"])],
                ..TmpfsOptions::default()
            };
            let mount = Mount {
                kind: MountType::Tmpfs,
                target: "/mem".to_owned(),
                tmpfs_options: Some(options),
                ..Mount::default()
            };
            container.host_config.mounts = vec![mount];
        }),
        (48, "GwPriority", |container| {
            container.host_config.network_mode = "bridge".to_owned();
            let endpoint = EndpointSettings {
                gw_priority: 3,
                ..EndpointSettings::default()
            };
            container.networking_config.endpoints_config = [("bridge".to_owned(), endpoint)].into();
        }),
    ];
    for (minor, what, ask) in asks {
        let mut container = case.idle();
        ask(&mut container);
        let result = case.docker().create_container(&container).await;
        if case.speaks(minor).await? {
            result?;
        } else {
            too_old(result, what)?;
        }
    }
    Ok(())
}

async fn a_container_of_no_command_is_refused(case: Case) -> Result<(), Violation> {
    // An image of files alone says nothing of what to run.
    let image = case.image_name();
    case.import(&image).await?;
    let mut container = case.idle();
    container.config.image = image;
    container.config.cmd = Vec::new();
    refused(case.docker().create_container(&container).await, &[400])?;
    Ok(())
}
