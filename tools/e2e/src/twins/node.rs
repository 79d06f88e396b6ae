//! Twins of [sig-node].

mod containers;
mod dra;
mod env;
mod lifecycle;
mod objects;
mod pods;
mod probes;
mod resize;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use http::Method;
use serde_json::{Value, json};

use super::Twin;
use crate::rest::{Cx, version};

pub const TWINS: &[Twin] = &[
    Twin {
        name: "[sig-node] ConfigMap should fail to create ConfigMap with empty key [Conformance]",
        base: "configmap",
        run: |cx| Box::pin(config_map_empty_key(cx)),
    },
    Twin {
        name: "[sig-node] ConfigMap should update ConfigMap successfully [Conformance] [NodeConformance]",
        base: "configmap",
        run: |cx| Box::pin(config_map_update(cx)),
    },
    Twin {
        name: "[sig-node] ConfigMap should run through a ConfigMap lifecycle [Conformance]",
        base: "configmap",
        run: |cx| Box::pin(config_map_lifecycle(cx)),
    },
    Twin {
        name: "[sig-node] Secrets should fail to create secret due to empty secret key [Conformance]",
        base: "secrets",
        run: |cx| Box::pin(secret_empty_key(cx)),
    },
    Twin {
        name: "[sig-node] Secrets should patch a secret [Conformance]",
        base: "secrets",
        run: |cx| Box::pin(secret_patch(cx)),
    },
    Twin::new(
        "[sig-node] ConfigMap should be consumable via environment variable [Conformance] [NodeConformance]",
        "configmap",
        |cx| Box::pin(env::key(cx, false)),
    ),
    Twin::new(
        "[sig-node] ConfigMap should be consumable via the environment [Conformance] [NodeConformance]",
        "configmap",
        |cx| Box::pin(env::all(cx, false)),
    ),
    Twin::new(
        "[sig-node] Secrets should be consumable from pods in env vars [Conformance] [NodeConformance]",
        "secrets",
        |cx| Box::pin(env::key(cx, true)),
    ),
    Twin::new(
        "[sig-node] Secrets should be consumable via the environment [Conformance] [NodeConformance]",
        "secrets",
        |cx| Box::pin(env::all(cx, true)),
    ),
    Twin::new(
        "[sig-node] ConfigMap should be consumable as environment variable names with various prefixes [Conformance]",
        "configmap",
        |cx| Box::pin(env::prefixes(cx, false)),
    ),
    Twin::new(
        "[sig-node] Secrets should be consumable as environment variable names variable names with various prefixes [Conformance]",
        "secrets",
        |cx| Box::pin(env::prefixes(cx, true)),
    ),
    Twin::new(
        "[sig-node] Downward API should provide pod name, namespace and IP address as env vars [Conformance] [NodeConformance]",
        "downward-api",
        |cx| Box::pin(env::pod_fields(cx)),
    ),
    Twin::new(
        "[sig-node] Downward API should provide host IP as an env var [Conformance] [NodeConformance]",
        "downward-api",
        |cx| Box::pin(env::host_ip(cx)),
    ),
    Twin::new(
        "[sig-node] Downward API should provide hostIPs as an env var [Conformance] [NodeConformance]",
        "downward-api",
        |cx| Box::pin(env::host_ips(cx)),
    ),
    Twin::new(
        "[sig-node] Downward API should provide container's limits.cpu/memory and requests.cpu/memory as env vars [Conformance] [NodeConformance]",
        "downward-api",
        |cx| Box::pin(env::amounts(cx)),
    ),
    Twin::new(
        "[sig-node] Downward API should provide default limits.cpu/memory from node allocatable [Conformance] [NodeConformance]",
        "downward-api",
        |cx| Box::pin(env::default_amounts(cx)),
    ),
    Twin::new(
        "[sig-node] Downward API should provide pod UID as env vars [Conformance] [NodeConformance]",
        "downward-api",
        |cx| Box::pin(env::uid(cx)),
    ),
    Twin::new(
        "[sig-node] Variable Expansion should allow composing env vars into new env vars [Conformance] [NodeConformance]",
        "var-expansion",
        |cx| Box::pin(env::composed(cx)),
    ),
    Twin::new(
        "[sig-node] Variable Expansion should allow substituting values in a container's command [Conformance] [NodeConformance]",
        "var-expansion",
        |cx| Box::pin(env::substituted(cx, false)),
    ),
    Twin::new(
        "[sig-node] Variable Expansion should allow substituting values in a container's args [Conformance] [NodeConformance]",
        "var-expansion",
        |cx| Box::pin(env::substituted(cx, true)),
    ),
    Twin::new(
        "[sig-node] Variable Expansion should allow substituting values in a volume subpath [Conformance]",
        "var-expansion",
        |cx| Box::pin(env::sub_path(cx)),
    ),
    Twin::new(
        "[sig-node] Variable Expansion should fail substituting values in a volume subpath with backticks [Conformance]",
        "var-expansion",
        |cx| Box::pin(env::sub_path_refused(cx, "..")),
    ),
    Twin::new(
        "[sig-node] Variable Expansion should fail substituting values in a volume subpath with absolute path [Conformance]",
        "var-expansion",
        |cx| Box::pin(env::sub_path_refused(cx, "/tmp")),
    ),
    Twin::new(
        "[sig-node] Variable Expansion should verify that a failing subpath expansion can be modified during the lifecycle of a container [Conformance] [Slow]",
        "var-expansion",
        |cx| Box::pin(env::sub_path_mended(cx)),
    ),
    Twin::new(
        "[sig-node] Variable Expansion should succeed in writing subpaths in container [Conformance]",
        "var-expansion",
        |cx| Box::pin(env::sub_path_written(cx)),
    ),
    Twin::new(
        "[sig-node] Containers should use the image defaults if command and args are blank [Conformance] [NodeConformance]",
        "containers",
        |cx| Box::pin(containers::image_defaults(cx)),
    ),
    Twin::new(
        "[sig-node] Containers should be able to override the image's default arguments (container cmd) [Conformance] [NodeConformance]",
        "containers",
        |cx| {
            Box::pin(containers::overridden(
                cx,
                None,
                &["entrypoint-tester", "override", "arguments"],
                "[/agnhost entrypoint-tester override arguments]",
            ))
        },
    ),
    Twin::new(
        "[sig-node] Containers should be able to override the image's default command (container entrypoint) [Conformance] [NodeConformance]",
        "containers",
        |cx| {
            Box::pin(containers::overridden(
                cx,
                Some("/agnhost-2"),
                &["entrypoint-tester"],
                "[/agnhost-2 entrypoint-tester]",
            ))
        },
    ),
    Twin::new(
        "[sig-node] Containers should be able to override the image's default command and arguments [Conformance] [NodeConformance]",
        "containers",
        |cx| {
            Box::pin(containers::overridden(
                cx,
                Some("/agnhost-2"),
                &["entrypoint-tester", "override", "arguments"],
                "[/agnhost-2 entrypoint-tester override arguments]",
            ))
        },
    ),
    Twin::new(
        "[sig-node] Container Runtime blackbox test when starting a container that exits should run with the expected status [Conformance] [NodeConformance]",
        "container-runtime",
        |cx| Box::pin(containers::expected_status(cx)),
    ),
    Twin::new(
        "[sig-node] Container Runtime blackbox test on terminated container should report termination message if TerminationMessagePath is set as non-root user and at a non-default path [Conformance] [NodeConformance]",
        "container-runtime",
        |cx| {
            Box::pin(containers::termination_message(
                cx,
                containers::Message {
                    script: "/bin/echo -n DONE > /dev/termination-custom-log",
                    path: "/dev/termination-custom-log",
                    fallback: false,
                    user: Some(10000),
                    phase: "Succeeded",
                    text: "DONE",
                },
            ))
        },
    ),
    Twin::new(
        "[sig-node] Container Runtime blackbox test on terminated container should report termination message from log output if TerminationMessagePolicy FallbackToLogsOnError is set [Conformance] [NodeConformance]",
        "container-runtime",
        |cx| {
            Box::pin(containers::termination_message(
                cx,
                containers::Message {
                    script: "/bin/echo -n DONE; /bin/false",
                    path: "/dev/termination-log",
                    fallback: true,
                    user: None,
                    phase: "Failed",
                    text: "DONE",
                },
            ))
        },
    ),
    Twin::new(
        "[sig-node] Container Runtime blackbox test on terminated container should report termination message as empty when pod succeeds and TerminationMessagePolicy FallbackToLogsOnError is set [Conformance] [NodeConformance]",
        "container-runtime",
        |cx| {
            Box::pin(containers::termination_message(
                cx,
                containers::Message {
                    script: "/bin/echo -n DONE; /bin/true",
                    path: "/dev/termination-log",
                    fallback: true,
                    user: None,
                    phase: "Succeeded",
                    text: "",
                },
            ))
        },
    ),
    Twin::new(
        "[sig-node] Container Runtime blackbox test on terminated container should report termination message from file when pod succeeds and TerminationMessagePolicy FallbackToLogsOnError is set [Conformance] [NodeConformance]",
        "container-runtime",
        |cx| {
            Box::pin(containers::termination_message(
                cx,
                containers::Message {
                    script: "/bin/echo -n OK > /dev/termination-log; /bin/echo DONE; /bin/true",
                    path: "/dev/termination-log",
                    fallback: true,
                    user: None,
                    phase: "Succeeded",
                    text: "OK",
                },
            ))
        },
    ),
    Twin::new(
        "[sig-node] Security Context When creating a container with runAsUser should run the container with uid 65534 [LinuxOnly] [Conformance] [NodeConformance]",
        "security-context-test",
        |cx| Box::pin(containers::run_as_user(cx)),
    ),
    Twin::new(
        "[sig-node] Security Context When creating a pod with privileged should run the container as unprivileged when false [LinuxOnly] [Conformance] [NodeConformance]",
        "security-context-test",
        |cx| Box::pin(containers::unprivileged(cx)),
    ),
    Twin::new(
        "[sig-node] Security Context When creating a pod with readOnlyRootFilesystem should run the container with writable rootfs when readOnlyRootFilesystem=false [Conformance] [NodeConformance]",
        "security-context-test",
        |cx| Box::pin(containers::writable_root(cx)),
    ),
    Twin::new(
        "[sig-node] Security Context when creating containers with AllowPrivilegeEscalation should not allow privilege escalation when false [LinuxOnly] [Conformance] [NodeConformance]",
        "security-context-test",
        |cx| Box::pin(containers::no_new_privileges(cx)),
    ),
    Twin::new(
        "[sig-node] Security Context should support pod.Spec.SecurityContext.RunAsUser And pod.Spec.SecurityContext.RunAsGroup [LinuxOnly] [Conformance]",
        "security-context",
        |cx| {
            Box::pin(containers::ids(
                cx,
                json!({"runAsUser": 1001, "runAsGroup": 2002}),
                json!({}),
                ["uid=1001", "gid=2002"],
            ))
        },
    ),
    Twin::new(
        "[sig-node] Security Context should support container.SecurityContext.RunAsUser And container.SecurityContext.RunAsGroup [LinuxOnly] [Conformance]",
        "security-context",
        |cx| {
            Box::pin(containers::ids(
                cx,
                json!({"runAsUser": 1001, "runAsGroup": 2001}),
                json!({"runAsUser": 1002, "runAsGroup": 2002}),
                ["uid=1002", "gid=2002"],
            ))
        },
    ),
    Twin::new(
        "[sig-node] Kubelet when scheduling a busybox command in a pod should print the output to logs [Conformance] [NodeConformance]",
        "kubelet-test",
        |cx| Box::pin(containers::output_in_log(cx)),
    ),
    Twin::new(
        "[sig-node] Kubelet when scheduling a busybox command that always fails in a pod should have an terminated reason [Conformance] [NodeConformance]",
        "kubelet-test",
        |cx| Box::pin(containers::terminated_reason(cx)),
    ),
    Twin::new(
        "[sig-node] Kubelet when scheduling a busybox command that always fails in a pod should be possible to delete [Conformance] [NodeConformance]",
        "kubelet-test",
        |cx| Box::pin(containers::failing_deleted(cx)),
    ),
    Twin::new(
        "[sig-node] Kubelet when scheduling an agnhost Pod with hostAliases should write entries to /etc/hosts [Conformance] [NodeConformance]",
        "kubelet-test",
        |cx| Box::pin(containers::host_aliases(cx)),
    ),
    Twin::new(
        "[sig-node] Kubelet when scheduling a read only busybox container should not write to root filesystem [LinuxOnly] [Conformance] [NodeConformance]",
        "kubelet-test",
        |cx| Box::pin(containers::read_only_root(cx)),
    ),
    Twin::new(
        "[sig-node] KubeletManagedEtcHosts should test kubelet managed /etc/hosts file [Conformance] [NodeConformance]",
        "e2e-kubelet-etc-hosts",
        |cx| Box::pin(containers::etc_hosts(cx)),
    ),
    Twin::new(
        "[sig-node] Sysctls [LinuxOnly] should support sysctls [Environment:NotInUserNS] [Conformance] [NodeConformance]",
        "sysctl",
        |cx| Box::pin(containers::sysctl(cx)),
    ),
    Twin::new(
        "[sig-node] Sysctls [LinuxOnly] should reject invalid sysctls [Conformance] [NodeConformance]",
        "sysctl",
        |cx| Box::pin(containers::invalid_sysctls(cx)),
    ),
    Twin::new(
        "[sig-node] ImageVolume should succeed with pod and pull policy of Always [LinuxOnly] [MinimumKubeletVersion:1.35] [Conformance]",
        "image-volume",
        |cx| Box::pin(containers::image_volume(cx)),
    ),
    Twin::new(
        "[sig-node] Probing container with readiness probe should not be ready before initial delay and never restart [Conformance] [NodeConformance]",
        "container-probe",
        |cx| Box::pin(probes::initial_delay(cx)),
    ),
    Twin::new(
        "[sig-node] Probing container with readiness probe that fails should never be ready and never restart [Conformance] [NodeConformance]",
        "container-probe",
        |cx| Box::pin(probes::never_ready(cx)),
    ),
    Twin::new(
        "[sig-node] Probing container should be restarted with a exec \"cat /tmp/health\" liveness probe [Conformance] [NodeConformance]",
        "container-probe",
        |cx| Box::pin(probes::exec_fails(cx)),
    ),
    Twin::new(
        "[sig-node] Probing container should *not* be restarted with a exec \"cat /tmp/health\" liveness probe [Conformance] [NodeConformance]",
        "container-probe",
        |cx| Box::pin(probes::exec_succeeds(cx)),
    ),
    Twin::new(
        "[sig-node] Probing container should be restarted with a /healthz http liveness probe [Conformance] [NodeConformance]",
        "container-probe",
        |cx| Box::pin(probes::http_fails(cx)),
    ),
    Twin::new(
        "[sig-node] Probing container should *not* be restarted with a tcp:8080 liveness probe [Conformance] [NodeConformance]",
        "container-probe",
        |cx| Box::pin(probes::tcp_succeeds(cx)),
    ),
    Twin::new(
        "[sig-node] Probing container should have monotonically increasing restart count [Conformance] [NodeConformance]",
        "container-probe",
        |cx| Box::pin(probes::many_restarts(cx)),
    ),
    Twin::new(
        "[sig-node] Probing container should *not* be restarted with a /healthz http liveness probe [Conformance] [NodeConformance]",
        "container-probe",
        |cx| Box::pin(probes::http_succeeds(cx)),
    ),
    Twin::new(
        "[sig-node] Probing container should *not* be restarted with a GRPC liveness probe [Conformance] [NodeConformance]",
        "container-probe",
        |cx| Box::pin(probes::grpc_succeeds(cx)),
    ),
    Twin::new(
        "[sig-node] Probing container should be restarted with a GRPC liveness probe [Conformance] [NodeConformance]",
        "container-probe",
        |cx| Box::pin(probes::grpc_fails(cx)),
    ),
    Twin::new(
        "[sig-node] InitContainer should invoke init containers on a RestartNever pod [Conformance] [NodeConformance]",
        "init-container",
        |cx| Box::pin(lifecycle::invoked_never(cx)),
    ),
    Twin::new(
        "[sig-node] InitContainer should invoke init containers on a RestartAlways pod [Conformance] [NodeConformance]",
        "init-container",
        |cx| Box::pin(lifecycle::invoked_always(cx)),
    ),
    Twin::new(
        "[sig-node] InitContainer should not start app containers if init containers fail on a RestartAlways pod [Conformance] [NodeConformance]",
        "init-container",
        |cx| Box::pin(lifecycle::failing_always(cx)),
    ),
    Twin::new(
        "[sig-node] InitContainer should not start app containers and fail the pod if init containers fail on a RestartNever pod [Conformance] [NodeConformance]",
        "init-container",
        |cx| Box::pin(lifecycle::failing_never(cx)),
    ),
    Twin::new(
        "[sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute poststart exec hook properly [Conformance] [NodeConformance]",
        "container-lifecycle-hook",
        |cx| Box::pin(lifecycle::hook(cx, "postStart", false)),
    ),
    Twin::new(
        "[sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute poststart http hook properly [Conformance] [NodeConformance]",
        "container-lifecycle-hook",
        |cx| Box::pin(lifecycle::hook(cx, "postStart", true)),
    ),
    Twin::new(
        "[sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute prestop exec hook properly [Conformance] [NodeConformance]",
        "container-lifecycle-hook",
        |cx| Box::pin(lifecycle::hook(cx, "preStop", false)),
    ),
    Twin::new(
        "[sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute prestop http hook properly [Conformance] [NodeConformance]",
        "container-lifecycle-hook",
        |cx| Box::pin(lifecycle::hook(cx, "preStop", true)),
    ),
    Twin::new(
        "[sig-node] PreStop should call prestop when killing a pod [Conformance]",
        "prestop",
        |cx| Box::pin(lifecycle::pre_stop(cx)),
    ),
    Twin::new(
        "[sig-node] Ephemeral Containers will start an ephemeral container in an existing pod [Conformance] [NodeConformance]",
        "ephemeral-containers-test",
        |cx| Box::pin(lifecycle::ephemeral(cx)),
    ),
    Twin::new(
        "[sig-node] Ephemeral Containers should update the ephemeral containers in an existing pod [Conformance] [NodeConformance]",
        "ephemeral-containers-test",
        |cx| Box::pin(lifecycle::ephemeral_updated(cx)),
    ),
    Twin::new(
        "[sig-node] Pods should get a host IP [Conformance] [NodeConformance]",
        "pods",
        |cx| Box::pin(pods::host_ip(cx)),
    ),
    Twin::new(
        "[sig-node] Pods should be submitted and removed [Conformance] [NodeConformance]",
        "pods",
        |cx| Box::pin(pods::submitted_and_removed(cx)),
    ),
    Twin::new(
        "[sig-node] Pods should be updated [Conformance] [NodeConformance]",
        "pods",
        |cx| Box::pin(pods::updated(cx)),
    ),
    Twin::new(
        "[sig-node] Pods should allow activeDeadlineSeconds to be updated [Conformance] [NodeConformance]",
        "pods",
        |cx| Box::pin(pods::active_deadline(cx)),
    ),
    Twin::new(
        "[sig-node] Pods should contain environment variables for services [Conformance] [NodeConformance]",
        "pods",
        |cx| Box::pin(pods::service_environment(cx)),
    ),
    Twin::new(
        "[sig-node] Pods should support remote command execution over websockets [Conformance] [NodeConformance]",
        "pods",
        |cx| Box::pin(pods::exec_websocket(cx)),
    ),
    Twin::new(
        "[sig-node] Pods should support retrieving logs from the container over websockets [Conformance] [NodeConformance]",
        "pods",
        |cx| Box::pin(pods::log_websocket(cx)),
    ),
    Twin::new(
        "[sig-node] Pods should delete a collection of pods [Conformance]",
        "pods",
        |cx| Box::pin(pods::collection(cx)),
    ),
    Twin::new(
        "[sig-node] Pods should run through the lifecycle of Pods and PodStatus [Conformance]",
        "pods",
        |cx| Box::pin(pods::lifecycle(cx)),
    ),
    Twin::new(
        "[sig-node] Pods should patch a pod status [Conformance]",
        "pods",
        |cx| Box::pin(pods::patched_status(cx)),
    ),
    Twin::new(
        "[sig-node] Pods Extended Pods Set QOS Class should be set on Pods with matching resource requests and limits for memory and cpu [Conformance]",
        "pods",
        |cx| Box::pin(pods::qos_class(cx)),
    ),
    Twin::new(
        "[sig-node] Pods Extended (pod generation) Pod Generation pod generation should start at 1 and increment per update [MinimumKubeletVersion:1.34] [Conformance]",
        "pods",
        |cx| Box::pin(pods::generation(cx)),
    ),
    Twin::new(
        "[sig-node] Pods Extended (pod generation) Pod Generation custom-set generation on new pods and graceful delete [Conformance]",
        "pods",
        |cx| Box::pin(pods::generation_deleted(cx)),
    ),
    Twin::new(
        "[sig-node] Pods Extended (pod generation) Pod Generation issue 500 podspec updates and verify generation and observedGeneration eventually converge [MinimumKubeletVersion:1.34] [Conformance]",
        "pods",
        |cx| Box::pin(pods::generation_500(cx)),
    ),
    Twin::new(
        "[sig-node] Pod InPlace Resize Container burstable pods - extended 6 containers - various operations performed (including adding limits and requests) [MinimumKubeletVersion:1.34] [Conformance]",
        "pod-resize-tests",
        |cx| Box::pin(resize::many(cx)),
    ),
    Twin::new(
        "[sig-node] Pod InPlace Resize Container burstable pods - extended resize with equivalents [MinimumKubeletVersion:1.34] [Conformance]",
        "pod-resize-tests",
        |cx| Box::pin(resize::equivalents(cx)),
    ),
    Twin::new(
        "[sig-node] Pod InPlace Resize Container resize pod via the replace endpoint [MinimumKubeletVersion:1.34] [Conformance]",
        "pod-resize-tests",
        |cx| Box::pin(resize::replaced(cx)),
    ),
    Twin::new(
        "[sig-node] PodTemplates should run the lifecycle of PodTemplates [Conformance]",
        "podtemplate",
        |cx| Box::pin(objects::template_lifecycle(cx)),
    ),
    Twin::new(
        "[sig-node] PodTemplates should delete a collection of pod templates [Conformance]",
        "podtemplate",
        |cx| Box::pin(objects::template_collection(cx)),
    ),
    Twin::new(
        "[sig-node] PodTemplates should replace a pod template [Conformance]",
        "podtemplate",
        |cx| Box::pin(objects::template_replaced(cx)),
    ),
    Twin::new(
        "[sig-node] Lease lease API should be available [Conformance]",
        "lease-test",
        |cx| Box::pin(objects::lease(cx)),
    ),
    Twin::new(
        "[sig-node] RuntimeClass should reject a Pod requesting a non-existent RuntimeClass [Conformance] [NodeConformance]",
        "runtimeclass",
        |cx| Box::pin(objects::class_missing(cx)),
    ),
    Twin::new(
        "[sig-node] RuntimeClass should reject a Pod requesting a deleted RuntimeClass [Conformance] [NodeConformance]",
        "runtimeclass",
        |cx| Box::pin(objects::class_deleted(cx)),
    ),
    Twin::new(
        "[sig-node] RuntimeClass should schedule a Pod requesting a RuntimeClass without PodOverhead [Conformance] [NodeConformance]",
        "runtimeclass",
        |cx| Box::pin(objects::class_scheduled(cx, false)),
    ),
    Twin::new(
        "[sig-node] RuntimeClass should schedule a Pod requesting a RuntimeClass and initialize its Overhead [Conformance] [NodeConformance]",
        "runtimeclass",
        |cx| Box::pin(objects::class_scheduled(cx, true)),
    ),
    Twin::new(
        "[sig-node] RuntimeClass should support RuntimeClasses API operations [Conformance]",
        "runtimeclass",
        |cx| Box::pin(objects::class_operations(cx)),
    ),
    Twin::new(
        "[sig-node] Node Lifecycle should run through the lifecycle of a node [Conformance]",
        "fake-node",
        |cx| Box::pin(objects::node_lifecycle(cx)),
    ),
    Twin::new(
        "[sig-node] NoExecuteTaintManager Single Pod removing taint cancels eviction [Conformance] [Disruptive] [Serial]",
        "taint-single-pod",
        |cx| Box::pin(objects::eviction_cancelled(cx)),
    ),
    Twin::new(
        "[sig-node] NoExecuteTaintManager Multiple Pods evicts pods with minTolerationSeconds [Conformance] [Disruptive] [Serial]",
        "taint-multiple-pods",
        |cx| Box::pin(objects::evicted(cx)),
    ),
    Twin::new(
        "[sig-node] [DRA] CRUD Tests resource.k8s.io/v1 DeviceClass [Conformance]",
        "dra",
        |cx| Box::pin(dra::crud(cx, dra::device_class())),
    ),
    Twin::new(
        "[sig-node] [DRA] CRUD Tests resource.k8s.io/v1 DeviceTaintRule [Conformance]",
        "dra",
        |cx| Box::pin(dra::crud(cx, dra::taint_rule())),
    ),
    Twin::new(
        "[sig-node] [DRA] CRUD Tests resource.k8s.io/v1 ResourceClaim [Conformance]",
        "dra",
        |cx| Box::pin(dra::crud(cx, dra::claim())),
    ),
    Twin::new(
        "[sig-node] [DRA] CRUD Tests resource.k8s.io/v1 ResourceClaimTemplate [Conformance]",
        "dra",
        |cx| Box::pin(dra::crud(cx, dra::claim_template())),
    ),
    Twin::new(
        "[sig-node] [DRA] CRUD Tests resource.k8s.io/v1 ResourceSlice [Conformance]",
        "dra",
        |cx| Box::pin(dra::crud(cx, dra::slice())),
    ),
];

fn uuid() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Whether a list of all namespaces has an object of this test.
fn item<'a>(list: &'a Value, cx: &Cx, name: &str) -> Option<&'a Value> {
    list["items"].as_array()?.iter().find(|i| {
        i["metadata"]["name"] == name && i["metadata"]["namespace"] == json!(cx.namespace)
    })
}

async fn config_map_empty_key(cx: Cx) -> Result<()> {
    let maps = cx.core("configmaps");
    // The first name is upstream's; its upper-case letter alone is refused, so a valid one follows.
    for name in [
        format!("configmap-test-emptyKey-{}", uuid()),
        format!("configmap-test-empty-key-{}", uuid()),
    ] {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
            "data": {"": "value-1"}});
        let refused = cx.refused(Method::POST, &maps, &object).await?;
        ensure!(refused.code == 422, "{refused:?}");
    }
    Ok(())
}

async fn config_map_update(cx: Cx) -> Result<()> {
    let name = format!("configmap-test-{}", uuid());
    let maps = cx.core("configmaps");
    let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
        "data": {"data-1": "value-1", "data-2": "value-2", "data-3": "value-3"}});
    cx.ok(Method::POST, &maps, &object).await?;
    object["data"] = json!({"data": "value"});
    let path = format!("{maps}/{name}");
    cx.ok(Method::PUT, &path, &object).await?;
    let found = cx.get(&path).await?;
    ensure!(found["data"] == json!({"data": "value"}), "{found}");
    Ok(())
}

async fn config_map_lifecycle(cx: Cx) -> Result<()> {
    let name = format!("test-configmap{}", uuid());
    let maps = cx.core("configmaps");
    let path = format!("{maps}/{name}");
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"test-configmap-static": "true"}},
        "data": {"valueName": "value"}});
    cx.ok(Method::POST, &maps, &object).await?;
    let found = cx.get(&path).await?;
    ensure!(found["data"]["valueName"] == "value", "{found}");
    ensure!(
        found["metadata"]["labels"]["test-configmap-static"] == "true",
        "{found}"
    );
    let patch = json!({"metadata": {"creationTimestamp": null, "labels": {"test-configmap": "patched"}},
        "data": {"valueName": "value1"}});
    cx.patch(&path, "strategic-merge", &patch).await?;
    let all = cx
        .get("/api/v1/configmaps?labelSelector=test-configmap%3Dpatched")
        .await?;
    let here = item(&all, &cx, &name).context("the patched one is not listed")?;
    ensure!(
        here["metadata"]["labels"]["test-configmap-static"] == "true",
        "{here}"
    );
    ensure!(
        here["metadata"]["labels"]["test-configmap"] == "patched",
        "{here}"
    );
    ensure!(here["data"]["valueName"] == "value1", "{here}");
    let selected = format!("{maps}?labelSelector=test-configmap-static%3Dtrue");
    cx.delete(&selected).await?;
    let left = cx.get(&selected).await?;
    ensure!(
        left["items"].as_array().is_some_and(Vec::is_empty),
        "{left}"
    );
    Ok(())
}

async fn secret_empty_key(cx: Cx) -> Result<()> {
    let object = json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": format!("secret-emptykey-test-{}", uuid())},
        "data": {"": BASE64.encode("value-1\n")}});
    let refused = cx
        .refused(Method::POST, &cx.core("secrets"), &object)
        .await?;
    ensure!(refused.code == 422, "{refused:?}");
    Ok(())
}

async fn secret_patch(cx: Cx) -> Result<()> {
    let name = format!("test-secret-{}", uuid());
    let secrets = cx.core("secrets");
    let path = format!("{secrets}/{name}");
    let object = json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": name, "labels": {"testsecret-constant": "true"}},
        "data": {"key": BASE64.encode("value")}});
    let made = cx.ok(Method::POST, &secrets, &object).await?;
    let first = version(&made)?;
    let everywhere = "/api/v1/secrets?labelSelector=testsecret-constant%3Dtrue";
    ensure!(
        item(&cx.get(everywhere).await?, &cx, &name).is_some(),
        "the secret is not listed"
    );
    let twice = BASE64.encode(BASE64.encode("value1"));
    let patch = json!({"metadata": {"labels": {"testsecret": "true"}}, "data": {"key": twice}});
    cx.patch(&path, "strategic-merge", &patch).await?;
    let found = cx.get(&path).await?;
    ensure!(
        version(&found)? > first,
        "the version did not grow: {found}"
    );
    let bytes = BASE64.decode(found["data"]["key"].as_str().unwrap_or(""))?;
    ensure!(BASE64.decode(bytes)? == b"value1", "{found}");
    cx.delete(&format!("{secrets}?labelSelector=testsecret%3Dtrue"))
        .await?;
    ensure!(
        item(&cx.get(everywhere).await?, &cx, &name).is_none(),
        "the secret is still there"
    );
    Ok(())
}
