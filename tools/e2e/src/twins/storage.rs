//! Twins of [sig-storage].

mod downward;
mod empty_dir;
mod files;
mod objects;
mod subpath;

use anyhow::{Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use http::Method;
use serde_json::{Value, json};

use super::Twin;
use crate::rest::Cx;
use downward::Modes;
use files::Case;

pub const TWINS: &[Twin] = &[
    Twin {
        name: "[sig-storage] ConfigMap should be immutable if `immutable` field is set [Conformance]",
        base: "configmap",
        run: |cx| Box::pin(config_map_immutable(cx)),
    },
    Twin {
        name: "[sig-storage] Secrets should be immutable if `immutable` field is set [Conformance]",
        base: "secrets",
        run: |cx| Box::pin(secret_immutable(cx)),
    },
    Twin::new(
        "[sig-storage] ConfigMap should be consumable from pods in volume [Conformance] [NodeConformance]",
        "configmap",
        |cx| Box::pin(files::consumable(cx, &files::CONFIG_MAP, Case::default())),
    ),
    Twin::new(
        "[sig-storage] ConfigMap should be consumable from pods in volume with defaultMode set [LinuxOnly] [Conformance] [NodeConformance]",
        "configmap",
        |cx| {
            Box::pin(files::consumable(
                cx,
                &files::CONFIG_MAP,
                Case {
                    default_mode: Some(0o400),
                    seen: Some("-r--------"),
                    ..Case::default()
                },
            ))
        },
    ),
    Twin::new(
        "[sig-storage] ConfigMap should be consumable from pods in volume as non-root [Conformance] [NodeConformance]",
        "configmap",
        |cx| {
            Box::pin(files::consumable(
                cx,
                &files::CONFIG_MAP,
                Case {
                    user: Some(1000),
                    ..Case::default()
                },
            ))
        },
    ),
    Twin::new(
        "[sig-storage] ConfigMap should be consumable from pods in volume with mappings [Conformance] [NodeConformance]",
        "configmap",
        |cx| {
            Box::pin(files::consumable(
                cx,
                &files::CONFIG_MAP,
                Case {
                    mapped: true,
                    ..Case::default()
                },
            ))
        },
    ),
    Twin::new(
        "[sig-storage] ConfigMap should be consumable from pods in volume with mappings and Item mode set [LinuxOnly] [Conformance] [NodeConformance]",
        "configmap",
        |cx| {
            Box::pin(files::consumable(
                cx,
                &files::CONFIG_MAP,
                Case {
                    mapped: true,
                    item_mode: Some(0o400),
                    seen: Some("-r--------"),
                    ..Case::default()
                },
            ))
        },
    ),
    Twin::new(
        "[sig-storage] ConfigMap should be consumable from pods in volume with mappings as non-root [Conformance] [NodeConformance]",
        "configmap",
        |cx| {
            Box::pin(files::consumable(
                cx,
                &files::CONFIG_MAP,
                Case {
                    mapped: true,
                    user: Some(1000),
                    ..Case::default()
                },
            ))
        },
    ),
    Twin::new(
        "[sig-storage] ConfigMap updates should be reflected in volume [Conformance] [NodeConformance]",
        "configmap",
        |cx| Box::pin(files::updates(cx, &files::CONFIG_MAP)),
    ),
    Twin::new(
        "[sig-storage] ConfigMap binary data should be reflected in volume [Conformance] [NodeConformance]",
        "configmap",
        |cx| Box::pin(files::binary_data(cx)),
    ),
    Twin::new(
        "[sig-storage] ConfigMap optional updates should be reflected in volume [Conformance] [NodeConformance]",
        "configmap",
        |cx| Box::pin(files::optional_updates(cx, &files::CONFIG_MAP)),
    ),
    Twin::new(
        "[sig-storage] ConfigMap should be consumable in multiple volumes in the same pod [Conformance] [NodeConformance]",
        "configmap",
        |cx| Box::pin(files::multiple_volumes(cx, &files::CONFIG_MAP)),
    ),
    Twin::new(
        "[sig-storage] Projected configMap should be consumable from pods in volume [Conformance] [NodeConformance]",
        "projected",
        |cx| {
            Box::pin(files::consumable(
                cx,
                &files::PROJECTED_CONFIG_MAP,
                Case::default(),
            ))
        },
    ),
    Twin::new(
        "[sig-storage] Projected configMap should be consumable from pods in volume with defaultMode set [LinuxOnly] [Conformance] [NodeConformance]",
        "projected",
        |cx| {
            Box::pin(files::consumable(
                cx,
                &files::PROJECTED_CONFIG_MAP,
                Case {
                    default_mode: Some(0o400),
                    seen: Some("-r--------"),
                    ..Case::default()
                },
            ))
        },
    ),
    Twin::new(
        "[sig-storage] Projected configMap should be consumable from pods in volume as non-root [Conformance] [NodeConformance]",
        "projected",
        |cx| {
            Box::pin(files::consumable(
                cx,
                &files::PROJECTED_CONFIG_MAP,
                Case {
                    user: Some(1000),
                    ..Case::default()
                },
            ))
        },
    ),
    Twin::new(
        "[sig-storage] Projected configMap should be consumable from pods in volume with mappings [Conformance] [NodeConformance]",
        "projected",
        |cx| {
            Box::pin(files::consumable(
                cx,
                &files::PROJECTED_CONFIG_MAP,
                Case {
                    mapped: true,
                    ..Case::default()
                },
            ))
        },
    ),
    Twin::new(
        "[sig-storage] Projected configMap should be consumable from pods in volume with mappings and Item mode set [LinuxOnly] [Conformance] [NodeConformance]",
        "projected",
        |cx| Box::pin(files::projected_item_mode(cx, &files::PROJECTED_CONFIG_MAP)),
    ),
    Twin::new(
        "[sig-storage] Projected configMap should be consumable from pods in volume with mappings as non-root [Conformance] [NodeConformance]",
        "projected",
        |cx| {
            Box::pin(files::consumable(
                cx,
                &files::PROJECTED_CONFIG_MAP,
                Case {
                    mapped: true,
                    user: Some(1000),
                    ..Case::default()
                },
            ))
        },
    ),
    Twin::new(
        "[sig-storage] Projected configMap updates should be reflected in volume [Conformance] [NodeConformance]",
        "projected",
        |cx| Box::pin(files::updates(cx, &files::PROJECTED_CONFIG_MAP)),
    ),
    Twin::new(
        "[sig-storage] Projected configMap optional updates should be reflected in volume [Conformance] [NodeConformance]",
        "projected",
        |cx| Box::pin(files::optional_updates(cx, &files::PROJECTED_CONFIG_MAP)),
    ),
    Twin::new(
        "[sig-storage] Projected configMap should be consumable in multiple volumes in the same pod [Conformance] [NodeConformance]",
        "projected",
        |cx| Box::pin(files::multiple_volumes(cx, &files::PROJECTED_CONFIG_MAP)),
    ),
    Twin::new(
        "[sig-storage] Secrets should be consumable from pods in volume [Conformance] [NodeConformance]",
        "secrets",
        |cx| Box::pin(files::consumable(cx, &files::SECRET, Case::default())),
    ),
    Twin::new(
        "[sig-storage] Secrets should be consumable from pods in volume with defaultMode set [LinuxOnly] [Conformance] [NodeConformance]",
        "secrets",
        |cx| {
            Box::pin(files::consumable(
                cx,
                &files::SECRET,
                Case {
                    default_mode: Some(0o400),
                    seen: Some("-r--------"),
                    ..Case::default()
                },
            ))
        },
    ),
    Twin::new(
        "[sig-storage] Secrets should be consumable from pods in volume as non-root with defaultMode and fsGroup set [LinuxOnly] [Conformance] [NodeConformance]",
        "secrets",
        |cx| {
            Box::pin(files::consumable(
                cx,
                &files::SECRET,
                Case {
                    default_mode: Some(0o440),
                    user: Some(1000),
                    fs_group: Some(1001),
                    seen: Some("-r--r-----"),
                    ..Case::default()
                },
            ))
        },
    ),
    Twin::new(
        "[sig-storage] Secrets should be consumable from pods in volume with mappings [Conformance] [NodeConformance]",
        "secrets",
        |cx| {
            Box::pin(files::consumable(
                cx,
                &files::SECRET,
                Case {
                    mapped: true,
                    ..Case::default()
                },
            ))
        },
    ),
    Twin::new(
        "[sig-storage] Secrets should be consumable from pods in volume with mappings and Item Mode set [LinuxOnly] [Conformance] [NodeConformance]",
        "secrets",
        |cx| {
            Box::pin(files::consumable(
                cx,
                &files::SECRET,
                Case {
                    mapped: true,
                    item_mode: Some(0o400),
                    seen: Some("-r--------"),
                    ..Case::default()
                },
            ))
        },
    ),
    Twin::new(
        "[sig-storage] Secrets should be able to mount in a volume regardless of a different secret existing with same name in different namespace [Conformance] [NodeConformance]",
        "secrets",
        |cx| Box::pin(files::other_namespace(cx)),
    ),
    Twin::new(
        "[sig-storage] Secrets should be consumable in multiple volumes in a pod [Conformance] [NodeConformance]",
        "secrets",
        |cx| Box::pin(files::multiple_volumes(cx, &files::SECRET)),
    ),
    Twin::new(
        "[sig-storage] Secrets optional updates should be reflected in volume [Conformance] [NodeConformance]",
        "secrets",
        |cx| Box::pin(files::optional_updates(cx, &files::SECRET)),
    ),
    Twin::new(
        "[sig-storage] Projected secret should be consumable from pods in volume [Conformance] [NodeConformance]",
        "projected",
        |cx| {
            Box::pin(files::consumable(
                cx,
                &files::PROJECTED_SECRET,
                Case::default(),
            ))
        },
    ),
    Twin::new(
        "[sig-storage] Projected secret should be consumable from pods in volume with defaultMode set [LinuxOnly] [Conformance] [NodeConformance]",
        "projected",
        |cx| {
            Box::pin(files::consumable(
                cx,
                &files::PROJECTED_SECRET,
                Case {
                    default_mode: Some(0o400),
                    seen: Some("-r--------"),
                    ..Case::default()
                },
            ))
        },
    ),
    Twin::new(
        "[sig-storage] Projected secret should be consumable from pods in volume as non-root with defaultMode and fsGroup set [LinuxOnly] [Conformance] [NodeConformance]",
        "projected",
        |cx| {
            Box::pin(files::consumable(
                cx,
                &files::PROJECTED_SECRET,
                Case {
                    default_mode: Some(0o440),
                    user: Some(1000),
                    fs_group: Some(1001),
                    seen: Some("-r--r-----"),
                    ..Case::default()
                },
            ))
        },
    ),
    Twin::new(
        "[sig-storage] Projected secret should be consumable from pods in volume with mappings [Conformance] [NodeConformance]",
        "projected",
        |cx| {
            Box::pin(files::consumable(
                cx,
                &files::PROJECTED_SECRET,
                Case {
                    mapped: true,
                    ..Case::default()
                },
            ))
        },
    ),
    Twin::new(
        "[sig-storage] Projected secret should be consumable from pods in volume with mappings and Item Mode set [LinuxOnly] [Conformance] [NodeConformance]",
        "projected",
        |cx| Box::pin(files::projected_item_mode(cx, &files::PROJECTED_SECRET)),
    ),
    Twin::new(
        "[sig-storage] Projected secret should be consumable in multiple volumes in a pod [Conformance] [NodeConformance]",
        "projected",
        |cx| Box::pin(files::multiple_volumes(cx, &files::PROJECTED_SECRET)),
    ),
    Twin::new(
        "[sig-storage] Projected secret optional updates should be reflected in volume [Conformance] [NodeConformance]",
        "projected",
        |cx| Box::pin(files::optional_updates(cx, &files::PROJECTED_SECRET)),
    ),
    Twin::new(
        "[sig-storage] Projected combined should project all components that make up the projection API [Projection] [Conformance] [NodeConformance]",
        "projected",
        |cx| Box::pin(files::combined(cx)),
    ),
    Twin::new(
        "[sig-storage] Downward API volume should provide podname only [Conformance] [NodeConformance]",
        "downward-api",
        |cx| Box::pin(downward::pod_name(cx, false)),
    ),
    Twin::new(
        "[sig-storage] Downward API volume should set DefaultMode on files [LinuxOnly] [Conformance] [NodeConformance]",
        "downward-api",
        |cx| {
            Box::pin(downward::mode(
                cx,
                false,
                Modes {
                    default: Some(0o400),
                    item: None,
                },
            ))
        },
    ),
    Twin::new(
        "[sig-storage] Downward API volume should set mode on item file [LinuxOnly] [Conformance] [NodeConformance]",
        "downward-api",
        |cx| {
            Box::pin(downward::mode(
                cx,
                false,
                Modes {
                    default: None,
                    item: Some(0o400),
                },
            ))
        },
    ),
    Twin::new(
        "[sig-storage] Downward API volume should update labels on modification [Conformance] [NodeConformance]",
        "downward-api",
        |cx| Box::pin(downward::labels_update(cx, false)),
    ),
    Twin::new(
        "[sig-storage] Downward API volume should update annotations on modification [Conformance] [NodeConformance]",
        "downward-api",
        |cx| Box::pin(downward::annotations_update(cx, false)),
    ),
    Twin::new(
        "[sig-storage] Downward API volume should provide container's cpu limit [Conformance] [NodeConformance]",
        "downward-api",
        |cx| Box::pin(downward::amount(cx, false, "cpu_limit", "2")),
    ),
    Twin::new(
        "[sig-storage] Downward API volume should provide container's memory limit [Conformance] [NodeConformance]",
        "downward-api",
        |cx| Box::pin(downward::amount(cx, false, "memory_limit", "134217728")),
    ),
    Twin::new(
        "[sig-storage] Downward API volume should provide container's cpu request [Conformance] [NodeConformance]",
        "downward-api",
        |cx| Box::pin(downward::amount(cx, false, "cpu_request", "1")),
    ),
    Twin::new(
        "[sig-storage] Downward API volume should provide container's memory request [Conformance] [NodeConformance]",
        "downward-api",
        |cx| Box::pin(downward::amount(cx, false, "memory_request", "33554432")),
    ),
    Twin::new(
        "[sig-storage] Downward API volume should provide node allocatable (cpu) as default cpu limit if the limit is not set [Conformance] [NodeConformance]",
        "downward-api",
        |cx| Box::pin(downward::allocatable(cx, false, "cpu")),
    ),
    Twin::new(
        "[sig-storage] Downward API volume should provide node allocatable (memory) as default memory limit if the limit is not set [Conformance] [NodeConformance]",
        "downward-api",
        |cx| Box::pin(downward::allocatable(cx, false, "memory")),
    ),
    Twin::new(
        "[sig-storage] Projected downwardAPI should provide podname only [Conformance] [NodeConformance]",
        "projected",
        |cx| Box::pin(downward::pod_name(cx, true)),
    ),
    Twin::new(
        "[sig-storage] Projected downwardAPI should set DefaultMode on files [LinuxOnly] [Conformance] [NodeConformance]",
        "projected",
        |cx| {
            Box::pin(downward::mode(
                cx,
                true,
                Modes {
                    default: Some(0o400),
                    item: None,
                },
            ))
        },
    ),
    Twin::new(
        "[sig-storage] Projected downwardAPI should set mode on item file [LinuxOnly] [Conformance] [NodeConformance]",
        "projected",
        |cx| {
            Box::pin(downward::mode(
                cx,
                true,
                Modes {
                    default: None,
                    item: Some(0o400),
                },
            ))
        },
    ),
    Twin::new(
        "[sig-storage] Projected downwardAPI should update labels on modification [Conformance] [NodeConformance]",
        "projected",
        |cx| Box::pin(downward::labels_update(cx, true)),
    ),
    Twin::new(
        "[sig-storage] Projected downwardAPI should update annotations on modification [Conformance] [NodeConformance]",
        "projected",
        |cx| Box::pin(downward::annotations_update(cx, true)),
    ),
    Twin::new(
        "[sig-storage] Projected downwardAPI should provide container's cpu limit [Conformance] [NodeConformance]",
        "projected",
        |cx| Box::pin(downward::amount(cx, true, "cpu_limit", "2")),
    ),
    Twin::new(
        "[sig-storage] Projected downwardAPI should provide container's memory limit [Conformance] [NodeConformance]",
        "projected",
        |cx| Box::pin(downward::amount(cx, true, "memory_limit", "134217728")),
    ),
    Twin::new(
        "[sig-storage] Projected downwardAPI should provide container's cpu request [Conformance] [NodeConformance]",
        "projected",
        |cx| Box::pin(downward::amount(cx, true, "cpu_request", "1")),
    ),
    Twin::new(
        "[sig-storage] Projected downwardAPI should provide container's memory request [Conformance] [NodeConformance]",
        "projected",
        |cx| Box::pin(downward::amount(cx, true, "memory_request", "33554432")),
    ),
    Twin::new(
        "[sig-storage] Projected downwardAPI should provide node allocatable (cpu) as default cpu limit if the limit is not set [Conformance] [NodeConformance]",
        "projected",
        |cx| Box::pin(downward::allocatable(cx, true, "cpu")),
    ),
    Twin::new(
        "[sig-storage] Projected downwardAPI should provide node allocatable (memory) as default memory limit if the limit is not set [Conformance] [NodeConformance]",
        "projected",
        |cx| Box::pin(downward::allocatable(cx, true, "memory")),
    ),
    Twin::new(
        "[sig-storage] EmptyDir volumes volume on tmpfs should have the correct mode [LinuxOnly] [Conformance] [NodeConformance]",
        "emptydir",
        |cx| Box::pin(empty_dir::volume_mode(cx, true)),
    ),
    Twin::new(
        "[sig-storage] EmptyDir volumes should support (root,0644,tmpfs) [LinuxOnly] [Conformance] [NodeConformance]",
        "emptydir",
        |cx| Box::pin(empty_dir::file(cx, true, "0644", true)),
    ),
    Twin::new(
        "[sig-storage] EmptyDir volumes should support (root,0666,tmpfs) [LinuxOnly] [Conformance] [NodeConformance]",
        "emptydir",
        |cx| Box::pin(empty_dir::file(cx, true, "0666", true)),
    ),
    Twin::new(
        "[sig-storage] EmptyDir volumes should support (root,0777,tmpfs) [LinuxOnly] [Conformance] [NodeConformance]",
        "emptydir",
        |cx| Box::pin(empty_dir::file(cx, true, "0777", true)),
    ),
    Twin::new(
        "[sig-storage] EmptyDir volumes should support (non-root,0644,tmpfs) [LinuxOnly] [Conformance] [NodeConformance]",
        "emptydir",
        |cx| Box::pin(empty_dir::file(cx, false, "0644", true)),
    ),
    Twin::new(
        "[sig-storage] EmptyDir volumes should support (non-root,0666,tmpfs) [LinuxOnly] [Conformance] [NodeConformance]",
        "emptydir",
        |cx| Box::pin(empty_dir::file(cx, false, "0666", true)),
    ),
    Twin::new(
        "[sig-storage] EmptyDir volumes should support (non-root,0777,tmpfs) [LinuxOnly] [Conformance] [NodeConformance]",
        "emptydir",
        |cx| Box::pin(empty_dir::file(cx, false, "0777", true)),
    ),
    Twin::new(
        "[sig-storage] EmptyDir volumes volume on default medium should have the correct mode [LinuxOnly] [Conformance] [NodeConformance]",
        "emptydir",
        |cx| Box::pin(empty_dir::volume_mode(cx, false)),
    ),
    Twin::new(
        "[sig-storage] EmptyDir volumes should support (root,0644,default) [LinuxOnly] [Conformance] [NodeConformance]",
        "emptydir",
        |cx| Box::pin(empty_dir::file(cx, true, "0644", false)),
    ),
    Twin::new(
        "[sig-storage] EmptyDir volumes should support (root,0666,default) [LinuxOnly] [Conformance] [NodeConformance]",
        "emptydir",
        |cx| Box::pin(empty_dir::file(cx, true, "0666", false)),
    ),
    Twin::new(
        "[sig-storage] EmptyDir volumes should support (root,0777,default) [LinuxOnly] [Conformance] [NodeConformance]",
        "emptydir",
        |cx| Box::pin(empty_dir::file(cx, true, "0777", false)),
    ),
    Twin::new(
        "[sig-storage] EmptyDir volumes should support (non-root,0644,default) [LinuxOnly] [Conformance] [NodeConformance]",
        "emptydir",
        |cx| Box::pin(empty_dir::file(cx, false, "0644", false)),
    ),
    Twin::new(
        "[sig-storage] EmptyDir volumes should support (non-root,0666,default) [LinuxOnly] [Conformance] [NodeConformance]",
        "emptydir",
        |cx| Box::pin(empty_dir::file(cx, false, "0666", false)),
    ),
    Twin::new(
        "[sig-storage] EmptyDir volumes should support (non-root,0777,default) [LinuxOnly] [Conformance] [NodeConformance]",
        "emptydir",
        |cx| Box::pin(empty_dir::file(cx, false, "0777", false)),
    ),
    Twin::new(
        "[sig-storage] EmptyDir volumes pod should support shared volumes between containers [Conformance]",
        "emptydir",
        |cx| Box::pin(empty_dir::shared(cx)),
    ),
    Twin::new(
        "[sig-storage] Subpath Atomic writer volumes should support subpaths with secret pod [Conformance]",
        "subpath",
        |cx| {
            Box::pin(subpath::atomic_writer(
                cx,
                subpath::Case {
                    kind: "secret",
                    path: "secret-key",
                    mount: "/test-volume",
                },
            ))
        },
    ),
    Twin::new(
        "[sig-storage] Subpath Atomic writer volumes should support subpaths with configmap pod [Conformance]",
        "subpath",
        |cx| {
            Box::pin(subpath::atomic_writer(
                cx,
                subpath::Case {
                    kind: "configmap",
                    path: "configmap-key",
                    mount: "/test-volume",
                },
            ))
        },
    ),
    Twin::new(
        "[sig-storage] Subpath Atomic writer volumes should support subpaths with configmap pod with mountPath of existing file [Conformance]",
        "subpath",
        |cx| {
            Box::pin(subpath::atomic_writer(
                cx,
                subpath::Case {
                    kind: "configmap",
                    path: "configmap-key",
                    mount: "/etc/resolv.conf",
                },
            ))
        },
    ),
    Twin::new(
        "[sig-storage] Subpath Atomic writer volumes should support subpaths with downward pod [Conformance]",
        "subpath",
        |cx| {
            Box::pin(subpath::atomic_writer(
                cx,
                subpath::Case {
                    kind: "downwardAPI",
                    path: "downward/podname",
                    mount: "/test-volume",
                },
            ))
        },
    ),
    Twin::new(
        "[sig-storage] Subpath Atomic writer volumes should support subpaths with projected pod [Conformance]",
        "subpath",
        |cx| {
            Box::pin(subpath::atomic_writer(
                cx,
                subpath::Case {
                    kind: "projected",
                    path: "projected/configmap-key",
                    mount: "/test-volume",
                },
            ))
        },
    ),
    Twin::new(
        "[sig-storage] EmptyDir wrapper volumes should not conflict [Conformance]",
        "emptydir-wrapper",
        |cx| Box::pin(subpath::wrappers(cx)),
    ),
    Twin::new(
        "[sig-storage] EmptyDir wrapper volumes should not cause race condition when used for configmaps [Conformance] [Serial]",
        "emptydir-wrapper",
        |cx| Box::pin(subpath::race(cx)),
    ),
    Twin::new(
        "[sig-storage] CSIInlineVolumes should support CSIVolumeSource in Pod API [Conformance]",
        "csiinlinevolumes",
        |cx| Box::pin(objects::csi_pod(cx)),
    ),
    Twin::new(
        "[sig-storage] CSIInlineVolumes should run through the lifecycle of a CSIDriver [Conformance]",
        "csiinlinevolumes",
        |cx| Box::pin(objects::csi_driver(cx)),
    ),
    Twin::new(
        "[sig-storage] CSINodes CSI Conformance should run through the lifecycle of a csinode [Conformance]",
        "csinodes",
        |cx| Box::pin(objects::csi_node(cx)),
    ),
    Twin::new(
        "[sig-storage] CSIStorageCapacity should support CSIStorageCapacities API operations [Conformance]",
        "csistoragecapacity",
        |cx| Box::pin(objects::capacity(cx)),
    ),
    Twin::new(
        "[sig-storage] PersistentVolumes CSI Conformance should run through the lifecycle of a PV and a PVC [Conformance]",
        "pv",
        |cx| Box::pin(objects::volume_lifecycle(cx)),
    ),
    Twin::new(
        "[sig-storage] PersistentVolumes CSI Conformance should apply changes to a pv/pvc status [Conformance]",
        "pv",
        |cx| Box::pin(objects::volume_status(cx)),
    ),
    Twin::new(
        "[sig-storage] StorageClasses CSI Conformance should run through the lifecycle of a StorageClass [Conformance]",
        "csi-storageclass",
        |cx| Box::pin(objects::storage_class(cx)),
    ),
    Twin::new(
        "[sig-storage] VolumeAttachment Conformance should run through the lifecycle of a VolumeAttachment [Conformance]",
        "volumeattachment",
        |cx| Box::pin(objects::attachment_lifecycle(cx)),
    ),
    Twin::new(
        "[sig-storage] VolumeAttachment Conformance should apply changes to a volumeattachment status [Conformance]",
        "volumeattachment",
        |cx| Box::pin(objects::attachment_status(cx)),
    ),
    Twin::new(
        "[sig-storage] VolumeAttributesClass [FeatureGate:VolumeAttributesClass] should run through the lifecycle of a VolumeAttributesClass [Conformance]",
        "csi-volumeattributesclass",
        |cx| Box::pin(objects::attributes_class(cx)),
    ),
];

async fn config_map_immutable(cx: Cx) -> Result<()> {
    let data = |i: u32| json!(format!("value-{i}"));
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "immutable"},
        "data": {"data-1": data(1), "data-2": data(2), "data-3": data(3)}});
    immutable(&cx, &cx.core("configmaps"), object, &data).await
}

async fn secret_immutable(cx: Cx) -> Result<()> {
    let data = |i: u32| json!(BASE64.encode(format!("value-{i}\n")));
    let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "immutable"},
        "data": {"data-1": data(1), "data-2": data(2), "data-3": data(3)}});
    immutable(&cx, &cx.core("secrets"), object, &data).await
}

async fn immutable(
    cx: &Cx,
    all: &str,
    object: Value,
    data: &(dyn Fn(u32) -> Value + Sync),
) -> Result<()> {
    cx.ok(Method::POST, all, &object).await?;
    let path = format!("{all}/immutable");
    let mut object = cx.get(&path).await?;
    object["data"]["data-4"] = data(4);
    let mut object = cx.ok(Method::PUT, &path, &object).await?;
    object["immutable"] = json!(true);
    let object = cx.ok(Method::PUT, &path, &object).await?;
    let mut changed = object.clone();
    changed["data"]["data-5"] = data(5);
    let refused = cx.refused(Method::PUT, &path, &changed).await?;
    ensure!(
        refused.code == 422 && refused.reason == "Invalid",
        "{refused:?}"
    );
    let found = cx.get(&path).await?;
    ensure!(found["immutable"] == true, "{found}");
    let mut changed = found.clone();
    changed["immutable"] = json!(false);
    let refused = cx.refused(Method::PUT, &path, &changed).await?;
    ensure!(
        refused.code == 422 && refused.reason == "Invalid",
        "{refused:?}"
    );
    let mut labelled = cx.get(&path).await?;
    labelled["metadata"]["labels"] = json!({"label1": "value1"});
    let labelled = cx.ok(Method::PUT, &path, &labelled).await?;
    ensure!(
        labelled["metadata"]["labels"]["label1"] == "value1",
        "{labelled}"
    );
    cx.delete(&path).await?;
    Ok(())
}
