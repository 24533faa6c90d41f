//! The reader as a whole: what a file says, what comes out.

use super::*;
use crate::pod::{EnvValue, FieldRef, ImagePullPolicy, PodUid, RestartPolicy};

/// A pod with one container around further lines: `spec` lines are indented by 2, `container` lines by 4.
fn pod(spec: &str, container: &str) -> String {
    let indent = |text: &str, by: usize| {
        text.lines()
            .map(|line| format!("{}{line}\n", " ".repeat(by)))
            .collect::<String>()
    };
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n{}  containers:\n  - name: app\n    image: busybox:1\n{}",
        indent(spec, 2),
        indent(container, 4)
    )
}

/// What the reader says about a file, one line for each error (strict) or else for each warning.
fn said(text: &str) -> String {
    said_with(text, Validate::Strict)
}

fn said_with(text: &str, validate: Validate) -> String {
    match parse(text.as_bytes(), "f", validate) {
        Ok(parsed) => parsed
            .warnings
            .iter()
            .map(|warning| format!("warning {warning}"))
            .collect::<Vec<_>>()
            .join("\n"),
        Err(errors) => errors.to_string(),
    }
}

fn one(text: &str) -> Pod {
    let mut parsed = parse(text.as_bytes(), "f", Validate::Strict)
        .unwrap_or_else(|errors| panic!("{text}\n{errors}"));
    assert_eq!(parsed.pods.len(), 1);
    parsed.pods.remove(0)
}

#[test]
fn a_small_pod_gets_kubernetes_defaults() {
    let pod = one(&pod("", ""));
    assert_eq!(pod.metadata.namespace, "default");
    assert_eq!(pod.metadata.uid, PodUid::derive("default", "web"));
    assert_eq!(pod.spec.restart_policy, RestartPolicy::Always);
    assert_eq!(pod.spec.termination_grace_period_seconds, 30);
    assert_eq!(
        pod.spec.containers[0].image_pull_policy,
        ImagePullPolicy::IfNotPresent
    );
    assert_eq!(pod.hostname(), "web");
}

#[test]
fn an_unknown_field_is_an_error_with_place_path_and_suggestion() {
    let text = pod("", "imagePullPolcy: Always");
    assert_eq!(
        said(&text),
        "f:9:5: spec.containers[0].imagePullPolcy: unknown field (did you mean \"imagePullPolicy\"?)"
    );
    assert_eq!(
        said_with(&text, Validate::Warn),
        "warning f:9:5: spec.containers[0].imagePullPolcy: unknown field (did you mean \"imagePullPolicy\"?); ignored"
    );
    assert_eq!(
        said(&pod("", "HostPort: 1")),
        "f:9:5: spec.containers[0].HostPort: unknown field"
    );
    assert_eq!(
        said(&pod("", "hostNetwork: true")),
        "f:9:5: spec.containers[0].hostNetwork: unknown field (it is a field of spec)"
    );
}

#[test]
fn a_field_not_supported_yet_is_refused_by_name() {
    for (spec, container, path) in [
        (
            "initContainers: [{name: a, image: b}]",
            "",
            "spec.initContainers",
        ),
        ("activeDeadlineSeconds: 5", "", "spec.activeDeadlineSeconds"),
        (
            "shareProcessNamespace: true",
            "",
            "spec.shareProcessNamespace",
        ),
        ("hostUsers: false", "", "spec.hostUsers"),
        ("imagePullSecrets: [{name: x}]", "", "spec.imagePullSecrets"),
        (
            "securityContext: {fsGroup: 1}",
            "",
            "spec.securityContext.fsGroup",
        ),
        (
            "",
            "livenessProbe: {exec: {command: [a]}}",
            "spec.containers[0].livenessProbe",
        ),
        (
            "",
            "lifecycle: {preStop: {exec: {command: [a]}}}",
            "spec.containers[0].lifecycle",
        ),
        (
            "",
            "envFrom: [{configMapRef: {name: x}}]",
            "spec.containers[0].envFrom",
        ),
        (
            "",
            "terminationMessagePath: /x",
            "spec.containers[0].terminationMessagePath",
        ),
        (
            "",
            "restartPolicy: Always",
            "spec.containers[0].restartPolicy",
        ),
    ] {
        let text = pod(spec, container);
        let said = said(&text);
        assert!(
            said.ends_with(&format!(
                ": {path}: is a Kubernetes field that berth does not support yet"
            )),
            "{said}"
        );
        assert!(!said.contains('\n'), "{said}");
        let warned = said_with(&text, Validate::Warn);
        assert!(
            warned.starts_with("warning ") && warned.ends_with("; ignored"),
            "{warned}"
        );
    }
}

#[test]
fn typos_inside_a_field_not_supported_yet_are_found() {
    assert_eq!(
        said(&pod(
            "",
            "livenessProbe:\n  httpGet: {prot: 1}\n  periodSeconds: x"
        )),
        "f:10:17: spec.containers[0].livenessProbe.httpGet.prot: unknown field (did you mean \"port\"?)\n\
         f:11:22: spec.containers[0].livenessProbe.periodSeconds: expected a whole number, found the string \"x\""
    );
}

#[test]
fn a_default_written_out_is_the_same_as_the_field_left_out() {
    let defaults = pod(
        "dnsPolicy: ClusterFirst\nrestartPolicy: Always\nschedulerName: default-scheduler\nsecurityContext: {}\nserviceAccountName: default\n\
         serviceAccount: default\nenableServiceLinks: true\npreemptionPolicy: PreemptLowerPriority\npriority: 0\n\
         terminationGracePeriodSeconds: 30\nautomountServiceAccountToken: false\nhostUsers: true\nnodeSelector: {}\naffinity: null",
        "resources: {}\nterminationMessagePath: /dev/termination-log\nterminationMessagePolicy: File\nimagePullPolicy: IfNotPresent\n\
         securityContext: {}\nstdin: false\nlivenessProbe:",
    );
    let (plain, written) = (one(&pod("", "")), one(&defaults));
    assert_eq!(said(&defaults), "");
    assert_eq!(plain, written);
}

#[test]
fn what_only_a_cluster_needs_is_a_warning_by_name() {
    let text = pod(
        "nodeName: host\ntolerations: [{key: a}]\nserviceAccountName: robot",
        "",
    ) + "status: {phase: Running}\n";
    assert_eq!(
        said(&text),
        "warning f:6:3: spec.nodeName: ignored: berth runs every pod on this host\n\
         warning f:7:3: spec.tolerations: ignored: berth runs every pod on this host\n\
         warning f:8:3: spec.serviceAccountName: ignored: there is no API server to give the pod an identity\n\
         warning f:12:1: status: ignored: berth works it out itself"
    );
    assert_eq!(said(&(pod("", "") + "status: {}\n")), "");
}

#[test]
fn the_token_volume_of_an_exported_pod_is_left_out_with_its_mounts() {
    let text = pod(
        "volumes:\n- name: kube-api-access-x\n  projected: {sources: [{serviceAccountToken: {path: token}}]}",
        "volumeMounts: [{name: kube-api-access-x, mountPath: /var/run/secrets}]",
    );
    assert_eq!(
        said(&text),
        "warning f:7:5: spec.volumes[0]: left out, with its mounts: there is no API server to give the pod a token"
    );
    let pod = one(&text);
    assert_eq!(
        (
            pod.spec.volumes.len(),
            pod.spec.containers[0].volume_mounts.len()
        ),
        (0, 0)
    );
}

#[test]
fn a_volume_of_another_kind_is_refused_whatever_the_mode() {
    let text = pod(
        "volumes: [{name: c, configMap: {name: c}}]",
        "volumeMounts: [{name: c, mountPath: /c}]",
    );
    let message = "f:6:23: spec.volumes[0].configMap: is a kind of volume that berth does not support yet (hostPath and emptyDir are supported)";
    assert_eq!(said(&text), message);
    assert_eq!(said_with(&text, Validate::Warn), message);
    let text = pod(
        "",
        "env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: k}}}]",
    );
    let message = "f:9:33: spec.containers[0].env[0].valueFrom.secretKeyRef: is a source that berth does not support yet (fieldRef is supported)";
    assert_eq!(said(&text), message);
    assert_eq!(said_with(&text, Validate::Warn), message);
}

/// Each line: further `spec` lines, further container lines, what is said (without `f:`).
#[test]
fn every_rule_has_its_message() {
    let c = "spec.containers[0]";
    for (spec, container, message) in [
        // Types.
        ("hostNetwork: 'true'", "", "6:16: spec.hostNetwork: expected true or false, found the string \"true\"".to_owned()),
        ("restartPolicy: always", "", "6:18: spec.restartPolicy: expected one of Always, OnFailure, Never, found \"always\" (did you mean \"Always\"?)".to_owned()),
        ("terminationGracePeriodSeconds: -1", "", "6:34: spec.terminationGracePeriodSeconds: expected a number from 0 to 2147483647, found -1".to_owned()),
        ("terminationGracePeriodSeconds: 1.5", "", "6:34: spec.terminationGracePeriodSeconds: expected a whole number, found the number 1.5".to_owned()),
        ("os: {name: windows}", "", "6:14: spec.os.name: expected \"linux\", found \"windows\"".to_owned()),
        ("", "command: sh", format!("9:14: {c}.command: expected a list, found the string \"sh\"")),
        ("", "args: [1, true, x]", format!("9:12: {c}.args[0]: expected a string, found the number 1: put it in quotes\nf:9:15: {c}.args[1]: expected a string, found the boolean true: put it in quotes")),
        ("", "env: [{name: A, value: yes}]", format!("9:28: {c}.env[0].value: expected a string, found the boolean true (YAML reads yes so): put it in quotes")),
        ("", "securityContext: []", format!("9:22: {c}.securityContext: expected a mapping, found a list")),
        // Names.
        ("", "image: Busybox", "9:5: the key \"image\" is already there, on line 8".to_owned()),
        ("hostname: A_b", "", "6:13: spec.hostname: \"A_b\" will not do: not a DNS label: use lower-case letters, digits and '-', starting and ending with a letter or digit (for example \"a-b\")".to_owned()),
        // Ports.
        ("", "ports: [{containerPort: 0}]", format!("9:29: {c}.ports[0].containerPort: expected a number from 1 to 65535, found 0")),
        ("", "ports: [{hostPort: 1}]", format!("9:13: {c}.ports[0].containerPort: is required")),
        ("", "ports: [{containerPort: 1, protocol: tcp}]", format!("9:42: {c}.ports[0].protocol: expected one of TCP, UDP, SCTP, found \"tcp\" (did you mean \"TCP\"?)")),
        ("", "ports: [{containerPort: 1, hostPort: 80}, {containerPort: 2, hostPort: 80, hostIP: 127.0.0.1}]", format!("9:76: {c}.ports[1].hostPort: host port 80 is already taken by {c}.ports[0]")),
        ("hostNetwork: true", "ports: [{containerPort: 1, hostPort: 2}]", format!("10:42: {c}.ports[0].hostPort: with hostNetwork it must be the containerPort, 1")),
        ("", "ports: [{containerPort: 1, name: a}, {containerPort: 2, name: a}]", format!("9:67: {c}.ports[1].name: there is another port named \"a\" in this container")),
        ("", "ports: [{containerPort: 1, hostPort: 1, hostIP: localhost}]", format!("9:53: {c}.ports[0].hostIP: expected an IP address, found \"localhost\"")),
        // Environment.
        ("", "env: [{name: A=B}]", format!("9:18: {c}.env[0].name: \"A=B\" will not do: not a variable name: use printable ASCII characters without '='")),
        ("", "env: [{value: x}]", format!("9:11: {c}.env[0].name: is required")),
        ("", "env: [{name: A, value: x, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]", format!("9:28: {c}.env[0].value: must be left out when valueFrom is there")),
        ("", "env: [{name: A, valueFrom: {}}]", format!("9:32: {c}.env[0].valueFrom: needs a source, such as fieldRef")),
        ("", "env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.nam}}}]", format!("9:55: {c}.env[0].valueFrom.fieldRef.fieldPath: no variable can be taken from \"metadata.nam\" (did you mean \"metadata.name\"?)")),
        ("", "env: [{name: A, valueFrom: {fieldRef: {fieldPath: status.podIPs}}}]", format!("9:55: {c}.env[0].valueFrom.fieldRef.fieldPath: status.podIPs is a field that berth does not support here yet")),
        // Resources.
        ("", "resources: {limits: {memory: 5Mi}}", format!("9:34: {c}.resources.limits.memory: 5Mi of memory are too little: the Docker Engine takes no limit below 6Mi")),
        ("", "resources: {limits: {memory: 128m}}", format!("9:34: {c}.resources.limits.memory: 128m is not a whole number of bytes: m means thousandths (did you mean M or Mi?)")),
        ("", "resources: {limits: {memory: 64MB}}", format!("9:34: {c}.resources.limits.memory: expected a quantity such as 500m or 64Mi, found \"64MB\": unknown suffix \"MB\" (did you mean M or Mi?)")),
        ("", "resources: {limits: {cpu: 1}, requests: {cpu: 2}}", format!("9:51: {c}.resources.requests.cpu: the request, 2, is above the limit, 1")),
        ("", "resources: {requests: {cpu: -1}}", format!("9:33: {c}.resources.requests.cpu: must not be below zero, found -1")),
        ("", "resources: {limits: {memroy: 1Gi}}", format!("9:26: {c}.resources.limits.memroy: unknown resource (did you mean \"memory\"?)")),
        ("", "resources: {limits: {nvidia.com/gpu: 1}}", format!("9:26: {c}.resources.limits[\"nvidia.com/gpu\"]: is a resource that berth does not support yet (cpu and memory are)")),
        // Volumes.
        ("", "volumeMounts: [{name: data, mountPath: /d}]", format!("9:27: {c}.volumeMounts[0].name: spec.volumes has no volume \"data\"")),
        ("volumes: [{name: v, emptyDir: {}}]", "volumeMounts: [{name: v, mountPath: /d}, {name: v, mountPath: /d/}]", format!("10:46: {c}.volumeMounts[1].mountPath: something else is mounted at \"/d/\" in this container")),
        ("volumes: [{name: v, emptyDir: {}}]", "volumeMounts: [{name: v, mountPath: d}]", format!("10:41: {c}.volumeMounts[0].mountPath: expected an absolute path, found \"d\"")),
        ("volumes: [{name: v, emptyDir: {}}]", "volumeMounts: [{name: v, mountPath: /a/..}]", format!("10:41: {c}.volumeMounts[0].mountPath: the root of the container cannot be mounted over")),
        ("volumes: [{name: v, emptyDir: {}}]", "volumeMounts: [{name: v, mountPath: /d, subPath: ../x}]", format!("10:54: {c}.volumeMounts[0].subPath: must not contain '..'")),
        ("volumes: [{name: v, emptyDir: {}}]", "volumeMounts: [{name: v, mountPath: /d, mountPropagation: Bidirectional}]", format!("10:45: {c}.volumeMounts[0].mountPropagation: is a Kubernetes field that berth does not support yet")),
        ("volumes: [{name: v, hostPath: {path: /a/../b}}]", "", "6:40: spec.volumes[0].hostPath.path: must not contain '..'".to_owned()),
        ("volumes: [{name: v, hostPath: {path: a}}]", "", "6:40: spec.volumes[0].hostPath.path: expected an absolute path, found \"a\"".to_owned()),
        ("volumes: [{name: v, hostPath: {path: /a, type: Dir}}]", "", "6:50: spec.volumes[0].hostPath.type: expected one of DirectoryOrCreate, Directory, FileOrCreate, File, Socket, CharDevice, BlockDevice, found \"Dir\"".to_owned()),
        ("volumes: [{name: v}]", "", "6:13: spec.volumes[0]: needs a kind, such as hostPath or emptyDir".to_owned()),
        ("volumes: [{name: v, hostPath: {path: /a}, emptyDir: {}}]", "", "6:55: spec.volumes[0]: has two kinds: hostPath and emptyDir".to_owned()),
        ("volumes: [{name: v, emptyDir: {}}, {name: v, emptyDir: {}}]", "", "6:45: spec.volumes[1].name: there is another volume named \"v\"".to_owned()),
        ("volumes: [{name: v, emptyDir: {sizeLimit: 1Gi}}]", "", "6:45: spec.volumes[0].emptyDir.sizeLimit: is enforced only with medium: Memory; for disks berth does not support it yet".to_owned()),
        ("volumes: [{name: v, emptyDir: {medium: HugePages-2Mi}}]", "", "6:42: spec.volumes[0].emptyDir.medium: huge pages are not supported yet (\"\" and Memory are)".to_owned()),
        // Security.
        ("securityContext: {runAsUser: 4294967296}", "", "6:32: spec.securityContext.runAsUser: expected a number from 0 to 2147483647, found 4294967296".to_owned()),
        ("securityContext: {runAsNonRoot: true, runAsUser: 0}", "", format!("8:5: {c}: the pod's securityContext says runAsNonRoot, but runAsUser 0, which is root")),
        ("securityContext: {runAsNonRoot: true}", "securityContext: {runAsUser: 0}", format!("10:22: {c}.securityContext: runAsNonRoot holds here, but so does runAsUser 0, which is root")),
        ("", "securityContext: {privileged: true, allowPrivilegeEscalation: false}", format!("9:22: {c}.securityContext: allowPrivilegeEscalation cannot be false in a privileged container")),
        ("", "securityContext: {capabilities: {add: [net_admin]}}", format!("9:44: {c}.securityContext.capabilities.add[0]: \"net_admin\" will not do: not a capability: names are upper-case, such as NET_ADMIN (did you mean \"NET_ADMIN\"?)")),
        ("", "securityContext: {seccompProfile: {type: Unconfined}}", format!("9:46: {c}.securityContext.seccompProfile.type: is a seccomp profile that berth does not support yet (RuntimeDefault is supported)")),
        ("", "securityContext: {seccompProfile: {}}", format!("9:39: {c}.securityContext.seccompProfile.type: is required")),
        // DNS and hosts.
        ("dnsPolicy: None", "", "6:14: spec.dnsPolicy: with None, dnsConfig.nameservers needs at least one address".to_owned()),
        ("dnsConfig: {nameservers: [a]}", "", "6:29: spec.dnsConfig.nameservers[0]: expected an IP address, found \"a\"".to_owned()),
        ("hostAliases: [{ip: 1.2.3.4}]", "", "6:17: spec.hostAliases[0].hostnames: is required".to_owned()),
        ("", "workingDir: tmp", format!("9:17: {c}.workingDir: expected an absolute path, found \"tmp\"")),
    ] {
        assert_eq!(said(&pod(spec, container)), format!("f:{message}"), "{spec} / {container}");
    }
}

#[test]
fn accepted_values_reach_the_pod() {
    let pod = one(&pod(
        "hostNetwork: true\nsecurityContext: {runAsUser: 1000, supplementalGroups: [7], seccompProfile: {type: RuntimeDefault}}\n\
         volumes: [{name: h, hostPath: {path: /data, type: DirectoryOrCreate}}, {name: m, emptyDir: {medium: Memory, sizeLimit: 64Mi}}]",
        "args: [\"$(A)\"]\nports: [{containerPort: 8080}]\nresources: {limits: {cpu: 0.5, memory: 64Mi}}\n\
         env: [{name: A, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['app']\"}}}, {name: B}]\n\
         volumeMounts: [{name: h, mountPath: /h, readOnly: yes, subPath: a/b}]\nsecurityContext: {runAsGroup: 0x10, runAsNonRoot: true}",
    ));
    let container = &pod.spec.containers[0];
    assert_eq!(
        container.ports[0].host_port,
        Some(8080),
        "hostNetwork publishes the port itself"
    );
    assert_eq!(
        container.env[0].value,
        EnvValue::ValueFrom(FieldRef::Label("app".to_owned()))
    );
    assert_eq!(container.env[1].value, EnvValue::Value(String::new()));
    assert_eq!(
        container.resources.requests.cpu.map(|cpu| cpu.millis()),
        Some(500),
        "a request is its limit"
    );
    assert!(container.volume_mounts[0].read_only);
    let security = pod.effective_security(container);
    assert_eq!(
        (
            security.run_as_user,
            security.run_as_group,
            security.run_as_non_root
        ),
        (Some(1000), Some(16), true)
    );
    assert_eq!(security.supplemental_groups, [7]);
}

#[test]
fn all_problems_come_at_once_in_the_order_of_the_file() {
    let text = "apiVersion: v2\nkind: Pod\nmetadata: {name: A, nmae: x}\nspec:\n  volumes: []\n  contaners: []\n";
    assert_eq!(
        said(text),
        "f:1:13: apiVersion: expected \"v1\" for kind Pod, found \"v2\"\n\
         f:3:18: metadata.name: \"A\" will not do: not a DNS subdomain: use lower-case letters, digits, '-' and '.', each part starting and ending with a letter or digit (for example \"a\")\n\
         f:3:21: metadata.nmae: unknown field (did you mean \"name\"?)\n\
         f:5:3: spec.containers: is required\n\
         f:6:3: spec.contaners: unknown field (did you mean \"containers\"?)"
    );
    let many: String = (0..5000).map(|index| format!("x{index}: 1\n")).collect();
    let errors =
        parse(pod("", &many).as_bytes(), "f", Validate::Strict).expect_err("unknown fields");
    assert_eq!((errors.problems.len(), errors.more), (MAX_REPORTED, 4900));
    assert!(errors.to_string().ends_with("\n… and 4900 more"));
}

#[test]
fn documents_and_lists_hold_several_pods() {
    let named = |name: &str| pod("", "").replace("name: web", &format!("name: {name}"));
    let text = format!(
        "# only a comment\n---\n{}---\n---\n{}...\n",
        named("a"),
        named("b")
    );
    let parsed = parse(text.as_bytes(), "f", Validate::Strict).expect("valid");
    assert_eq!(
        parsed
            .pods
            .iter()
            .map(|pod| pod.metadata.name.as_str())
            .collect::<Vec<_>>(),
        ["a", "b"]
    );

    let item = "{metadata: {name: NAME}, spec: {containers: [{name: c, image: i}]}}";
    let list = format!(
        "apiVersion: v1\nkind: PodList\nmetadata: {{resourceVersion: ''}}\nitems: [{}, {}]",
        item.replace("NAME", "a"),
        item.replace("NAME", "b")
    );
    assert_eq!(
        parse(list.as_bytes(), "f", Validate::Strict)
            .expect("valid")
            .pods
            .len(),
        2
    );
    let list = list.replace("PodList", "List");
    assert_eq!(
        said(&list),
        "f:4:9: items[0].kind: is required\nf:4:75: items[1].kind: is required"
    );

    let twice = format!("{}---\n{}", named("a"), named("a"));
    assert_eq!(
        said(&twice),
        "f:10:1: metadata: the pod default/a is already in this file, on line 1"
    );
}

#[test]
fn what_is_no_pod_is_refused() {
    assert_eq!(said(""), "f:1:1: holds no Kubernetes object");
    assert_eq!(
        said("---\n# nothing\n---\n"),
        "f:1:1: holds no Kubernetes object"
    );
    assert_eq!(
        said("hello"),
        "f:1:1: expected a Kubernetes object (a mapping with apiVersion and kind), found the string \"hello\""
    );
    assert_eq!(said("{}"), "f:1:1: kind: is required");
    assert_eq!(
        said("apiVersion: v1\nkind: pod"),
        "f:2:7: kind: unknown kind \"pod\" (did you mean \"Pod\"?)"
    );
    assert_eq!(
        said("apiVersion: apps/v1\nkind: Deployment\nspec: {}"),
        "f:2:7: kind: berth runs Pods; an object of kind \"Deployment\" is not supported yet"
    );
    assert_eq!(
        said_with("kind: Service", Validate::Warn),
        "f:1:1: holds no Pod"
    );
    assert_eq!(
        said_with(
            &format!("kind: Service\n---\n{}", pod("", "")),
            Validate::Warn
        ),
        "warning f:1:7: kind: berth runs Pods; an object of kind \"Service\" is not supported yet; ignored"
    );
    assert_eq!(
        said("apiVersion: v1\nkind: List\nitems: []"),
        "f:1:1: holds no Pod"
    );
    assert_eq!(
        said("kind: Pod\nmetadata: 1"),
        "f:1:1: apiVersion: is required\nf:1:1: spec: is required\nf:2:11: metadata: expected a mapping, found the number 1"
    );
}

#[test]
fn bytes_that_are_no_text_are_refused_with_their_place() {
    let said = |bytes: &[u8]| {
        parse(bytes, "f", Validate::Strict)
            .expect_err("refused")
            .to_string()
    };
    assert_eq!(said(b"a: b\nc: \xff"), "f:2:4: not UTF-8 text");
    assert_eq!(
        said(b"\xff\xfea\0"),
        "f:1:1: encoded as UTF-16: save it as UTF-8"
    );
    assert_eq!(
        said(&vec![b' '; MAX_BYTES + 1]),
        "f:1:1: larger than 10 MiB, which no manifest is"
    );
    let with_mark = format!("\u{feff}{}", pod("", ""));
    assert_eq!(one(&with_mark), one(&pod("", "")));
}

#[test]
fn json_is_read_as_json_and_flow_yaml_as_yaml() {
    let json = "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"web\",\"annotations\":{\"a\":\"\\ud83d\\ude00\"}},\n\t\"spec\":{\"containers\":[{\"name\":\"app\",\"image\":\"busybox:1\"}]}}\n";
    assert_eq!(one(json).metadata.annotations["a"], "😀");
    assert_eq!(said(&json.replace("\"image\"", "\"imge\"")), "f:2:38: spec.containers[0].imge: unknown field (did you mean \"image\"?)\nf:2:24: spec.containers[0].image: is required".lines().rev().collect::<Vec<_>>().join("\n"));
    one(
        "{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {containers: [{name: app, image: busybox}]}}",
    );
    assert_eq!(
        said("{\"kind\": \"Pod\",\n \"x\" 1"),
        "f:2:6: expected ':' after the key, found \"1\""
    );
}

#[test]
fn a_pod_printed_as_a_manifest_reads_as_the_same_pod() {
    let text = pod(
        "hostPID: true\nhostIPC: true\nrestartPolicy: Never\nterminationGracePeriodSeconds: 3\nhostname: h\ndnsPolicy: None\n\
         dnsConfig: {nameservers: [1.1.1.1], searches: [a.b], options: [{name: ndots, value: '2'}, {name: rotate}]}\n\
         hostAliases: [{ip: '::1', hostnames: [x]}]\nsecurityContext: {runAsUser: 1, runAsGroup: 2, runAsNonRoot: true, supplementalGroups: [3]}\n\
         volumes: [{name: h, hostPath: {path: /data, type: File}}, {name: m, emptyDir: {medium: Memory, sizeLimit: 64Mi}}, {name: e, emptyDir: {}}]",
        "command: [a]\nargs: [b]\nworkingDir: /w\nports: [{name: p, containerPort: 1, hostPort: 2, hostIP: 127.0.0.1, protocol: UDP}]\n\
         env: [{name: A, value: '1'}, {name: B, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]\n\
         resources: {limits: {cpu: 1500m, memory: 1G}, requests: {cpu: 100m}}\nimagePullPolicy: Never\n\
         volumeMounts: [{name: h, mountPath: /h, readOnly: true, subPath: s}]\nstdin: true\nstdinOnce: true\ntty: true\n\
         securityContext: {runAsUser: 4, runAsGroup: 5, runAsNonRoot: false, privileged: false, readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {add: [A], drop: [ALL]}}",
    );
    let pod = one(&text);
    let printed = serde_json::to_string_pretty(&pod).expect("serialises");
    assert_eq!(said(&printed), "");
    assert_eq!(one(&printed), pod);
}

/// What `kubectl get pod web -o yaml` prints for a small pod on a cluster of today.
const EXPORTED: &str = r#"apiVersion: v1
kind: Pod
metadata:
  annotations:
    kubectl.kubernetes.io/last-applied-configuration: |
      {"apiVersion":"v1","kind":"Pod","metadata":{"annotations":{},"name":"web","namespace":"shop"},"spec":{}}
  creationTimestamp: "2026-11-01T10:00:00Z"
  generation: 1
  labels:
    app: web
  name: web
  namespace: shop
  resourceVersion: "12345"
  uid: 0b0a6d7e-6b0c-4a86-9a8e-2f5c1f0f7b11
spec:
  containers:
  - image: nginx:1.29
    imagePullPolicy: IfNotPresent
    name: web
    ports:
    - containerPort: 80
      protocol: TCP
    resources: {}
    terminationMessagePath: /dev/termination-log
    terminationMessagePolicy: File
    volumeMounts:
    - mountPath: /var/run/secrets/kubernetes.io/serviceaccount
      name: kube-api-access-abcde
      readOnly: true
  dnsPolicy: ClusterFirst
  enableServiceLinks: true
  nodeName: worker-1
  preemptionPolicy: PreemptLowerPriority
  priority: 0
  restartPolicy: Always
  schedulerName: default-scheduler
  securityContext: {}
  serviceAccount: default
  serviceAccountName: default
  terminationGracePeriodSeconds: 30
  tolerations:
  - effect: NoExecute
    key: node.kubernetes.io/not-ready
    operator: Exists
    tolerationSeconds: 300
  volumes:
  - name: kube-api-access-abcde
    projected:
      defaultMode: 420
      sources:
      - serviceAccountToken:
          expirationSeconds: 3607
          path: token
      - configMap:
          items:
          - key: ca.crt
            path: ca.crt
          name: kube-root-ca.crt
      - downwardAPI:
          items:
          - fieldRef:
              apiVersion: v1
              fieldPath: metadata.namespace
            path: namespace
status:
  phase: Running
  podIP: 10.0.0.7
"#;

#[test]
fn a_pod_exported_from_a_cluster_runs_with_warnings_for_what_the_cluster_added() {
    assert_eq!(
        said(EXPORTED),
        "warning f:7:3: metadata.creationTimestamp: ignored: an API server writes it\n\
         warning f:8:3: metadata.generation: ignored: an API server writes it\n\
         warning f:13:3: metadata.resourceVersion: ignored: an API server writes it\n\
         warning f:32:3: spec.nodeName: ignored: berth runs every pod on this host\n\
         warning f:41:3: spec.tolerations: ignored: berth runs every pod on this host\n\
         warning f:47:5: spec.volumes[0]: left out, with its mounts: there is no API server to give the pod a token\n\
         warning f:65:1: status: ignored: berth works it out itself"
    );
    let pod = one(EXPORTED);
    assert_eq!(
        pod.metadata.uid.as_str(),
        "0b0a6d7e-6b0c-4a86-9a8e-2f5c1f0f7b11"
    );
    assert_eq!(pod.spec.containers[0].volume_mounts, []);
}
