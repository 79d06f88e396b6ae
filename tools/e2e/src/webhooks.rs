//! A webhook server in a twin's namespace: secret, deployment and service, as upstream's tests make them.

use std::time::Duration;

use anyhow::{Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use http::Method;
use serde_json::{Value, json};

use crate::certs;
use crate::fixtures::deployment;
use crate::images::AGNHOST_IMAGE;
use crate::rest::{Cx, labelled};
use crate::waits;

const EVERY: Duration = Duration::from_secs(1);
const WITHIN: Duration = Duration::from_secs(30);
const MOUNT: &str = "/webhook.local.config/certificates";

/// What is deployed.
pub struct Server {
    /// Subcommand of the test image.
    pub command: &'static str,
    pub role_binding: &'static str,
    pub secret: &'static str,
    pub deployment: &'static str,
    pub container: &'static str,
    pub labels: Value,
    pub service: &'static str,
    /// Label of the service.
    pub service_label: Value,
    /// Selector of the service.
    pub selector: Value,
    pub port: u16,
    pub container_port: u16,
}

impl Server {
    /// Deploys it and waits until its service has the one endpoint; the CA bundle for its clients.
    pub async fn deploy(&self, cx: &Cx) -> Result<String> {
        let identity = certs::server(&format!("{}.{}.svc", self.service, cx.namespace))?;
        self.may_read_authentication(cx).await?;
        let data = json!({"tls.crt": BASE64.encode(&identity.certificate),
            "tls.key": BASE64.encode(&identity.key)});
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {"name": self.secret}, "data": data});
        cx.ok(Method::POST, &cx.core("secrets"), &secret).await?;
        let all = cx.group("apps/v1", "deployments");
        cx.ok(Method::POST, &all, &self.workload()).await?;
        waits::revision(cx, self.deployment, "1", AGNHOST_IMAGE).await?;
        waits::deployment_complete(cx, self.deployment).await?;
        let service = json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": self.service, "labels": self.service_label},
            "spec": {"selector": self.selector, "ports": [{"protocol": "TCP",
                "port": self.port, "targetPort": self.container_port}]}});
        cx.ok(Method::POST, &cx.core("services"), &service).await?;
        self.one_endpoint(cx).await?;
        Ok(BASE64.encode(&identity.authority))
    }

    /// One from an earlier twin is fine.
    async fn may_read_authentication(&self, cx: &Cx) -> Result<()> {
        let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": self.role_binding,
                "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"}},
            "roleRef": {"apiGroup": "", "kind": "Role",
                "name": "extension-apiserver-authentication-reader"},
            "subjects": [{"kind": "ServiceAccount", "name": "default",
                "namespace": cx.namespace}]});
        let all = "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/rolebindings";
        let made = cx
            .send(Method::POST, all, "application/json", Some(&binding))
            .await?;
        if let Err(failure) = made {
            ensure!(failure.reason == "AlreadyExists", "{failure:?}");
            return Ok(());
        }
        cx.clean(format!("{all}/{}", self.role_binding));
        Ok(())
    }

    fn workload(&self) -> Value {
        let mut made = deployment(
            self.deployment,
            1,
            self.labels.clone(),
            self.container,
            AGNHOST_IMAGE,
        );
        let probe = json!({"httpGet": {"scheme": "HTTPS", "port": self.container_port,
            "path": "/readyz"}, "periodSeconds": 1, "successThreshold": 1, "failureThreshold": 30});
        let spec = &mut made["spec"]["template"]["spec"];
        spec["volumes"] = json!([{"name": "webhook-certs", "secret": {"secretName": self.secret}}]);
        let container = &mut spec["containers"][0];
        container["args"] = json!([
            self.command,
            format!("--tls-cert-file={MOUNT}/tls.crt"),
            format!("--tls-private-key-file={MOUNT}/tls.key"),
            "-v=4",
            format!("--port={}", self.container_port)
        ]);
        container["readinessProbe"] = probe;
        container["ports"] = json!([{"containerPort": self.container_port}]);
        container["volumeMounts"] =
            json!([{"name": "webhook-certs", "readOnly": true, "mountPath": MOUNT}]);
        made
    }

    async fn one_endpoint(&self, cx: &Cx) -> Result<()> {
        let selector = labelled(&format!("kubernetes.io/service-name={}", self.service));
        let path = cx.group("discovery.k8s.io/v1", &format!("endpointslices?{selector}"));
        let what = format!("{} has one endpoint", self.service);
        cx.eventually(EVERY, WITHIN, &what, || async {
            let slices = cx.items(&path).await?;
            let all = slices.iter().filter_map(|s| s["endpoints"].as_array());
            let ready = all.flatten().filter(|e| e["conditions"]["ready"] == true);
            Ok(ready.count() == 1)
        })
        .await
    }
}
