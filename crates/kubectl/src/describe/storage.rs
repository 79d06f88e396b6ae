//! Persistent volumes, their claims and classes.

use serde_json::Value;

use super::lines::{Lines, labels_or_none, since, time};
use super::{Describer, Seen, volumes};
use crate::builder::Info;
use crate::object;
use crate::rest::Call;

pub const VOLUME: Describer = Describer::of("", "PersistentVolume", volume);
pub const CLAIM: Describer = Describer::of("", "PersistentVolumeClaim", claim).with(pods);
pub const CLASS: Describer = Describer::of("storage.k8s.io", "StorageClass", class);

fn pods(info: &Info) -> Vec<(&'static str, Call)> {
    let ns = info.namespace.as_deref().unwrap_or_default();
    vec![("pods", Call::get(format!("/api/v1/namespaces/{ns}/pods")))]
}

fn status(o: &Value, w: &mut Lines) {
    let deleted = &o["metadata"]["deletionTimestamp"];
    let text = match deleted {
        Value::Null => object::text(o, "/status/phase").to_string(),
        at => format!("Terminating (lasts {})", since(at)),
    };
    w.put(0, format!("Status:\t{text}"));
}

fn finalizers(o: &Value, w: &mut Lines) {
    let all = object::items(o, "/metadata/finalizers")
        .iter()
        .map(object::plain);
    let all = all.collect::<Vec<_>>().join(" ");
    w.put(0, format!("Finalizers:\t[{all}]"));
}

fn modes(o: &Value, pointer: &str) -> String {
    let short = |m: &Value| match m.as_str().unwrap_or_default() {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        _ => "",
    };
    let all: Vec<&str> = object::items(o, pointer).iter().map(short).collect();
    all.join(",")
}

fn class_of(o: &Value) -> String {
    let old = &o["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"];
    let name = old
        .as_str()
        .unwrap_or_else(|| object::text(o, "/spec/storageClassName"));
    name.to_string()
}

fn volume(seen: &Seen<'_>, w: &mut Lines) {
    let o = seen.object;
    let spec = &o["spec"];
    w.put(0, format!("Name:\t{}", object::name(o)));
    seen.marks(w);
    finalizers(o, w);
    w.put(0, format!("StorageClass:\t{}", class_of(o)));
    status(o, w);
    let claim = match &spec["claimRef"] {
        Value::Null => String::new(),
        c => format!(
            "{}/{}",
            object::text(c, "/namespace"),
            object::text(c, "/name")
        ),
    };
    w.put(0, format!("Claim:\t{claim}"));
    let policy = object::text(spec, "/persistentVolumeReclaimPolicy");
    w.put(0, format!("Reclaim Policy:\t{policy}"));
    w.put(0, format!("Access Modes:\t{}", modes(spec, "/accessModes")));
    w.some(0, "VolumeMode", &spec["volumeMode"]);
    w.put(
        0,
        format!("Capacity:\t{}", object::text(spec, "/capacity/storage")),
    );
    affinity(&spec["nodeAffinity"], w);
    w.put(
        0,
        format!("Message:\t{}", object::text(o, "/status/message")),
    );
    w.put(0, "Source:");
    volumes::source(spec, w);
}

fn affinity(affinity: &Value, w: &mut Lines) {
    let terms = object::items(affinity, "/required/nodeSelectorTerms");
    if affinity.is_null() {
        return w.put(0, "Node Affinity:\t<none>");
    }
    w.put(0, "Node Affinity:\t");
    if terms.is_empty() {
        return w.put(1, "Required Terms:\t<none>");
    }
    w.put(1, "Required Terms:\t");
    for (i, term) in terms.iter().enumerate() {
        let all = object::items(term, "/matchExpressions");
        if all.is_empty() {
            w.put(2, format!("Term {i}:\t<none>"));
        }
        for (n, e) in all.iter().enumerate() {
            let before = if n == 0 {
                format!("Term {i}:")
            } else {
                String::new()
            };
            let operator = object::text(e, "/operator").to_lowercase();
            let values: Vec<String> = object::items(e, "/values")
                .iter()
                .map(object::plain)
                .collect();
            let values = match values.is_empty() {
                true => String::new(),
                false => format!(" [{}]", values.join(", ")),
            };
            w.put(
                2,
                format!("{before}\t{} {operator}{values}", object::text(e, "/key")),
            );
        }
    }
}

fn claim(seen: &Seen<'_>, w: &mut Lines) {
    let o = seen.object;
    let bound = object::text(o, "/spec/volumeName");
    seen.head(w);
    w.put(0, format!("StorageClass:\t{}", class_of(o)));
    status(o, w);
    w.put(0, format!("Volume:\t{bound}"));
    seen.marks(w);
    finalizers(o, w);
    let (capacity, access) = match bound {
        "" => ("", String::new()),
        _ => (
            object::text(o, "/status/capacity/storage"),
            modes(o, "/status/accessModes"),
        ),
    };
    w.put(0, format!("Capacity:\t{capacity}"));
    w.put(0, format!("Access Modes:\t{access}"));
    w.some(0, "VolumeMode", &o["spec"]["volumeMode"]);
    let source = &o["spec"]["dataSource"];
    if source.is_object() {
        w.put(0, "DataSource:");
        w.some(1, "APIGroup", &source["apiGroup"]);
        w.put(1, format!("Kind:\t{}", object::text(source, "/kind")));
        w.put(1, format!("Name:\t{}", object::text(source, "/name")));
    }
    used_by(seen, w);
    let conditions = object::items(o, "/status/conditions");
    if !conditions.is_empty() {
        w.put(0, "Conditions:");
        w.put(
            1,
            "Type\tStatus\tLastProbeTime\tLastTransitionTime\tReason\tMessage",
        );
        w.put(
            1,
            "----\t------\t-----------------\t------------------\t------\t-------",
        );
    }
    for c in conditions {
        w.put(
            1,
            format!(
                "{} \t{} \t{} \t{} \t{} \t{}",
                object::text(c, "/type"),
                object::text(c, "/status"),
                time(&c["lastProbeTime"]),
                time(&c["lastTransitionTime"]),
                object::text(c, "/reason"),
                object::text(c, "/message")
            ),
        );
    }
}

fn used_by(seen: &Seen<'_>, w: &mut Lines) {
    let name = object::name(seen.object);
    let uses = |pod: &&Value| {
        object::items(pod, "/spec/volumes").iter().any(|v| {
            let of_pod = format!("{}-{}", object::name(pod), object::text(v, "/name"));
            v["persistentVolumeClaim"]["claimName"] == name
                || (v["ephemeral"].is_object() && of_pod == name)
        })
    };
    let mut all: Vec<String> = seen
        .items("pods")
        .iter()
        .filter(uses)
        .map(|p| object::name(p).to_string())
        .collect();
    all.sort();
    w.column("Used By", &all);
}

fn class(seen: &Seen<'_>, w: &mut Lines) {
    let o = seen.object;
    w.put(0, format!("Name:\t{}", object::name(o)));
    let default = &o["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"];
    let default = if default == "true" { "Yes" } else { "No" };
    w.put(0, format!("IsDefaultClass:\t{default}"));
    let annotations = labels_or_none(&o["metadata"]["annotations"]);
    w.put(0, format!("Annotations:\t{annotations}"));
    w.put(
        0,
        format!("Provisioner:\t{}", object::text(o, "/provisioner")),
    );
    w.put(
        0,
        format!("Parameters:\t{}", labels_or_none(&o["parameters"])),
    );
    let grows = match &o["allowVolumeExpansion"] {
        Value::Null => "<unset>",
        grows => super::lines::truth(grows),
    };
    w.put(0, format!("AllowVolumeExpansion:\t{grows}"));
    let options = object::items(o, "/mountOptions");
    w.put(
        0,
        if options.is_empty() {
            "MountOptions:\t<none>"
        } else {
            "MountOptions:"
        },
    );
    for option in options {
        w.put(1, object::plain(option));
    }
    w.some(0, "ReclaimPolicy", &o["reclaimPolicy"]);
    w.some(0, "VolumeBindingMode", &o["volumeBindingMode"]);
}
