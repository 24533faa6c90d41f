//! `ImageService`: one method for each call, each of them translation around one call of berth-pod.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use berth_pod::image::{AuthConfig, Image, ImageRef, Images as EngineImages, PullRequest};
use berth_pod::pods::Pods;
use berth_pod::spec::User;
use tonic::{Request, Response, Status};

use crate::runtime_service::{Items, Reply, batches};
use crate::v1;
use crate::v1::image_service_server::ImageService;
use crate::{shown, status, wanted};

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct Images {
    pods: Pods,
    images: Arc<EngineImages>,
    pull_stuck_after: Option<Duration>,
}

impl Images {
    pub(crate) fn new(
        pods: Pods,
        images: Arc<EngineImages>,
        pull_stuck_after: Option<Duration>,
    ) -> Self {
        Self {
            pods,
            images,
            pull_stuck_after,
        }
    }

    async fn list(&self, filter: Option<v1::ImageFilter>) -> Result<Vec<v1::Image>, Status> {
        let named = filter
            .and_then(|filter| filter.image)
            .filter(|image| !image.image.is_empty());
        let images = match named {
            Some(image) => {
                let reference = reference(&image.image)?;
                self.images
                    .status(&reference)
                    .await
                    .map(|found| found.into_iter().collect())
            }
            None => self.images.list().await,
        };
        let images = images.map_err(|error| status::of(error.into()))?;
        Ok(images.into_iter().map(image).collect())
    }
}

fn reference(text: &str) -> Result<ImageRef, Status> {
    text.parse()
        .map_err(|error| Status::invalid_argument(format!("image.image: {error}")))
}

/// The image that a request is about.
fn named(image: Option<v1::ImageSpec>) -> Result<ImageRef, Status> {
    reference(&wanted::required(image, "image")?.image)
}

fn image(image: Image) -> v1::Image {
    let (uid, username) = match image.user {
        Some(User::Id(id)) => (Some(v1::Int64Value { value: id }), String::new()),
        Some(User::Name(name)) => (None, name),
        // Nothing said is root.
        None => (Some(v1::Int64Value { value: 0 }), String::new()),
    };
    v1::Image {
        spec: Some(v1::ImageSpec {
            image: image.id.clone(),
            ..Default::default()
        }),
        id: image.id,
        repo_tags: image.repo_tags,
        repo_digests: image.repo_digests,
        size: image.size,
        uid,
        username,
        pinned: image.pinned,
    }
}

#[tonic::async_trait]
impl ImageService for Images {
    async fn list_images(
        &self,
        request: Request<v1::ListImagesRequest>,
    ) -> Reply<v1::ListImagesResponse> {
        let images = self.list(request.into_inner().filter).await?;
        Ok(Response::new(v1::ListImagesResponse { images }))
    }

    type StreamImagesStream = Items<v1::StreamImagesResponse>;

    async fn stream_images(
        &self,
        request: Request<v1::StreamImagesRequest>,
    ) -> Reply<Self::StreamImagesStream> {
        let images = self.list(request.into_inner().filter).await?;
        Ok(Response::new(batches(images, |images| {
            v1::StreamImagesResponse { images }
        })))
    }

    async fn image_status(
        &self,
        request: Request<v1::ImageStatusRequest>,
    ) -> Reply<v1::ImageStatusResponse> {
        let request = request.into_inner();
        let reference = named(request.image)?;
        let mut info = BTreeMap::new();
        let found = if request.verbose {
            let described = self.images.describe(&reference).await;
            described.map(|found| {
                found.map(|(image, config)| {
                    info.insert("info".to_owned(), shown::image_info(&config));
                    image
                })
            })
        } else {
            self.images.status(&reference).await
        };
        let found = found.map_err(|error| status::of(error.into()))?;
        Ok(Response::new(v1::ImageStatusResponse {
            image: found.map(image),
            info,
        }))
    }

    async fn pull_image(
        &self,
        request: Request<v1::PullImageRequest>,
    ) -> Reply<v1::PullImageResponse> {
        let request = request.into_inner();
        let ImageRef::Name(name) = named(request.image)? else {
            return Err(Status::invalid_argument(
                "image.image: an ID cannot be pulled, only a name",
            ));
        };
        let auth = request.auth.unwrap_or_default();
        let credentials = AuthConfig {
            username: auth.username,
            password: auth.password,
            auth: auth.auth,
            server_address: auth.server_address,
            identity_token: auth.identity_token,
            registry_token: auth.registry_token,
        }
        .credentials()
        .map_err(|error| Status::invalid_argument(format!("auth: {error}")))?;
        let wish = PullRequest {
            name,
            credentials,
            stuck_after: self.pull_stuck_after,
        };
        let pulled = self.images.pull(wish, |_| ()).await;
        let image_ref = pulled.map_err(|error| status::pull(&error))?;
        Ok(Response::new(v1::PullImageResponse { image_ref }))
    }

    async fn remove_image(
        &self,
        request: Request<v1::RemoveImageRequest>,
    ) -> Reply<v1::RemoveImageResponse> {
        let reference = named(request.into_inner().image)?;
        self.images
            .remove(&reference)
            .await
            .map_err(|error| status::of(error.into()))?;
        Ok(Response::new(v1::RemoveImageResponse {}))
    }

    async fn image_fs_info(
        &self,
        _: Request<v1::ImageFsInfoRequest>,
    ) -> Reply<v1::ImageFsInfoResponse> {
        let failed = |error: berth_docker::Error| status::of(error.into());
        let info = self.pods.runtime().info().await.map_err(status::of)?;
        let usage = self.images.usage().await.map_err(failed)?;
        let filesystem = v1::FilesystemUsage {
            timestamp: shown::nanos(Some(SystemTime::now())),
            fs_id: Some(v1::FilesystemIdentifier {
                mountpoint: info.data_root.display().to_string(),
            }),
            used_bytes: Some(v1::UInt64Value { value: usage.bytes }),
            // Nobody counts those of the images alone.
            inodes_used: self
                .pods
                .data_filesystem(&info.data_root)
                .await
                .and_then(|filesystem| filesystem.inodes_used)
                .map(|value| v1::UInt64Value { value }),
        };
        Ok(Response::new(v1::ImageFsInfoResponse {
            image_filesystems: vec![filesystem.clone()],
            // The kubelet wants it said, also where both are the same.
            container_filesystems: vec![filesystem],
        }))
    }
}
