//! Owns what the engine says about itself: ping, version, info.

use serde_json::{Value, json};

use crate::containers::container::Phase;
use crate::http::{Answer, Call, json, set_header, typed};
use crate::images::store::architecture;
use crate::time::{rfc3339, rfc3339_fixed};

/// Where the engine says it keeps its data; nothing is there.
pub(crate) const ROOT: &str = "/var/lib/docker";
/// The processors of the pretended host.
pub(crate) const CPUS: u32 = 4;
/// The memory of the pretended host.
pub(crate) const MEMORY: u64 = 8 << 30;
/// The kernel of the pretended host.
pub(crate) const KERNEL: &str = "6.8.0-fake";
/// The name of the pretended host.
pub(crate) const HOST: &str = "fake-engine";
const GO: &str = "go1.23.0";
const COMMIT: &str = "0000000";
const BUILT: &str = "2025-01-01T00:00:00.000000000+00:00";

/// The machine as `uname -m` names it.
pub(crate) fn machine() -> &'static str {
    std::env::consts::ARCH
}

/// `GET` and `HEAD /_ping`
pub(crate) async fn ping(call: Call) -> Answer {
    let mut reply = typed(
        "text/plain; charset=utf-8",
        if call.head {
            crate::http::empty()
        } else {
            crate::http::full("OK")
        },
    );
    set_header(&mut reply, "builder-version", "2");
    set_header(&mut reply, "swarm", "inactive");
    set_header(
        &mut reply,
        "cache-control",
        "no-cache, no-store, must-revalidate",
    );
    set_header(&mut reply, "pragma", "no-cache");
    if call.head {
        set_header(&mut reply, "content-length", "0");
    }
    Ok(reply.into())
}

/// `GET /version`
pub(crate) async fn version(call: Call) -> Answer {
    let state = call.engine.state();
    let (release, api, min) = (
        state.api.engine_release(),
        state.api.to_string(),
        state.min_api.to_string(),
    );
    let details = json!({
        "ApiVersion": api, "Arch": architecture(), "BuildTime": BUILT, "Experimental": "false", "GitCommit": COMMIT,
        "GoVersion": GO, "KernelVersion": KERNEL, "MinAPIVersion": min, "Os": "linux",
    });
    Ok(json(&json!({
        "Platform": { "Name": concat!("berth fake engine ", env!("CARGO_PKG_VERSION")) },
        "Components": [{ "Name": "Engine", "Version": release, "Details": details }],
        "Version": release,
        "ApiVersion": api,
        "MinAPIVersion": min,
        "GitCommit": COMMIT,
        "GoVersion": GO,
        "Os": "linux",
        "Arch": architecture(),
        "KernelVersion": KERNEL,
        "BuildTime": BUILT,
    }))
    .into())
}

/// `GET /info`
pub(crate) async fn info(call: Call) -> Answer {
    let state = call.engine.state();
    let count = |phases: &[Phase]| {
        state
            .containers
            .values()
            .filter(|c| phases.contains(&c.phase))
            .count()
    };
    let runtime = json!({ "path": "runc" });
    let commit = |id: &str| match call.api.at_least(49) {
        true => json!({ "ID": id }),
        false => json!({ "ID": id, "Expected": id }),
    };
    let mut info = json!({
        "ID": state.engine_id,
        "Containers": state.containers.len(),
        "ContainersRunning": count(&[Phase::Running, Phase::Restarting]),
        "ContainersPaused": count(&[Phase::Paused]),
        "ContainersStopped": count(&[Phase::Created, Phase::Exited]),
        "Images": state.images.images.len(),
        "Driver": "overlay2",
        "DriverStatus": [["Backing Filesystem", "extfs"], ["Supports d_type", "true"], ["Native Overlay Diff", "true"], ["userxattr", "false"]],
        "Plugins": { "Volume": ["local"], "Network": ["bridge", "host", "null"], "Authorization": null, "Log": ["json-file", "none"] },
        "MemoryLimit": true, "SwapLimit": true, "CpuCfsPeriod": true, "CpuCfsQuota": true, "CPUShares": true, "CPUSet": true,
        "PidsLimit": true, "IPv4Forwarding": true, "BridgeNfIptables": true, "BridgeNfIp6tables": true, "Debug": false,
        "NFd": 30, "OomKillDisable": false, "NGoroutines": 40,
    });
    let middle = json!({
        "SystemTime": rfc3339(call.engine.clock.nanos()),
        "LoggingDriver": "json-file", "CgroupDriver": "cgroupfs", "CgroupVersion": "2", "NEventsListener": call.engine.bus().listeners(),
        "KernelVersion": KERNEL, "OperatingSystem": concat!("berth fake engine ", env!("CARGO_PKG_VERSION")), "OSVersion": "",
        "OSType": "linux", "Architecture": machine(), "NCPU": CPUS, "MemTotal": MEMORY,
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {
            "InsecureRegistryCIDRs": ["127.0.0.0/8"],
            "IndexConfigs": { "docker.io": { "Name": "docker.io", "Mirrors": [], "Secure": true, "Official": true } },
            "Mirrors": [],
        },
    });
    let rest = json!({
        "GenericResources": null,
        "DockerRootDir": ROOT,
        "HttpProxy": "", "HttpsProxy": "", "NoProxy": "",
        "Name": HOST, "Labels": [], "ExperimentalBuild": false, "ServerVersion": state.api.engine_release(),
        "Runtimes": { "runc": runtime, "io.containerd.runc.v2": runtime }, "DefaultRuntime": "runc",
        "Swarm": { "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "", "RemoteManagers": null },
        "LiveRestoreEnabled": true, "Isolation": "", "InitBinary": "docker-init",
        "ContainerdCommit": commit(COMMIT), "RuncCommit": commit(COMMIT), "InitCommit": commit(COMMIT),
        "SecurityOptions": ["name=seccomp,profile=builtin", "name=cgroupns"],
        "Warnings": null,
    });
    // In three parts: one would nest too deep for the macro.
    for part in [middle, rest] {
        if let (Value::Object(info), Value::Object(part)) = (&mut info, part) {
            info.extend(part);
        }
    }
    if !call.api.at_least(42) {
        (info["KernelMemory"], info["KernelMemoryTCP"]) = (json!(true), json!(true));
    }
    if call.api.at_least(44) {
        info["CDISpecDirs"] = json!([]);
    }
    Ok(json(&info).into())
}

/// `POST /build/prune`: there is no build cache.
pub(crate) async fn prune_build(_: Call) -> Answer {
    Ok(json(&json!({ "CachesDeleted": null, "SpaceReclaimed": 0 })).into())
}

/// `GET /plugins`: there are none.
pub(crate) async fn plugins(_: Call) -> Answer {
    Ok(json(&json!([])).into())
}

/// A time as stats show it.
pub(crate) fn sample_time(nanos: u64) -> String {
    rfc3339_fixed(nanos)
}
