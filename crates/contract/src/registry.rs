//! Images between the engine and a registry.

use std::time::Duration;

use berth_docker::api::RemoveImage;
use berth_docker::auth::Credentials;
use berth_docker::pull::{PullImage, PullProgress};

use crate::Violation;
use crate::case::{Case, within};
use crate::violation::{ensure, equal, refused};

crate::group! {
    "registry";
    a_pull_from_nowhere_is_an_error,
    a_push_to_nowhere_is_an_error,
    a_distribution_of_nowhere_is_an_error,
    a_push_of_a_missing_image_is_an_error,
    ; with a registry:
    what_is_pushed_can_be_pulled,
    a_push_tells_its_digest,
    a_pull_of_what_is_there_changes_nothing,
    a_pull_by_digest_gives_that_image,
    a_pull_of_a_missing_tag_is_not_found,
    a_pull_of_a_missing_repository_is_refused,
    a_pull_can_name_the_platform,
    credentials_that_nobody_asks_for_do_no_harm,
    the_registry_describes_an_image,
    the_registry_describes_no_missing_image,
    a_dropped_pull_leaves_the_engine_well,
}

/// Nobody listens on port 1 of this host.
const NOWHERE: &str = "127.0.0.1:1/berth-contract/image:1";

const BY_FORCE: RemoveImage = RemoveImage {
    force: true,
    prune_children: true,
};

async fn pull(case: &Case, reference: &str) -> Result<PullProgress, Violation> {
    let pull = case
        .docker()
        .pull_image(reference, PullImage::default())
        .await?;
    Ok(within("the end of the pull", pull.wait()).await??)
}

/// The failure that a pull has to meet, be it in the reply or in its stream.
async fn failing(
    case: &Case,
    reference: &str,
    options: PullImage<'_>,
) -> Result<berth_docker::Error, Violation> {
    let pulled = async {
        case.docker()
            .pull_image(reference, options)
            .await?
            .wait()
            .await
    };
    match within("the end of the pull", pulled).await? {
        Ok(progress) => Err(Violation::new(format!(
            "{reference} was pulled: {progress}"
        ))),
        Err(error) if error.is_refused() => Ok(error),
        Err(error) => Err(Violation::new(format!("not the engine's refusal: {error}"))),
    }
}

/// An image that the registry has and the engine has not, and its id.
async fn pushed(case: &Case) -> Result<(String, String), Violation> {
    let name = case.remote_name()?;
    let id = case.import(&name).await?;
    let push = case.docker().push_image(&name, None).await?;
    within("the end of the push", push.wait()).await??;
    case.docker().remove_image(&name, BY_FORCE).await?;
    refused(case.docker().inspect_image(&name).await, &[404])?;
    Ok((name, id))
}

async fn a_pull_from_nowhere_is_an_error(case: Case) -> Result<(), Violation> {
    let options = PullImage {
        stuck_after: Some(Duration::from_secs(30)),
        ..PullImage::default()
    };
    let error = failing(&case, NOWHERE, options).await?;
    ensure!(
        error.to_string().contains("127.0.0.1:1"),
        "the registry is not named: {error}"
    );
    Ok(())
}

async fn a_push_to_nowhere_is_an_error(case: Case) -> Result<(), Violation> {
    let name = format!("127.0.0.1:1/berth-contract/image:{}", case.name());
    case.note_image(&name);
    case.import(&name).await?;
    let push = case.docker().push_image(&name, None).await?;
    // The failure comes within a reply that began well.
    refused(within("the end of the push", push.wait()).await?, &[200])?;
    Ok(())
}

async fn a_distribution_of_nowhere_is_an_error(case: Case) -> Result<(), Violation> {
    let described = within(
        "the answer",
        case.docker().inspect_distribution(NOWHERE, None),
    )
    .await?;
    refused(described, &[400, 403, 404, 500, 503])?;
    Ok(())
}

async fn a_push_of_a_missing_image_is_an_error(case: Case) -> Result<(), Violation> {
    let pushed = async {
        let push = case
            .docker()
            .push_image("127.0.0.1:1/berth-contract/no-such-image:1", None)
            .await?;
        push.wait().await
    };
    refused(within("the end of the push", pushed).await?, &[200, 404])?;
    Ok(())
}

async fn what_is_pushed_can_be_pulled(case: Case) -> Result<(), Violation> {
    let (name, id) = pushed(&case).await?;
    let progress = pull(&case, &name).await?;
    let image = case.docker().inspect_image(&name).await?;
    equal!(image.id, id, "the image");
    let digest = progress
        .digest
        .clone()
        .ok_or_else(|| Violation::new(format!("the pull told no digest: {progress}")))?;
    ensure!(digest.starts_with("sha256:"), "the digest is {digest:?}");
    ensure!(
        image
            .repo_digests
            .iter()
            .any(|known| known.ends_with(&digest)),
        "its digests are {:?}",
        image.repo_digests
    );
    equal!(
        progress.complete(),
        progress.layers.len(),
        "the layers that are there"
    );
    equal!(
        progress.layers.len(),
        image.root_fs.layers.len(),
        "the layers"
    );
    ensure!(
        progress
            .status
            .starts_with("Status: Downloaded newer image for"),
        "the last words are {:?}",
        progress.status
    );
    Ok(())
}

async fn a_push_tells_its_digest(case: Case) -> Result<(), Violation> {
    let name = case.remote_name()?;
    case.import(&name).await?;
    let mut push = case.docker().push_image(&name, None).await?;
    let (mut words, mut aux) = (String::new(), None);
    while let Some(message) = within("progress", push.next()).await? {
        let message = message?;
        if message.status.contains(": digest: ") {
            words = message.status;
        }
        aux = message.aux.filter(|aux| !aux.digest.is_empty()).or(aux);
    }
    let tag = name.rsplit(':').next().unwrap_or_default();
    let descriptor = case
        .docker()
        .inspect_distribution(&name, None)
        .await?
        .descriptor;
    equal!(
        words,
        format!(
            "{tag}: digest: {} size: {}",
            descriptor.digest, descriptor.size
        ),
        "the last words"
    );
    // The containerd image store says it in words only.
    match aux {
        Some(aux) => equal!(
            (aux.tag.as_str(), &aux.digest, aux.size),
            (tag, &descriptor.digest, descriptor.size),
            "the digest"
        ),
        None => ensure!(
            case.has_containerd_store().await?,
            "the push told no digest but in words"
        ),
    }
    Ok(())
}

async fn a_pull_of_what_is_there_changes_nothing(case: Case) -> Result<(), Violation> {
    let (name, id) = pushed(&case).await?;
    pull(&case, &name).await?;
    let progress = pull(&case, &name).await?;
    ensure!(
        progress
            .status
            .starts_with("Status: Image is up to date for"),
        "the last words are {:?}",
        progress.status
    );
    equal!(
        case.docker().inspect_image(&name).await?.id,
        id,
        "the image"
    );
    Ok(())
}

async fn a_pull_by_digest_gives_that_image(case: Case) -> Result<(), Violation> {
    let (name, id) = pushed(&case).await?;
    let digest = case
        .docker()
        .inspect_distribution(&name, None)
        .await?
        .descriptor
        .digest;
    let (repository, _) = name.rsplit_once(':').unwrap_or_default();
    let by_digest = format!("{repository}@{digest}");
    case.note_image(&by_digest);
    pull(&case, &by_digest).await?;
    let image = case.docker().inspect_image(&by_digest).await?;
    equal!(image.id, id, "the image");
    equal!(image.repo_digests, [&*by_digest], "its digests");
    // The containerd image store takes the digest for a name as well.
    ensure!(
        image.repo_tags.iter().all(|tag| *tag == by_digest),
        "its names are {:?}",
        image.repo_tags
    );
    Ok(())
}

async fn a_pull_of_a_missing_tag_is_not_found(case: Case) -> Result<(), Violation> {
    pushed(&case).await?;
    let name = format!("{}/berth-contract/image:absent", case.registry()?);
    let error = failing(&case, &name, PullImage::default()).await?;
    ensure!(error.is_not_found(), "not status 404: {error}");
    Ok(())
}

async fn a_pull_of_a_missing_repository_is_refused(case: Case) -> Result<(), Violation> {
    let name = format!("{}/berth-contract/absent:1", case.registry()?);
    let error = failing(&case, &name, PullImage::default()).await?;
    // A registry may hide whether there is such a repository.
    ensure!(
        error.is_not_found() || error.is_unauthorized(),
        "not status 404 or 401: {error}"
    );
    Ok(())
}

async fn a_pull_can_name_the_platform(case: Case) -> Result<(), Violation> {
    let (name, id) = pushed(&case).await?;
    let platform = format!("linux/{}", case.docker().version().await?.arch);
    let options = PullImage {
        platform: Some(&platform),
        ..PullImage::default()
    };
    let pull = case.docker().pull_image(&name, options).await?;
    within("the end of the pull", pull.wait()).await??;
    equal!(
        case.docker().inspect_image(&name).await?.id,
        id,
        "the image"
    );
    Ok(())
}

async fn credentials_that_nobody_asks_for_do_no_harm(case: Case) -> Result<(), Violation> {
    let credentials = Credentials::password("someone", "a secret").for_server(case.registry()?);
    let name = case.remote_name()?;
    let id = case.import(&name).await?;
    let push = case.docker().push_image(&name, Some(&credentials)).await?;
    within("the end of the push", push.wait()).await??;
    case.docker().remove_image(&name, BY_FORCE).await?;
    let options = PullImage {
        credentials: Some(&credentials),
        ..PullImage::default()
    };
    let pull = case.docker().pull_image(&name, options).await?;
    within("the end of the pull", pull.wait()).await??;
    equal!(
        case.docker().inspect_image(&name).await?.id,
        id,
        "the image"
    );
    case.docker()
        .inspect_distribution(&name, Some(&credentials))
        .await?;
    Ok(())
}

async fn the_registry_describes_an_image(case: Case) -> Result<(), Violation> {
    let (name, _) = pushed(&case).await?;
    let described = case.docker().inspect_distribution(&name, None).await?;
    let descriptor = described.descriptor;
    ensure!(
        descriptor.digest.starts_with("sha256:") && descriptor.size > 0,
        "it says {descriptor:?}"
    );
    ensure!(
        descriptor.media_type.contains("manifest") || descriptor.media_type.contains("index"),
        "it says {descriptor:?}"
    );
    let architecture = case.docker().version().await?.arch;
    let platforms: Vec<_> = described
        .platforms
        .iter()
        .map(|p| (p.os.as_str(), p.architecture.as_str()))
        .collect();
    // Not told of the manifests (OCI's) that the containerd image store pushes.
    if !(platforms.is_empty() && case.has_containerd_store().await?) {
        equal!(
            platforms,
            [("linux", architecture.as_str())],
            "the platforms"
        );
    }
    refused(case.docker().inspect_image(&name).await, &[404])?;
    Ok(())
}

async fn the_registry_describes_no_missing_image(case: Case) -> Result<(), Violation> {
    let name = format!("{}/berth-contract/image:absent", case.registry()?);
    refused(
        case.docker().inspect_distribution(&name, None).await,
        &[401, 403, 404],
    )?;
    Ok(())
}

async fn a_dropped_pull_leaves_the_engine_well(case: Case) -> Result<(), Violation> {
    let (name, id) = pushed(&case).await?;
    drop(
        case.docker()
            .pull_image(&name, PullImage::default())
            .await?,
    );
    pull(&case, &name).await?;
    equal!(
        case.docker().inspect_image(&name).await?.id,
        id,
        "the image"
    );
    Ok(())
}
