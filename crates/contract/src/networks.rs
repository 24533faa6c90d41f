//! Networks, and containers in them.

use std::time::{SystemTime, UNIX_EPOCH};

use berth_docker::api::RemoveContainer;
use berth_docker::model::{
    CreateNetwork, EndpointIpamConfig, EndpointSettings, Filters, Ipam, IpamConfig, Network,
};

use crate::Violation;
use crate::case::{Case, strings};
use crate::violation::{ensure, equal, refused, too_old};

crate::group! {
    "networks";
    a_created_network_is_inspected_as_asked,
    a_network_is_found_by_name_and_id,
    a_name_in_use_is_a_conflict,
    a_missing_network_is_not_found,
    the_engines_own_networks_are_there_and_stay,
    filters_find_networks,
    an_unknown_filter_is_refused,
    a_connected_container_has_an_address,
    a_container_begins_in_the_network_it_names,
    an_address_and_a_name_can_be_chosen,
    a_created_container_can_be_connected,
    connecting_twice_is_refused,
    a_disconnected_container_has_no_address,
    disconnecting_what_is_not_connected_is_refused,
    a_network_in_use_is_not_removed,
    a_removed_container_leaves_its_networks,
    a_container_can_begin_in_several_networks,
    the_choice_of_ipv4_needs_a_new_engine,
    a_network_of_a_missing_driver_is_not_found,
}

/// A network of few addresses, which is hardly in use: in the range for benchmarks (RFC 2544).
fn subnet(case: &Case, network: &mut CreateNetwork) -> String {
    let name = case.name();
    let nanos = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .subsec_nanos();
    let seed = name.bytes().fold(nanos, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u32::from(byte))
    });
    let prefix = format!("198.{}.{}", 18 + (seed >> 20) % 2, (seed >> 8) % 256);
    let config = IpamConfig {
        subnet: format!("{prefix}.0/28"),
        gateway: format!("{prefix}.1"),
        ip_range: format!("{prefix}.8/29"),
        ..IpamConfig::default()
    };
    network.ipam = Some(Ipam {
        driver: "default".to_owned(),
        config: vec![config],
        ..Ipam::default()
    });
    prefix
}

async fn made(case: &Case) -> Result<String, Violation> {
    Ok(case.docker().create_network(&case.network()).await?.id)
}

async fn endpoint(
    case: &Case,
    container: &str,
    network: &str,
) -> Result<Option<EndpointSettings>, Violation> {
    let networks = case
        .docker()
        .inspect_container(container)
        .await?
        .network_settings
        .networks;
    Ok(networks
        .into_values()
        .find(|endpoint| endpoint.network_id == network))
}

/// A running container in the default network.
async fn bridged(case: &Case) -> Result<String, Violation> {
    let mut container = case.idle();
    container.host_config.network_mode = "bridge".to_owned();
    case.start(&container).await
}

async fn a_created_network_is_inspected_as_asked(case: Case) -> Result<(), Violation> {
    let mut asked = case.network();
    subnet(&case, &mut asked);
    asked.internal = true;
    asked.attachable = true;
    asked.options = [("com.docker.network.bridge.enable_icc", "false")]
        .into_iter()
        .collect();
    let created = case.docker().create_network(&asked).await?;
    equal!(created.warning, "", "the warning");
    let network = case.docker().inspect_network(&created.id).await?;
    equal!(
        (&network.id, &network.name),
        (&created.id, &asked.name),
        "id and name"
    );
    equal!(
        (network.driver.as_str(), network.scope.as_str()),
        ("bridge", "local"),
        "driver and scope"
    );
    equal!(
        (
            network.internal,
            network.attachable,
            network.ingress,
            network.config_only
        ),
        (true, true, false, false),
        "the flags"
    );
    equal!(network.labels, asked.labels, "the labels");
    equal!(
        network.options.get("com.docker.network.bridge.enable_icc"),
        Some("false"),
        "the option"
    );
    let config = asked.ipam.map(|ipam| ipam.config).unwrap_or_default();
    equal!(network.ipam.config, config, "the addresses");
    equal!(network.containers.len(), 0, "the containers");
    ensure!(network.created.is_some(), "it has no time of creation");
    Ok(())
}

async fn a_network_is_found_by_name_and_id(case: Case) -> Result<(), Violation> {
    let asked = case.network();
    let id = case.docker().create_network(&asked).await?.id;
    equal!(id.len(), 64, "the length of the id");
    for key in [asked.name.as_str(), &id, &id[..12]] {
        equal!(
            case.docker().inspect_network(key).await?.id,
            id,
            "the network that {key} finds"
        );
    }
    Ok(())
}

async fn a_name_in_use_is_a_conflict(case: Case) -> Result<(), Violation> {
    let network = case.network();
    case.docker().create_network(&network).await?;
    refused(case.docker().create_network(&network).await, &[409])?;
    Ok(())
}

async fn a_missing_network_is_not_found(case: Case) -> Result<(), Violation> {
    let docker = case.docker();
    // One that does not run can be "connected" to anything.
    let (missing, container) = (case.name(), bridged(&case).await?);
    refused(docker.inspect_network(&missing).await, &[404])?;
    refused(docker.remove_network(&missing).await, &[404])?;
    refused(
        docker.connect_network(&missing, &container, None).await,
        &[404],
    )?;
    refused(
        docker.disconnect_network(&missing, &container, false).await,
        &[404],
    )?;
    let mut lost = case.idle();
    lost.host_config.network_mode = missing;
    let created = docker.create_container(&lost).await;
    // Some engines look for it at the start only.
    match created {
        Ok(created) => refused(docker.start_container(&created.id).await, &[404])?,
        Err(error) => refused(Err::<(), _>(error), &[404])?,
    };
    Ok(())
}

async fn the_engines_own_networks_are_there_and_stay(case: Case) -> Result<(), Violation> {
    let networks = case
        .docker()
        .list_networks(&Filters::new().kind("builtin"))
        .await?;
    for (name, driver) in [("bridge", "bridge"), ("host", "host"), ("none", "null")] {
        let Some(network) = networks.iter().find(|network| network.name == name) else {
            return Err(Violation::new(format!("there is no network {name}")));
        };
        equal!(
            (network.driver.as_str(), network.scope.as_str()),
            (driver, "local"),
            "the network {name}"
        );
        refused(case.docker().remove_network(name).await, &[403])?;
    }
    Ok(())
}

fn ids(networks: Vec<Network>) -> Vec<String> {
    networks.into_iter().map(|network| network.id).collect()
}

async fn filters_find_networks(case: Case) -> Result<(), Violation> {
    let docker = case.docker();
    let (mut one, two) = (case.network(), case.network());
    one.labels.insert("colour", "red");
    let (first, second) = (
        docker.create_network(&one).await?.id,
        docker.create_network(&two).await?.id,
    );
    let filters = [
        ("name", Filters::new().name(&one.name), vec![&first]),
        ("id", Filters::new().id(&second), vec![&second]),
        ("label", case.own().label("colour=red"), vec![&first]),
        (
            "driver",
            case.own().with("driver", "bridge"),
            vec![&first, &second],
        ),
        ("type", case.own().kind("custom"), vec![&first, &second]),
        ("type", case.own().kind("builtin"), vec![]),
        (
            "scope",
            case.own().with("scope", "local"),
            vec![&first, &second],
        ),
        ("scope", case.own().with("scope", "swarm"), vec![]),
    ];
    for (what, filters, mut expected) in filters {
        let mut found = ids(docker.list_networks(&filters).await?);
        found.sort();
        expected.sort();
        equal!(
            found.iter().collect::<Vec<_>>(),
            expected,
            "the networks by {what}, {filters}"
        );
    }
    let container = bridged(&case).await?;
    docker.connect_network(&first, &container, None).await?;
    let empty = ids(docker.list_networks(&case.own().dangling(true)).await?);
    if case.engine_is(42).await? {
        equal!(empty, [&*second], "the networks that are empty");
        let used = docker.list_networks(&case.own().dangling(false)).await?;
        equal!(ids(used), [&*first], "the networks in use");
    } else {
        // Engine 20.10 (API 1.41) takes all for empty, because it does not look for containers in a list.
        equal!(empty.len(), 2, "the networks that are empty");
    }
    let listed = docker.list_networks(&Filters::new().id(&first)).await?;
    ensure!(
        listed.iter().all(|network| network.containers.is_empty()),
        "a list shows containers"
    );
    Ok(())
}

async fn an_unknown_filter_is_refused(case: Case) -> Result<(), Violation> {
    refused(
        case.docker()
            .list_networks(&Filters::new().with("colour", "red"))
            .await,
        &[400],
    )?;
    Ok(())
}

async fn a_connected_container_has_an_address(case: Case) -> Result<(), Violation> {
    let docker = case.docker();
    let network = case.network();
    let network_id = docker.create_network(&network).await?.id;
    let id = bridged(&case).await?;
    docker.connect_network(&network.name, &id, None).await?;
    let inspect = docker.inspect_container(&id).await?;
    let names: Vec<_> = inspect
        .network_settings
        .networks
        .keys()
        .map(String::as_str)
        .collect();
    equal!(names, ["bridge", &*network.name], "its networks");
    for (name, endpoint) in &inspect.network_settings.networks {
        ensure!(
            endpoint.ip_address.parse::<std::net::Ipv4Addr>().is_ok(),
            "its address in {name} is {endpoint:?}"
        );
        ensure!(
            endpoint.ip_prefix_len > 0 && !endpoint.gateway.is_empty(),
            "its endpoint in {name} is {endpoint:?}"
        );
        ensure!(
            !endpoint.mac_address.is_empty() && !endpoint.endpoint_id.is_empty(),
            "its endpoint in {name} is {endpoint:?}"
        );
    }
    let bridge = &inspect.network_settings.networks["bridge"];
    equal!(
        inspect.network_settings.ip_address(),
        Some(bridge.ip_address.as_str()),
        "its address"
    );
    let endpoint = &inspect.network_settings.networks[&network.name];
    equal!(endpoint.network_id, network_id, "the network's id");
    let containers = docker.inspect_network(&network_id).await?.containers;
    let Some(seen) = containers.get(&id) else {
        return Err(Violation::new(format!("the network has {containers:?}")));
    };
    equal!(seen.name, inspect.bare_name(), "the container's name");
    equal!(
        seen.ipv4_address,
        format!("{}/{}", endpoint.ip_address, endpoint.ip_prefix_len),
        "the container's address"
    );
    Ok(())
}

async fn a_container_begins_in_the_network_it_names(case: Case) -> Result<(), Violation> {
    let network = case.network();
    let network_id = case.docker().create_network(&network).await?.id;
    let mut container = case.idle();
    container.host_config.network_mode = network.name.clone();
    let endpoint = EndpointSettings {
        aliases: strings(["also-this"]),
        ..EndpointSettings::default()
    };
    container.networking_config.endpoints_config = [(network.name.clone(), endpoint)].into();
    let id = case.start(&container).await?;
    let networks = case
        .docker()
        .inspect_container(&id)
        .await?
        .network_settings
        .networks;
    equal!(
        networks.keys().collect::<Vec<_>>(),
        [&network.name],
        "its networks"
    );
    let endpoint = &networks[&network.name];
    equal!(endpoint.network_id, network_id, "the network's id");
    ensure!(
        endpoint.aliases.iter().any(|alias| alias == "also-this"),
        "its other names are {:?}",
        endpoint.aliases
    );
    if case.speaks(44).await? {
        let names = &endpoint.dns_names;
        let own = container.name.unwrap_or_default();
        for name in [own.as_str(), "also-this", &id[..12]] {
            ensure!(
                names.iter().any(|known| known == name),
                "{name} is not one of its DNS names {names:?}"
            );
        }
    }
    Ok(())
}

async fn an_address_and_a_name_can_be_chosen(case: Case) -> Result<(), Violation> {
    let mut network = case.network();
    let prefix = subnet(&case, &mut network);
    let network_id = case.docker().create_network(&network).await?.id;
    let id = bridged(&case).await?;
    let address = format!("{prefix}.5");
    let ipam = EndpointIpamConfig {
        ipv4_address: address.clone(),
        ..EndpointIpamConfig::default()
    };
    let wish = EndpointSettings {
        ipam_config: Some(ipam),
        aliases: strings(["chosen"]),
        ..EndpointSettings::default()
    };
    case.docker()
        .connect_network(&network_id, &id, Some(wish.clone()))
        .await?;
    let Some(endpoint) = endpoint(&case, &id, &network_id).await? else {
        return Err(Violation::new("it is not in the network"));
    };
    equal!(endpoint.ip_address, address, "its address");
    ensure!(
        endpoint.aliases.iter().any(|alias| alias == "chosen"),
        "its other names are {:?}",
        endpoint.aliases
    );
    // The address is taken now.
    let late = bridged(&case).await?;
    refused(
        case.docker()
            .connect_network(&network_id, &late, Some(wish))
            .await,
        &[400, 403, 409, 500],
    )?;
    Ok(())
}

async fn a_created_container_can_be_connected(case: Case) -> Result<(), Violation> {
    let network_id = made(&case).await?;
    let mut container = case.idle();
    container.host_config.network_mode = "bridge".to_owned();
    let id = case.create(&container).await?;
    case.docker()
        .connect_network(&network_id, &id, None)
        .await?;
    case.docker().start_container(&id).await?;
    let address = endpoint(&case, &id, &network_id)
        .await?
        .map(|endpoint| endpoint.ip_address);
    ensure!(
        address.as_ref().is_some_and(|address| !address.is_empty()),
        "its address is {address:?}"
    );
    Ok(())
}

async fn connecting_twice_is_refused(case: Case) -> Result<(), Violation> {
    let network_id = made(&case).await?;
    let id = bridged(&case).await?;
    case.docker()
        .connect_network(&network_id, &id, None)
        .await?;
    refused(
        case.docker().connect_network(&network_id, &id, None).await,
        &[403],
    )?;
    Ok(())
}

async fn a_disconnected_container_has_no_address(case: Case) -> Result<(), Violation> {
    let network_id = made(&case).await?;
    for force in [false, true] {
        let id = bridged(&case).await?;
        case.docker()
            .connect_network(&network_id, &id, None)
            .await?;
        case.docker()
            .disconnect_network(&network_id, &id, force)
            .await?;
        ensure!(
            endpoint(&case, &id, &network_id).await?.is_none(),
            "it is still in the network"
        );
        let containers = case.docker().inspect_network(&network_id).await?.containers;
        ensure!(!containers.contains_key(&id), "the network still has it");
    }
    Ok(())
}

async fn disconnecting_what_is_not_connected_is_refused(case: Case) -> Result<(), Violation> {
    let network_id = made(&case).await?;
    let id = bridged(&case).await?;
    refused(
        case.docker()
            .disconnect_network(&network_id, &id, false)
            .await,
        &[403, 404, 500],
    )?;
    Ok(())
}

async fn a_network_in_use_is_not_removed(case: Case) -> Result<(), Violation> {
    let network_id = made(&case).await?;
    let id = bridged(&case).await?;
    case.docker()
        .connect_network(&network_id, &id, None)
        .await?;
    refused(case.docker().remove_network(&network_id).await, &[403])?;
    case.docker()
        .disconnect_network(&network_id, &id, false)
        .await?;
    case.docker().remove_network(&network_id).await?;
    refused(case.docker().inspect_network(&network_id).await, &[404])?;
    Ok(())
}

async fn a_removed_container_leaves_its_networks(case: Case) -> Result<(), Violation> {
    let network_id = made(&case).await?;
    let id = bridged(&case).await?;
    case.docker()
        .connect_network(&network_id, &id, None)
        .await?;
    case.docker()
        .remove_container(
            &id,
            RemoveContainer {
                force: true,
                ..RemoveContainer::default()
            },
        )
        .await?;
    equal!(
        case.docker()
            .inspect_network(&network_id)
            .await?
            .containers
            .len(),
        0,
        "the containers in the network"
    );
    case.docker().remove_network(&network_id).await?;
    Ok(())
}

async fn a_container_can_begin_in_several_networks(case: Case) -> Result<(), Violation> {
    let network = case.network();
    let network_id = case.docker().create_network(&network).await?.id;
    let mut container = case.idle();
    container.host_config.network_mode = "bridge".to_owned();
    container.networking_config.endpoints_config = [
        ("bridge".to_owned(), EndpointSettings::default()),
        (network.name, EndpointSettings::default()),
    ]
    .into();
    if !case.speaks(44).await? {
        return too_old(
            case.docker().create_container(&container).await,
            "more than one network at creation",
        );
    }
    let id = case.start(&container).await?;
    let address = endpoint(&case, &id, &network_id)
        .await?
        .map(|endpoint| endpoint.ip_address);
    ensure!(
        address.as_ref().is_some_and(|address| !address.is_empty()),
        "its address is {address:?}"
    );
    equal!(
        case.docker()
            .inspect_container(&id)
            .await?
            .network_settings
            .networks
            .len(),
        2,
        "its networks"
    );
    Ok(())
}

async fn the_choice_of_ipv4_needs_a_new_engine(case: Case) -> Result<(), Violation> {
    let mut network = case.network();
    network.enable_ipv4 = Some(true);
    if !case.speaks(48).await? {
        return too_old(case.docker().create_network(&network).await, "EnableIPv4");
    }
    let id = case.docker().create_network(&network).await?.id;
    equal!(
        case.docker().inspect_network(&id).await?.enable_ipv4,
        Some(true),
        "whether it has IPv4"
    );
    Ok(())
}

async fn a_network_of_a_missing_driver_is_not_found(case: Case) -> Result<(), Violation> {
    let mut network = case.network();
    network.driver = "no-such-driver".to_owned();
    refused(case.docker().create_network(&network).await, &[400, 404])?;
    Ok(())
}
