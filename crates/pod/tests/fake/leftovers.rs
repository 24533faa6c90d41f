//! What a berth that was killed leaves, and the next one clears away.

use berth_docker::api::ListContainers;
use berth_docker::model::{ContainerConfig, CreateContainer};
use berth_pod::labels;

use crate::engine::{Engine, IMAGE, soon};

#[tokio::test]
async fn containers_that_an_earlier_berth_looked_into_images_with_are_removed_and_no_others() {
    let engine = Engine::new();
    let docker = engine.client();
    let state = tempfile::tempdir().unwrap();
    let mine = state.path().join("logs");
    let create = async |owner: &str| {
        let create = CreateContainer {
            config: ContainerConfig {
                image: IMAGE.into(),
                labels: [(labels::PROBE, owner)].into_iter().collect(),
                ..Default::default()
            },
            ..Default::default()
        };
        docker.create_container(&create).await.unwrap().id
    };
    let left = create(&mine.display().to_string()).await;
    let another = create("another's").await;
    engine.go_away();
    // One that cannot do it at once.
    let pods = engine.pods(mine);
    soon("it is away", async || pods.view().away().is_some()).await;
    engine.come_back();
    let all = ListContainers {
        all: true,
        ..Default::default()
    };
    let ids = async || -> Vec<String> {
        let rows = docker.list_containers(&all).await.unwrap();
        rows.into_iter().map(|row| row.id).collect()
    };
    soon("the one is removed", async || !ids().await.contains(&left)).await;
    assert_eq!(ids().await, [another]);
}
