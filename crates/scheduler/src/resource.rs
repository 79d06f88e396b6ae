//! Amounts of resources: what nodes have and what pods ask for.
//! Upstream: scheduler framework.Resource and component-helpers/resource PodRequests.

use std::collections::BTreeMap;
use std::fmt;

use api::quantity::Quantity;
use serde::{Deserialize, Deserializer, de};

/// CPU that scoring takes for a container that asks for none, in thousandths.
const NON_ZERO_MILLI_CPU: i64 = 100;
/// Memory that scoring takes for a container that asks for none, in bytes.
const NON_ZERO_MEMORY: i64 = 200 << 20;

/// Amounts by resource. CPU is in thousandths, everything else in units or bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    pub milli_cpu: i64,
    pub memory: i64,
    pub ephemeral_storage: i64,
    /// Most pods of a node; unused in requests.
    pub allowed_pods: i64,
    /// Extended resources, huge pages and the like.
    pub scalars: Vec<(Box<str>, i64)>,
}

/// One amount as the API writes it: a text or a number.
#[derive(Clone, Copy, Debug)]
pub struct Amount(pub Quantity);

/// Amounts by resource name, as in `resources.requests`.
pub type Amounts = BTreeMap<Box<str>, Amount>;

/// What a container asks for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Needs {
    pub requests: Option<Amounts>,
}

/// A container as requests are computed from it.
pub struct ContainerNeeds<'a> {
    pub requests: Option<&'a Amounts>,
    /// An init container that keeps running.
    pub sidecar: bool,
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Amount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Amount, E> {
                Quantity::parse(text).map(Amount).map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Amount, E> {
                self.visit_str(&n.to_string())
            }

            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Amount, E> {
                self.visit_str(&n.to_string())
            }

            fn visit_f64<E: de::Error>(self, n: f64) -> Result<Amount, E> {
                self.visit_str(&n.to_string())
            }
        }
        d.deserialize_any(Visitor)
    }
}

// === Resource ===

impl Resource {
    /// The amounts of a list such as `status.allocatable`.
    pub fn of(list: &Amounts) -> Self {
        let mut out = Self::default();
        for (name, amount) in list {
            out.set(name, amount);
        }
        out
    }

    fn set(&mut self, name: &str, Amount(q): &Amount) {
        match name {
            "cpu" => self.milli_cpu = q.milli_value(),
            "memory" => self.memory = q.value(),
            "ephemeral-storage" => self.ephemeral_storage = q.value(),
            "pods" => self.allowed_pods = q.value(),
            other if is_scalar(other) => *self.scalar_mut(other) = q.value(),
            _ => {}
        }
    }

    /// The amount of a resource by name; `cpu` in thousandths.
    pub fn amount(&self, name: &str) -> i64 {
        match name {
            "cpu" => self.milli_cpu,
            "memory" => self.memory,
            "ephemeral-storage" => self.ephemeral_storage,
            "pods" => self.allowed_pods,
            other => self.scalar(other),
        }
    }

    /// The amount of a scalar resource.
    pub fn scalar(&self, name: &str) -> i64 {
        let found = self.scalars.iter().find(|(n, _)| &**n == name);
        found.map_or(0, |(_, amount)| *amount)
    }

    fn scalar_mut(&mut self, name: &str) -> &mut i64 {
        let at = match self.scalars.iter().position(|(n, _)| &**n == name) {
            Some(at) => at,
            None => {
                self.scalars.push((name.into(), 0));
                self.scalars.len() - 1
            }
        };
        &mut self.scalars[at].1
    }

    /// Adds all amounts but `allowed_pods`.
    pub fn add(&mut self, other: &Self) {
        self.combine(other, i64::saturating_add);
    }

    /// Takes away all amounts but `allowed_pods`.
    pub fn sub(&mut self, other: &Self) {
        self.combine(other, i64::saturating_sub);
    }

    /// The larger of both, resource by resource.
    pub fn max(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Self, how: impl Fn(i64, i64) -> i64) {
        self.milli_cpu = how(self.milli_cpu, other.milli_cpu);
        self.memory = how(self.memory, other.memory);
        self.ephemeral_storage = how(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.scalars {
            let own = self.scalar_mut(name);
            *own = how(*own, *amount);
        }
    }
}

/// Resources besides the native ones that nodes count.
fn is_scalar(name: &str) -> bool {
    (name.contains('/') && !name.starts_with("requests."))
        || name.starts_with("hugepages-")
        || name.starts_with("attachable-volumes-")
}

/// What a pod asks for: the larger of its running containers' sum and of each start step.
/// `requests` gives one container's part, so that scoring can fill in defaults.
pub fn pod_requests(
    containers: &[ContainerNeeds<'_>],
    init: &[ContainerNeeds<'_>],
    requests: impl Fn(&ContainerNeeds<'_>) -> Resource,
) -> Resource {
    let mut running = Resource::default();
    for c in containers {
        running.add(&requests(c));
    }
    let mut sidecars = Resource::default();
    let mut start = Resource::default();
    for c in init {
        let mut own = requests(c);
        if c.sidecar {
            running.add(&own);
            sidecars.add(&own);
            start.max(&sidecars);
        } else {
            own.add(&sidecars);
            start.max(&own);
        }
    }
    running.max(&start);
    running
}

/// A container's requests as they are.
pub fn plain(c: &ContainerNeeds<'_>) -> Resource {
    c.requests.map(Resource::of).unwrap_or_default()
}

/// A container's requests with what scoring assumes where there are none.
pub fn non_zero(c: &ContainerNeeds<'_>) -> Resource {
    let mut out = plain(c);
    let has = |name: &str| c.requests.is_some_and(|r| r.contains_key(name));
    if !has("cpu") {
        out.milli_cpu = NON_ZERO_MILLI_CPU;
    }
    if !has("memory") {
        out.memory = NON_ZERO_MEMORY;
    }
    out
}

/// Pod-level requests stand for the containers' where both could speak.
pub fn apply_pod_level(sum: &mut Resource, level: Option<&Amounts>) {
    for (name, amount) in level.into_iter().flatten() {
        if matches!(&**name, "cpu" | "memory") || name.starts_with("hugepages-") {
            sum.set(name, amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn amounts(v: Value) -> Amounts {
        serde_json::from_value(v).unwrap()
    }

    #[test]
    fn amounts_are_texts_or_numbers() {
        let r = Resource::of(&amounts(
            json!({"cpu": 1.5, "memory": "1Ki", "pods": 110, "example.com/x": "3", "odd": 1}),
        ));
        assert_eq!((r.milli_cpu, r.memory, r.allowed_pods), (1500, 1024, 110));
        assert_eq!(r.scalars, vec![("example.com/x".into(), 3)]);
    }

    #[test]
    fn a_pod_asks_for_its_largest_moment() {
        let cpu = |m: i64| amounts(json!({"cpu": format!("{m}m")}));
        let (a, b, c, d) = (cpu(100), cpu(200), cpu(50), cpu(500));
        let step = |r, sidecar| ContainerNeeds {
            requests: Some(r),
            sidecar,
        };
        let sum = |main: &[ContainerNeeds<'_>], init: &[ContainerNeeds<'_>]| {
            pod_requests(main, init, plain).milli_cpu
        };
        let main = [step(&a, false), step(&b, false)];
        assert_eq!(sum(&main, &[]), 300);
        assert_eq!(sum(&main, &[step(&d, false)]), 500);
        // A sidecar counts with the containers and with init containers after it.
        assert_eq!(sum(&main, &[step(&c, true)]), 350);
        assert_eq!(sum(&main, &[step(&c, true), step(&d, false)]), 550);
        assert_eq!(sum(&main, &[step(&d, false), step(&c, true)]), 500);
    }

    #[test]
    fn scoring_fills_in_what_is_not_asked() {
        let cpu = amounts(json!({"cpu": "1"}));
        let c = ContainerNeeds {
            requests: Some(&cpu),
            sidecar: false,
        };
        let r = non_zero(&c);
        assert_eq!((r.milli_cpu, r.memory), (1000, 209_715_200));
    }
}
