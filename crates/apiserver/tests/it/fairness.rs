//! Load beyond a priority level's seats is shed; everybody else is still answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::future::join_all;
use machinery::request::{Attributes, Authorizer, Decision, User};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::env::{Env, ask};
use crate::fakes::Slow;

const GROUP: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";

struct Everybody;

#[async_trait]
impl Authorizer for Everybody {
    fn name(&self) -> &'static str {
        "Everybody"
    }

    async fn authorize(&self, _: &Attributes) -> Decision {
        Decision::Allow(String::new())
    }

    async fn rules(&self, _: &User, _: &str) -> (Vec<Value>, Vec<Value>, bool) {
        Default::default()
    }
}

/// A server with the default levels that lets everybody in, and the gate that its creates wait for.
async fn slow_for_everybody() -> (Env, watch::Sender<bool>) {
    let (slow, gate, _) = Slow::new();
    let env = Env::with(|plugins| {
        plugins.admission = vec![slow];
        plugins.authorizers = vec![Arc::new(Everybody)];
    })
    .await;
    bootstrap(&env).await;
    (env, gate)
}

/// Makes the default objects, and waits until they are in use: what comes before is for the mandatory ones.
async fn bootstrap(env: &Env) {
    let mut schemas = Vec::new();
    for o in resources::bootstrap_objects() {
        if !o["apiVersion"]
            .as_str()
            .unwrap()
            .starts_with("flowcontrol.")
        {
            continue;
        }
        let plural = o["kind"].as_str().unwrap().to_lowercase() + "s";
        let made = env.post(&format!("{GROUP}/{plural}"), &o).await;
        assert_eq!(made.code, 201, "{made:?}");
        if o["kind"] == "FlowSchema" {
            schemas.push(o["metadata"]["name"].as_str().unwrap().to_string());
        }
    }
    for name in schemas {
        let path = format!("{GROUP}/flowschemas/{name}");
        env.until(&path, |r| dangling(r).as_deref() == Some("False"))
            .await;
    }
}

fn level() -> Value {
    json!({"metadata": {"name": "small"}, "spec": {"type": "Limited", "limited": {
        "nominalConcurrencyShares": 1, "lendablePercent": 0, "borrowingLimitPercent": 0,
        "limitResponse": {"type": "Queue",
            "queuing": {"queues": 1, "handSize": 1, "queueLengthLimit": 2}}}}})
}

fn schema(level: &str) -> Value {
    json!({"metadata": {"name": "greedy"}, "spec": {"matchingPrecedence": 50,
        "priorityLevelConfiguration": {"name": level},
        "distinguisherMethod": {"type": "ByUser"},
        "rules": [{"subjects": [{"kind": "User", "user": {"name": "greedy"}}],
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"],
                "namespaces": ["*"], "clusterScope": true}]}]}})
}

fn dangling(reply: &crate::env::Reply) -> Option<String> {
    let object = reply.json();
    let c = object["status"]["conditions"].get(0)?.clone();
    Some(c["status"].as_str()?.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_beyond_the_seats_is_shed_while_others_are_answered() {
    let (env, gate) = slow_for_everybody().await;
    let made = env
        .post(&format!("{GROUP}/flowschemas"), &schema("small"))
        .await;
    assert_eq!(made.code, 201, "{made:?}");
    let own = format!("{GROUP}/flowschemas/greedy");
    env.until(&own, |r| dangling(r).as_deref() == Some("True"))
        .await;
    let made = env
        .post(&format!("{GROUP}/prioritylevelconfigurations"), &level())
        .await;
    let level = made.json()["metadata"]["uid"].clone();
    let schema = env
        .until(&own, |r| dangling(r).as_deref() == Some("False"))
        .await;
    let schema = schema.json()["metadata"]["uid"].clone();

    // Three seats (600 shared by 246, rounded up) and two places in the only queue.
    let greedy = env.client_of("greedy", &["system:authenticated"]);
    let flood = (0..40).map(|i| {
        let greedy = greedy.clone();
        let object = json!({"metadata": {"name": format!("c{i}")}}).to_string();
        tokio::spawn(async move {
            let path = "/api/v1/namespaces/default/configmaps";
            let json = [("content-type", "application/json")];
            let begun = Instant::now();
            let reply = ask(&greedy, "POST", path, &json, object.into_bytes()).await;
            (reply, begun.elapsed())
        })
    });
    let flood: Vec<_> = flood.collect();
    let refused = "apiserver_flowcontrol_rejected_requests_total{flow_schema=\"greedy\",priority_level=\"small\",reason=\"queue-full\"} 35";
    env.until("/metrics", |r| {
        String::from_utf8_lossy(&r.body).contains(refused)
    })
    .await;

    let dump = "/debug/api_priority_and_fairness/dump_requests?includeRequestDetails=1";
    let rows = |r: &crate::env::Reply| -> Vec<Vec<String>> {
        let text = String::from_utf8(r.body.clone()).unwrap();
        let cells = |l: &str| l.split(',').map(|c| c.trim().to_string()).collect();
        let all = text.lines().map(cells);
        all.filter(|row: &Vec<String>| row[1] == "greedy").collect()
    };
    let dumped = rows(&env.until(dump, |r| rows(r).len() == 5).await);
    let places: Vec<(&str, &str)> = dumped.iter().map(|r| (&*r[2], &*r[3])).collect();
    assert_eq!(
        places,
        [
            ("0", "0"),
            ("0", "1"),
            ("0", "-1"),
            ("0", "-1"),
            ("0", "-1")
        ]
    );
    for row in &dumped {
        let waits = row[3] != "-1";
        assert_eq!((row[0].as_str(), row[4].as_str()), ("small", "greedy"));
        assert_eq!(row[6..9], ["1", "0", "0s"]);
        assert_eq!(row[9] == "0001-01-01T00:00:00Z", waits, "{row:?}");
        let path = "/api/v1/namespaces/default/configmaps";
        assert_eq!(
            row[10..],
            [
                "greedy",
                "create",
                path,
                "default",
                "",
                "v1",
                "configmaps",
                ""
            ]
        );
    }

    let account = "system:serviceaccount:kube-system:x";
    let lease = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let others: [(&str, &[&str], &str); 6] = [
        (
            "system:node:n",
            &["system:nodes", "system:authenticated"],
            lease,
        ),
        (
            account,
            &["system:serviceaccounts", "system:authenticated"],
            lease,
        ),
        ("system:anonymous", &["system:unauthenticated"], "/livez"),
        ("somebody", &["system:authenticated"], "/api/v1/pods"),
        (
            "system:kube-scheduler",
            &["system:authenticated"],
            "/api/v1/nodes",
        ),
        ("root", &["system:masters"], "/api/v1/namespaces/default"),
    ];
    for (user, groups, path) in others {
        let client = env.client_of(user, groups);
        let asked = ask(&client, "GET", path, &[], Vec::new());
        let reply = tokio::time::timeout(Duration::from_secs(5), asked).await;
        let reply = reply.unwrap_or_else(|_| panic!("{user} is not answered"));
        assert_eq!(reply.code, 200, "{user} {path}: {reply:?}");
        assert!(reply.headers.contains_key("x-kubernetes-pf-flowschema-uid"));
    }

    gate.send_replace(true);
    let answers = join_all(flood).await;
    let (mut created, mut shed, mut slowest) = (0, 0, Duration::ZERO);
    // Those refused in a later second are told to wait longer.
    let mut soonest = u64::MAX;
    for answer in answers {
        let (reply, took) = answer.unwrap();
        assert_eq!(
            reply.headers["x-kubernetes-pf-flowschema-uid"]
                .to_str()
                .unwrap(),
            schema
        );
        assert_eq!(
            reply.headers["x-kubernetes-pf-prioritylevel-uid"]
                .to_str()
                .unwrap(),
            level
        );
        match reply.code {
            201 => created += 1,
            429 => {
                shed += 1;
                slowest = slowest.max(took);
                let after = reply.headers["retry-after"].to_str().unwrap();
                soonest = soonest.min(after.parse::<u64>().unwrap());
                assert_eq!(reply.body, b"Too many requests, please try again later.\n");
            }
            _ => panic!("{reply:?}"),
        }
    }
    assert_eq!((created, shed, soonest), (5, 35, 1));
    println!("of 40 requests 5 were carried out and 35 shed, the slowest after {slowest:?}");
}

/// Of everybody whom a flood must not harm: who, and what they ask for.
const OTHERS: [(&str, &[&str], &str); 5] = [
    (
        "system:node:n",
        &["system:nodes", "system:authenticated"],
        "/apis/coordination.k8s.io/v1/namespaces/default/leases",
    ),
    ("system:anonymous", &["system:unauthenticated"], "/livez"),
    ("system:anonymous", &["system:unauthenticated"], "/readyz"),
    (
        "system:kube-controller-manager",
        &["system:authenticated"],
        "/api/v1/pods",
    ),
    ("root", &["system:masters"], "/api/v1/namespaces/default"),
];

/// The default configuration under one user's 2,000 requests at once, and another's 20 in the same level.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_far_beyond_the_seats_harms_nobody_else() {
    const FLOOD: usize = 2_000;
    let (env, gate) = slow_for_everybody().await;
    let create = |user: &str, i: usize| {
        let client = env.client_of(user, &["system:authenticated"]);
        let object = json!({"metadata": {"name": format!("{user}-{i}")}}).to_string();
        tokio::spawn(async move {
            let path = "/api/v1/namespaces/default/configmaps";
            let json = [("content-type", "application/json")];
            ask(&client, "POST", path, &json, object.into_bytes()).await
        })
    };
    let begun = Instant::now();
    let flood: Vec<_> = (0..FLOOD).map(|i| create("flood", i)).collect();
    let shed = "apiserver_flowcontrol_rejected_requests_total{flow_schema=\"global-default\",priority_level=\"global-default\",reason=\"queue-full\"}";
    env.until("/metrics", |r| {
        let text = String::from_utf8_lossy(&r.body).into_owned();
        let line = text.lines().find(|l| l.starts_with(shed));
        let n = line.and_then(|l| l.rsplit(' ').next()?.parse::<usize>().ok());
        n.is_some_and(|n| n > FLOOD / 2)
    })
    .await;
    let quiet: Vec<_> = (0..20).map(|i| create("quiet", i)).collect();
    let mut times = Vec::new();
    for round in 0..10 {
        for (user, groups, path) in OTHERS {
            let client = env.client_of(user, groups);
            let asked = Instant::now();
            let reply = ask(&client, "GET", path, &[], Vec::new());
            let reply = tokio::time::timeout(Duration::from_secs(5), reply).await;
            let reply = reply.unwrap_or_else(|_| panic!("{user} is not answered"));
            assert_eq!(reply.code, 200, "{round} {user} {path}: {reply:?}");
            times.push(asked.elapsed());
        }
    }
    let dump = env.get("/debug/api_priority_and_fairness/dump_priority_levels");
    let dump = String::from_utf8(dump.await.body).unwrap();
    gate.send_replace(true);
    let mut codes = std::collections::BTreeMap::new();
    for answer in join_all(flood).await {
        let reply = answer.unwrap();
        *codes.entry(reply.code).or_insert(0) += 1;
        if reply.code == 429 {
            let after = reply.headers["retry-after"].to_str().unwrap();
            assert!(after.parse::<u64>().unwrap() >= 1);
        }
    }
    for answer in join_all(quiet).await {
        assert_eq!(answer.unwrap().code, 201, "a flow of its own is not shed");
    }
    times.sort_unstable();
    let (carried_out, refused) = (codes[&201], codes[&429]);
    assert_eq!(carried_out + refused, FLOOD, "{codes:?}");
    assert!(dump.starts_with("PriorityLevelName,"), "{dump}");
    println!(
        "of {FLOOD} requests at once {carried_out} were carried out and {refused} shed, all within {:?}; meanwhile {} requests of leases, health, system and masters: median {:?}, slowest {:?}\n{dump}",
        begun.elapsed(),
        times.len(),
        times[times.len() / 2],
        times[times.len() - 1],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_waits_no_longer_than_a_quarter_of_its_time() {
    let (env, gate) = slow_for_everybody().await;
    env.post(&format!("{GROUP}/prioritylevelconfigurations"), &level())
        .await;
    env.post(&format!("{GROUP}/flowschemas"), &schema("small"))
        .await;
    let own = format!("{GROUP}/flowschemas/greedy");
    env.until(&own, |r| dangling(r).as_deref() == Some("False"))
        .await;
    let greedy = env.client_of("greedy", &["system:authenticated"]);
    let path = "/api/v1/namespaces/default/configmaps";
    let json = [("content-type", "application/json")];
    let one = |i: usize| {
        let (greedy, body) = (
            greedy.clone(),
            json!({"metadata": {"name": format!("c{i}")}}),
        );
        tokio::spawn(
            async move { ask(&greedy, "POST", path, &json, body.to_string().into()).await },
        )
    };
    let running: Vec<_> = (0..3).map(one).collect();
    let busy = "apiserver_flowcontrol_current_executing_requests{flow_schema=\"greedy\",priority_level=\"small\"} 3";
    let has = |text: &'static str| {
        move |r: &crate::env::Reply| String::from_utf8_lossy(&r.body).contains(text)
    };
    env.until("/metrics", has(busy)).await;
    let timed = ask(
        &greedy,
        "GET",
        &format!("{path}?timeout=1s"),
        &[],
        Vec::new(),
    )
    .await;
    assert_eq!(timed.code, 429, "{timed:?}");
    let left = "apiserver_flowcontrol_rejected_requests_total{flow_schema=\"greedy\",priority_level=\"small\",reason=\"time-out\"} 1";
    env.until("/metrics", has(left)).await;
    // One that goes away leaves the queue.
    let gone = one(9);
    let waits = "apiserver_flowcontrol_current_inqueue_requests{flow_schema=\"greedy\",priority_level=\"small\"} 1";
    env.until("/metrics", has(waits)).await;
    gone.abort();
    let empty = "apiserver_flowcontrol_current_inqueue_requests{flow_schema=\"greedy\",priority_level=\"small\"} 0";
    env.until("/metrics", has(empty)).await;
    gate.send_replace(true);
    for answer in join_all(running).await {
        assert_eq!(answer.unwrap().code, 201);
    }
}
