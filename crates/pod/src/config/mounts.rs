//! What a container sees at paths of its own, in Docker's words. Pure.

use berth_docker::ApiVersion;
use berth_docker::model::{
    BindOptions, HostConfig, ImageOptions, Mount as DockerMount, MountType, VolumeOptions,
};

use super::{EngineFacts, Unsupported};
use crate::labels;
use crate::spec::{Mount, MountSource, PodIdentity, Propagation};

/// Where the sandbox holds the pod's directories, so that they outlive each container.
pub const VOLUMES_PATH: &str = "/volumes";

/// Since when engines mount the files of images (Docker Engine 28).
pub const IMAGE_MOUNTS: ApiVersion = ApiVersion::new(1, 48);

/// A pod's directory as the sandbox holds it.
pub(super) fn held(volume: &str, pod: &PodIdentity) -> DockerMount {
    DockerMount {
        kind: MountType::Volume,
        source: labels::volume_name(volume, pod),
        target: format!("{VOLUMES_PATH}/{volume}"),
        ..Default::default()
    }
}

pub(super) fn add(
    mount: &Mount,
    pod: &PodIdentity,
    facts: EngineFacts,
    host: &mut HostConfig,
) -> Result<(), Unsupported> {
    if mount.recursive_read_only {
        check_recursive(mount, facts)?;
    }
    match &mount.source {
        MountSource::Host { path, create } => add_host(mount, path, *create, facts, host),
        MountSource::Pod { volume, sub_path } => {
            if !sub_path.is_empty() && facts.version < ApiVersion::new(1, 45) {
                return Err(Unsupported::Spec(format!(
                    "subPath {sub_path:?} of the emptyDir {volume:?} needs API 1.45 (Docker Engine 26); this engine speaks {}",
                    facts.version
                )));
            }
            host.mounts.push(DockerMount {
                kind: MountType::Volume,
                source: labels::volume_name(volume, pod),
                target: mount.path.clone(),
                read_only: mount.read_only,
                volume_options: Some(VolumeOptions {
                    no_copy: true,
                    subpath: sub_path.clone(),
                    ..Default::default()
                }),
                ..Default::default()
            });
            Ok(())
        }
        MountSource::Image { image, sub_path } => {
            if facts.version < IMAGE_MOUNTS {
                return Err(Unsupported::ImageMount(format!(
                    "mounting the image {image:?} at {:?} needs API 1.48 (Docker Engine 28); this engine speaks {}",
                    mount.path, facts.version
                )));
            }
            host.mounts.push(DockerMount {
                kind: MountType::Image,
                source: image.clone(),
                target: mount.path.clone(),
                read_only: true,
                image_options: Some(ImageOptions {
                    subpath: sub_path.clone(),
                }),
                ..Default::default()
            });
            Ok(())
        }
    }
}

fn check_recursive(mount: &Mount, facts: EngineFacts) -> Result<(), Unsupported> {
    let what = if !mount.read_only {
        "must be read-only to be recursively read-only".to_owned()
    } else if mount.propagation != Propagation::Private {
        "can be recursively read-only only with private propagation".to_owned()
    } else if facts.version < ApiVersion::new(1, 44) {
        format!(
            "can be recursively read-only from API 1.44 (Docker Engine 25) on; this engine speaks {}",
            facts.version
        )
    } else {
        return Ok(());
    };
    Err(Unsupported::RecursiveReadOnly(format!(
        "the mount at {:?} {what}",
        mount.path
    )))
}

fn add_host(
    mount: &Mount,
    path: &str,
    create: bool,
    facts: EngineFacts,
    host: &mut HostConfig,
) -> Result<(), Unsupported> {
    let propagation = match mount.propagation {
        // The engine's default, which it has to be asked for by name only where a mount is recursively read-only. Elsewhere it must not be:
        // what holds the engine's own directory, like `/`, is refused with it, and is mounted as a slave without.
        Propagation::Private if mount.recursive_read_only => "rprivate",
        Propagation::Private => "",
        Propagation::HostToContainer => "rslave",
        Propagation::Bidirectional => "rshared",
    };
    let relabel = mount.selinux_relabel && facts.selinux;
    // Engines below API 1.42 make a missing directory only for the older form, in which a colon separates; and only that form relabels.
    if relabel || (create && facts.version < ApiVersion::new(1, 42)) {
        if path.contains(':') || mount.path.contains(':') {
            let why = if relabel {
                "relabels for SELinux only without one"
            } else {
                "takes from API 1.42 on"
            };
            return Err(Unsupported::Spec(format!(
                "the host path {path:?} or its mount path {:?} has a colon, which Docker Engine {why}",
                mount.path
            )));
        }
        let access = if mount.read_only { "ro" } else { "rw" };
        let label = if relabel { "Z" } else { "" };
        let mut modes = vec![access, propagation, label];
        modes.retain(|mode| !mode.is_empty());
        let modes = modes.join(",");
        host.binds.push(format!("{path}:{}:{modes}", mount.path));
        return Ok(());
    }
    let recursion = mount.read_only && facts.version >= ApiVersion::new(1, 44);
    host.mounts.push(DockerMount {
        kind: MountType::Bind,
        source: path.to_owned(),
        target: mount.path.clone(),
        read_only: mount.read_only,
        bind_options: Some(BindOptions {
            propagation: propagation.to_owned(),
            create_mountpoint: create,
            // Engines since API 1.44 would do it recursively without being asked.
            read_only_non_recursive: recursion && !mount.recursive_read_only,
            read_only_force_recursive: recursion && mount.recursive_read_only,
            ..Default::default()
        }),
        ..Default::default()
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(minor: u16) -> EngineFacts {
        EngineFacts {
            version: ApiVersion::new(1, minor),
            systemd_cgroups: false,
            selinux: false,
        }
    }

    fn host_mount() -> Mount {
        let source = MountSource::Host {
            path: "/data".to_owned(),
            create: true,
        };
        Mount {
            read_only: true,
            ..Mount::new(source, "/d")
        }
    }

    fn added(mount: &Mount, facts: EngineFacts) -> Result<HostConfig, Unsupported> {
        let mut host = HostConfig::default();
        add(mount, &PodIdentity::default(), facts, &mut host)?;
        Ok(host)
    }

    #[test]
    fn old_engines_get_the_form_that_makes_directories() {
        let host = added(&host_mount(), facts(41)).expect("it can be said");
        assert_eq!(host.binds, ["/data:/d:ro"]);
        let mut slave = host_mount();
        slave.propagation = Propagation::HostToContainer;
        slave.read_only = false;
        let host = added(&slave, facts(41)).expect("it can be said");
        assert_eq!(host.binds, ["/data:/d:rw,rslave"]);
        let mut colon = host_mount();
        colon.path = "/a:b".to_owned();
        assert!(added(&colon, facts(41)).is_err());
        assert!(added(&colon, facts(42)).is_ok());
    }

    #[test]
    fn a_read_only_mount_is_recursive_only_when_asked() {
        let mut mount = host_mount();
        let plain = added(&mount, facts(44)).expect("it can be said");
        let options = plain.mounts[0].bind_options.as_ref().expect("options");
        assert!(options.read_only_non_recursive && !options.read_only_force_recursive);
        mount.recursive_read_only = true;
        let recursive = added(&mount, facts(44)).expect("it can be said");
        let options = recursive.mounts[0].bind_options.as_ref().expect("options");
        assert!(!options.read_only_non_recursive && options.read_only_force_recursive);
        assert!(matches!(
            added(&mount, facts(43)),
            Err(Unsupported::RecursiveReadOnly(_))
        ));
        mount.propagation = Propagation::Bidirectional;
        assert!(added(&mount, facts(44)).is_err());
        mount.propagation = Propagation::Private;
        mount.read_only = false;
        assert!(added(&mount, facts(44)).is_err());
    }

    #[test]
    fn an_image_is_mounted_where_the_engine_can() {
        let source = MountSource::Image {
            image: "files:1".to_owned(),
            sub_path: "etc".to_owned(),
        };
        let mount = Mount::new(source, "/files");
        assert!(matches!(
            added(&mount, facts(47)),
            Err(Unsupported::ImageMount(_))
        ));
        let host = added(&mount, facts(48)).expect("it can be said");
        assert_eq!(host.mounts[0].kind, MountType::Image);
        assert!(host.mounts[0].read_only);
    }

    #[test]
    fn files_are_relabelled_only_where_there_are_labels() {
        let mut mount = host_mount();
        mount.selinux_relabel = true;
        let without = added(&mount, facts(48)).expect("it can be said");
        assert_eq!(
            (without.binds.len(), without.mounts.len()),
            (0, 1),
            "no SELinux"
        );
        let selinux = EngineFacts {
            selinux: true,
            ..facts(48)
        };
        let with = added(&mount, selinux).expect("it can be said");
        assert_eq!(with.binds, ["/data:/d:ro,Z"]);
    }
}
