//! Events go by themselves after their time.

use std::time::Duration;

use serde_json::json;

use crate::env::Env;

#[tokio::test]
async fn events_live_as_long_as_the_flag_says() {
    let short = |plugins: &mut apiserver::Plugins| {
        plugins.event_ttl = Some(Duration::from_secs(1));
    };
    let env = Env::with(short).await;
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"namespace": "default"}});
    let path = "/api/v1/namespaces/default/events";
    let made = env.post(path, &event).await;
    assert_eq!(made.code, 201, "{made:?}");
    let version = made.json()["metadata"]["resourceVersion"].clone();
    let from = format!(
        "{path}?watch=1&resourceVersion={}",
        version.as_str().unwrap()
    );
    let seen = env.watch(&from, |seen| !seen.is_empty()).await;
    assert_eq!(seen[0]["type"], "DELETED");
    assert_eq!(env.get(&format!("{path}/e")).await.code, 404);
}
