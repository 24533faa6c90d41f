//! Resources: limits at the start, and in place.

use berth_cri::v1;
use tonic::Code;

use crate::calls::{
    container_config, container_status, create, exec_sync, run, run_sandbox, start,
};
use crate::server::Server;

/// A kubelet names a limit for each size that the kernel has.
///
/// The quick ones end just when they are changed: before, at and after the look into their cgroup.
pub(crate) async fn limits_of_huge_pages_keep_no_container_from_starting(server: &mut Server) {
    let sandbox = run_sandbox(server, "huge").await;
    let quick = (0..10).map(|n| (format!("quick-{n}"), "true"));
    for (name, script) in quick.chain([("slow".to_owned(), "sleep 600")]) {
        let mut config = container_config(&name, script);
        let linux = config.linux.as_mut().unwrap();
        let limit = |size: &str| v1::HugepageLimit {
            page_size: size.to_owned(),
            limit: 0,
        };
        linux.resources = Some(v1::LinuxContainerResources {
            hugepage_limits: vec![limit("2MB"), limit("1GB"), limit("3PB")],
            ..Default::default()
        });
        let id = create(server, &sandbox, config).await;
        start(server, &id).await;
        let request = v1::UpdateContainerResourcesRequest {
            container_id: id.clone(),
            linux: Some(v1::LinuxContainerResources {
                unified: [("no.such.file".to_owned(), "1".to_owned())].into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let error = server
            .runtime
            .update_container_resources(request)
            .await
            .unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    }
}

pub(crate) async fn resources_are_changed_in_place(server: &mut Server) {
    let sandbox = run_sandbox(server, "resize").await;
    let id = run(server, &sandbox, "app", "sleep 600").await;
    let before = container_status(server, &id).await.unwrap();
    let wanted = v1::LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 50_000,
        cpu_shares: 512,
        memory_limit_in_bytes: 64 << 20,
        ..Default::default()
    };
    let request = v1::UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(wanted.clone()),
        ..Default::default()
    };
    server
        .runtime
        .update_container_resources(request)
        .await
        .unwrap();
    let status = container_status(server, &id).await.unwrap();
    let shown = status.resources.unwrap().linux.unwrap();
    assert_eq!(
        (
            shown.cpu_quota,
            shown.cpu_shares,
            shown.memory_limit_in_bytes
        ),
        (50_000, 512, 64 << 20)
    );
    assert_eq!(status.started_at, before.started_at, "it runs on");
    if server.fake.is_none() {
        let look = "cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null";
        let seen = exec_sync(server, &id, look, 0).await.unwrap();
        assert!(seen.stdout.starts_with(b"50000"), "{seen:?}");
    }
}

/// The kubelet has changed the pod's cgroup by itself; there is nothing to be done, but for a pod that is there.
pub(crate) async fn resources_of_a_pod_are_the_kubelets(server: &mut Server) {
    let sandbox = run_sandbox(server, "resources").await;
    for (id, code) in [(sandbox, Code::Ok), ("f".repeat(64), Code::NotFound)] {
        let request = v1::UpdatePodSandboxResourcesRequest {
            pod_sandbox_id: id,
            ..Default::default()
        };
        let reply = server.runtime.update_pod_sandbox_resources(request).await;
        assert_eq!(reply.err().map_or(Code::Ok, |status| status.code()), code);
    }
}
