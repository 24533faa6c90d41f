//! Images on a real engine: `BERTH_TEST_ENGINE` names it, and `BERTH_TEST_REGISTRY` a registry that may be pushed to.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use berth_docker::api::{
    ImportImage, ListContainers, ListImages, RemoveContainer, RemoveImage, SystemDfOptions,
};
use berth_docker::model::{ContainerConfig, CreateContainer, Filters, HostConfig};
use berth_docker::{Body, ConnectOptions, Docker};
use berth_pod::Runtime;
use berth_pod::image::{ImageRef, Images, PullError, PullFailure, PullRequest};
use berth_pod::pause::PauseImage;
use berth_pod::spec::User;
use futures_util::future::join_all;
use futures_util::{FutureExt as _, TryStreamExt as _};

/// The image of containers that have to run.
const DEMO: &str = "berth.local/demo:1";

/// An engine, and a repository of the test's own in the registry.
struct Bench {
    docker: Docker,
    repository: String,
}

impl Bench {
    /// Runs a test, and removes what it has made, also when it fails.
    async fn run(name: &str, test: impl AsyncFnOnce(&Self)) {
        let (Ok(endpoint), Ok(registry)) = (
            std::env::var("BERTH_TEST_ENGINE"),
            std::env::var("BERTH_TEST_REGISTRY"),
        ) else {
            assert!(
                std::env::var_os("CI").is_none(),
                "BERTH_TEST_ENGINE and BERTH_TEST_REGISTRY must be set in CI"
            );
            eprintln!("skipped: BERTH_TEST_ENGINE or BERTH_TEST_REGISTRY names nothing");
            return;
        };
        let options =
            ConnectOptions::new(endpoint.parse().expect("BERTH_TEST_ENGINE is an endpoint"));
        let bench = Self {
            docker: Docker::builder(options).build().unwrap(),
            repository: format!("{registry}/berth-pod-images/{name}-{}", std::process::id()),
        };
        let result = AssertUnwindSafe(test(&bench)).catch_unwind().await;
        bench.clean().await;
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    }

    /// As far as the engine lets it: a test that has failed says more than what follows.
    async fn clean(&self) {
        let label = Filters::new().label(self.label());
        let containers = ListContainers {
            all: true,
            filters: label.clone(),
            ..ListContainers::default()
        };
        let containers = self.docker.list_containers(&containers).await;
        for container in containers.unwrap_or_default() {
            let by_force = RemoveContainer {
                force: true,
                ..RemoveContainer::default()
            };
            let _ = self.docker.remove_container(&container.id, by_force).await;
        }
        let images = ListImages {
            filters: label,
            ..ListImages::default()
        };
        for image in self.docker.list_images(&images).await.unwrap_or_default() {
            let _ = self.docker.remove_image(&image.id, BY_FORCE).await;
        }
    }

    fn label(&self) -> String {
        format!("berth-test={}", self.repository)
    }

    fn images(&self) -> Images {
        Images::new(self.docker.clone(), Vec::new())
    }

    /// A name of the test's own.
    fn name(&self, tag: &str) -> String {
        format!("{}:{tag}", self.repository)
    }

    /// Makes an image, different for each tag, and gives its ID.
    async fn import(&self, tag: &str, user: &str) -> String {
        let content = self.name(tag).repeat(4096);
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        let mut files = tar::Builder::new(Vec::new());
        files
            .append_data(&mut header, "content", content.as_bytes())
            .unwrap();
        let options = ImportImage {
            reference: self.name(tag),
            changes: vec![format!("USER {user}"), format!("LABEL {}", self.label())],
            ..ImportImage::default()
        };
        let files = Body::Bytes(files.into_inner().unwrap().into());
        self.docker.import_image(files, &options).await.unwrap()
    }

    /// Makes an image that the registry has and the engine has not.
    async fn push(&self, tag: &str, user: &str) {
        let id = self.import(tag, user).await;
        let push = self.docker.push_image(&self.name(tag), None).await.unwrap();
        push.wait().await.unwrap();
        self.docker.remove_image(&id, BY_FORCE).await.unwrap();
    }

    async fn container(&self, image: &str, command: &[&str]) -> String {
        let create = CreateContainer {
            config: ContainerConfig {
                image: image.to_owned(),
                entrypoint: Some(command.iter().map(|&word| word.to_owned()).collect()),
                labels: [("berth-test", self.repository.as_str())]
                    .into_iter()
                    .collect(),
                ..ContainerConfig::default()
            },
            host_config: HostConfig {
                network_mode: "none".into(),
                ..HostConfig::default()
            },
            ..CreateContainer::default()
        };
        self.docker.create_container(&create).await.unwrap().id
    }
}

const BY_FORCE: RemoveImage = RemoveImage {
    force: true,
    prune_children: true,
};

fn reference(text: &str) -> ImageRef {
    text.parse().unwrap()
}

async fn pull(images: &Images, name: &str) -> Result<String, PullError> {
    let request = PullRequest {
        name: name.parse().unwrap(),
        credentials: None,
        stuck_after: Some(Duration::from_secs(60)),
    };
    images.pull(request, |_| {}).await
}

#[tokio::test]
async fn a_pulled_image_is_one_and_the_same_by_every_form_of_its_name() {
    Bench::run("forms", async |bench| {
        bench.push("latest", "www-data:7").await;
        let images = bench.images();
        assert_eq!(
            images.status(&reference(&bench.repository)).await.unwrap(),
            None
        );
        let id = pull(&images, &bench.repository).await.unwrap();
        let image = images
            .status(&reference(&bench.repository))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(image.id, id);
        assert_eq!(image.repo_tags, [bench.name("latest")]);
        assert_eq!(image.repo_digests.len(), 1, "{image:?}");
        assert_eq!(image.user, Some(User::Name("www-data".into())));
        assert!(image.size > 1 && !image.pinned);
        let digits = id.strip_prefix("sha256:").unwrap();
        let by_digest = image.repo_digests[0].clone();
        for text in [
            &bench.name("latest"),
            &by_digest,
            &by_digest.replace('@', ":none@"),
            &id,
            digits,
        ] {
            let found = images.status(&reference(text)).await.unwrap();
            assert_eq!(found.as_ref(), Some(&image), "{text}");
        }
        for text in [&digits[..12], &digits[..63], &bench.name("2")] {
            assert_eq!(
                images.status(&reference(text)).await.unwrap(),
                None,
                "{text}"
            );
        }
        let list = images.list().await.unwrap();
        let listed = list.iter().find(|listed| listed.id == id).unwrap();
        assert_eq!(
            (&listed.repo_tags, &listed.repo_digests),
            (&image.repo_tags, &image.repo_digests)
        );
        assert_eq!(listed.user, image.user);
        assert!(list.iter().all(|image| image.size > 0));
        assert!(
            list.iter()
                .flat_map(|image| &image.repo_tags)
                .all(|name| name.parse::<ImageRef>().is_ok())
        );
        let (_, config) = images.describe(&reference(&id)).await.unwrap().unwrap();
        assert!(config.contains(r#""User":"www-data:7""#), "{config}");

        // By its digest it is the same image, and has no tag.
        images.remove(&reference(&id)).await.unwrap();
        assert_eq!(pull(&images, &by_digest).await.unwrap(), id);
        let image = images
            .status(&reference(&by_digest))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            (image.repo_tags.len(), &image.repo_digests),
            (0, &vec![by_digest.clone()])
        );
        let list = images.list().await.unwrap();
        let listed = list.iter().find(|listed| listed.id == id).unwrap();
        assert_eq!(
            (&listed.repo_tags, &listed.repo_digests),
            (&image.repo_tags, &image.repo_digests)
        );
        images.remove(&reference(&by_digest)).await.unwrap();
        assert_eq!(images.status(&reference(&by_digest)).await.unwrap(), None);
        assert_eq!(images.status(&reference(&id)).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn removals_at_once_all_succeed_and_leave_no_name() {
    Bench::run("removals", async |bench| {
        for _ in 0..3 {
            let id = bench.import("1", "0").await;
            let mut names = vec![bench.name("1"), id.clone()];
            for name in [
                bench.name("2"),
                format!("{}-other:1", bench.repository),
                format!("berth.local/removals-{}:1", std::process::id()),
            ] {
                bench.docker.tag_image(&id, &name).await.unwrap();
                names.push(name);
            }
            // Two doors, each of which does not know what the other one does.
            let doors = [bench.images(), bench.images()];
            let removals = names.iter().flat_map(|name| {
                doors.iter().map(async move |door| {
                    door.remove(&reference(name)).await?;
                    door.status(&reference(name)).await
                })
            });
            for result in join_all(removals).await {
                assert_eq!(result.unwrap(), None);
            }
            assert!(
                doors[0]
                    .list()
                    .await
                    .unwrap()
                    .iter()
                    .all(|image| image.id != id)
            );
        }
    })
    .await;
}

#[tokio::test]
async fn pulls_at_once_are_one_and_give_one_id() {
    Bench::run("joined", async |bench| {
        bench.push("1", "0").await;
        let images = Arc::new(bench.images());
        let pulls: Vec<_> = (0..8)
            .map(|_| {
                let (images, name) = (Arc::clone(&images), bench.name("1"));
                tokio::spawn(async move { pull(&images, &name).await })
            })
            .collect();
        tokio::task::yield_now().await;
        pulls[0].abort();
        let mut ids = Vec::new();
        for pull in pulls.into_iter().skip(1) {
            ids.push(pull.await.unwrap().unwrap());
        }
        let image = images
            .status(&reference(&bench.name("1")))
            .await
            .unwrap()
            .unwrap();
        assert!(ids.iter().all(|id| *id == image.id), "{ids:?}");
    })
    .await;
}

#[tokio::test]
async fn a_running_container_keeps_its_image_and_an_ended_one_does_not() {
    Bench::run("in-use", async |bench| {
        let images = bench.images();
        // A copy of an image that can run.
        let create = bench.container(DEMO, &["/bin/true"]).await;
        let files = bench.docker.export_container(&create).await.unwrap();
        let options = ImportImage {
            reference: bench.name("1"),
            changes: vec![format!("LABEL {}", bench.label())],
            ..ImportImage::default()
        };
        let files = Body::Stream(Box::pin(files.map_err(std::io::Error::other)));
        let id = bench.docker.import_image(files, &options).await.unwrap();
        let container = bench
            .container(&bench.name("1"), &["/bin/sleep", "600"])
            .await;
        bench.docker.start_container(&container).await.unwrap();
        for text in [&bench.name("1"), &id] {
            let error = images.remove(&reference(text)).await.unwrap_err();
            assert!(
                error.is_conflict() && error.message().contains("running container"),
                "{error}"
            );
        }
        let there = images.status(&reference(&bench.name("1"))).await.unwrap();
        assert_eq!(there.map(|image| image.id).as_ref(), Some(&id));
        bench
            .docker
            .kill_container(&container, Some("KILL"))
            .await
            .unwrap();
        bench
            .docker
            .wait_container(&container, berth_docker::api::WaitCondition::NotRunning)
            .await
            .unwrap();
        images.remove(&reference(&bench.name("1"))).await.unwrap();
        assert_eq!(images.status(&reference(&id)).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn a_failed_pull_is_told_by_the_engines_words() {
    Bench::run("failures", async |bench| {
        bench.push("1", "0").await;
        let images = bench.images();
        for (name, failure) in [
            (
                "127.0.0.1:1/nothing:1".to_owned(),
                PullFailure::RegistryUnavailable,
            ),
            (bench.name("2"), PullFailure::NotFound),
            (
                format!("{}@sha256:{}", bench.repository, "0".repeat(64)),
                PullFailure::NotFound,
            ),
            (
                format!("{}-none:1", bench.repository),
                PullFailure::NotFound,
            ),
        ] {
            let error = pull(&images, &name).await.unwrap_err();
            assert_eq!(error.failure(), failure, "{error}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_pause_image_is_pinned_by_whatever_name() {
    Bench::run("pinned", async |bench| {
        let pause = PauseImage::built_in().unwrap();
        bench
            .docker
            .load_images(Body::Bytes(pause.archive().into()))
            .await
            .unwrap();
        let runtime = Runtime::new(bench.docker.clone());
        let images = runtime.images();
        let image = images
            .status(&reference(pause.name()))
            .await
            .unwrap()
            .unwrap();
        assert!(image.pinned, "{image:?}");
        let by_id = images.status(&reference(&image.id)).await.unwrap().unwrap();
        assert_eq!(by_id, image);
        let pinned: Vec<String> = images
            .list()
            .await
            .unwrap()
            .into_iter()
            .filter(|image| image.pinned)
            .map(|image| image.id)
            .collect();
        assert_eq!(pinned, [image.id]);
    })
    .await;
}

#[tokio::test]
async fn what_images_take_is_what_the_engine_says() {
    Bench::run("usage", async |bench| {
        let id = bench.import("1", "0").await;
        bench.docker.tag_image(&id, &bench.name("2")).await.unwrap();
        // Others come and go meanwhile.
        let mut seen = Vec::new();
        for _ in 0..20 {
            let usage = bench.images().usage().await.unwrap();
            let df = match bench.docker.system_df(&SystemDfOptions::default()).await {
                Ok(df) => df,
                Err(error) if error.is_conflict() => continue,
                Err(error) => panic!("{error}"),
            };
            let said = df
                .image_usage
                .map_or(df.layers_size, |images| images.total_size);
            if u64::try_from(said) == Ok(usage.bytes) {
                return;
            }
            seen.push((usage.bytes, said));
        }
        panic!("never the same: {seen:?}");
    })
    .await;
}
