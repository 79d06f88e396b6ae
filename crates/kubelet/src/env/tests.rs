use serde_json::{Value, json};

use super::*;

#[derive(Default)]
struct Fake(Vec<Value>);

impl Fake {
    fn find<T: serde::de::DeserializeOwned>(&self, kind: &str, name: &str) -> Option<Arc<T>> {
        let found = self
            .0
            .iter()
            .find(|o| o["kind"] == kind && o["metadata"]["name"] == name)?;
        Some(Arc::new(serde_json::from_value(found.clone()).unwrap()))
    }
}

impl Objects for Fake {
    fn config_map(&self, _: &str, name: &str) -> Option<Arc<ConfigMap>> {
        self.find("ConfigMap", name)
    }
    fn secret(&self, _: &str, name: &str) -> Option<Arc<Secret>> {
        self.find("Secret", name)
    }
    fn services(&self, namespace: &str) -> Vec<Arc<Service>> {
        let all = self.0.iter().filter(|o| {
            o["kind"] == "Service" && o["metadata"]["namespace"].as_str() == Some(namespace)
        });
        all.map(|o| Arc::new(serde_json::from_value(o.clone()).unwrap()))
            .collect()
    }
}

fn run(objects: Vec<Value>, container: Value) -> Result<BTreeMap<String, String>, String> {
    let p: Pod = serde_json::from_value(json!({"metadata":{"name":"p","namespace":"n"},
        "spec":{"containers":[container]}}))
    .unwrap();
    let fake = Fake(objects);
    let cx = Context {
        pod: &p,
        facts: &Facts::default(),
        objects: &fake,
        volume_path: &|_| None,
    };
    environment(&cx, &pod::containers(&p)[0]).map(|v| v.into_iter().collect())
}

#[test]
fn references_see_earlier_names_and_services() {
    let service = json!({"kind":"Service","metadata":{"name":"my-db","namespace":"n"},
        "spec":{"clusterIP":"10.0.0.9","ports":[{"name":"x-y","port":80},{"port":53,"protocol":"UDP","name":"d"}]}});
    let env = run(
        vec![service],
        json!({"name":"c","env":[
            {"name":"A","value":"1$(LATER)"},
            {"name":"LATER","value":"2"},
            {"name":"B","value":"$(A)-$(LATER)-$(MY_DB_SERVICE_HOST)"}]}),
    )
    .unwrap();
    assert_eq!(env["A"], "1$(LATER)");
    assert_eq!(env["B"], "1$(LATER)-2-10.0.0.9");
    assert_eq!(env["MY_DB_SERVICE_PORT"], "80");
    assert_eq!(env["MY_DB_SERVICE_PORT_X_Y"], "80");
    assert_eq!(env["MY_DB_PORT"], "tcp://10.0.0.9:80");
    assert_eq!(env["MY_DB_PORT_53_UDP"], "udp://10.0.0.9:53");
    assert_eq!(env["MY_DB_PORT_53_UDP_ADDR"], "10.0.0.9");
}

#[test]
fn env_from_with_prefixes_and_optional_references() {
    let map = json!({"kind":"ConfigMap","metadata":{"name":"m"},"data":{"data-1":"v"}});
    let secret = json!({"kind":"Secret","metadata":{"name":"s"},"data":{"k":"dmFsdWUtMQo="}});
    let env = run(
        vec![map, secret],
        json!({"name":"c","envFrom":[
            {"configMapRef":{"name":"m"}},
            {"prefix":"$_-","configMapRef":{"name":"m"}},
            {"configMapRef":{"name":"none","optional":true}}],
          "env":[{"name":"S","valueFrom":{"secretKeyRef":{"name":"s","key":"k"}}},
            {"name":"GONE","valueFrom":{"configMapKeyRef":{"name":"m","key":"z","optional":true}}}]}),
    )
    .unwrap();
    assert_eq!(env["data-1"], "v");
    assert_eq!(env["$_-data-1"], "v");
    assert_eq!(env["S"], "value-1\n");
    assert!(!env.contains_key("GONE"));
}

#[test]
fn missing_objects_are_named() {
    let one =
        |v: Value| run(vec![json!({"kind":"ConfigMap","metadata":{"name":"m"}})], v).unwrap_err();
    assert_eq!(
        one(json!({"name":"c","envFrom":[{"secretRef":{"name":"x"}}]})),
        "secret \"x\" not found"
    );
    assert_eq!(
        one(
            json!({"name":"c","env":[{"name":"A","valueFrom":{"configMapKeyRef":{"name":"m","key":"k"}}}]})
        ),
        "couldn't find key k in ConfigMap n/m"
    );
}
