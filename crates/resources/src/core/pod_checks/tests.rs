use super::*;

fn problems(mut spec: Value, before: Option<&Value>) -> Vec<String> {
    super::super::pod_spec::set_defaults(&mut spec);
    let mut c = Causes::new();
    let cx = Cx {
        pod: true,
        name: "p",
        before,
        ..Cx::default()
    };
    c.at("spec", |c| validate(&spec, cx, c));
    c.as_slice().iter().map(|c| c.text()).collect()
}

/// A spec with one container that has more fields.
fn container(more: Value) -> Value {
    let mut one = json!({"name": "c", "image": "i"});
    if let (Some(map), Value::Object(more)) = (one.as_object_mut(), more) {
        map.extend(more);
    }
    json!({"containers": [one]})
}

/// A spec with more fields.
fn spec(more: Value) -> Value {
    let mut spec = container(json!({}));
    if let (Some(map), Value::Object(more)) = (spec.as_object_mut(), more) {
        map.extend(more);
    }
    spec
}

#[test]
fn good_specs_pass() {
    let good = json!({"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80, "name": "http"}],
            "env": [{"name": "A", "value": "b"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a']"}}},
                {"name": "C", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}}],
            "volumeMounts": [{"name": "v", "mountPath": "/x", "subPath": "a"}],
            "livenessProbe": {"httpGet": {"port": "http"}}, "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
            "securityContext": {"runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "1", "example.com/gpu": "1"}}}],
        "initContainers": [{"name": "s", "image": "i", "restartPolicy": "Always"}],
        "volumes": [{"name": "v"}, {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}},
            {"configMap": {"name": "c", "items": [{"key": "k", "path": "k"}]}},
            {"downwardAPI": {"items": [{"path": "ns", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]}},
            {"name": "e", "ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}}}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}]}},
            "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"a": "b"}}}]}},
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
        "dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["a.b.", "_x.y"], "options": [{"name": "ndots", "value": "1"}]},
        "securityContext": {"sysctls": [{"name": "net.core.somaxconn", "value": "1"}, {"name": "kernel/shm_rmid_forced", "value": "1"}]},
        "overhead": {"cpu": "10m"}, "tolerations": [{"operator": "Exists"}], "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a"]}]});
    // Extended resources need a request that equals the limit.
    let mut good = good;
    good["containers"][0]["resources"]["requests"]["example.com/gpu"] = json!("1");
    assert_eq!(problems(good, None), Vec::<String>::new());
}

#[test]
fn mistakes_of_containers_are_named_as_upstream_names_them() {
    for (more, expected) in [
        (json!({"name": ""}), "name: Required value"),
        (json!({"image": ""}), "image: Required value"),
        (
            json!({"volumeMounts": [{"name": "x", "mountPath": "/a"}]}),
            "volumeMounts[0].name: Not found: \"x\"",
        ),
        (
            json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}),
            "resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        ),
        (
            json!({"resources": {"limits": {"hugepages-2Mi": "2Mi"}}}),
            "resources: Forbidden: HugePages require cpu or memory",
        ),
        (
            json!({"resources": {"requests": {"example.com/a": "1"}}}),
            "resources.limits: Required value: Limit must be set for non overcommitable resources",
        ),
        (
            json!({"resources": {"limits": {"foo": "1"}}}),
            "resources.limits[foo]: Invalid value: \"foo\": must be a standard resource for containers",
        ),
        (
            json!({"ports": [{"containerPort": 99999}]}),
            "ports[0].containerPort: Invalid value: 99999: must be between 1 and 65535, inclusive",
        ),
        (
            json!({"ports": [{"containerPort": 1, "hostPort": 5}, {"containerPort": 2, "hostPort": 5}]}),
            "ports[1].hostPort: Duplicate value: \"TCP//5\"",
        ),
        (
            json!({"livenessProbe": {}}),
            "livenessProbe: Required value: must specify a handler type",
        ),
        (
            json!({"readinessProbe": {"exec": {}, "tcpSocket": {"port": 1}}}),
            "readinessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
        ),
        (
            json!({"env": [{"name": "a=b"}]}),
            "env[0].name: Invalid value: \"a=b\": a valid environment variable name must consist only of printable ASCII characters other than '='",
        ),
        (
            json!({"env": [{"name": "a", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}]}),
            "env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.x\": error converting fieldPath: field label not supported: spec.x",
        ),
        (
            json!({"env": [{"name": "a", "valueFrom": {}}]}),
            "env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        ),
        (
            json!({"env": [{"name": "a", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "2"}}}]}),
            "env[0].valueFrom.resourceFieldRef.divisor: Invalid value: \"limits.cpu\": only divisor's values 1m and 1 are supported with the cpu resource",
        ),
        (
            json!({"envFrom": [{}]}),
            "envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`",
        ),
        (
            json!({"lifecycle": {"preStop": {"sleep": {"seconds": 31}}}}),
            "lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)",
        ),
        (
            json!({"securityContext": {"runAsUser": -1}}),
            "securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
        ),
        (
            json!({"securityContext": {"seccompProfile": {"type": "Localhost"}}}),
            "securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
        ),
        (
            json!({"securityContext": {"procMount": "Unmasked"}}),
            "securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`",
        ),
        (
            json!({"resizePolicy": [{"resourceName": "pods", "restartPolicy": "NotRequired"}]}),
            "resizePolicy: Unsupported value: \"pods\": supported values: \"cpu\", \"memory\"",
        ),
        (
            json!({"restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In"}}]}),
            "restartPolicy: Required value: must specify restartPolicy when restart rules are used",
        ),
    ] {
        let found = problems(container(more), None);
        let expected = format!("spec.containers[0].{expected}");
        assert!(found.contains(&expected), "{expected} not in {found:?}");
    }
}

#[test]
fn mistakes_of_specs_are_named_as_upstream_names_them() {
    for (more, expected) in [
        (json!({"containers": []}), "containers: Required value"),
        (
            json!({"restartPolicy": "Sometimes"}),
            "restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ),
        (
            json!({"initContainers": [{"name": "c", "image": "i"}]}),
            "initContainers[0].name: Duplicate value: \"c\"",
        ),
        (
            json!({"initContainers": [{"name": "d", "image": "i", "livenessProbe": {"exec": {"command": ["a"]}}}]}),
            "initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
        ),
        (
            json!({"ephemeralContainers": [{"name": "d", "image": "i", "ports": [{"containerPort": 1}]}]}),
            "ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
        ),
        (
            json!({"ephemeralContainers": [{"name": "d", "image": "i", "targetContainerName": "x"}]}),
            "ephemeralContainers[0].targetContainerName: Not found: \"x\"",
        ),
        (
            json!({"dnsPolicy": "None"}),
            "dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
        ),
        (
            json!({"hostname": "a.b"}),
            "hostname: Invalid value: \"a.b\": must not contain dots",
        ),
        (
            json!({"activeDeadlineSeconds": 0}),
            "activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
        ),
        (
            json!({"tolerations": [{"key": "a", "operator": "Maybe"}]}),
            "tolerations[0].operator: Unsupported value: \"Maybe\": supported values: \"Equal\", \"Exists\"",
        ),
        (
            json!({"securityContext": {"sysctls": [{"name": "Bad", "value": "1"}]}}),
            "securityContext.sysctls[0].name: Invalid value: \"Bad\": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
        ),
        (
            json!({"volumes": [{"name": "v", "secret": {}}]}),
            "volumes[0].secret.secretName: Required value",
        ),
        (
            json!({"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]}),
            "volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
        ),
        (
            json!({"volumes": [{"name": "v"}, {"name": "v"}]}),
            "volumes[1].name: Duplicate value: \"v\"",
        ),
        (
            json!({"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 5}}]}}]}),
            "volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes",
        ),
        (
            json!({"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"}]}),
            "topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
        ),
        (
            json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"labelSelector": {}}]}}}),
            "affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty",
        ),
        (
            json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 0, "preference": {}}]}}}),
            "affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must be in the range 1-100",
        ),
        (
            json!({"os": {"name": "plan9"}}),
            "os: Unsupported value: \"plan9\": supported values: \"linux\", \"windows\"",
        ),
        (
            json!({"hostUsers": false, "hostPID": true}),
            "HostPID: Forbidden: when `hostUsers` is false",
        ),
        (
            json!({"resources": {"requests": {"cpu": "1"}, "claims": [{"name": "x"}]}}),
            "resources.claims: Forbidden: claims may not be set for Resources at pod-level",
        ),
        (
            json!({"resourceClaims": [{"name": "x"}]}),
            "resourceClaims[0]: Invalid value: {\"name\":\"x\"}: must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
        ),
        (
            json!({"schedulingGates": [{"name": "a"}, {"name": "a"}]}),
            "schedulingGates[1]: Duplicate value: \"a\"",
        ),
    ] {
        let found = problems(spec(more), None);
        let expected = format!("spec.{expected}");
        assert!(found.contains(&expected), "{expected} not in {found:?}");
    }
}

#[test]
fn what_was_wrong_before_may_stay_wrong() {
    let bad = spec(
        json!({"hostNetwork": true, "securityContext": {"sysctls": [{"name": "net.a", "value": "1"}]}}),
    );
    assert_eq!(problems(bad.clone(), None).len(), 1);
    assert_eq!(problems(bad.clone(), Some(&bad)), Vec::<String>::new());
}
