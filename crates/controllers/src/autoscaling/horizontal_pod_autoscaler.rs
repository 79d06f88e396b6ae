//! HorizontalPodAutoscalers. Upstream: pkg/controller/podautoscaler. Metrics of resources (pods' and
//! containers') are read from metrics.k8s.io; metrics of types Pods, Object and External are not
//! supported and say so in the condition ScalingActive.

mod plan;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus,
    MetricSpec, MetricStatus, MetricTarget, MetricValueStatus, ResourceMetricStatus,
};
use api::core::v1::Pod;
use api::k8s_openapi::apimachinery::pkg::api::resource::Quantity as Typed;
use api::quantity::Quantity;
use api::selector::LabelSelector;
use async_trait::async_trait;
use client::recorder::reference;
use client::{Client, EventType, Recorder};
use jiff::Timestamp;
use parking_lot::Mutex;
use reconciler::{Clock, During, Error, Key, Next, Reconcile, Reconciler, Trigger, Wake};
use serde_json::Value;

use self::plan::{Group, Memory, Target};
use crate::common::object::{Object, time};
use crate::common::{act, pods, selector};
use crate::{Controller, Setup};

pub static CONTROLLER: Controller = Controller {
    name: "horizontal-pod-autoscaler-controller",
    account: "horizontal-pod-autoscaler",
    component: "horizontal-pod-autoscaler",
    needs: &[("autoscaling", "horizontalpodautoscalers"), ("", "pods")],
    build: |setup| Ok(build(setup)),
};

/// Each autoscaler is looked at this often, and first after so long.
const PERIOD: Duration = Duration::from_secs(15);

/// How long a young pod's CPU samples do not count, and how long it may take to become ready.
const CPU_INITIALIZATION: i64 = 300;
const READINESS_DELAY: i64 = 30;

fn build(setup: &Setup) -> Reconciler {
    let this = Autoscalers {
        client: setup.client.clone(),
        recorder: setup.recorder.clone(),
        clock: setup.clock.clone(),
        memory: Mutex::default(),
    };
    Reconciler::new("horizontal-pod-autoscaler-controller", 5, this).on(Trigger::map(
        "autoscaling",
        "horizontalpodautoscalers",
        |e| {
            let spec_changed = e.before.is_none()
                || e.deleted()
                || e.typed::<HorizontalPodAutoscaler>().map(|h| h.spec.clone())
                    != e.typed_before::<HorizontalPodAutoscaler>()
                        .map(|h| h.spec.clone());
            if !spec_changed {
                return Vec::new();
            }
            vec![Wake {
                key: Key::of(e.entry),
                after: PERIOD,
            }]
        },
    ))
}

struct Autoscalers {
    client: Client,
    recorder: Recorder,
    clock: Clock,
    memory: Mutex<HashMap<Key, Memory>>,
}

/// A scale subresource.
struct Scale {
    path: String,
    object: Value,
    replicas: i32,
    selector: String,
}

/// What the metrics of an autoscaler came to.
struct Proposal {
    replicas: i32,
    metric: String,
    statuses: Vec<MetricStatus>,
}

/// A condition to be set: type, status, reason, message.
type Said = (&'static str, &'static str, String, String);

#[async_trait]
impl Reconcile for Autoscalers {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let lister = self.client.lister::<HorizontalPodAutoscaler>()?;
        let Some(hpa) = lister.get(&key.namespace, &key.name) else {
            self.memory.lock().remove(key);
            return Ok(Next::Done);
        };
        let mut status = hpa.status.clone().unwrap_or_default();
        let done = self.sync(key, &hpa, &mut status).await;
        if hpa.status.as_ref() != Some(&status) {
            let new = HorizontalPodAutoscaler {
                status: Some(status),
                ..(*hpa).clone()
            };
            act::update_status(&self.client, &new)
                .await
                .during("update the status")?;
        }
        if let Err(error) = done {
            tracing::debug!(autoscaler = %key, %error, "autoscaler cannot scale");
        }
        Ok(Next::After(PERIOD))
    }
}

impl Autoscalers {
    fn tell(&self, hpa: &HorizontalPodAutoscaler, kind: EventType, reason: &str, message: &str) {
        self.recorder.event(reference(hpa), kind, reason, message);
    }

    fn say(
        &self,
        hpa: &HorizontalPodAutoscaler,
        status: &mut HorizontalPodAutoscalerStatus,
        c: Said,
    ) {
        set_condition(status, c, hpa.generation(), self.clock.seconds());
    }

    async fn sync(
        &self,
        key: &Key,
        hpa: &HorizontalPodAutoscaler,
        status: &mut HorizontalPodAutoscalerStatus,
    ) -> Result<(), Error> {
        let scale = match self.scale(hpa).await {
            Ok(scale) => scale,
            Err(why) => {
                self.tell(hpa, EventType::Warning, "FailedGetScale", &why);
                let m = format!(
                    "the HPA controller was unable to get the target's current scale: {why}"
                );
                self.say(
                    hpa,
                    status,
                    ("AbleToScale", "False", "FailedGetScale".into(), m),
                );
                return Err(Error::Other(why));
            }
        };
        let m = "the HPA controller was able to get the target's current scale";
        self.say(
            hpa,
            status,
            ("AbleToScale", "True", "SucceededGetScale".into(), m.into()),
        );
        let current = scale.replicas;
        let spec = &hpa.spec;
        let low = spec.min_replicas.unwrap_or(1);
        status.current_replicas = Some(current);
        let (desired, reason) = if current == 0 {
            let m = "scaling is disabled since the replica count of the target is zero";
            self.say(
                hpa,
                status,
                ("ScalingActive", "False", "ScalingDisabled".into(), m.into()),
            );
            (0, String::new())
        } else if current > spec.max_replicas {
            (
                spec.max_replicas,
                "Current number of replicas above Spec.MaxReplicas".into(),
            )
        } else if current < low {
            (
                low,
                "Current number of replicas below Spec.MinReplicas".into(),
            )
        } else {
            let proposal = self.propose(hpa, &scale, status).await?;
            let m = format!(
                "the HPA was able to successfully calculate a replica count from {}",
                proposal.metric
            );
            self.say(
                hpa,
                status,
                ("ScalingActive", "True", "ValidMetricFound".into(), m),
            );
            status.current_metrics = Some(proposal.statuses);
            let reason = match proposal.replicas.cmp(&current) {
                std::cmp::Ordering::Greater => format!("{} above target", proposal.metric),
                _ => "All metrics below target".into(),
            };
            let desired = self.normalize(key, hpa, current, proposal.replicas, status);
            (desired, reason)
        };
        status.desired_replicas = desired;
        if desired != current {
            self.rescale(key, hpa, &scale, (desired, &reason), status)
                .await?;
        }
        Ok(())
    }

    /// The desired number within windows, rates and bounds.
    fn normalize(
        &self,
        key: &Key,
        hpa: &HorizontalPodAutoscaler,
        current: i32,
        wanted: i32,
        status: &mut HorizontalPodAutoscalerStatus,
    ) -> i32 {
        let now = self.clock.now();
        let (stable, said, bounded) = {
            let mut all = self.memory.lock();
            let memory = all.entry(key.clone()).or_default();
            let (stable, said) = memory.stabilize(&hpa.spec, current, wanted, now);
            (stable, said, memory.bound(&hpa.spec, current, stable, now))
        };
        let owned = |l: plan::Limit| -> Said { (l.0, l.1, l.2.into(), l.3.into()) };
        let ready = (
            "AbleToScale",
            "True",
            "ReadyForNewScale",
            "recommended size matches current size",
        );
        let able = said.unwrap_or(ready);
        if said.is_some() || stable == current {
            self.say(hpa, status, owned(able));
        }
        let (desired, limited) = bounded;
        self.say(hpa, status, owned(limited));
        desired
    }

    async fn rescale(
        &self,
        key: &Key,
        hpa: &HorizontalPodAutoscaler,
        scale: &Scale,
        (desired, reason): (i32, &str),
        status: &mut HorizontalPodAutoscalerStatus,
    ) -> Result<(), Error> {
        let mut object = scale.object.clone();
        object["spec"]["replicas"] = desired.into();
        let request = http::Request::put(&scale.path)
            .header("content-type", "application/json")
            .body(object.to_string().into_bytes());
        let request = request.map_err(|e| Error::Other(e.to_string()))?;
        let done = self.client.kube().request::<Value>(request).await;
        if let Err(e) = done {
            let why = client::message(&e);
            let m = format!("New size: {desired}; reason: {reason}; error: {why}");
            self.tell(hpa, EventType::Warning, "FailedRescale", &m);
            let m = format!("the HPA controller was unable to update the target scale: {why}");
            self.say(
                hpa,
                status,
                ("AbleToScale", "False", "FailedUpdateScale".into(), m),
            );
            status.desired_replicas = scale.replicas;
            return Err(e).during("update the scale");
        }
        let m = format!("the HPA controller was able to update the target scale to {desired}");
        self.say(
            hpa,
            status,
            ("AbleToScale", "True", "SucceededRescale".into(), m),
        );
        let m = format!("New size: {desired}; reason: {reason}");
        self.tell(hpa, EventType::Normal, "SuccessfulRescale", &m);
        let now = self.clock.now();
        let mut all = self.memory.lock();
        all.entry(key.clone())
            .or_default()
            .changed(scale.replicas, desired, now);
        status.last_scale_time = time(self.clock.seconds());
        Ok(())
    }

    /// The scale of the target.
    async fn scale(&self, hpa: &HorizontalPodAutoscaler) -> Result<Scale, String> {
        let target = &hpa.spec.scale_target_ref;
        let version = target.api_version.as_deref().unwrap_or("v1");
        let group = version.split_once('/').map_or("", |(g, _)| g);
        let all = self.client.reads().resources();
        let found = all
            .iter()
            .find(|d| d.group == group && d.kind == *target.kind);
        let d = found
            .ok_or_else(|| format!("no matches for kind {:?} in group {group:?}", target.kind))?;
        let root = if group.is_empty() { "/api" } else { "/apis" };
        let path = format!(
            "{root}/{}/namespaces/{}/{}/{}/scale",
            d.api_version(),
            hpa.namespace(),
            d.resource,
            target.name
        );
        let request = http::Request::get(&path).body(Vec::new());
        let request = request.map_err(|e| e.to_string())?;
        let answer = self.client.kube().request::<Value>(request).await;
        let object = answer.map_err(|e| client::message(&e))?;
        let replicas = object["spec"]["replicas"].as_i64().unwrap_or(0);
        let selector = object["status"]["selector"].as_str().unwrap_or("");
        Ok(Scale {
            path,
            replicas: i32::try_from(replicas).unwrap_or(i32::MAX),
            selector: selector.to_string(),
            object,
        })
    }

    /// The highest of the metrics' proposals. A metric that fails only keeps the number from falling.
    async fn propose(
        &self,
        hpa: &HorizontalPodAutoscaler,
        scale: &Scale,
        status: &mut HorizontalPodAutoscalerStatus,
    ) -> Result<Proposal, Error> {
        let parsed = LabelSelector::parse(&scale.selector);
        let wanted = match parsed {
            Ok(s) if !scale.selector.is_empty() => s,
            other => {
                let m = match other {
                    Ok(_) => {
                        let kind = EventType::Warning;
                        self.tell(hpa, kind, "SelectorRequired", "selector is required");
                        "the HPA target's scale is missing a selector".to_string()
                    }
                    Err(why) => format!(
                        "couldn't convert selector into a corresponding internal selector object: {why}"
                    ),
                };
                let reason = "InvalidSelector".to_string();
                self.say(hpa, status, ("ScalingActive", "False", reason, m.clone()));
                return Err(Error::Other(m));
            }
        };
        let metrics = hpa.spec.metrics.clone().unwrap_or_default();
        let mut best: Option<(i32, String)> = None;
        let mut statuses = Vec::new();
        let mut failed: Option<(String, String)> = None;
        let mut failures = 0;
        for metric in &metrics {
            match self.metric(hpa, scale, &wanted, metric).await {
                Ok((replicas, name, told)) => {
                    if best.as_ref().is_none_or(|(n, _)| *n < replicas) {
                        best = Some((replicas, name));
                    }
                    statuses.push(told);
                }
                Err(why) => {
                    failures += 1;
                    let reason = format!("FailedGet{}Metric", metric.type_);
                    self.tell(hpa, EventType::Warning, &reason, &why);
                    failed.get_or_insert((reason, why));
                }
            }
        }
        let blocked = match (&best, &failed) {
            (None, _) => true,
            (Some((n, _)), Some(_)) => *n < scale.replicas,
            (Some(_), None) => false,
        };
        if let (true, Some((reason, why))) = (blocked, failed) {
            let m = format!("the HPA was unable to compute the replica count: {why}");
            self.say(hpa, status, ("ScalingActive", "False", reason, m));
            let total = metrics.len();
            let m = format!(
                "invalid metrics ({failures} invalid out of {total}), first error is: {why}"
            );
            self.tell(hpa, EventType::Warning, "FailedComputeMetricsReplicas", &m);
            return Err(Error::Other(m));
        }
        let (replicas, metric) = best.unwrap_or((scale.replicas, String::new()));
        Ok(Proposal {
            replicas,
            metric,
            statuses,
        })
    }

    async fn metric(
        &self,
        hpa: &HorizontalPodAutoscaler,
        scale: &Scale,
        wanted: &LabelSelector,
        metric: &MetricSpec,
    ) -> Result<(i32, String, MetricStatus), String> {
        let (resource, container, target) = match (&metric.resource, &metric.container_resource) {
            (Some(r), _) => (&r.name, None, &r.target),
            (None, Some(c)) => (&c.name, Some(c.container.as_str()), &c.target),
            (None, None) => {
                return Err(format!(
                    "metrics of type {} are not supported",
                    metric.type_
                ));
            }
        };
        let (goal, name) = goal(resource, container.is_some(), target)
            .ok_or_else(|| "invalid resource metric source: neither an average utilization target nor an average value (usage) target was set".to_string())?;
        let wrap = |why: String| format!("failed to get {resource} resource metric value: {why}");
        let group = self.group(hpa, scale, wanted, resource, container).await;
        let group =
            group.map_err(|why| wrap(format!("failed to get {resource} utilization: {why}")))?;
        let t = plan::tolerances(&hpa.spec);
        let (replicas, is) = plan::replicas(scale.replicas, &group, goal, t).map_err(wrap)?;
        let told = metric_status(metric, resource, &group, goal, is);
        Ok((replicas, name, told))
    }

    /// Samples and states of the target's pods.
    async fn group(
        &self,
        hpa: &HorizontalPodAutoscaler,
        scale: &Scale,
        wanted: &LabelSelector,
        resource: &str,
        container: Option<&str>,
    ) -> Result<Group, String> {
        let namespace = hpa.namespace();
        let encoded = scale.selector.replace('=', "%3D").replace(',', "%2C");
        let encoded = encoded.replace(' ', "%20").replace('!', "%21");
        let path = format!(
            "/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods?labelSelector={encoded}"
        );
        let request = http::Request::get(path).body(Vec::new());
        let request = request.map_err(|e| e.to_string())?;
        let answer = self.client.kube().request::<Value>(request).await;
        let answer = answer.map_err(|e| {
            let why = client::message(&e);
            format!("unable to get metrics for resource {resource}: unable to fetch metrics from resource metrics API: {why}")
        })?;
        let mut group = Group::default();
        let items = answer["items"].as_array().cloned().unwrap_or_default();
        if items.is_empty() {
            return Err(format!(
                "unable to get metrics for resource {resource}: no metrics returned from resource metrics API"
            ));
        }
        let mut samples: HashMap<String, Timestamp> = HashMap::new();
        for item in &items {
            let pod = item["metadata"]["name"].as_str().unwrap_or("").to_string();
            if let Some(usage) = usage(item, resource, container) {
                group.usage.insert(pod.clone(), usage);
                let at = item["timestamp"].as_str().and_then(|t| t.parse().ok());
                samples.insert(pod, at.unwrap_or_else(|| self.clock.now()));
            }
        }
        let pods = self.client.lister::<Pod>().map_err(|e| e.to_string())?;
        let all: Vec<Arc<Pod>> =
            pods.select(Some(namespace), |e| selector::matches_entry(wanted, e));
        if all.is_empty() {
            return Err("no pods returned by selector while calculating replica count".into());
        }
        for pod in all
            .iter()
            .filter(|p| !p.deleting() && pods::phase(p) != "Failed")
        {
            let asked = request_of(pod, resource, container)?;
            group.requests.insert(pod.name().into(), asked);
            let name = pod.name().to_string();
            match samples.get(&name) {
                _ if pods::phase(pod) == "Pending" => group.unready.push(name),
                None => group.missing.push(name),
                Some(at) if resource == "cpu" && self.young(pod, *at) => group.unready.push(name),
                Some(_) => group.ready.push(name),
            }
        }
        group.usage.retain(|p, _| group.ready.contains(p));
        Ok(group)
    }

    /// Whether a CPU sample says more of a pod's start than of its work.
    fn young(&self, pod: &Pod, sample: Timestamp) -> bool {
        let started = pod.status.as_ref().and_then(|s| s.start_time.as_ref());
        let ready = pods::condition(pod, "Ready");
        let (Some(started), Some(ready)) = (started, ready) else {
            return true;
        };
        let since = ready
            .last_transition_time
            .as_ref()
            .map_or(started.0, |t| t.0);
        let unready = ready.status != "True";
        let age = self.clock.now().as_second() - started.0.as_second();
        if age < CPU_INITIALIZATION {
            return unready || sample.as_second() < since.as_second() + 60;
        }
        unready && started.0.as_second() + READINESS_DELAY > since.as_second()
    }
}

/// What a metric should be, and its name in texts.
fn goal(resource: &str, container: bool, target: &MetricTarget) -> Option<(Target, String)> {
    let of = if container {
        "container resource"
    } else {
        "resource"
    };
    if let Some(percent) = target.average_utilization {
        let name = format!("{resource} {of} utilization (percentage of request)");
        return Some((Target::Utilization(i64::from(percent)), name));
    }
    let average = target.average_value.as_ref()?;
    let milli = Quantity::parse(&average.0).ok()?.milli_value();
    Some((Target::Average(milli), format!("{resource} {of}")))
}

/// A pod's usage in milli-units; none where a container has no sample.
fn usage(item: &Value, resource: &str, container: Option<&str>) -> Option<i64> {
    let containers = item["containers"].as_array()?;
    let mut sum = 0;
    let mut found = false;
    for c in containers {
        if container.is_some_and(|n| c["name"] != n) {
            continue;
        }
        sum += Quantity::parse(c["usage"][resource].as_str()?)
            .ok()?
            .milli_value();
        found = true;
    }
    found.then_some(sum)
}

/// What a pod asks for in milli-units.
fn request_of(pod: &Pod, resource: &str, container: Option<&str>) -> Result<i64, String> {
    let Some(spec) = &pod.spec else {
        return Ok(0);
    };
    let parse = |q: &Typed| Quantity::parse(&q.0).map_or(0, |q| q.milli_value());
    let whole = spec
        .resources
        .as_ref()
        .and_then(|r| r.requests.as_ref()?.get(resource));
    if let (Some(q), None) = (whole, container) {
        return Ok(parse(q));
    }
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let mut sum = 0;
    for c in spec.containers.iter().chain(sidecars) {
        if container.is_some_and(|n| c.name != n) {
            continue;
        }
        let asked = c
            .resources
            .as_ref()
            .and_then(|r| r.requests.as_ref()?.get(resource));
        let asked = asked.ok_or_else(|| {
            let (container, pod) = (&c.name, pod.name());
            format!("missing request for {resource} in container {container} of Pod {pod}")
        })?;
        sum += parse(asked);
    }
    Ok(sum)
}

fn metric_status(
    metric: &MetricSpec,
    resource: &str,
    group: &Group,
    goal: Target,
    is: i64,
) -> MetricStatus {
    let pods = i64::try_from(group.usage.len()).unwrap_or(1).max(1);
    let average = group.usage.values().sum::<i64>() / pods;
    let current = MetricValueStatus {
        average_utilization: match goal {
            Target::Utilization(_) => i32::try_from(is).ok(),
            Target::Average(_) => None,
        },
        average_value: Some(Typed(Quantity::from_milli(average).to_string())),
        value: None,
    };
    match &metric.container_resource {
        Some(c) => MetricStatus {
            type_: metric.type_.clone(),
            container_resource: Some(api::autoscaling::v2::ContainerResourceMetricStatus {
                container: c.container.clone(),
                current,
                name: resource.into(),
            }),
            ..MetricStatus::default()
        },
        None => MetricStatus {
            type_: metric.type_.clone(),
            resource: Some(ResourceMetricStatus {
                current,
                name: resource.into(),
            }),
            ..MetricStatus::default()
        },
    }
}

fn set_condition(
    status: &mut HorizontalPodAutoscalerStatus,
    (kind, state, reason, message): Said,
    generation: i64,
    now: Timestamp,
) {
    let all = status.conditions.get_or_insert_default();
    let known = all.iter_mut().find(|c| c.type_ == kind);
    let mut new = HorizontalPodAutoscalerCondition {
        type_: kind.into(),
        status: state.into(),
        reason: Some(reason),
        message: Some(message),
        observed_generation: Some(generation),
        last_transition_time: time(now),
    };
    match known {
        Some(c) => {
            if c.status == new.status {
                new.last_transition_time = c.last_transition_time.clone();
            }
            *c = new;
        }
        None => all.push(new),
    }
}
