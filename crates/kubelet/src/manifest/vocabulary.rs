//! Every field a Kubernetes Pod can have, and what berth does with those it does not read.
//!
//! Owns the names, taken from the Kubernetes API types (core/v1 of release 1.37). Refuses to know how a field is read: what a reader
//! has not taken when it closes an object is looked up here and refused, warned about or passed over by name. So a field that
//! nobody reads cannot be accepted by accident.

/// One field of an object.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) fate: Fate,
}

/// What becomes of a field that was not read.
pub(super) enum Fate {
    /// berth reads it.
    Read,
    /// berth does not support it yet: refused, except where it has one of these values, which change nothing.
    Later(Shape, &'static [&'static str]),
    /// It cannot matter on one host: a warning with the reason, except where it has one of these values.
    Ignored(Shape, &'static [&'static str], &'static str),
}

/// The form of a value berth does not read, so that typos in it are found all the same.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    /// Not looked into.
    Any,
    Text,
    Number,
    Truth,
    /// A quantity, or a port by number or name: text or a number.
    TextOrNumber,
    List(&'static Shape),
    Map(&'static Shape),
    Object(&'static [Field]),
}

use Shape::{Any, List, Map, Number, Object, Text, TextOrNumber, Truth};

const fn read(name: &'static str) -> Field {
    Field {
        name,
        fate: Fate::Read,
    }
}

const fn later(name: &'static str, shape: Shape) -> Field {
    Field {
        name,
        fate: Fate::Later(shape, &[]),
    }
}

const fn later_unless(
    name: &'static str,
    shape: Shape,
    harmless: &'static [&'static str],
) -> Field {
    Field {
        name,
        fate: Fate::Later(shape, harmless),
    }
}

const fn ignored(name: &'static str, shape: Shape, why: &'static str) -> Field {
    Field {
        name,
        fate: Fate::Ignored(shape, &[], why),
    }
}

const fn ignored_unless(
    name: &'static str,
    shape: Shape,
    harmless: &'static [&'static str],
    why: &'static str,
) -> Field {
    Field {
        name,
        fate: Fate::Ignored(shape, harmless, why),
    }
}

const TEXTS: Shape = List(&Text);
const TEXT_MAP: Shape = Map(&Text);
const AMOUNTS: Shape = Map(&TextOrNumber);

const BY_SERVER: &str = "an API server writes it";
const ONE_HOST: &str = "berth runs every pod on this host";
const NO_SERVER: &str = "there is no API server to give the pod an identity";

pub(super) const LIST: &[Field] = &[
    read("apiVersion"),
    read("kind"),
    read("metadata"),
    read("items"),
];

pub(super) const LIST_META: &[Field] = &[
    read("selfLink"),
    read("resourceVersion"),
    read("continue"),
    read("remainingItemCount"),
];

pub(super) const POD: &[Field] = &[
    read("apiVersion"),
    read("kind"),
    read("metadata"),
    read("spec"),
    ignored("status", Any, "berth works it out itself"),
];

pub(super) const OBJECT_META: &[Field] = &[
    read("name"),
    later("generateName", Text),
    read("namespace"),
    ignored("selfLink", Text, BY_SERVER),
    read("uid"),
    ignored("resourceVersion", Text, BY_SERVER),
    ignored("generation", Number, BY_SERVER),
    ignored("creationTimestamp", Text, BY_SERVER),
    ignored("deletionTimestamp", Text, BY_SERVER),
    ignored("deletionGracePeriodSeconds", Number, BY_SERVER),
    read("labels"),
    read("annotations"),
    ignored(
        "ownerReferences",
        List(&Any),
        "no controller owns pods here",
    ),
    ignored("finalizers", TEXTS, "no controller owns pods here"),
    ignored("managedFields", List(&Any), BY_SERVER),
];

pub(super) const POD_SPEC: &[Field] = &[
    read("volumes"),
    later("initContainers", List(&Object(CONTAINER))),
    read("containers"),
    later("ephemeralContainers", List(&Any)),
    read("restartPolicy"),
    read("terminationGracePeriodSeconds"),
    later("activeDeadlineSeconds", Number),
    read("dnsPolicy"),
    ignored("nodeSelector", TEXT_MAP, ONE_HOST),
    ignored_unless("serviceAccountName", Text, &["default"], NO_SERVER),
    ignored_unless("serviceAccount", Text, &["default"], NO_SERVER),
    later_unless("automountServiceAccountToken", Truth, &["false"]),
    ignored("nodeName", Text, ONE_HOST),
    read("hostNetwork"),
    read("hostPID"),
    read("hostIPC"),
    later_unless("shareProcessNamespace", Truth, &["false"]),
    read("securityContext"),
    later("imagePullSecrets", List(&Object(LOCAL_REFERENCE))),
    read("hostname"),
    later("subdomain", Text),
    ignored("affinity", Any, ONE_HOST),
    ignored_unless("schedulerName", Text, &["default-scheduler"], ONE_HOST),
    ignored("tolerations", List(&Object(TOLERATION)), ONE_HOST),
    read("hostAliases"),
    ignored("priorityClassName", Text, ONE_HOST),
    ignored_unless("priority", Number, &["0"], ONE_HOST),
    read("dnsConfig"),
    later("readinessGates", List(&Any)),
    later("runtimeClassName", Text),
    // There are no Services here, so there is nothing to link, whichever way it is set.
    later_unless("enableServiceLinks", Truth, &["true", "false"]),
    ignored_unless(
        "preemptionPolicy",
        Text,
        &["PreemptLowerPriority"],
        ONE_HOST,
    ),
    ignored("overhead", AMOUNTS, ONE_HOST),
    ignored("topologySpreadConstraints", List(&Any), ONE_HOST),
    later_unless("setHostnameAsFQDN", Truth, &["false"]),
    read("os"),
    later_unless("hostUsers", Truth, &["true"]),
    later("schedulingGates", List(&Any)),
    later("resourceClaims", List(&Any)),
    later("resources", Object(RESOURCES)),
    later("hostnameOverride", Text),
    ignored("schedulingGroup", Any, ONE_HOST),
    later("evictionResponders", List(&Any)),
];

const LOCAL_REFERENCE: &[Field] = &[later("name", Text)];

const TOLERATION: &[Field] = &[
    later("key", Text),
    later("operator", Text),
    later("value", Text),
    later("effect", Text),
    later("tolerationSeconds", Number),
];

pub(super) const POD_OS: &[Field] = &[read("name")];

pub(super) const POD_SECURITY_CONTEXT: &[Field] = &[
    later("seLinuxOptions", Object(SE_LINUX_OPTIONS)),
    later("windowsOptions", Any),
    read("runAsUser"),
    read("runAsGroup"),
    read("runAsNonRoot"),
    read("supplementalGroups"),
    later_unless("supplementalGroupsPolicy", Text, &["Merge"]),
    later("fsGroup", Number),
    later("sysctls", List(&Object(NAME_VALUE))),
    later("fsGroupChangePolicy", Text),
    read("seccompProfile"),
    later("appArmorProfile", Object(PROFILE)),
    later("seLinuxChangePolicy", Text),
];

const SE_LINUX_OPTIONS: &[Field] = &[
    later("user", Text),
    later("role", Text),
    later("type", Text),
    later("level", Text),
];

const NAME_VALUE: &[Field] = &[later("name", Text), later("value", Text)];

const PROFILE: &[Field] = &[later("type", Text), later("localhostProfile", Text)];

pub(super) const SECCOMP_PROFILE: &[Field] = &[read("type"), later("localhostProfile", Text)];

pub(super) const DNS_CONFIG: &[Field] = &[read("nameservers"), read("searches"), read("options")];

pub(super) const DNS_OPTION: &[Field] = &[read("name"), read("value")];

pub(super) const HOST_ALIAS: &[Field] = &[read("ip"), read("hostnames")];

pub(super) const CONTAINER: &[Field] = &[
    read("name"),
    read("image"),
    read("command"),
    read("args"),
    read("workingDir"),
    read("ports"),
    later("envFrom", List(&Object(ENV_FROM))),
    read("env"),
    read("resources"),
    ignored(
        "resizePolicy",
        List(&Any),
        "changed resources restart the container",
    ),
    later("restartPolicy", Text),
    later("restartPolicyRules", List(&Any)),
    read("volumeMounts"),
    later("volumeDevices", List(&Any)),
    later("livenessProbe", Object(PROBE)),
    later("readinessProbe", Object(PROBE)),
    later("startupProbe", Object(PROBE)),
    later("lifecycle", Object(LIFECYCLE)),
    // The values API defaulting writes. Writing a default out must not differ from leaving it out.
    later_unless("terminationMessagePath", Text, &["/dev/termination-log"]),
    later_unless("terminationMessagePolicy", Text, &["File"]),
    read("imagePullPolicy"),
    read("securityContext"),
    read("stdin"),
    read("stdinOnce"),
    read("tty"),
];

const ENV_FROM: &[Field] = &[
    later("prefix", Text),
    later("configMapRef", Object(OPTIONAL_REFERENCE)),
    later("secretRef", Object(OPTIONAL_REFERENCE)),
];

const OPTIONAL_REFERENCE: &[Field] = &[later("name", Text), later("optional", Truth)];

const PROBE: &[Field] = &[
    later("exec", Object(EXEC)),
    later("httpGet", Object(HTTP_GET)),
    later("tcpSocket", Object(TCP_SOCKET)),
    later("grpc", Object(GRPC)),
    later("initialDelaySeconds", Number),
    later("timeoutSeconds", Number),
    later("periodSeconds", Number),
    later("successThreshold", Number),
    later("failureThreshold", Number),
    later("terminationGracePeriodSeconds", Number),
];

const LIFECYCLE: &[Field] = &[
    later("postStart", Object(HANDLER)),
    later("preStop", Object(HANDLER)),
    later("stopSignal", Text),
];

const HANDLER: &[Field] = &[
    later("exec", Object(EXEC)),
    later("httpGet", Object(HTTP_GET)),
    later("tcpSocket", Object(TCP_SOCKET)),
    later("sleep", Object(&[later("seconds", Number)])),
];

const EXEC: &[Field] = &[later("command", TEXTS)];

const HTTP_GET: &[Field] = &[
    later("path", Text),
    later("port", TextOrNumber),
    later("host", Text),
    later("scheme", Text),
    later("httpHeaders", List(&Object(NAME_VALUE))),
    later("protocol", Text),
];

const TCP_SOCKET: &[Field] = &[later("port", TextOrNumber), later("host", Text)];

const GRPC: &[Field] = &[
    later("port", Number),
    later("service", Text),
    later("mode", Text),
];

pub(super) const CONTAINER_PORT: &[Field] = &[
    read("name"),
    read("hostPort"),
    read("containerPort"),
    read("protocol"),
    read("hostIP"),
];

pub(super) const ENV_VAR: &[Field] = &[read("name"), read("value"), read("valueFrom")];

pub(super) const ENV_VAR_SOURCE: &[Field] = &[
    read("fieldRef"),
    later("resourceFieldRef", Object(RESOURCE_FIELD)),
    later("configMapKeyRef", Object(KEY_REFERENCE)),
    later("secretKeyRef", Object(KEY_REFERENCE)),
    later("fileKeyRef", Any),
];

pub(super) const OBJECT_FIELD: &[Field] = &[read("apiVersion"), read("fieldPath")];

const RESOURCE_FIELD: &[Field] = &[
    later("containerName", Text),
    later("resource", Text),
    later("divisor", TextOrNumber),
];

const KEY_REFERENCE: &[Field] = &[
    later("name", Text),
    later("key", Text),
    later("optional", Truth),
];

pub(super) const RESOURCES: &[Field] = &[
    read("limits"),
    read("requests"),
    later("claims", List(&Any)),
];

pub(super) const VOLUME_MOUNT: &[Field] = &[
    read("name"),
    read("readOnly"),
    later_unless("recursiveReadOnly", Text, &["Disabled"]),
    read("mountPath"),
    read("subPath"),
    later_unless("mountPropagation", Text, &["None"]),
    later("subPathExpr", Text),
    later("bindMountOptions", TEXTS),
];

pub(super) const SECURITY_CONTEXT: &[Field] = &[
    read("capabilities"),
    read("privileged"),
    later("seLinuxOptions", Object(SE_LINUX_OPTIONS)),
    later("windowsOptions", Any),
    read("runAsUser"),
    read("runAsGroup"),
    read("runAsNonRoot"),
    read("readOnlyRootFilesystem"),
    read("allowPrivilegeEscalation"),
    later_unless("procMount", Text, &["Default"]),
    read("seccompProfile"),
    later("appArmorProfile", Object(PROFILE)),
];

pub(super) const CAPABILITIES: &[Field] = &[read("add"), read("drop")];

pub(super) const VOLUME: &[Field] = &[
    read("name"),
    read("hostPath"),
    read("emptyDir"),
    later("gcePersistentDisk", Any),
    later("awsElasticBlockStore", Any),
    later("gitRepo", Any),
    later("secret", Object(SECRET_VOLUME)),
    later("nfs", Object(NFS_VOLUME)),
    later("iscsi", Any),
    later("glusterfs", Any),
    later("persistentVolumeClaim", Object(CLAIM_VOLUME)),
    later("rbd", Any),
    later("flexVolume", Any),
    later("cinder", Any),
    later("cephfs", Any),
    later("flocker", Any),
    later("downwardAPI", Object(DOWNWARD_VOLUME)),
    later("fc", Any),
    later("azureFile", Any),
    later("configMap", Object(CONFIG_MAP_VOLUME)),
    later("vsphereVolume", Any),
    later("quobyte", Any),
    later("azureDisk", Any),
    later("photonPersistentDisk", Any),
    later("projected", Object(PROJECTED_VOLUME)),
    later("portworxVolume", Any),
    later("scaleIO", Any),
    later("storageos", Any),
    later("csi", Object(CSI_VOLUME)),
    later("ephemeral", Any),
    later("image", Object(IMAGE_VOLUME)),
];

pub(super) const HOST_PATH: &[Field] = &[read("path"), read("type")];

pub(super) const EMPTY_DIR: &[Field] = &[read("medium"), read("sizeLimit"), later("mode", Number)];

const KEY_TO_PATH: &[Field] = &[
    later("key", Text),
    later("path", Text),
    later("mode", Number),
    later("user", Number),
];

const SECRET_VOLUME: &[Field] = &[
    later("secretName", Text),
    later("items", List(&Object(KEY_TO_PATH))),
    later("defaultMode", Number),
    later("optional", Truth),
    later("defaultUser", Number),
];

const CONFIG_MAP_VOLUME: &[Field] = &[
    later("name", Text),
    later("items", List(&Object(KEY_TO_PATH))),
    later("defaultMode", Number),
    later("optional", Truth),
    later("defaultUser", Number),
];

const NFS_VOLUME: &[Field] = &[
    later("server", Text),
    later("path", Text),
    later("readOnly", Truth),
];

const CLAIM_VOLUME: &[Field] = &[later("claimName", Text), later("readOnly", Truth)];

const DOWNWARD_VOLUME: &[Field] = &[
    later("items", List(&Object(DOWNWARD_FILE))),
    later("defaultMode", Number),
    later("defaultUser", Number),
];

const DOWNWARD_FILE: &[Field] = &[
    later("path", Text),
    later(
        "fieldRef",
        Object(&[later("apiVersion", Text), later("fieldPath", Text)]),
    ),
    later("resourceFieldRef", Object(RESOURCE_FIELD)),
    later("mode", Number),
    later("user", Number),
];

const PROJECTED_VOLUME: &[Field] = &[
    later("sources", List(&Object(PROJECTION))),
    later("defaultMode", Number),
    later("defaultUser", Number),
];

const PROJECTION: &[Field] = &[
    later("secret", Object(REFERENCE_PROJECTION)),
    later(
        "downwardAPI",
        Object(&[later("items", List(&Object(DOWNWARD_FILE)))]),
    ),
    later("configMap", Object(REFERENCE_PROJECTION)),
    later("serviceAccountToken", Object(TOKEN_PROJECTION)),
    later("clusterTrustBundle", Any),
    later("podCertificate", Any),
];

const REFERENCE_PROJECTION: &[Field] = &[
    later("name", Text),
    later("items", List(&Object(KEY_TO_PATH))),
    later("optional", Truth),
];

const TOKEN_PROJECTION: &[Field] = &[
    later("audience", Text),
    later("expirationSeconds", Number),
    later("path", Text),
    later("user", Number),
];

const CSI_VOLUME: &[Field] = &[
    later("driver", Text),
    later("readOnly", Truth),
    later("fsType", Text),
    later("volumeAttributes", TEXT_MAP),
    later("nodePublishSecretRef", Object(LOCAL_REFERENCE)),
];

const IMAGE_VOLUME: &[Field] = &[later("reference", Text), later("pullPolicy", Text)];

/// The objects whose fields are often put one level too high or too low, and where they stand.
pub(super) const PLACES: &[(&str, &[Field])] = &[
    ("metadata", OBJECT_META),
    ("spec", POD_SPEC),
    ("spec.containers[]", CONTAINER),
    ("spec.securityContext", POD_SECURITY_CONTEXT),
    ("spec.containers[].securityContext", SECURITY_CONTEXT),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_object_names_a_field_twice() {
        for table in [
            LIST,
            LIST_META,
            POD,
            OBJECT_META,
            POD_SPEC,
            CONTAINER,
            VOLUME,
            SECURITY_CONTEXT,
            POD_SECURITY_CONTEXT,
            PROBE,
        ] {
            for (index, field) in table.iter().enumerate() {
                assert!(
                    table[..index].iter().all(|other| other.name != field.name),
                    "{}",
                    field.name
                );
            }
        }
    }
}
