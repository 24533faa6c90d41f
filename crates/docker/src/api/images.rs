//! Images: list, inspect, history, names, removal, and moving them as archives. Pulling is in [`crate::pull`].

use super::{Gate, ProgressStream, WORK, about_image, flag};
use crate::auth::Credentials;
use crate::client::{ByteStream, Docker};
use crate::error::Error;
use crate::model::{
    DeletedImage, DistributionInspect, Filters, ImageHistoryItem, ImageInspect, ImageSummary,
    PruneImages,
};
use crate::pull::split_reference;
use crate::request::{Body, Method, Operation, Request};

/// What [`Docker::list_images`] lists.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ListImages {
    /// Intermediate images of the classic builder, too.
    pub all: bool,
    /// With the bytes shared with other images, which the Engine has to compute (API 1.42).
    pub shared_size: bool,
    /// Only images that match.
    pub filters: Filters,
}

/// How [`Docker::remove_image`] removes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RemoveImage {
    /// Even if it has several names or a container that does not run uses it.
    pub force: bool,
    /// Also the nameless images it was built on, which nothing else needs.
    pub prune_children: bool,
}

/// What [`Docker::import_image`] makes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ImportImage {
    /// The new image's name, with or without a tag; empty for none.
    pub reference: String,
    /// Its comment.
    pub message: String,
    /// Dockerfile instructions, such as `CMD ["/bin/sh"]`, that give it a configuration.
    pub changes: Vec<String>,
    /// `os[/arch[/variant]]` it is for; `None` for the Engine's.
    pub platform: Option<String>,
}

/// What a load brought.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LoadedImages {
    /// The names of the images, and the ids of those without a name, in the order of the archive.
    pub images: Vec<String>,
}

impl Docker {
    /// Lists images.
    ///
    /// `GET /images/json`. Deadline: short. Cancel safe.
    ///
    /// # Errors
    /// 400 for a filter that the Engine does not know.
    pub async fn list_images(&self, options: &ListImages) -> Result<Vec<ImageSummary>, Error> {
        let operation = Operation::LIST_IMAGES;
        if options.shared_size {
            self.require(operation, &[Gate::new("the shared size of images", 42)])
                .await?;
        }
        let request = Request::new(operation, Method::Get, "/images/json")
            .query_some("all", flag(options.all))
            .query_some("shared-size", flag(options.shared_size))
            .query_some("filters", options.filters.to_query());
        self.send_list(request).await
    }

    /// Everything the Engine knows of one image, by name, id or a beginning of the id that is unique.
    ///
    /// `GET /images/{name}/json`. Deadline: short. Cancel safe.
    ///
    /// # Errors
    /// 404 when there is no such image.
    pub async fn inspect_image(&self, image: &str) -> Result<ImageInspect, Error> {
        self.send_json(about_image(
            Operation::INSPECT_IMAGE,
            Method::Get,
            "/images",
            image,
            "/json",
        )?)
        .await
    }

    /// The steps an image was built in, the newest first.
    ///
    /// `GET /images/{name}/history`. Deadline: short. Cancel safe.
    ///
    /// # Errors
    /// 404 when there is no such image.
    pub async fn image_history(&self, image: &str) -> Result<Vec<ImageHistoryItem>, Error> {
        self.send_list(about_image(
            Operation::IMAGE_HISTORY,
            Method::Get,
            "/images",
            image,
            "/history",
        )?)
        .await
    }

    /// Takes a name away from an image; with its last name, or by id, the image itself.
    ///
    /// `DELETE /images/{name}`. Deadline: short. Dropping the future does not undo it.
    ///
    /// # Errors
    /// 404 when there is no such image; 409 when a container uses it, or it has several names and was named by id.
    pub async fn remove_image(
        &self,
        image: &str,
        options: RemoveImage,
    ) -> Result<Vec<DeletedImage>, Error> {
        let request = about_image(
            Operation::REMOVE_IMAGE,
            Method::Delete,
            "/images",
            image,
            "",
        )?
        .query_some("force", flag(options.force))
        .query_some("noprune", flag(!options.prune_children));
        self.send_list(request).await
    }

    /// Gives an image another name: `reference`, with `latest` if it has no tag.
    ///
    /// `POST /images/{name}/tag`. Deadline: short. Dropping the future does not undo it.
    ///
    /// # Errors
    /// 404 when there is no such image; 400 when the reference is not one; invalid when it has a digest.
    pub async fn tag_image(&self, image: &str, reference: &str) -> Result<(), Error> {
        let operation = Operation::TAG_IMAGE;
        let (name, tag) = split_reference(operation, reference)?;
        if tag.contains(':') {
            return Err(Error::invalid(
                operation,
                format!("{reference} has a digest; an image is given a name and a tag"),
            ));
        }
        let request = about_image(operation, Method::Post, "/images", image, "/tag")?
            .query("repo", name)
            .query("tag", tag);
        self.send(request).await.map(drop)
    }

    /// Loads images out of an archive as [`save_images`](Self::save_images) and `docker save` make it (plain or
    /// compressed).
    ///
    /// `POST /images/load`. Deadline: 10 minutes without a byte in either direction. Dropping the future may leave some
    /// of the images loaded.
    ///
    /// # Errors
    /// Refused (with status 200 when it happens halfway) when the archive is broken or the disk is full.
    pub async fn load_images(&self, archive: Body) -> Result<LoadedImages, Error> {
        let request = Request::new(Operation::LOAD_IMAGE, Method::Post, "/images/load")
            .query("quiet", 1)
            .header("Content-Type", "application/x-tar")
            .body(archive)
            .deadline(WORK);
        let mut progress = ProgressStream::new(self.send_stream(request).await?);
        let mut loaded = LoadedImages::default();
        while let Some(message) = progress.next().await {
            let text = message?.stream;
            let images = text.lines().filter_map(|line| {
                line.strip_prefix("Loaded image: ")
                    .or_else(|| line.strip_prefix("Loaded image ID: "))
            });
            loaded
                .images
                .extend(images.map(|image| image.trim().to_owned()));
        }
        Ok(loaded)
    }

    /// Images as one archive, for [`load_images`](Self::load_images). Named ones keep their names.
    ///
    /// `GET /images/get`. Deadline: 10 minutes without a byte; the Engine may pack everything before it sends the first.
    /// Dropping the future or the stream ends it in the Engine too.
    ///
    /// # Errors
    /// 404 when one of the images is not there.
    pub async fn save_images(&self, images: &[&str]) -> Result<ByteStream, Error> {
        let operation = Operation::SAVE_IMAGE;
        if images.is_empty() || images.contains(&"") {
            return Err(Error::invalid(
                operation,
                "no image is named, or one by an empty name",
            ));
        }
        let mut request =
            Request::new(operation, Method::Get, "/images/get").about(images.join(" "));
        for image in images {
            request = request.query("names", image);
        }
        self.send_stream(request.deadline(WORK)).await
    }

    /// Makes an image of one layer out of a tar archive of its files (plain or compressed), and gives its id.
    ///
    /// `POST /images/create?fromSrc=-`. Deadline: 10 minutes without a byte in either direction. Dropping the future may
    /// leave the image made.
    ///
    /// # Errors
    /// 400 for a bad name or change; refused (with status 200 when it happens halfway) when the archive is broken.
    pub async fn import_image(&self, files: Body, options: &ImportImage) -> Result<String, Error> {
        let operation = Operation::IMPORT_IMAGE;
        let mut request =
            Request::new(operation, Method::Post, "/images/create").query("fromSrc", "-");
        if !options.reference.is_empty() {
            let (name, tag) = split_reference(operation, &options.reference)?;
            request = request
                .query("repo", name)
                .query("tag", tag)
                .about(&options.reference);
        }
        if !options.message.is_empty() {
            request = request.query("message", &options.message);
        }
        for change in &options.changes {
            request = request.query("changes", change);
        }
        let request = request
            .query_some("platform", options.platform.as_deref())
            .header("Content-Type", "application/x-tar")
            .body(files)
            .deadline(WORK);
        let mut progress = ProgressStream::new(self.send_stream(request).await?);
        let mut id = String::new();
        while let Some(message) = progress.next().await {
            let message = message?;
            if message.status.starts_with("sha256:") {
                id = message.status;
            }
        }
        if id.is_empty() {
            return Err(Error::malformed(
                operation,
                "it ends without the id of the image",
            ));
        }
        Ok(id)
    }

    /// Pushes an image to the registry in its name: the tag named, else `latest`.
    ///
    /// `POST /images/{name}/push`. Deadline: 10 minutes without a byte, because the Engine is silent while the registry
    /// stores a layer. Dropping the future or the stream ends it in the Engine too; layers that are there stay.
    ///
    /// # Errors
    /// 404 when there is no such image. What the registry refuses is an item of the stream; see
    /// [`ProgressStream::wait`].
    pub async fn push_image(
        &self,
        reference: &str,
        credentials: Option<&Credentials>,
    ) -> Result<ProgressStream, Error> {
        let operation = Operation::PUSH_IMAGE;
        let (name, tag) = split_reference(operation, reference)?;
        if tag.contains(':') {
            return Err(Error::invalid(
                operation,
                format!("{reference} has a digest; an image is pushed by a tag"),
            ));
        }
        // The Engine insists on this header, be it for nobody.
        let auth = credentials
            .map(Credentials::to_header)
            .unwrap_or_else(|| Credentials::default().to_header());
        let request = about_image(operation, Method::Post, "/images", name, "/push")?
            .about(reference)
            .query("tag", tag)
            .header("X-Registry-Auth", auth)
            .deadline(WORK);
        Ok(ProgressStream::new(self.send_stream(request).await?))
    }

    /// Removes images that no container uses and that match: the nameless ones, or all when the filter `dangling` is
    /// `false`.
    ///
    /// `POST /images/prune`. Deadline: 10 minutes without an answer. Dropping the future does not undo
    /// it: the Engine stops after the image it is removing.
    ///
    /// # Errors
    /// 409 when another prune is under way.
    pub async fn prune_images(&self, filters: &Filters) -> Result<PruneImages, Error> {
        let request = Request::new(Operation::PRUNE_IMAGES, Method::Post, "/images/prune");
        self.send_json(
            request
                .query_some("filters", filters.to_query())
                .deadline(WORK),
        )
        .await
    }

    /// What the registry says of an image: its digest and platforms. Nothing is pulled.
    ///
    /// `GET /distribution/{name}/json`. Deadline: short. Cancel safe.
    ///
    /// # Errors
    /// 401 or 403 when the registry wants other credentials, or hides that there is no such image; 404 or 500 for what
    /// else it says.
    pub async fn inspect_distribution(
        &self,
        image: &str,
        credentials: Option<&Credentials>,
    ) -> Result<DistributionInspect, Error> {
        let mut request = about_image(
            Operation::INSPECT_DISTRIBUTION,
            Method::Get,
            "/distribution",
            image,
            "/json",
        )?;
        if let Some(credentials) = credentials {
            request = request.header("X-Registry-Auth", credentials.to_header());
        }
        self.send_json(request).await
    }
}
