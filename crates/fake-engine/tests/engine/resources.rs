use serde_json::{Value, json};

use crate::client::{act, call, create, engine, get, inspect, output, post, run};

#[tokio::test]
async fn each_network_gives_its_own_addresses() {
    let engine = engine();
    let created = post(
        &engine,
        "/networks/create",
        json!({ "Name": "back", "Labels": { "a": "b" } }),
    )
    .await;
    let id = created.json()["Id"].as_str().unwrap().to_owned();
    for name in ["one", "two"] {
        create(
            &engine,
            name,
            json!({ "Cmd": ["sleep", "100"], "HostConfig": { "NetworkMode": "back" } }),
        )
        .await;
        act(&engine, "POST", &format!("/containers/{name}/start")).await;
    }
    let networks = inspect(&engine, "two").await["NetworkSettings"]["Networks"].clone();
    assert_eq!(networks["back"]["IPAddress"], "172.18.0.3");
    assert_eq!(networks["back"]["Gateway"], "172.18.0.1");
    assert_eq!(networks["back"]["NetworkID"], id);
    assert_eq!(networks["back"]["MacAddress"], "02:42:ac:12:00:03");
    post(
        &engine,
        "/networks/bridge/connect",
        json!({ "Container": "two" }),
    )
    .await;
    assert_eq!(
        inspect(&engine, "two").await["NetworkSettings"]["IPAddress"],
        "172.17.0.2"
    );
    let view = get(&engine, "/networks/back").await.json();
    assert_eq!(view["Containers"].as_object().unwrap().len(), 2);
    let refused = call(&engine, "DELETE", "/networks/back", None).await;
    assert_eq!(refused.status, 403);
    assert!(refused.message().contains("has active endpoints"));
    act(&engine, "DELETE", "/containers/one?force=1").await;
    act(&engine, "DELETE", "/containers/two?force=1").await;
    act(&engine, "DELETE", "/networks/back").await;
    assert_eq!(
        get(&engine, "/networks/back").await.message(),
        "network back not found"
    );
    assert_eq!(
        call(&engine, "DELETE", "/networks/host", None).await.status,
        403
    );
}

#[tokio::test]
async fn an_address_is_given_again_after_its_container_is_gone() {
    let engine = engine();
    for _ in 0..3 {
        let id = run(&engine, "web", "sleep 1000").await;
        assert_eq!(
            inspect(&engine, &id).await["NetworkSettings"]["IPAddress"],
            "172.17.0.2"
        );
        act(&engine, "DELETE", "/containers/web?force=1").await;
    }
}

#[tokio::test]
async fn subnets_and_fixed_addresses_are_checked() {
    let engine = engine();
    let network =
        |subnet: &str| json!({ "Name": "own", "IPAM": { "Config": [{ "Subnet": subnet }] } });
    assert_eq!(
        post(&engine, "/networks/create", network("172.17.5.0/24"))
            .await
            .status,
        403
    );
    assert_eq!(
        post(&engine, "/networks/create", network("nonsense"))
            .await
            .status,
        400
    );
    assert_eq!(
        post(&engine, "/networks/create", network("10.1.0.0/24"))
            .await
            .status,
        201
    );
    let body = |address: &str| {
        json!({ "Cmd": ["sleep", "9"], "HostConfig": { "NetworkMode": "own" },
            "NetworkingConfig": { "EndpointsConfig": { "own": { "IPAMConfig": { "IPv4Address": address } } } } })
    };
    create(&engine, "inside", body("10.1.0.77")).await;
    act(&engine, "POST", "/containers/inside/start").await;
    assert_eq!(
        inspect(&engine, "inside").await["NetworkSettings"]["Networks"]["own"]["IPAddress"],
        "10.1.0.77"
    );
    create(&engine, "outside", body("10.2.0.1")).await;
    assert_eq!(
        call(&engine, "POST", "/containers/outside/start", None)
            .await
            .status,
        400
    );
    create(&engine, "twin", body("10.1.0.77")).await;
    assert_eq!(
        call(&engine, "POST", "/containers/twin/start", None)
            .await
            .message(),
        "Address already in use"
    );
}

#[tokio::test]
async fn host_ports_are_bound_once() {
    let engine = engine();
    let body = |port: &str| json!({ "Cmd": ["sleep", "100"], "HostConfig": { "PortBindings": { "80/tcp": [{ "HostPort": port }] } } });
    create(&engine, "one", body("8080")).await;
    act(&engine, "POST", "/containers/one/start").await;
    create(&engine, "two", body("8080")).await;
    let taken = call(&engine, "POST", "/containers/two/start", None).await;
    assert_eq!(taken.status, 500);
    assert!(
        taken
            .message()
            .ends_with("Bind for 0.0.0.0:8080 failed: port is already allocated"),
        "{}",
        taken.message()
    );
    create(&engine, "any", body("")).await;
    act(&engine, "POST", "/containers/any/start").await;
    let ports = inspect(&engine, "any").await["NetworkSettings"]["Ports"]["80/tcp"].clone();
    assert_eq!(
        ports[0],
        json!({ "HostIp": "0.0.0.0", "HostPort": "32768" })
    );
    act(&engine, "DELETE", "/containers/one?force=1").await;
    act(&engine, "POST", "/containers/two/start").await;
}

#[tokio::test]
async fn a_container_can_share_the_network_of_another() {
    let engine = engine();
    let id = create(&engine, "owner", json!({ "Cmd": ["sleep", "100"] })).await;
    let shared = json!({ "Cmd": ["sleep", "100"], "HostConfig": { "NetworkMode": format!("container:{id}") } });
    create(&engine, "guest", shared).await;
    let early = call(&engine, "POST", "/containers/guest/start", None).await;
    assert_eq!(
        early.message(),
        format!("cannot join network of a non running container: {id}")
    );
    act(&engine, "POST", "/containers/owner/start").await;
    act(&engine, "POST", "/containers/guest/start").await;
    assert_eq!(
        inspect(&engine, "guest").await["NetworkSettings"]["Networks"],
        json!({})
    );
}

#[tokio::test]
async fn volumes_hold_what_is_written_and_know_who_uses_them() {
    let engine = engine();
    let write = json!({ "Cmd": ["sh", "-c", "echo kept > /data/x"], "HostConfig": { "Binds": ["store:/data"] } });
    create(&engine, "writer", write).await;
    act(&engine, "POST", "/containers/writer/start").await;
    crate::client::wait(&engine, "writer").await;
    let used = call(&engine, "DELETE", "/volumes/store", None).await;
    assert_eq!(used.status, 409);
    assert!(
        used.message()
            .starts_with("remove store: volume is in use - [")
    );
    act(&engine, "DELETE", "/containers/writer?v=1").await;
    let mounts = json!([{ "Type": "volume", "Source": "store", "Target": "/d", "ReadOnly": true }]);
    let read = json!({ "Cmd": ["sh", "-c", "cat /d/x; echo y > /d/x"], "HostConfig": { "Mounts": mounts } });
    create(&engine, "reader", read).await;
    act(&engine, "POST", "/containers/reader/start").await;
    assert_eq!(crate::client::wait(&engine, "reader").await, 1);
    let logs = get(&engine, "/containers/reader/logs?stdout=1&stderr=1").await;
    assert_eq!(
        crate::client::split(&logs.body),
        (
            "kept\n".to_owned(),
            "sh: can't create /d/x: Read-only file system\n".to_owned()
        )
    );
}

#[tokio::test]
async fn anonymous_volumes_go_with_their_container_and_at_prune() {
    let engine = engine();
    for (name, query) in [("gone", "?v=1"), ("left", "")] {
        create(&engine, name, json!({ "Volumes": { "/data": {} } })).await;
        act(&engine, "DELETE", &format!("/containers/{name}{query}")).await;
    }
    post(&engine, "/volumes/create", json!({ "Name": "named" })).await;
    let list = get(&engine, "/volumes").await.json();
    assert_eq!(list["Volumes"].as_array().unwrap().len(), 2);
    let pruned = act(&engine, "POST", "/v1.42/volumes/prune").await.json();
    assert_eq!(pruned["VolumesDeleted"].as_array().unwrap().len(), 1);
    assert_eq!(
        act(&engine, "POST", "/v1.41/volumes/prune").await.json()["VolumesDeleted"],
        json!(["named"])
    );
    assert_eq!(
        get(&engine, "/volumes/named").await.message(),
        "get named: no such volume"
    );
}

#[tokio::test]
async fn binds_stay_in_memory_except_below_the_root_given() {
    let dir = tempfile::tempdir().unwrap();
    let (inside, outside) = (dir.path().join("in"), dir.path().join("out"));
    std::fs::create_dir_all(&inside).unwrap();
    std::fs::create_dir_all(&outside).unwrap();
    std::fs::write(outside.join("secret"), "secret").unwrap();
    std::fs::write(inside.join("log"), "").unwrap();
    std::os::unix::fs::symlink(&outside, inside.join("leak")).unwrap();
    let engine = berth_fake_engine::FakeEngine::builder()
        .image("busybox")
        .bind_root(&inside)
        .build()
        .unwrap();
    let at = |path: &str| dir.path().join(path).display().to_string();
    let binds = json!([
        format!("{}:/in", at("in/sub")),
        format!("{}:/out", at("out")),
        format!("{}:/dev/termination-log", at("in/log")),
        format!("{}:/sneaky", at("in/../out")),
        format!("{}:/all", at("in")),
    ]);
    let mounts = json!([{ "Type": "bind", "Source": at("in/sub/../../out"), "Target": "/dotted" }]);
    let script = "echo a > /in/f; echo b > /out/f; cat /in/f /out/f; echo why > /dev/termination-log; \
        cat /sneaky/secret /dotted/secret /all/leak/secret; echo x > /all/leak/new; rm -r /all";
    let host = json!({ "Binds": binds, "Mounts": mounts });
    create(
        &engine,
        "job",
        json!({ "Cmd": ["sh", "-c", script], "HostConfig": host }),
    )
    .await;
    act(&engine, "POST", "/containers/job/start").await;
    assert_eq!(crate::client::wait(&engine, "job").await, 1);
    let logs = get(&engine, "/containers/job/logs?stdout=1&stderr=1").await;
    let (stdout, stderr) = crate::client::split(&logs.body);
    assert_eq!(stdout, "a\nb\n");
    assert_eq!(
        stderr.matches("secret': No such file or directory").count(),
        3,
        "{stderr}"
    );
    assert!(
        stderr.contains("can't remove '/all': Device or resource busy"),
        "{stderr}"
    );
    assert_eq!(
        std::fs::read_to_string(inside.join("sub/f")).unwrap(),
        "a\n"
    );
    assert_eq!(
        std::fs::read_to_string(inside.join("log")).unwrap(),
        "why\n"
    );
    assert!(
        !outside.join("f").exists() && !outside.join("new").exists(),
        "a bind must not reach out of the root"
    );
}

#[tokio::test]
async fn a_bind_in_memory_becomes_what_is_put_there() {
    let engine = engine();
    for script in [
        "echo why > /dev/termination-log",
        "cat /dev/termination-log",
    ] {
        let binds = json!(["/host/log:/dev/termination-log"]);
        let id = create(
            &engine,
            "",
            json!({ "Cmd": ["sh", "-c", script], "HostConfig": { "Binds": binds } }),
        )
        .await;
        act(&engine, "POST", &format!("/containers/{id}/start")).await;
        assert_eq!(crate::client::wait(&engine, &id).await, 0, "{script}");
    }
}

#[tokio::test]
async fn engine_wide_views_count_what_is_there() {
    let engine = engine();
    run(&engine, "web", "sleep 1000").await;
    output(&engine, "true").await;
    let info = get(&engine, "/info").await.json();
    assert_eq!(
        (
            &info["Containers"],
            &info["ContainersRunning"],
            &info["ContainersStopped"]
        ),
        (&json!(2), &json!(1), &json!(1))
    );
    let usage = get(&engine, "/system/df").await.json();
    assert_eq!(usage["Containers"].as_array().unwrap().len(), 2);
    let only = get(&engine, "/system/df?type=volume").await.json();
    assert_eq!(
        (only["Images"].clone(), only["Volumes"].clone()),
        (Value::Null, json!([]))
    );
    let top = get(&engine, "/containers/web/top").await.json();
    assert_eq!(top["Processes"][0][7], "sh -c sleep 1000");
}

#[tokio::test]
async fn a_range_is_where_addresses_come_from_until_it_is_used_up() {
    let engine = engine();
    let config = json!([{ "Subnet": "10.9.0.0/24", "IPRange": "10.9.0.8/31" }]);
    post(
        &engine,
        "/networks/create",
        json!({ "Name": "back", "IPAM": { "Config": config } }),
    )
    .await;
    let mut statuses = Vec::new();
    for name in ["one", "two", "three"] {
        let body = json!({ "Cmd": ["sleep", "100"], "HostConfig": { "NetworkMode": "back" } });
        create(&engine, name, body).await;
        let path = format!("/containers/{name}/start");
        statuses.push(call(&engine, "POST", &path, None).await.status.as_u16());
    }
    assert_eq!(statuses, [204, 204, 500]);
    let view = inspect(&engine, "two").await["NetworkSettings"]["Networks"].clone();
    assert_eq!(view["back"]["IPAddress"], "10.9.0.9");
    act(&engine, "POST", "/containers/one/kill").await;
    act(&engine, "POST", "/containers/three/start").await;
    let outside = json!([{ "Subnet": "10.10.0.0/24", "IPRange": "10.11.0.0/29" }]);
    let refused = post(
        &engine,
        "/networks/create",
        json!({ "Name": "bad", "IPAM": { "Config": outside } }),
    )
    .await;
    assert_eq!(refused.status, 400, "{}", refused.text());
}

#[tokio::test]
async fn a_link_is_a_name_with_an_address_and_variables() {
    let engine = engine();
    let server =
        json!({ "Cmd": ["sleep", "100"], "Env": ["MODE=fast"], "ExposedPorts": { "80/tcp": {} } });
    create(&engine, "server", server).await;
    let client = json!({
        "Cmd": ["sh", "-c", "grep db-1 /etc/hosts; env | grep DB_1"],
        "HostConfig": { "Links": ["server:db-1"] },
    });
    create(&engine, "client", client).await;
    let refused = call(&engine, "POST", "/containers/client/start", None).await;
    assert_eq!(
        refused.message(),
        "Cannot link to a non running container: /server AS /client/db-1"
    );
    act(&engine, "POST", "/containers/server/start").await;
    act(&engine, "POST", "/containers/client/start").await;
    crate::client::wait(&engine, "client").await;
    let logs = get(&engine, "/containers/client/logs?stdout=1").await;
    let id = inspect(&engine, "server").await["Id"].as_str().unwrap()[..12].to_owned();
    assert_eq!(
        crate::client::split(&logs.body).0,
        format!(
            "172.17.0.2\tdb-1 {id} server\n\
             DB_1_PORT=tcp://172.17.0.2:80\nDB_1_PORT_80_TCP=tcp://172.17.0.2:80\n\
             DB_1_PORT_80_TCP_ADDR=172.17.0.2\nDB_1_PORT_80_TCP_PORT=80\nDB_1_PORT_80_TCP_PROTO=tcp\n\
             DB_1_NAME=/client/db-1\nDB_1_ENV_MODE=fast\n"
        )
    );
    let names = get(&engine, "/containers/json").await.json();
    assert_eq!(names[0]["Names"], json!(["/client/db-1", "/server"]));
    act(&engine, "POST", "/containers/server/rename?name=other").await;
    act(&engine, "DELETE", "/containers/client/db-1?link=1").await;
    assert_eq!(
        inspect(&engine, "client").await["HostConfig"]["Links"],
        Value::Null
    );
    let own = call(&engine, "DELETE", "/containers/client?link=1", None).await;
    assert_eq!(own.status, 500);
}
