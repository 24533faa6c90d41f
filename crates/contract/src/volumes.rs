//! Volumes.

use berth_docker::model::{CreateVolume, Filters};

use crate::Violation;
use crate::case::{Case, Output};
use crate::violation::{ensure, equal, refused};

crate::group! {
    "volumes";
    a_created_volume_is_inspected_as_asked,
    a_volume_without_a_name_gets_one,
    creating_it_again_gives_the_same,
    a_bad_name_is_refused,
    a_missing_driver_is_refused,
    a_missing_volume_is_not_found,
    filters_find_volumes,
    an_unknown_filter_is_refused,
    a_volume_in_use_is_not_removed,
    a_removed_volume_is_gone,
    a_volume_keeps_its_files,
}

async fn a_created_volume_is_inspected_as_asked(case: Case) -> Result<(), Violation> {
    let asked = CreateVolume {
        driver: "local".to_owned(),
        driver_opts: [("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")]
            .into_iter()
            .collect(),
        ..case.volume()
    };
    let created = case.docker().create_volume(&asked).await?;
    let volume = case.docker().inspect_volume(&asked.name).await?;
    equal!(created, volume, "what create and inspect say");
    equal!(
        (&volume.name, volume.driver.as_str(), volume.scope.as_str()),
        (&asked.name, "local", "local"),
        "name, driver, scope"
    );
    equal!(
        (&volume.labels, &volume.options),
        (&asked.labels, &asked.driver_opts),
        "labels and options"
    );
    ensure!(
        volume.mountpoint.starts_with('/') && volume.mountpoint.contains(&asked.name),
        "it is at {:?}",
        volume.mountpoint
    );
    ensure!(volume.created_at.is_some(), "it has no time of creation");
    Ok(())
}

async fn a_volume_without_a_name_gets_one(case: Case) -> Result<(), Violation> {
    let asked = CreateVolume {
        labels: case.labels(),
        ..CreateVolume::default()
    };
    let volume = case.docker().create_volume(&asked).await?;
    equal!(volume.name.len(), 64, "the length of the name");
    equal!(volume.driver, "local", "the driver");
    Ok(())
}

async fn creating_it_again_gives_the_same(case: Case) -> Result<(), Violation> {
    let asked = case.volume();
    let first = case.docker().create_volume(&asked).await?;
    let mut other = asked.clone();
    other.labels.insert("colour", "red");
    equal!(
        case.docker().create_volume(&other).await?,
        first,
        "the volume"
    );
    Ok(())
}

async fn a_bad_name_is_refused(case: Case) -> Result<(), Violation> {
    for name in ["no blanks", "with/slash", "-dash"] {
        let volume = CreateVolume {
            name: name.to_owned(),
            ..case.volume()
        };
        refused(case.docker().create_volume(&volume).await, &[400])?;
    }
    Ok(())
}

async fn a_missing_driver_is_refused(case: Case) -> Result<(), Violation> {
    let volume = CreateVolume {
        driver: "no-such-driver".to_owned(),
        ..case.volume()
    };
    let error = refused(case.docker().create_volume(&volume).await, &[400, 404, 500])?;
    ensure!(
        error.message().contains("no-such-driver"),
        "the driver is not named: {error}"
    );
    Ok(())
}

async fn a_missing_volume_is_not_found(case: Case) -> Result<(), Violation> {
    let missing = case.name();
    refused(case.docker().inspect_volume(&missing).await, &[404])?;
    refused(case.docker().remove_volume(&missing, false).await, &[404])?;
    case.docker().remove_volume(&missing, true).await?;
    Ok(())
}

async fn filters_find_volumes(case: Case) -> Result<(), Violation> {
    let docker = case.docker();
    let (mut one, two) = (case.volume(), case.volume());
    one.labels.insert("colour", "red");
    docker.create_volume(&one).await?;
    docker.create_volume(&two).await?;
    let mut container = case.idle();
    container.host_config.binds = vec![format!("{}:/data", one.name)];
    case.create(&container).await?;
    let filters = [
        ("label", case.own(), vec![&one.name, &two.name]),
        ("label", case.own().label("colour=red"), vec![&one.name]),
        ("name", case.own().name(&two.name), vec![&two.name]),
        (
            "driver",
            case.own().with("driver", "local"),
            vec![&one.name, &two.name],
        ),
        ("driver", case.own().with("driver", "other"), vec![]),
        ("dangling", case.own().dangling(true), vec![&two.name]),
        ("dangling", case.own().dangling(false), vec![&one.name]),
    ];
    for (what, filters, expected) in filters {
        let mut found: Vec<_> = docker
            .list_volumes(&filters)
            .await?
            .volumes
            .into_iter()
            .map(|volume| volume.name)
            .collect();
        found.sort();
        equal!(
            found.iter().collect::<Vec<_>>(),
            expected,
            "the volumes by {what}, {filters}"
        );
    }
    Ok(())
}

async fn an_unknown_filter_is_refused(case: Case) -> Result<(), Violation> {
    refused(
        case.docker()
            .list_volumes(&Filters::new().with("colour", "red"))
            .await,
        &[400],
    )?;
    Ok(())
}

async fn a_volume_in_use_is_not_removed(case: Case) -> Result<(), Violation> {
    let name = case.docker().create_volume(&case.volume()).await?.name;
    let mut container = case.idle();
    container.host_config.binds = vec![format!("{name}:/data")];
    let id = case.create(&container).await?;
    let error = refused(case.docker().remove_volume(&name, false).await, &[409])?;
    ensure!(
        error.message().contains(&id),
        "the container that uses it is not named: {error}"
    );
    refused(case.docker().remove_volume(&name, true).await, &[409])?;
    Ok(())
}

async fn a_removed_volume_is_gone(case: Case) -> Result<(), Violation> {
    let name = case.docker().create_volume(&case.volume()).await?.name;
    case.docker().remove_volume(&name, false).await?;
    refused(case.docker().inspect_volume(&name).await, &[404])?;
    Ok(())
}

async fn a_volume_keeps_its_files(case: Case) -> Result<(), Violation> {
    let name = case.docker().create_volume(&case.volume()).await?.name;
    for expected in ["run\n", "run\nrun\n"] {
        let mut container = case.shell("echo run >>/data/runs; cat /data/runs");
        container.host_config.binds = vec![format!("{name}:/data")];
        let (_, output) = case.run(&container).await?;
        equal!(output, Output::of_stdout(expected), "the file");
    }
    // A new volume at a path of the image begins with the image's files.
    let fresh = case.docker().create_volume(&case.volume()).await?.name;
    let mut container = case.shell("ls /www");
    container.host_config.binds = vec![format!("{fresh}:/www")];
    let (_, output) = case.run(&container).await?;
    equal!(
        output,
        Output::of_stdout("index.html\n"),
        "the files of a volume over the image's"
    );
    Ok(())
}
