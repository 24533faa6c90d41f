//! Prunes, always of nothing but what the check made.
//!
//! Each has the engine for itself: engines allow one prune at a time, and with the containerd image store a prune of images
//! takes away the leases of pulls, imports and saves under way, which then fail.

use berth_docker::Error;
use berth_docker::api::{ListImages, PruneBuildCacheOptions, Started};
use berth_docker::model::{CreateVolume, Filters};

use crate::Violation;
use crate::case::{Case, until};
use crate::violation::{ensure, equal, refused};

crate::group! {
    "prune"; alone:
    a_prune_of_containers_removes_what_does_not_run,
    a_prune_of_images_removes_nameless_ones,
    a_prune_of_all_images_removes_unused_ones,
    a_prune_of_networks_removes_empty_ones,
    a_prune_of_volumes_removes_what_no_container_uses,
    a_prune_of_build_caches_that_matches_nothing_removes_nothing,
}

/// Prunes, and again if somebody else's prune is under way.
async fn pruned<T, Fut>(prune: impl Fn() -> Fut) -> Result<T, Violation>
where
    Fut: Future<Output = Result<T, Error>>,
{
    until("no other prune is under way", || async {
        match prune().await {
            Err(error) if error.is_conflict() => Ok(None),
            result => Ok(Some(result?)),
        }
    })
    .await
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

async fn a_prune_of_containers_removes_what_does_not_run(case: Case) -> Result<(), Violation> {
    let running = case.running().await?;
    let created = case.create(&case.idle()).await?;
    let ended = case.start(&case.shell("exit 0")).await?;
    case.ended(&ended).await?;
    let own = case.own();
    let docker = case.docker();
    let deleted = pruned(|| docker.prune_containers(&own))
        .await?
        .containers_deleted;
    equal!(
        sorted(deleted),
        sorted(vec![created, ended]),
        "the containers removed"
    );
    equal!(
        docker.start_container(&running).await?,
        Started::Already,
        "the container that runs"
    );
    let deleted = pruned(|| docker.prune_containers(&own))
        .await?
        .containers_deleted;
    equal!(
        deleted,
        Vec::<String>::new(),
        "the containers removed by a second prune"
    );
    Ok(())
}

/// Prunes images and gives the ids of those removed.
async fn prune_images(case: &Case, filters: Filters) -> Result<Vec<String>, Violation> {
    let pruned = pruned(|| case.docker().prune_images(&filters)).await?;
    Ok(pruned
        .images_deleted
        .into_iter()
        .map(|image| image.deleted)
        .filter(|id| !id.is_empty())
        .collect())
}

async fn a_prune_of_images_removes_nameless_ones(case: Case) -> Result<(), Violation> {
    let (first, second) = (case.image_name(), case.image_name());
    let old = case.import(&first).await?;
    let new = case.import(&second).await?;
    case.docker().tag_image(&second, &first).await?;
    let nameless = ListImages {
        filters: case.own().dangling(true),
        ..ListImages::default()
    };
    let nameless = case.docker().list_images(&nameless).await?;
    equal!(
        nameless.iter().map(|image| &image.id).collect::<Vec<_>>(),
        [&old],
        "the nameless images"
    );
    let deleted = prune_images(&case, case.own().dangling(true)).await?;
    ensure!(deleted.contains(&old), "removed were {deleted:?}");
    refused(case.docker().inspect_image(&old).await, &[404])?;
    equal!(
        case.docker().inspect_image(&second).await?.id,
        new,
        "the image with names"
    );
    Ok(())
}

async fn a_prune_of_all_images_removes_unused_ones(case: Case) -> Result<(), Violation> {
    let (used, unused) = (case.image_name(), case.image_name());
    let kept = case.import(&used).await?;
    let gone = case.import(&unused).await?;
    let mut container = case.idle();
    container.config.image = used;
    case.create(&container).await?;
    let deleted = prune_images(&case, case.own().dangling(false)).await?;
    ensure!(deleted.contains(&gone), "removed were {deleted:?}");
    refused(case.docker().inspect_image(&gone).await, &[404])?;
    equal!(
        case.docker().inspect_image(&kept).await?.id,
        kept,
        "the image in use"
    );
    Ok(())
}

async fn a_prune_of_networks_removes_empty_ones(case: Case) -> Result<(), Violation> {
    let docker = case.docker();
    let (used, empty) = (case.network(), case.network());
    let used_id = docker.create_network(&used).await?.id;
    docker.create_network(&empty).await?;
    let mut container = case.idle();
    container.host_config.network_mode = used.name.clone();
    case.start(&container).await?;
    let own = case.own();
    let deleted = pruned(|| docker.prune_networks(&own))
        .await?
        .networks_deleted;
    equal!(deleted, [&*empty.name], "the networks removed");
    equal!(
        docker.inspect_network(&used.name).await?.id,
        used_id,
        "the network in use"
    );
    Ok(())
}

async fn a_prune_of_volumes_removes_what_no_container_uses(case: Case) -> Result<(), Violation> {
    let docker = case.docker();
    let used = docker.create_volume(&case.volume()).await?.name;
    let named = docker.create_volume(&case.volume()).await?.name;
    let anonymous = CreateVolume {
        labels: case.labels(),
        ..CreateVolume::default()
    };
    let anonymous = docker.create_volume(&anonymous).await?.name;
    let mut container = case.idle();
    container.host_config.binds = vec![format!("{used}:/data")];
    case.create(&container).await?;
    let (own, all) = (case.own(), case.own().with("all", "true"));
    let deleted = sorted(pruned(|| docker.prune_volumes(&own)).await?.volumes_deleted);
    if case.speaks(42).await? {
        equal!(deleted, [anonymous], "the volumes removed");
        let deleted = pruned(|| docker.prune_volumes(&all)).await?.volumes_deleted;
        equal!(deleted, [named], "the volumes removed of all");
    } else {
        // Before API 1.42 named ones go too.
        equal!(
            deleted,
            sorted(vec![anonymous, named]),
            "the volumes removed"
        );
    }
    equal!(
        docker.inspect_volume(&used).await?.name,
        used,
        "the volume in use"
    );
    Ok(())
}

async fn a_prune_of_build_caches_that_matches_nothing_removes_nothing(
    case: Case,
) -> Result<(), Violation> {
    let options = PruneBuildCacheOptions {
        all: true,
        filters: Filters::new().id(case.name()),
    };
    let pruned = pruned(|| case.docker().prune_build_cache(&options)).await?;
    equal!(
        pruned.caches_deleted,
        Vec::<String>::new(),
        "the caches removed"
    );
    equal!(pruned.space_reclaimed, 0, "the space given back");
    Ok(())
}
