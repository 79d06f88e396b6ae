//! Lists and watches under every combination of resourceVersion, resourceVersionMatch, limit and sendInitialEvents,
//! and pages that compaction has overtaken: the tables of upstream's page on API concepts.

use futures::future::join_all;
use serde_json::{Value, json};

use crate::env::{Env, Reply, sqlite};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const FUTURE: &str = "999999999999";

/// A server whose maps were a, b and c at an old version and are b, c and d now.
struct Scene {
    env: Env,
    store: store::Store,
    old: String,
    new: String,
    _dir: tempfile::TempDir,
}

impl Scene {
    async fn set() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = sqlite(dir.path());
        let env = Env::over(store.clone()).await;
        for name in ["a", "b", "c"] {
            create(&env, name).await;
        }
        let old = version(&env.get(MAPS).await.json());
        assert_eq!(env.delete(&format!("{MAPS}/a")).await.code, 200);
        create(&env, "d").await;
        let new = version(&env.get(MAPS).await.json());
        Self {
            env,
            store,
            old,
            new,
            _dir: dir,
        }
    }

    fn query(&self, query: &str) -> String {
        let query = query.replace("OLD", &self.old).replace("NEW", &self.new);
        format!("{MAPS}?{}", query.replace("FUTURE", FUTURE))
    }

    /// What a list answers: its names and which version it is of, or the code.
    async fn list(&self, query: &str) -> String {
        let reply = self.env.get(&self.query(query)).await;
        if reply.code != 200 {
            return reply.code.to_string();
        }
        let list = reply.json();
        let at = match version(&list) {
            v if v == self.old => "old",
            v if v == self.new => "new",
            _ => "newer",
        };
        let more = if list["metadata"]["continue"].is_string() {
            " more"
        } else {
            ""
        };
        format!("{} {at}{more}", names(&list))
    }

    /// What a watch of a second sees, without bookmarks that only tell the time; or the code.
    async fn watch(&self, query: &str) -> String {
        let path = self.query(&format!("watch=1&timeoutSeconds=1&{query}"));
        let seen = self.env.watch(&path, |_| false).await;
        let one = |frame: &Value| {
            let (kind, object) = (frame["type"].as_str().unwrap_or(""), &frame["object"]);
            match kind {
                "BOOKMARK" => {
                    let end = &object["metadata"]["annotations"]["k8s.io/initial-events-end"];
                    end.is_string().then(|| "end".to_string())
                }
                "" => Some(frame["code"].to_string()),
                "ERROR" => Some(format!("ERROR {}", object["code"])),
                kind => {
                    let name = object["metadata"]["name"].as_str().unwrap_or("");
                    Some(format!("{} {name}", &kind[..1]))
                }
            }
        };
        seen.iter().filter_map(one).collect::<Vec<_>>().join(" ")
    }
}

async fn create(env: &Env, name: &str) {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    assert_eq!(env.post(MAPS, &map).await.code, 201);
}

fn version(object: &Value) -> String {
    let version = object["metadata"]["resourceVersion"].as_str();
    version.unwrap().to_string()
}

fn names(list: &Value) -> String {
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|o| o["metadata"]["name"].as_str().unwrap())
        .collect()
}

/// Objects of Go's types say what they are alone and in a watch; in a list the list does.
#[tokio::test(flavor = "multi_thread")]
async fn items_do_not_say_their_kind() {
    let scene = Scene::set().await;
    let mut one = scene.env.get(&format!("{MAPS}/b")).await.json();
    let said = (one["kind"].take(), one["apiVersion"].take());
    assert_eq!(said, (json!("ConfigMap"), json!("v1")));
    let fields = one.as_object_mut().unwrap();
    fields.retain(|_, value| !value.is_null());
    for query in ["", "?pretty=true", "?limit=2"] {
        let list = scene.env.get(&format!("{MAPS}{query}")).await.json();
        let items = list["items"].as_array().unwrap();
        let found = items.iter().find(|i| i["metadata"]["name"] == "b");
        assert_eq!(found, Some(&one), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_of_the_version_that_upstreams_table_says() {
    let scene = Scene::set().await;
    let first = scene.env.get(&scene.query("limit=2")).await.json();
    let token = first["metadata"]["continue"].as_str().unwrap().to_string();
    let cases = [
        ("", "bcd new"),
        ("resourceVersion=", "bcd new"),
        ("resourceVersion=0", "bcd new"),
        ("resourceVersion=OLD", "bcd new"),
        ("resourceVersion=NEW", "bcd new"),
        ("resourceVersion=FUTURE", "504"),
        ("limit=2", "bc new more"),
        // The cache gives all that it has.
        ("resourceVersion=0&limit=2", "bcd new"),
        ("resourceVersion=OLD&limit=2", "ab old more"),
        ("resourceVersion=FUTURE&limit=2", "504"),
        ("resourceVersionMatch=Exact", "422"),
        ("resourceVersion=0&resourceVersionMatch=Exact", "422"),
        ("resourceVersion=OLD&resourceVersionMatch=Exact", "abc old"),
        (
            "resourceVersion=OLD&resourceVersionMatch=Exact&limit=2",
            "ab old more",
        ),
        ("resourceVersion=FUTURE&resourceVersionMatch=Exact", "504"),
        ("resourceVersionMatch=NotOlderThan", "422"),
        (
            "resourceVersion=0&resourceVersionMatch=NotOlderThan",
            "bcd new",
        ),
        (
            "resourceVersion=0&resourceVersionMatch=NotOlderThan&limit=2",
            "bcd new",
        ),
        (
            "resourceVersion=OLD&resourceVersionMatch=NotOlderThan",
            "bcd new",
        ),
        (
            "resourceVersion=OLD&resourceVersionMatch=NotOlderThan&limit=2",
            "bc new more",
        ),
        (
            "resourceVersion=FUTURE&resourceVersionMatch=NotOlderThan",
            "504",
        ),
        ("continue=TOKEN", "d new"),
        ("continue=TOKEN&resourceVersion=0", "d new"),
        ("continue=TOKEN&resourceVersion=OLD", "400"),
        (
            "continue=TOKEN&resourceVersion=OLD&resourceVersionMatch=Exact",
            "422",
        ),
        ("sendInitialEvents=true", "422"),
    ];
    let all = cases.map(|(query, expected)| {
        let (scene, query) = (&scene, query.replace("TOKEN", &token));
        async move { (scene.list(&query).await, query, expected) }
    });
    for (found, query, expected) in join_all(all).await {
        assert_eq!(found, expected, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_begin_where_upstreams_table_says() {
    let scene = Scene::set().await;
    let (snapshot, with_end) = ("A b A c A d", "A b A c A d end");
    let initial = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    let none = "sendInitialEvents=false&resourceVersionMatch=NotOlderThan";
    let cases = [
        (String::new(), snapshot),
        ("resourceVersion=0".into(), snapshot),
        ("resourceVersion=OLD".into(), "D a A d"),
        ("resourceVersion=NEW".into(), ""),
        ("allowWatchBookmarks=true".into(), with_end),
        (
            "resourceVersion=OLD&allowWatchBookmarks=true".into(),
            "D a A d",
        ),
        (initial.into(), snapshot),
        (format!("{initial}&allowWatchBookmarks=true"), with_end),
        (
            format!("{initial}&allowWatchBookmarks=true&resourceVersion=0"),
            with_end,
        ),
        (
            format!("{initial}&allowWatchBookmarks=true&resourceVersion=OLD"),
            with_end,
        ),
        (
            format!("{initial}&allowWatchBookmarks=true&resourceVersion=FUTURE"),
            "ERROR 504",
        ),
        (none.into(), ""),
        (format!("{none}&resourceVersion=0"), ""),
        (format!("{none}&resourceVersion=OLD"), "D a A d"),
        (format!("{none}&allowWatchBookmarks=true"), ""),
        ("sendInitialEvents=true".into(), "422"),
        ("sendInitialEvents=false".into(), "422"),
        ("resourceVersionMatch=NotOlderThan".into(), "422"),
        (
            "resourceVersion=OLD&resourceVersionMatch=Exact".into(),
            "422",
        ),
    ];
    let all = cases.map(|(query, expected)| {
        let scene = &scene;
        async move { (scene.watch(&query).await, query, expected) }
    });
    for (found, query, expected) in join_all(all).await {
        assert_eq!(found, expected, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_compacted_is_gone_and_pages_go_on_with_a_fresh_token() {
    let scene = Scene::set().await;
    let page = scene.env.get(&scene.query("limit=1")).await.json();
    let token = page["metadata"]["continue"].as_str().unwrap();
    create(&scene.env, "bb").await;
    create(&scene.env, "e").await;
    let newest = version(&scene.env.get(MAPS).await.json());
    scene.store.compact(newest.parse().unwrap()).await.unwrap();

    let expired = |reply: &Reply| {
        let status = reply.json();
        assert_eq!(
            (reply.code, status["reason"].as_str()),
            (410, Some("Expired"))
        );
        status
    };
    for query in [
        "resourceVersion=OLD&resourceVersionMatch=Exact",
        "resourceVersion=OLD&limit=2",
    ] {
        let status = expired(&scene.env.get(&scene.query(query)).await);
        let text = "The resourceVersion for the provided list is too old.";
        assert_eq!(status["message"], text);
        assert_eq!(status["metadata"]["continue"], Value::Null);
    }
    assert_eq!(scene.list("resourceVersion=OLD").await, "bbbcde newer");

    let status = expired(
        &scene
            .env
            .get(&scene.query(&format!("limit=1&continue={token}")))
            .await,
    );
    let fresh = status["metadata"]["continue"].as_str().unwrap();
    let next = scene.query(&format!("limit=2&continue={fresh}"));
    let next = scene.env.get(&next).await.json();
    // What came in between is seen: the rest is of another version than the beginning.
    assert_eq!((names(&next).as_str(), version(&next)), ("bbc", newest));
    let last = next["metadata"]["continue"].as_str().unwrap();
    assert_eq!(scene.list(&format!("continue={last}")).await, "de newer");
}
