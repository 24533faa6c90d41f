//! Images of the engine, without a registry.

use berth_docker::Body;
use berth_docker::api::{ImportImage, ListImages, RemoveImage};
use berth_docker::model::{Filters, ImageSummary};
use bytes::Bytes;

use crate::Violation;
use crate::case::{Case, Output, strings, tarball, until, within};
use crate::violation::{ensure, equal, refused, too_old};

crate::group! {
    "images";
    an_image_is_found_by_name_and_id_and_its_beginning,
    an_image_tells_its_configuration,
    a_missing_image_is_not_found,
    a_name_without_a_tag_is_latest,
    a_tag_is_another_name,
    a_tag_moves_from_image_to_image,
    a_bad_name_cannot_be_given,
    the_last_name_takes_the_image_along,
    an_image_of_several_names_is_not_removed_by_id,
    an_image_in_use_is_not_removed,
    a_list_has_each_image_once,
    filter_by_reference,
    filter_by_label,
    filter_by_before_and_since,
    the_shared_size_comes_when_asked_for,
    an_unknown_filter_is_refused,
    history_begins_with_the_newest_step,
    an_imported_image_runs,
    an_import_that_breaks_is_an_error,
    a_saved_image_can_be_loaded,
    several_images_are_saved_together,
    a_load_of_nonsense_is_an_error,
}

const BY_FORCE: RemoveImage = RemoveImage {
    force: true,
    prune_children: true,
};

async fn an_image_is_found_by_name_and_id_and_its_beginning(case: Case) -> Result<(), Violation> {
    let docker = case.docker();
    let id = docker.inspect_image(case.image()).await?.id;
    ensure!(
        id.starts_with("sha256:") && id.len() == 71,
        "the id is {id:?}"
    );
    let hex = &id["sha256:".len()..];
    for key in [id.as_str(), hex, &hex[..12]] {
        equal!(
            docker.inspect_image(key).await?.id,
            id,
            "the image that {key} finds"
        );
    }
    Ok(())
}

async fn an_image_tells_its_configuration(case: Case) -> Result<(), Violation> {
    let image = case.docker().inspect_image(case.image()).await?;
    let version = case.docker().version().await?;
    equal!(
        (image.os.as_str(), &image.architecture),
        ("linux", &version.arch),
        "the platform"
    );
    ensure!(
        image.repo_tags.iter().any(|tag| tag == case.image()),
        "its names are {:?}",
        image.repo_tags
    );
    ensure!(image.size > 0, "its size is {}", image.size);
    ensure!(
        image
            .config
            .env
            .iter()
            .any(|entry| entry.starts_with("PATH=")),
        "its environment is {:?}",
        image.config.env
    );
    equal!(image.root_fs.kind, "layers", "the kind of its files");
    ensure!(!image.root_fs.layers.is_empty(), "it has no layers");
    ensure!(image.created.is_some(), "it has no time of creation");
    Ok(())
}

async fn a_missing_image_is_not_found(case: Case) -> Result<(), Violation> {
    let docker = case.docker();
    let missing = "berth.local/contract-no-such-image:1";
    refused(docker.inspect_image(missing).await, &[404])?;
    refused(docker.image_history(missing).await, &[404])?;
    refused(
        docker.remove_image(missing, RemoveImage::default()).await,
        &[404],
    )?;
    refused(docker.tag_image(missing, &case.image_name()).await, &[404])?;
    Ok(())
}

async fn a_name_without_a_tag_is_latest(case: Case) -> Result<(), Violation> {
    let name = format!("berth.local/{}", case.name());
    case.note_image(&format!("{name}:latest"));
    case.docker().tag_image(case.image(), &name).await?;
    let image = case.docker().inspect_image(&name).await?;
    ensure!(
        image.repo_tags.contains(&format!("{name}:latest")),
        "its names are {:?}",
        image.repo_tags
    );
    Ok(())
}

async fn a_tag_is_another_name(case: Case) -> Result<(), Violation> {
    let (first, second) = (case.image_name(), case.image_name());
    let id = case.import(&first).await?;
    case.docker().tag_image(&first, &second).await?;
    let image = case.docker().inspect_image(&second).await?;
    equal!(image.id, id, "the image of the new name");
    let mut names = image.repo_tags;
    names.sort();
    equal!(names, [&*first, &*second], "its names");
    let removed = case
        .docker()
        .remove_image(&second, RemoveImage::default())
        .await?;
    equal!(removed.len(), 1, "what was removed");
    equal!(
        (removed[0].untagged.as_str(), removed[0].deleted.as_str()),
        (second.as_str(), ""),
        "what was removed"
    );
    equal!(
        case.docker().inspect_image(&first).await?.id,
        id,
        "the image of the name that stays"
    );
    refused(case.docker().inspect_image(&second).await, &[404])?;
    Ok(())
}

async fn a_tag_moves_from_image_to_image(case: Case) -> Result<(), Violation> {
    let (first, second) = (case.image_name(), case.image_name());
    let old = case.import(&first).await?;
    let new = case.import(&second).await?;
    case.docker().tag_image(&second, &first).await?;
    equal!(
        case.docker().inspect_image(&first).await?.id,
        new,
        "the image of the moved name"
    );
    equal!(
        case.docker().inspect_image(&old).await?.repo_tags,
        Vec::<String>::new(),
        "the names of the old image"
    );
    Ok(())
}

async fn a_bad_name_cannot_be_given(case: Case) -> Result<(), Violation> {
    // Engine 20.10 (API 1.41) calls it an error of its own.
    let statuses: &[u16] = if case.engine_is(42).await? {
        &[400]
    } else {
        &[500]
    };
    for name in [
        "berth.local/UPPER:1",
        "berth.local/x:bad tag",
        "berth.local//x:1",
    ] {
        refused(case.docker().tag_image(case.image(), name).await, statuses)?;
    }
    Ok(())
}

async fn the_last_name_takes_the_image_along(case: Case) -> Result<(), Violation> {
    let name = case.image_name();
    let id = case.import(&name).await?;
    let removed = case
        .docker()
        .remove_image(
            &name,
            RemoveImage {
                force: false,
                prune_children: true,
            },
        )
        .await?;
    ensure!(
        removed.iter().any(|item| item.untagged == name),
        "the name is not told: {removed:?}"
    );
    ensure!(
        removed.iter().any(|item| item.deleted == id),
        "the image is not told: {removed:?}"
    );
    refused(case.docker().inspect_image(&id).await, &[404])?;
    Ok(())
}

async fn an_image_of_several_names_is_not_removed_by_id(case: Case) -> Result<(), Violation> {
    let (first, second) = (case.image_name(), format!("berth.local/{}:2", case.name()));
    case.note_image(&second);
    let id = case.import(&first).await?;
    case.docker().tag_image(&first, &second).await?;
    refused(
        case.docker()
            .remove_image(&id, RemoveImage::default())
            .await,
        &[409],
    )?;
    case.docker().remove_image(&id, BY_FORCE).await?;
    refused(case.docker().inspect_image(&id).await, &[404])?;
    Ok(())
}

async fn an_image_in_use_is_not_removed(case: Case) -> Result<(), Violation> {
    let name = case.image_name();
    let id = case.import(&name).await?;
    let mut container = case.idle();
    container.config.image = name.clone();
    case.create(&container).await?;
    let error = refused(
        case.docker()
            .remove_image(&name, RemoveImage::default())
            .await,
        &[409],
    )?;
    ensure!(error.is_conflict(), "{error} is no conflict");
    equal!(
        case.docker().inspect_image(&name).await?.id,
        id,
        "the image"
    );
    Ok(())
}

/// The images that match, sorted by id.
async fn matching(case: &Case, filters: Filters) -> Result<Vec<ImageSummary>, Violation> {
    let options = ListImages {
        filters,
        ..ListImages::default()
    };
    let mut images = case.docker().list_images(&options).await?;
    images.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(images)
}

fn sorted<const N: usize>(mut ids: [&str; N]) -> [&str; N] {
    ids.sort_unstable();
    ids
}

fn ids(images: &[ImageSummary]) -> Vec<&str> {
    images.iter().map(|image| image.id.as_str()).collect()
}

async fn a_list_has_each_image_once(case: Case) -> Result<(), Violation> {
    let (first, second) = (case.image_name(), case.image_name());
    let id = case.import(&first).await?;
    case.docker().tag_image(&first, &second).await?;
    for all in [false, true] {
        let images = case
            .docker()
            .list_images(&ListImages {
                all,
                ..ListImages::default()
            })
            .await?;
        let rows: Vec<_> = images.iter().filter(|image| image.id == id).collect();
        equal!(rows.len(), 1, "the rows of the image");
        let mut names = rows[0].repo_tags.clone();
        names.sort();
        equal!(names, [&*first, &*second], "its names");
        ensure!(
            rows[0].size > 0 && rows[0].created.is_some(),
            "its row is {:?}",
            rows[0]
        );
        equal!(rows[0].labels, case.labels(), "its labels");
    }
    Ok(())
}

async fn filter_by_reference(case: Case) -> Result<(), Violation> {
    let (first, second) = (case.image_name(), case.image_name());
    let (one, two) = (case.import(&first).await?, case.import(&second).await?);
    equal!(
        ids(&matching(&case, Filters::new().reference(&first)).await?),
        [&*one],
        "the one of the name"
    );
    let pattern = format!("{}*:1", first.trim_end_matches("0:1"));
    equal!(
        ids(&matching(&case, Filters::new().reference(pattern)).await?),
        sorted([&one, &two]),
        "those of the pattern"
    );
    let none = matching(
        &case,
        Filters::new().reference("berth.local/contract-no-such-image"),
    )
    .await?;
    equal!(
        ids(&none),
        Vec::<&str>::new(),
        "those of a name that is not there"
    );
    Ok(())
}

async fn filter_by_label(case: Case) -> Result<(), Violation> {
    let one = case.import(&case.image_name()).await?;
    let two = case.import(&case.image_name()).await?;
    equal!(
        ids(&matching(&case, case.own()).await?),
        sorted([&one, &two]),
        "those of the label"
    );
    Ok(())
}

async fn filter_by_before_and_since(case: Case) -> Result<(), Violation> {
    let (first, second) = (case.image_name(), case.image_name());
    let one = case.import(&first).await?;
    // Images are dated to the second by some engines.
    let made = case
        .docker()
        .inspect_image(&one)
        .await?
        .created
        .map(|time| time.unix_seconds());
    until("a second has passed", || async {
        Ok((Some(case.engine_time().await?.unix_seconds()) > made).then_some(()))
    })
    .await?;
    let two = case.import(&second).await?;
    equal!(
        ids(&matching(&case, case.own().with("before", &second)).await?),
        [&*one],
        "those before the second"
    );
    equal!(
        ids(&matching(&case, case.own().with("since", &first)).await?),
        [&*two],
        "those since the first"
    );
    Ok(())
}

async fn the_shared_size_comes_when_asked_for(case: Case) -> Result<(), Violation> {
    let id = case.import(&case.image_name()).await?;
    let options = ListImages {
        shared_size: true,
        filters: case.own(),
        ..ListImages::default()
    };
    if !case.speaks(42).await? {
        return too_old(
            case.docker().list_images(&options).await,
            "the shared size of images",
        );
    }
    let images = case.docker().list_images(&options).await?;
    let image = crate::case::only(images, "image")?;
    equal!(
        (image.id.as_str(), image.shared_size),
        (id.as_str(), 0),
        "the shared size"
    );
    Ok(())
}

async fn an_unknown_filter_is_refused(case: Case) -> Result<(), Violation> {
    refused(
        matching_raw(&case, Filters::new().with("colour", "red")).await,
        &[400],
    )?;
    Ok(())
}

async fn matching_raw(
    case: &Case,
    filters: Filters,
) -> Result<Vec<ImageSummary>, berth_docker::Error> {
    case.docker()
        .list_images(&ListImages {
            filters,
            ..ListImages::default()
        })
        .await
}

async fn history_begins_with_the_newest_step(case: Case) -> Result<(), Violation> {
    let name = case.image_name();
    let files = tarball(&[("mark", name.as_bytes())])?;
    let changes = case
        .labels()
        .iter()
        .map(|(key, value)| format!("LABEL {key}={value}"))
        .collect();
    let options = ImportImage {
        reference: name.clone(),
        message: "made by hand".to_owned(),
        changes,
        ..ImportImage::default()
    };
    case.docker()
        .import_image(Body::Bytes(files.into()), &options)
        .await?;
    let history = case.docker().image_history(&name).await?;
    equal!(history.len(), 1, "the steps");
    equal!(history[0].comment, "made by hand", "the comment");
    equal!(history[0].tags, [name], "the names");
    ensure!(
        history[0].size > 0 && history[0].created.is_some(),
        "the step is {:?}",
        history[0]
    );
    Ok(())
}

async fn an_imported_image_runs(case: Case) -> Result<(), Violation> {
    // The files of a container, exported, make an image.
    let container = case.create(&case.idle()).await?;
    let mut files = Vec::new();
    let mut stream = case.docker().export_container(&container).await?;
    while let Some(piece) = within("the files", stream.next()).await? {
        files.push(Ok(piece?));
    }
    let name = case.image_name();
    let mut changes = strings([
        "ENV PATH=/bin GREETING=hello",
        "WORKDIR /tmp",
        "CMD [\"/bin/sh\", \"-c\", \"echo $GREETING from $(pwd)\"]",
    ]);
    changes.extend(
        case.labels()
            .iter()
            .map(|(key, value)| format!("LABEL {key}={value}")),
    );
    let options = ImportImage {
        reference: name.clone(),
        changes,
        ..ImportImage::default()
    };
    let body = Body::Stream(Box::pin(futures_util::stream::iter(files)));
    let id = case.docker().import_image(body, &options).await?;
    let image = case.docker().inspect_image(&name).await?;
    equal!(image.id, id, "the id");
    equal!(image.config.working_dir, "/tmp", "the working directory");
    let mut container = case.idle();
    container.config.image = name;
    container.config.cmd = Vec::new();
    let (_, output) = case.run(&container).await?;
    equal!(
        output,
        Output::of_stdout("hello from /tmp\n"),
        "what it printed"
    );
    Ok(())
}

async fn an_import_that_breaks_is_an_error(case: Case) -> Result<(), Violation> {
    let options = ImportImage {
        reference: case.image_name(),
        ..ImportImage::default()
    };
    let nonsense = Body::Bytes(Bytes::from(vec![b'x'; 4096]));
    // The failure comes within a reply that began well.
    refused(
        case.docker().import_image(nonsense, &options).await,
        &[200, 400, 500],
    )?;
    // The containerd image store notes the image before it unpacks it.
    if !case.has_containerd_store().await? {
        refused(
            case.docker().inspect_image(&options.reference).await,
            &[404],
        )?;
    }
    Ok(())
}

async fn save(case: &Case, images: &[&str]) -> Result<Bytes, Violation> {
    let mut stream = case.docker().save_images(images).await?;
    let mut archive = Vec::new();
    while let Some(piece) = within("the archive", stream.next()).await? {
        archive.extend_from_slice(&piece?);
    }
    Ok(archive.into())
}

async fn a_saved_image_can_be_loaded(case: Case) -> Result<(), Violation> {
    let name = case.image_name();
    let id = case.import(&name).await?;
    let before = case.docker().inspect_image(&name).await?;
    let archive = save(&case, &[&name]).await?;
    let names: Vec<_> = tar::Archive::new(&archive[..])
        .entries()?
        .map(|entry| Ok(entry?.path()?.to_string_lossy().into_owned()))
        .collect::<Result<_, std::io::Error>>()?;
    ensure!(
        names.iter().any(|name| name == "manifest.json"),
        "the archive has {names:?}"
    );
    case.docker().remove_image(&name, BY_FORCE).await?;
    refused(case.docker().inspect_image(&id).await, &[404])?;
    let loaded = case
        .docker()
        .load_images(Body::Bytes(archive.clone()))
        .await?;
    equal!(loaded.images, [name.as_str()], "what was loaded");
    let after = case.docker().inspect_image(&name).await?;
    equal!(after.id, id, "the id");
    equal!(
        (after.root_fs, after.config),
        (before.root_fs, before.config),
        "what it is made of"
    );
    // Loading it again changes nothing.
    equal!(
        case.docker()
            .load_images(Body::Bytes(archive))
            .await?
            .images,
        [name.as_str()],
        "what was loaded again"
    );
    Ok(())
}

async fn several_images_are_saved_together(case: Case) -> Result<(), Violation> {
    let (first, second) = (case.image_name(), case.image_name());
    case.import(&first).await?;
    case.import(&second).await?;
    let archive = save(&case, &[&first, &second]).await?;
    for name in [&first, &second] {
        case.docker().remove_image(name, BY_FORCE).await?;
    }
    let mut loaded = case
        .docker()
        .load_images(Body::Bytes(archive))
        .await?
        .images;
    loaded.sort();
    equal!(loaded, [&*first, &*second], "what was loaded");
    let missing = case
        .docker()
        .save_images(&[&first, "berth.local/contract-no-such-image:1"])
        .await;
    refused(missing, &[404])?;
    Ok(())
}

async fn a_load_of_nonsense_is_an_error(case: Case) -> Result<(), Violation> {
    let nonsense = Body::Bytes(Bytes::from(vec![b'x'; 4096]));
    refused(case.docker().load_images(nonsense).await, &[200, 400, 500])?;
    let no_image = Body::Bytes(tarball(&[("file", b"content")])?.into());
    refused(
        case.docker().load_images(no_image).await,
        &[200, 400, 404, 500],
    )?;
    Ok(())
}
