//! Lists of containers, and their filters.

use berth_docker::api::ListContainers;
use berth_docker::model::{
    ContainerStatus, ContainerSummary, Filters, HealthConfig, KeySet, PortBinding, PortProtocol,
};

use crate::Violation;
use crate::case::{Case, only, strings, until};
use crate::violation::{ensure, equal, refused};

crate::group! {
    "list";
    only_running_containers_are_listed_unless_all_are_asked_for,
    a_row_tells_what_inspect_tells,
    the_newest_come_first,
    a_limit_gives_the_newest_of_all_states,
    since_and_before_are_relative_to_a_container,
    a_missing_container_to_be_relative_to_is_not_found,
    sizes_come_only_when_asked_for,
    filters_of_one_key_are_alternatives_and_labels_add_up,
    filter_by_name_and_id,
    filter_by_status,
    filter_by_exit_code,
    filter_by_image,
    filter_by_network,
    filter_by_volume,
    filter_by_port,
    filter_by_health,
    an_unknown_filter_is_refused,
    published_and_exposed_ports_are_listed,
}

/// The own containers that match, by id.
async fn matching(
    case: &Case,
    add: impl FnOnce(Filters) -> Filters,
) -> Result<Vec<String>, Violation> {
    let options = ListContainers {
        all: true,
        filters: add(case.own()),
        ..ListContainers::default()
    };
    Ok(ids(case.docker().list_containers(&options).await?))
}

fn ids(rows: Vec<ContainerSummary>) -> Vec<String> {
    rows.into_iter().map(|row| row.id).collect()
}

async fn only_running_containers_are_listed_unless_all_are_asked_for(
    case: Case,
) -> Result<(), Violation> {
    let created = case.create(&case.idle()).await?;
    let ended = case.start(&case.shell("exit 0")).await?;
    case.ended(&ended).await?;
    let paused = case.running().await?;
    case.docker().pause_container(&paused).await?;
    let running = case.running().await?;
    let mut options = ListContainers {
        filters: case.own(),
        ..ListContainers::default()
    };
    equal!(
        ids(case.docker().list_containers(&options).await?),
        [&*running, &*paused],
        "the running ones"
    );
    options.all = true;
    equal!(
        ids(case.docker().list_containers(&options).await?),
        [running, paused, ended, created],
        "all"
    );
    Ok(())
}

async fn a_row_tells_what_inspect_tells(case: Case) -> Result<(), Violation> {
    let container = case.idle();
    let id = case.start(&container).await?;
    let options = ListContainers {
        filters: case.own(),
        ..ListContainers::default()
    };
    let row = only(case.docker().list_containers(&options).await?, "container")?;
    let inspect = case.docker().inspect_container(&id).await?;
    equal!(row.id, inspect.id, "the id");
    equal!(row.names, [inspect.name.as_str()], "the names");
    equal!(row.image, container.config.image, "the image");
    equal!(row.image_id, inspect.image, "the id of the image");
    equal!(row.labels, inspect.config.labels, "the labels");
    equal!(row.labels, case.labels(), "the labels");
    equal!(row.state, ContainerStatus::Running, "the state");
    ensure!(
        row.status.starts_with("Up "),
        "the state in words is {:?}",
        row.status
    );
    equal!(row.command, "/bin/sh -c 'exec sleep 600'", "the command");
    let seconds =
        |time: Option<berth_docker::model::Timestamp>| time.map(|time| time.unix_seconds());
    equal!(
        seconds(row.created),
        seconds(inspect.created),
        "when it was created"
    );
    Ok(())
}

async fn three(case: &Case) -> Result<[String; 3], Violation> {
    let first = case.create(&case.idle()).await?;
    let second = case.running().await?;
    let third = case.create(&case.idle()).await?;
    Ok([first, second, third])
}

async fn the_newest_come_first(case: Case) -> Result<(), Violation> {
    let [first, second, third] = three(&case).await?;
    equal!(
        matching(&case, |filters| filters).await?,
        [third, second, first],
        "the order"
    );
    Ok(())
}

async fn a_limit_gives_the_newest_of_all_states(case: Case) -> Result<(), Violation> {
    let [_, second, third] = three(&case).await?;
    let options = ListContainers {
        limit: Some(2),
        filters: case.own(),
        ..ListContainers::default()
    };
    equal!(
        ids(case.docker().list_containers(&options).await?),
        [third, second],
        "the two newest"
    );
    Ok(())
}

async fn since_and_before_are_relative_to_a_container(case: Case) -> Result<(), Violation> {
    let [first, second, third] = three(&case).await?;
    let name = case
        .docker()
        .inspect_container(&second)
        .await?
        .bare_name()
        .to_owned();
    let own = ListContainers {
        all: true,
        filters: case.own(),
        ..ListContainers::default()
    };
    let since = ListContainers {
        since: Some(name),
        ..own.clone()
    };
    equal!(
        ids(case.docker().list_containers(&since).await?),
        [&*third],
        "those since the second"
    );
    let before = ListContainers {
        before: Some(second.clone()),
        ..own.clone()
    };
    equal!(
        ids(case.docker().list_containers(&before).await?),
        [&*first],
        "those before the second"
    );
    let between = ListContainers {
        since: Some(first),
        before: Some(third),
        ..own
    };
    equal!(
        ids(case.docker().list_containers(&between).await?),
        [second],
        "those in between"
    );
    Ok(())
}

async fn a_missing_container_to_be_relative_to_is_not_found(case: Case) -> Result<(), Violation> {
    // Engine 20.10 (API 1.41) calls it an error of its own.
    let statuses: &[u16] = if case.engine_is(42).await? {
        &[404]
    } else {
        &[500]
    };
    let options = ListContainers {
        since: Some(case.name()),
        ..ListContainers::default()
    };
    refused(case.docker().list_containers(&options).await, statuses)?;
    let options = ListContainers {
        before: Some(case.name()),
        ..ListContainers::default()
    };
    refused(case.docker().list_containers(&options).await, statuses)?;
    Ok(())
}

async fn sizes_come_only_when_asked_for(case: Case) -> Result<(), Violation> {
    let id = case
        .start(&case.shell("head -c 50000 /dev/zero >/tmp/big"))
        .await?;
    case.ended(&id).await?;
    let mut options = ListContainers {
        all: true,
        filters: case.own(),
        ..ListContainers::default()
    };
    let row = only(case.docker().list_containers(&options).await?, "container")?;
    equal!(
        (row.size_rw, row.size_root_fs),
        (None, None),
        "the sizes that were not asked for"
    );
    options.size = true;
    let row = only(case.docker().list_containers(&options).await?, "container")?;
    ensure!(
        row.size_rw >= Some(50_000),
        "the size of what was written is {:?}",
        row.size_rw
    );
    ensure!(
        row.size_root_fs > row.size_rw,
        "the size of everything is {:?}",
        row.size_root_fs
    );
    Ok(())
}

async fn filters_of_one_key_are_alternatives_and_labels_add_up(
    case: Case,
) -> Result<(), Violation> {
    let mut labelled = Vec::new();
    for (colour, size) in [("red", "big"), ("red", "small"), ("blue", "big")] {
        let mut container = case.idle();
        container.config.labels.insert("colour", colour);
        container.config.labels.insert("size", size);
        labelled.push(case.create(&container).await?);
    }
    let both = matching(&case, |filters| {
        filters.label("colour=red").label("size=big")
    })
    .await?;
    equal!(both, [&*labelled[0]], "those with both labels");
    let key = matching(&case, |filters| filters.label("colour")).await?;
    equal!(key.len(), 3, "the number of those with the key");
    let none = matching(&case, |filters| filters.label("colour=green")).await?;
    equal!(none, Vec::<String>::new(), "those of no such value");
    let ids = matching(&case, |filters| filters.id(&labelled[0]).id(&labelled[2])).await?;
    equal!(ids, [&*labelled[2], &*labelled[0]], "those of either id");
    Ok(())
}

async fn filter_by_name_and_id(case: Case) -> Result<(), Violation> {
    let container = case.idle();
    let name = container.name.clone().unwrap_or_default();
    let id = case.create(&container).await?;
    let mut longer = case.idle();
    longer.name = Some(format!("{name}-longer"));
    let longer = case.create(&longer).await?;
    // A name is a regular expression that may match anywhere.
    equal!(
        matching(&case, |filters| filters.name(&name)).await?,
        [&*longer, &*id],
        "those whose name has it"
    );
    equal!(
        matching(&case, |filters| filters.name(format!("^/{name}$"))).await?,
        [&*id],
        "the one of exactly that name"
    );
    equal!(
        matching(&case, |filters| filters.id(&id[..20])).await?,
        [&*id],
        "the one whose id begins so"
    );
    Ok(())
}

async fn filter_by_status(case: Case) -> Result<(), Violation> {
    let created = case.create(&case.idle()).await?;
    let running = case.running().await?;
    let paused = case.running().await?;
    case.docker().pause_container(&paused).await?;
    let exited = case.start(&case.shell("exit 0")).await?;
    case.ended(&exited).await?;
    for (status, id) in [
        ("created", &created),
        ("running", &running),
        ("paused", &paused),
        ("exited", &exited),
    ] {
        equal!(
            matching(&case, |filters| filters.status(status)).await?,
            [id.as_str()],
            "those that are {status}"
        );
    }
    let two = matching(&case, |filters| filters.status("created").status("exited")).await?;
    equal!(two, [exited, created], "those that are either");
    let options = ListContainers {
        filters: Filters::new().status("asleep"),
        ..ListContainers::default()
    };
    refused(case.docker().list_containers(&options).await, &[400, 500])?;
    Ok(())
}

async fn filter_by_exit_code(case: Case) -> Result<(), Violation> {
    let zero = case.start(&case.shell("exit 0")).await?;
    let three = case.start(&case.shell("exit 3")).await?;
    case.ended(&zero).await?;
    case.ended(&three).await?;
    equal!(
        matching(&case, |filters| filters.with("exited", "3")).await?,
        [three],
        "those that ended with 3"
    );
    equal!(
        matching(&case, |filters| filters.with("exited", "0")).await?,
        [zero],
        "those that ended with 0"
    );
    Ok(())
}

async fn filter_by_image(case: Case) -> Result<(), Violation> {
    let image = case.image_name();
    case.docker().tag_image(case.image(), &image).await?;
    let mut container = case.idle();
    container.config.image = image.clone();
    let tagged = case.create(&container).await?;
    let plain = case.create(&case.idle()).await?;
    // An image is its id: all of its names find all of its containers.
    equal!(
        matching(&case, |filters| filters.ancestor(&image)).await?,
        [&*plain, &*tagged],
        "those of the name"
    );
    let none = matching(&case, |filters| {
        filters.ancestor("berth.local/contract-no-such-image:1")
    })
    .await?;
    equal!(
        none,
        Vec::<String>::new(),
        "those of an image that is not there"
    );
    Ok(())
}

async fn filter_by_network(case: Case) -> Result<(), Violation> {
    let none = case.create(&case.idle()).await?;
    let mut bridged = case.idle();
    bridged.host_config.network_mode = "bridge".to_owned();
    let bridged = case.start(&bridged).await?;
    equal!(
        matching(&case, |filters| filters.network("bridge")).await?,
        [bridged],
        "those of the bridge"
    );
    equal!(
        matching(&case, |filters| filters.network("none")).await?,
        [none],
        "those of no network"
    );
    Ok(())
}

async fn filter_by_volume(case: Case) -> Result<(), Violation> {
    let volume = case.docker().create_volume(&case.volume()).await?.name;
    let mut container = case.idle();
    container.host_config.binds = vec![format!("{volume}:/data")];
    let id = case.create(&container).await?;
    case.create(&case.idle()).await?;
    equal!(
        matching(&case, |filters| filters.with("volume", &volume)).await?,
        [&*id],
        "those with the volume"
    );
    equal!(
        matching(&case, |filters| filters.with("volume", "/data")).await?,
        [id],
        "those with a mount there"
    );
    Ok(())
}

fn published(case: &Case) -> berth_docker::model::CreateContainer {
    let mut container = case.idle();
    container.host_config.network_mode = "bridge".to_owned();
    container.config.exposed_ports = KeySet::from(["80/tcp", "53/udp"]);
    let free = PortBinding {
        host_ip: "127.0.0.1".to_owned(),
        host_port: String::new(),
    };
    container.host_config.port_bindings = [("80/tcp".to_owned(), vec![free])].into();
    container
}

async fn filter_by_port(case: Case) -> Result<(), Violation> {
    let id = case.start(&published(&case)).await?;
    case.create(&case.idle()).await?;
    equal!(
        matching(&case, |filters| filters.with("expose", "53/udp")).await?,
        [&*id],
        "those that expose the port"
    );
    // What is published is the host's port.
    let ports = case
        .docker()
        .inspect_container(&id)
        .await?
        .network_settings
        .ports;
    let binding = only(ports.get("80/tcp").cloned().unwrap_or_default(), "binding")?;
    equal!(
        matching(&case, |filters| filters.with("publish", &binding.host_port)).await?,
        [&*id],
        "those that publish the port"
    );
    let none = matching(&case, |filters| filters.with("publish", "53/udp")).await?;
    equal!(
        none,
        Vec::<String>::new(),
        "those that publish the exposed port"
    );
    Ok(())
}

async fn filter_by_health(case: Case) -> Result<(), Violation> {
    let mut healthy = case.idle();
    healthy.config.healthcheck = Some(HealthConfig {
        test: strings(["CMD", "true"]),
        interval: 100_000_000,
        ..HealthConfig::default()
    });
    let healthy = case.start(&healthy).await?;
    let plain = case.running().await?;
    until("it is listed as healthy", || async {
        Ok(
            (matching(&case, |filters| filters.with("health", "healthy")).await? == [&*healthy])
                .then_some(()),
        )
    })
    .await?;
    equal!(
        matching(&case, |filters| filters.with("health", "none")).await?,
        [plain],
        "those without a health check"
    );
    Ok(())
}

async fn an_unknown_filter_is_refused(case: Case) -> Result<(), Violation> {
    let options = ListContainers {
        filters: Filters::new().with("colour", "red"),
        ..ListContainers::default()
    };
    refused(case.docker().list_containers(&options).await, &[400])?;
    Ok(())
}

async fn published_and_exposed_ports_are_listed(case: Case) -> Result<(), Violation> {
    let id = case.start(&published(&case)).await?;
    let options = ListContainers {
        filters: case.own(),
        ..ListContainers::default()
    };
    let row = only(case.docker().list_containers(&options).await?, "container")?;
    let port = |private: u16| {
        row.ports
            .iter()
            .filter(move |port| port.private_port == private)
    };
    let [web] = port(80).collect::<Vec<_>>()[..] else {
        return Err(Violation::new(format!(
            "port 80 is not there once: {:?}",
            row.ports
        )));
    };
    equal!(
        (web.ip.as_str(), &web.protocol),
        ("127.0.0.1", &PortProtocol::Tcp),
        "where port 80 is published"
    );
    let settings = case.docker().inspect_container(&id).await?.network_settings;
    let binding = only(
        settings.ports.get("80/tcp").cloned().unwrap_or_default(),
        "binding",
    )?;
    equal!(
        binding.host_port,
        web.public_port.to_string(),
        "the host port of inspect"
    );
    let [names] = port(53).collect::<Vec<_>>()[..] else {
        return Err(Violation::new(format!(
            "port 53 is not there once: {:?}",
            row.ports
        )));
    };
    equal!(
        (names.public_port, &names.protocol),
        (0, &PortProtocol::Udp),
        "the exposed port"
    );
    equal!(
        settings.ports.get("53/udp").map(Vec::len),
        Some(0),
        "the bindings of the exposed port"
    );
    Ok(())
}
