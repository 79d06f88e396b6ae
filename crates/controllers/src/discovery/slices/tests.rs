//! Writes for changes of endpoints.

use super::*;

fn endpoint(n: usize, ready: bool) -> Endpoint {
    serde_json::from_value(serde_json::json!({
        "addresses": [format!("10.0.{}.{}", n / 250, n % 250)],
        "conditions": {"ready": ready},
        "targetRef": {"kind": "Pod", "namespace": "d", "name": format!("p{n}")},
    }))
    .unwrap()
}

fn template() -> Template {
    Template {
        namespace: "d".into(),
        prefix: "s".into(),
        address_type: "IPv4".into(),
        labels: BTreeMap::from([(SERVICE_NAME.into(), "s".into())]),
        annotations: BTreeMap::new(),
        trigger_time: None,
        owner: OwnerReference::default(),
        max: 100,
        placeholder: true,
    }
}

fn group(range: std::ops::Range<usize>) -> Group {
    Group {
        ports: vec![EndpointPort {
            port: Some(80),
            ..EndpointPort::default()
        }],
        endpoints: range.map(|n| endpoint(n, true)).collect(),
    }
}

/// Applies changes as a server would.
fn apply(mut slices: Vec<EndpointSlice>, changes: Changes) -> Vec<EndpointSlice> {
    slices.retain(|s| !changes.delete.iter().any(|d| d.name() == s.name()));
    for update in changes.update {
        let slot = slices.iter_mut().find(|s| s.name() == update.name());
        *slot.unwrap() = update;
    }
    for mut new in changes.create {
        new.metadata.name = Some(format!("s-{}", slices.len()));
        slices.push(new);
    }
    slices
}

fn sizes(slices: &[EndpointSlice]) -> Vec<usize> {
    slices
        .iter()
        .map(|s| s.endpoints.as_ref().map_or(0, Vec::len))
        .collect()
}

fn counts(c: &Changes) -> (usize, usize, usize) {
    (c.create.len(), c.update.len(), c.delete.len())
}

#[test]
fn slices_follow_their_endpoints_with_few_writes() {
    let t = template();
    let none = apply(Vec::new(), changes(&[], &[], &t));
    assert_eq!(sizes(&none), [0], "a placeholder");
    assert_eq!(none[0].ports, None);
    assert_eq!(counts(&changes(&none, &[], &t)), (0, 0, 0));

    let c = changes(&none, &[group(0..150)], &t);
    assert_eq!(counts(&c), (1, 1, 0), "the placeholder is used");
    let full = apply(none, c);
    assert_eq!(
        full.iter()
            .map(|s| sizes(std::slice::from_ref(s))[0])
            .sum::<usize>(),
        150
    );
    assert_eq!(counts(&changes(&full, &[group(0..150)], &t)), (0, 0, 0));

    // One more goes into the slice that it fills best.
    let c = changes(&full, &[group(0..151)], &t);
    assert_eq!(counts(&c), (0, 1, 0));
    let full = apply(full, c);

    // A change of readiness writes only its own slice.
    let mut unready = group(0..151);
    unready.endpoints[7] = endpoint(7, false);
    assert_eq!(counts(&changes(&full, &[unready], &t)), (0, 1, 0));

    let gone = changes(&full, &[], &t);
    assert_eq!(counts(&gone), (0, 1, 1), "one becomes the placeholder");
    assert_eq!(sizes(&apply(full, gone)), [0]);
}

#[test]
fn a_label_of_the_service_is_carried_over() {
    let mut t = template();
    let slices = apply(Vec::new(), changes(&[], &[group(0..2)], &t));
    t.labels.insert("x".into(), "y".into());
    let c = changes(&slices, &[group(0..2)], &t);
    assert_eq!(counts(&c), (0, 1, 0));
    assert_eq!(c.update[0].labels()["x"], "y");
}

#[test]
fn the_trigger_time_alone_writes_nothing() {
    let mut t = template();
    let slices = apply(Vec::new(), changes(&[], &[group(0..2)], &t));
    t.trigger_time = Some("2026-01-01T00:00:00Z".into());
    assert_eq!(counts(&changes(&slices, &[group(0..2)], &t)), (0, 0, 0));
    let c = changes(&slices, &[group(0..3)], &t);
    assert_eq!(c.update[0].annotation(TRIGGER_TIME), "2026-01-01T00:00:00Z");
}
