//! The whole against a plug-in on a socket, well behaved and not.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use super::*;

#[path = "../../../tests/it/kms_plugin.rs"]
mod plugin;
use plugin::{Manner, Plugin};

const KEY: &[u8] = b"/registry/secrets/n/s";

struct Under {
    kms: Arc<Kms>,
    metrics: Arc<Metrics>,
    plugin: Plugin,
    _dir: tempfile::TempDir,
}

fn kms(socket: &Path, timeout: Duration) -> (Arc<Kms>, Arc<Metrics>) {
    let (metrics, recovery) = <(Arc<Metrics>, Arc<Recovery>)>::default();
    let named = ("test", socket.to_path_buf());
    let kms = Arc::new(Kms::new(named, timeout, &metrics, &recovery));
    (kms, metrics)
}

fn under(timeout: u64) -> Under {
    let dir = tempfile::tempdir().unwrap();
    let plugin = Plugin::start(&dir.path().join("kms.sock"), "key-1");
    let (kms, metrics) = kms(&plugin.socket, Duration::from_millis(timeout));
    Under {
        kms,
        metrics,
        plugin,
        _dir: dir,
    }
}

impl Kms {
    /// Asks, whatever was known.
    async fn check_now(&self) -> Result<(), String> {
        self.probe.lock().await.last_forgotten();
        self.check().await
    }

    /// Reads a stored value as a server does.
    async fn read(&self, stored: &Bytes) -> Result<(Bytes, bool), String> {
        let rest = stored.strip_prefix(self.prefix().as_bytes()).unwrap();
        let rest = stored.slice_ref(rest);
        let mut fetched = Fetched::new();
        if let Some((id, object)) = self.unknown(rest.clone()) {
            fetched.insert(id, self.fetch(id, &object).await);
        }
        self.open(KEY, rest, &fetched)
    }
}

#[tokio::test]
async fn values_outlive_the_server_and_the_plugins_key() {
    let t = under(3_000);
    t.kms.check().await.unwrap();
    let first = t.kms.seal(KEY, b"one").unwrap();
    assert!(first.starts_with(b"k8s:enc:kms:v2:test:"));
    assert_eq!(t.kms.read(&first).await, Ok(("one".into(), false)));
    assert_eq!(t.plugin.opened(), 0, "an own seed needs nobody");
    // Another server of the same cluster.
    let (other, metrics) = kms(&t.plugin.socket, Duration::from_secs(3));
    let none = "got unexpected nil transformer";
    assert_eq!(other.read(&first).await, Err(none.into()));
    assert_eq!(other.seal(KEY, b"x"), Err(none.into()));
    other.check().await.unwrap();
    let second = other.seal(KEY, b"two").unwrap();
    for _ in 0..3 {
        assert_eq!(other.read(&first).await, Ok(("one".into(), false)));
        assert_eq!(t.kms.read(&second).await, Ok(("two".into(), false)));
    }
    assert_eq!(t.plugin.opened(), 2, "one call a seed");
    t.plugin.key("key-2");
    other.check_now().await.unwrap();
    assert_eq!(other.read(&first).await, Ok(("one".into(), true)));
    let third = other.seal(KEY, b"three").unwrap();
    assert_eq!(other.read(&third).await, Ok(("three".into(), false)));
    // The first server did not hear of the new key yet: to it the value is of another one.
    assert_eq!(t.kms.read(&third).await, Ok(("three".into(), true)));
    let text = metrics.text();
    for line in [
        "apiserver_envelope_encryption_kms_operations_latency_seconds_count{grpc_status_code=\"OK\",method_name=\"/v2.KeyManagementService/Encrypt\",provider_name=\"test\"} 2",
        "apiserver_envelope_encryption_dek_source_cache_size{provider_name=\"test\"} 3",
        "apiserver_storage_envelope_transformation_cache_misses_total 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} not in {text}");
    }
    assert!(!text.contains("key-1"), "ids of keys are shown as hashes");
    let damaged = first.slice(..first.len() - 1);
    assert!(t.kms.read(&damaged).await.is_err());
}

#[tokio::test]
async fn a_plugin_that_misbehaves_is_told_of_and_holds_up_nobody() {
    for (manner, why) in [
        (
            Manner::Sick,
            "kmsv2 Provider test is not healthy, error: got unexpected healthz status: sick",
        ),
        (Manner::Lies, "failed to rotate DEK"),
        (
            Manner::Hangs,
            "error: rpc error: code = DeadlineExceeded desc = context deadline exceeded",
        ),
        (Manner::Garbage, "error: rpc error: code = Internal"),
        (Manner::Floods, "error: rpc error: code = OutOfRange"),
        (Manner::Headers, "error: rpc error: code = "),
    ] {
        let t = under(500);
        t.plugin.behave(manner);
        let begun = Instant::now();
        let error = t.kms.check().await.unwrap_err();
        assert!(error.contains(why), "{manner:?}: {error}");
        assert!(error.len() < 4_096, "{manner:?}: {} bytes", error.len());
        println!("{manner:?}: given up after {:?}", begun.elapsed());
        // What is known counts for a while.
        assert_eq!(t.kms.check().await, Err(error));
        t.plugin.behave(Manner::Good);
        t.kms.check_now().await.unwrap();
        assert!(t.kms.seal(KEY, b"v").is_ok());
        assert!(t.metrics.text().contains("provider_name=\"test\""));
    }
}

#[tokio::test]
async fn writes_end_when_the_plugin_was_not_well_for_long_and_reads_do_not() {
    let t = under(100);
    t.kms.check().await.unwrap();
    let stored = t.kms.seal(KEY, b"v").unwrap();
    t.plugin.behave(Manner::Hangs);
    assert!(t.kms.check_now().await.is_err());
    assert!(t.kms.seal(KEY, b"w").is_ok(), "it goes on for a while");
    let state = t.kms.state().unwrap();
    t.kms.enter(State {
        dek: state.dek.clone(),
        object: state.object.clone(),
        key: state.key,
        expires: SystemTime::UNIX_EPOCH,
    });
    let error = t.kms.seal(KEY, b"w").unwrap_err();
    let hash = hashed("key-1");
    let begin = format!(
        "encryptedDEKSource with keyID hash \"{hash}\" expired at 1970-01-01T00:00:00Z (current time is "
    );
    assert!(error.starts_with(&begin), "{error}");
    assert_eq!(t.kms.read(&stored).await, Ok(("v".into(), false)));
    // The same seed will do when the plug-in is back.
    t.plugin.behave(Manner::Good);
    t.kms.check_now().await.unwrap();
    assert_eq!(t.kms.state().unwrap().object, state.object);
    assert!(t.kms.seal(KEY, b"w").is_ok());
}

#[tokio::test]
async fn a_plugin_that_is_deaf_is_not_asked_for_every_value() {
    let t = under(200);
    t.kms.check().await.unwrap();
    let (other, _) = kms(&t.plugin.socket, Duration::from_millis(200));
    other.check().await.unwrap();
    t.plugin.key("key-2");
    other.check_now().await.unwrap();
    let (one, two) = (
        t.kms.seal(KEY, b"1").unwrap(),
        other.seal(KEY, b"2").unwrap(),
    );
    let (third, metrics) = kms(&t.plugin.socket, Duration::from_millis(200));
    third.check().await.unwrap();
    t.plugin.behave(Manner::Hangs);
    for stored in [&one, &two, &one] {
        let error = third.read(stored).await.unwrap_err();
        assert_eq!(
            error,
            "failed to decrypt DEK, error: rpc error: code = DeadlineExceeded desc = context deadline exceeded"
        );
    }
    let misses = "apiserver_storage_envelope_transformation_cache_misses_total 1";
    assert!(metrics.text().lines().any(|l| l == misses));
    assert!(third.recovery.any_failed());
    let mut told = third.recovery.told();
    t.plugin.behave(Manner::Good);
    third.check_now().await.unwrap();
    assert!(
        told.has_changed().unwrap(),
        "whoever could not read is told"
    );
    told.mark_unchanged();
    assert_eq!(third.read(&one).await, Ok(("1".into(), true)));
}
