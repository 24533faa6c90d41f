//! Owns the names of the operations: what call counters and faults are keyed by. Knows no paths and no behaviour.

use serde::{Deserialize, Serialize};

macro_rules! operations {
    ($($variant:ident => $name:literal, $doc:literal;)*) => {
        /// One operation of the Engine API, named as the kubelet names it where the kubelet has a name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum Operation {
            $(#[doc = $doc] $variant,)*
        }

        impl Operation {
            /// Every operation, in declaration order.
            pub const ALL: &'static [Operation] = &[$(Operation::$variant,)*];

            /// The name in snake case, as serde spells it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Operation::$variant => $name,)* }
            }
        }
    };
}

operations! {
    Ping => "ping", "`GET` or `HEAD /_ping`";
    Version => "version", "`GET /version`";
    Info => "info", "`GET /info`";
    Auth => "auth", "`POST /auth`";
    Events => "events", "`GET /events`";
    SystemDf => "system_df", "`GET /system/df`";
    ListContainers => "list_containers", "`GET /containers/json`";
    InspectContainer => "inspect_container", "`GET /containers/{id}/json`";
    CreateContainer => "create_container", "`POST /containers/create`";
    StartContainer => "start_container", "`POST /containers/{id}/start`";
    StopContainer => "stop_container", "`POST /containers/{id}/stop`";
    RestartContainer => "restart_container", "`POST /containers/{id}/restart`";
    KillContainer => "kill_container", "`POST /containers/{id}/kill`";
    PauseContainer => "pause_container", "`POST /containers/{id}/pause`";
    UnpauseContainer => "unpause_container", "`POST /containers/{id}/unpause`";
    WaitContainer => "wait_container", "`POST /containers/{id}/wait`";
    RemoveContainer => "remove_container", "`DELETE /containers/{id}`";
    RenameContainer => "rename_container", "`POST /containers/{id}/rename`";
    UpdateContainer => "update_container", "`POST /containers/{id}/update`";
    ResizeContainer => "resize_container", "`POST /containers/{id}/resize`";
    TopContainer => "top_container", "`GET /containers/{id}/top`";
    StatsContainer => "stats_container", "`GET /containers/{id}/stats`";
    ContainerChanges => "container_changes", "`GET /containers/{id}/changes`";
    PruneContainers => "prune_containers", "`POST /containers/prune`";
    Logs => "logs", "`GET /containers/{id}/logs`";
    Attach => "attach", "`POST /containers/{id}/attach`";
    GetArchive => "get_archive", "`GET /containers/{id}/archive`";
    PutArchive => "put_archive", "`PUT /containers/{id}/archive`";
    StatArchive => "stat_archive", "`HEAD /containers/{id}/archive`";
    ExportContainer => "export_container", "`GET /containers/{id}/export`";
    CommitContainer => "commit_container", "`POST /commit`";
    CreateExec => "create_exec", "`POST /containers/{id}/exec`";
    StartExec => "start_exec", "`POST /exec/{id}/start`";
    InspectExec => "inspect_exec", "`GET /exec/{id}/json`";
    ResizeExec => "resize_exec", "`POST /exec/{id}/resize`";
    ListImages => "list_images", "`GET /images/json`";
    InspectImage => "inspect_image", "`GET /images/{name}/json`";
    ImageHistory => "image_history", "`GET /images/{name}/history`";
    PullImage => "pull_image", "`POST /images/create` with `fromImage`";
    ImportImage => "import_image", "`POST /images/create` with `fromSrc`";
    PushImage => "push_image", "`POST /images/{name}/push`";
    TagImage => "tag_image", "`POST /images/{name}/tag`";
    RemoveImage => "remove_image", "`DELETE /images/{name}`";
    LoadImage => "load_image", "`POST /images/load`";
    SaveImages => "save_images", "`GET /images/get` and `GET /images/{name}/get`";
    PruneImages => "prune_images", "`POST /images/prune`";
    SearchImages => "search_images", "`GET /images/search`";
    InspectDistribution => "inspect_distribution", "`GET /distribution/{name}/json`";
    PruneBuild => "prune_build", "`POST /build/prune`";
    ListNetworks => "list_networks", "`GET /networks`";
    InspectNetwork => "inspect_network", "`GET /networks/{id}`";
    CreateNetwork => "create_network", "`POST /networks/create`";
    ConnectNetwork => "connect_network", "`POST /networks/{id}/connect`";
    DisconnectNetwork => "disconnect_network", "`POST /networks/{id}/disconnect`";
    RemoveNetwork => "remove_network", "`DELETE /networks/{id}`";
    PruneNetworks => "prune_networks", "`POST /networks/prune`";
    ListVolumes => "list_volumes", "`GET /volumes`";
    InspectVolume => "inspect_volume", "`GET /volumes/{name}`";
    CreateVolume => "create_volume", "`POST /volumes/create`";
    RemoveVolume => "remove_volume", "`DELETE /volumes/{name}`";
    PruneVolumes => "prune_volumes", "`POST /volumes/prune`";
    ListPlugins => "list_plugins", "`GET /plugins`";
    Unserved => "unserved", "any path that this engine does not serve";
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
