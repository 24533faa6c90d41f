//! What the calls for networks, volumes and the Engine itself send, and what they make of the answers.

mod scripted;

use berth_docker::api::*;
use berth_docker::auth::Credentials;
use berth_docker::model::*;
use scripted::{Scripted, asked, empty, ok, reply, sent};
use serde_json::json;

fn credentials() -> Credentials {
    Credentials::password("me", "~~~???>>>").for_server("reg.example")
}

#[tokio::test]
async fn network_calls_are_as_asked() {
    assert_eq!(
        asked(ok("null"), async |docker| docker
            .list_networks(&Filters::new().name("a"))
            .await)
        .await,
        "GET /v1.44/networks?filters=%7B%22name%22%3A%5B%22a%22%5D%7D"
    );
    assert_eq!(
        asked(ok("{}"), async |docker| docker.inspect_network("a").await).await,
        "GET /v1.44/networks/a"
    );
    let network = CreateNetwork {
        name: "a".to_owned(),
        ipam: Some(Ipam {
            config: vec![IpamConfig {
                subnet: "10.0.0.0/24".to_owned(),
                ..Default::default()
            }],
            ..Default::default()
        }),
        enable_ipv6: Some(false),
        ..Default::default()
    };
    let answer = reply("201 Created", "", r#"{"Id":"n1","Warning":""}"#);
    let (request, created) =
        sent(answer, async |docker| docker.create_network(&network).await).await;
    assert_eq!(request.line, "POST /v1.44/networks/create");
    assert_eq!(
        request.json(),
        json!({"Name": "a", "IPAM": {"Config": [{"Subnet": "10.0.0.0/24"}]}, "EnableIPv6": false, "CheckDuplicate": true})
    );
    assert_eq!(created.expect("created").id, "n1");

    let (request, connected) = sent(ok(""), async |docker| {
        let endpoint = EndpointSettings {
            aliases: vec!["db".to_owned()],
            ..Default::default()
        };
        docker.connect_network("a", "web", Some(endpoint)).await
    })
    .await;
    connected.expect("connected");
    assert_eq!(request.line, "POST /v1.44/networks/a/connect");
    assert_eq!(
        request.json(),
        json!({"Container": "web", "EndpointConfig": {"Aliases": ["db"]}})
    );
    let (request, gone) = sent(ok(""), async |docker| {
        docker.disconnect_network("a", "web", true).await
    })
    .await;
    gone.expect("disconnected");
    assert_eq!(request.line, "POST /v1.44/networks/a/disconnect");
    assert_eq!(request.json(), json!({"Container": "web", "Force": true}));
    assert_eq!(
        asked(empty("204 No Content"), async |docker| docker
            .remove_network("a")
            .await)
        .await,
        "DELETE /v1.44/networks/a"
    );
    assert_eq!(
        asked(ok("{}"), async |docker| docker
            .prune_networks(&Filters::new())
            .await)
        .await,
        "POST /v1.44/networks/prune"
    );

    let engine = Scripted::new("1.47", []);
    let endpoint = EndpointSettings {
        gw_priority: 1,
        ..Default::default()
    };
    assert!(
        engine
            .docker
            .connect_network("a", "web", Some(endpoint))
            .await
            .is_err()
    );
    let network = CreateNetwork {
        enable_ipv4: Some(false),
        ..Default::default()
    };
    assert!(engine.docker.create_network(&network).await.is_err());
    assert!(engine.requests().is_empty(), "both need API 1.48");
}

#[tokio::test]
async fn volume_calls_are_as_asked() {
    let (request, list) = sent(ok(r#"{"Volumes":null,"Warnings":null}"#), async |docker| {
        docker.list_volumes(&Filters::new().dangling(true)).await
    })
    .await;
    assert_eq!(
        request.line,
        "GET /v1.44/volumes?filters=%7B%22dangling%22%3A%5B%22true%22%5D%7D"
    );
    assert_eq!(list.expect("a list"), VolumeList::default());
    assert_eq!(
        asked(ok("{}"), async |docker| docker.inspect_volume("a").await).await,
        "GET /v1.44/volumes/a"
    );
    let volume = CreateVolume {
        name: "a".to_owned(),
        labels: [("k", "v")].into(),
        ..Default::default()
    };
    let (request, created) = sent(
        reply("201 Created", "", r#"{"Name":"a"}"#),
        async |docker| docker.create_volume(&volume).await,
    )
    .await;
    assert_eq!(
        (request.line.as_str(), request.json()),
        (
            "POST /v1.44/volumes/create",
            json!({"Name": "a", "Labels": {"k": "v"}})
        )
    );
    assert_eq!(created.expect("created").name, "a");
    assert_eq!(
        asked(empty("204 No Content"), async |docker| docker
            .remove_volume("a", true)
            .await)
        .await,
        "DELETE /v1.44/volumes/a?force=1"
    );
    assert_eq!(
        asked(ok("{}"), async |docker| docker
            .prune_volumes(&Filters::new().with("all", "true"))
            .await)
        .await,
        "POST /v1.44/volumes/prune?filters=%7B%22all%22%3A%5B%22true%22%5D%7D"
    );
}

#[tokio::test]
async fn calls_about_the_engine_are_as_asked() {
    let fields = "Api-Version: 1.44\r\nOstype: linux\r\nDocker-Experimental: true\r\nBuilder-Version: 2\r\nServer: Docker/25.0\r\n";
    let (request, ping) = sent(reply("200 OK", fields, "OK"), async |docker| {
        docker.ping().await
    })
    .await;
    assert_eq!(request.line, "GET /_ping", "without a version");
    let ping = ping.expect("a ping");
    assert_eq!(
        (
            ping.api_version.as_str(),
            ping.os_type.as_str(),
            ping.experimental
        ),
        ("1.44", "linux", true)
    );
    assert_eq!(ping.libpod_api_version, None);
    let (request, version) = sent(
        ok(r#"{"Version":"25.0","ApiVersion":"1.44"}"#),
        async |docker| docker.version().await,
    )
    .await;
    assert_eq!(request.line, "GET /version", "without a version");
    assert_eq!(version.expect("a version").version, "25.0");
    assert_eq!(
        asked(ok("{}"), async |docker| docker.info().await).await,
        "GET /v1.44/info"
    );

    let options = SystemDfOptions {
        types: vec![DiskUsageType::Image, DiskUsageType::BuildCache],
        verbose: true,
    };
    assert_eq!(
        asked(ok("{}"), async |docker| docker.system_df(&options).await).await,
        "GET /v1.44/system/df?verbose=1&type=image&type=build-cache"
    );
    let engine = Scripted::new("1.41", []);
    assert!(engine.docker.system_df(&options).await.is_err() && engine.requests().is_empty());

    let (request, auth) = sent(ok(r#"{"Status":"Login Succeeded"}"#), async |docker| {
        docker.check_auth(&credentials()).await
    })
    .await;
    assert_eq!(request.line, "POST /v1.44/auth");
    assert_eq!(
        (
            request.json()["username"].as_str(),
            request.json()["serveraddress"].as_str()
        ),
        (Some("me"), Some("reg.example"))
    );
    assert_eq!(auth.expect("accepted").status, "Login Succeeded");
    let (_, auth) = sent(empty("204 No Content"), async |docker| {
        docker.check_auth(&credentials()).await
    })
    .await;
    assert_eq!(auth.expect("accepted").status, "");
    let answer = reply("401 Unauthorized", "", r#"{"message":"unauthorized"}"#);
    let (_, auth) = sent(answer, async |docker| {
        docker.check_auth(&credentials()).await
    })
    .await;
    let error = auth.expect_err("refused");
    assert!(
        error.is_unauthorized() && !format!("{error:?} {error}").contains("~~~"),
        "{error}"
    );

    let options = PruneBuildCacheOptions {
        all: true,
        filters: Filters::new().until("1h"),
    };
    assert_eq!(
        asked(ok("{}"), async |docker| docker
            .prune_build_cache(&options)
            .await)
        .await,
        "POST /v1.44/build/prune?all=1&filters=%7B%22until%22%3A%5B%221h%22%5D%7D"
    );
}

/// Compiles only if the futures of the calls may move between threads, as `tokio::spawn` asks.
#[test]
fn the_futures_of_the_calls_can_be_spawned() {
    fn send<T: Send>(_: T) {}
    fn check(docker: &'static berth_docker::Docker) {
        send(async { docker.list_containers(&ListContainers::default()).await });
        send(docker.inspect_container("a"));
        send(docker.wait_container("a", WaitCondition::Removed));
        send(async {
            docker
                .logs("a", &LogsOptions::default())
                .await?
                .lines(80)
                .next()
                .await
                .transpose()
        });
        send(docker.start_exec("a", false));
        send(async {
            let options = berth_docker::pull::PullImage::default();
            docker.pull_image("a", options).await?.wait().await
        });
        send(async { docker.load_images(berth_docker::Body::Empty).await });
        send(async {
            docker
                .get_archive("a", "/")
                .await?
                .tar
                .next()
                .await
                .transpose()
        });
        send(async { docker.system_df(&SystemDfOptions::default()).await });
    }
    let _: fn(&'static berth_docker::Docker) = check;
}
