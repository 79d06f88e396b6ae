//! What is sealed and opened, by whom, and what KMS plug-ins and reloads of the configuration did, under upstream's
//! names. Upstream: storage/value/metrics.go, envelope/metrics, encryptionconfig/metrics.

use std::time::Duration;

use parking_lot::RwLock;

use super::kms::envelope::hashed;
use crate::metrics::family::{Family, Histograms, exponential};

const FROM_STORAGE: &str = "from_storage";
const TO_STORAGE: &str = "to_storage";

/// All counters of encryption.
pub struct Metrics {
    durations: Histograms,
    operations: Family,
    misses: Family,
    calls: Histograms,
    key_uses: Family,
    key_used: Family,
    key_told: Family,
    bad_keys: Family,
    deks: Family,
    reloads: Family,
    reloaded: Family,
    config: Family,
    /// The hash of this server's identity.
    server: RwLock<String>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            durations: Histograms::new(
                "apiserver_storage_transformation_duration_seconds",
                "[ALPHA] Seconds that sealing and opening values took.",
                exponential(5e-6, 2.0, 25),
            ),
            operations: Family::counter(
                "apiserver_storage_transformation_operations_total",
                "[ALPHA] Values sealed and opened, and how that ended.",
            ),
            misses: Family::counter(
                "apiserver_storage_envelope_transformation_cache_misses_total",
                "[ALPHA] Data keys that a KMS plug-in was asked to open.",
            ),
            calls: Histograms::new(
                "apiserver_envelope_encryption_kms_operations_latency_seconds",
                "[ALPHA] Seconds that calls of KMS plug-ins took, by the code of the answer.",
                exponential(0.0001, 2.0, 20),
            ),
            key_uses: Family::counter(
                "apiserver_envelope_encryption_key_id_hash_total",
                "[ALPHA] Uses of keys of KMS plug-ins.",
            ),
            key_used: Family::gauge(
                "apiserver_envelope_encryption_key_id_hash_last_timestamp_seconds",
                "[ALPHA] When keys of KMS plug-ins were used last.",
            ),
            key_told: Family::gauge(
                "apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds",
                "[ALPHA] When KMS plug-ins named keys as theirs last.",
            ),
            bad_keys: Family::counter(
                "apiserver_envelope_encryption_invalid_key_id_from_status_total",
                "[ALPHA] Key ids of KMS plug-ins that are none.",
            ),
            deks: Family::gauge(
                "apiserver_envelope_encryption_dek_source_cache_size",
                "[ALPHA] Opened data keys that are remembered.",
            ),
            reloads: Family::counter(
                "apiserver_encryption_config_controller_automatic_reloads_total",
                "[ALPHA] Reloads of the encryption configuration, and how they ended.",
            ),
            reloaded: Family::gauge(
                "apiserver_encryption_config_controller_automatic_reload_last_timestamp_seconds",
                "[ALPHA] When the encryption configuration was reloaded last, by how that ended.",
            ),
            config: Family::gauge(
                "apiserver_encryption_config_controller_last_config_info",
                "[ALPHA] 1, with the hash of the encryption configuration that is in force.",
            ),
            server: RwLock::default(),
        }
    }
}

fn now() -> f64 {
    jiff::Timestamp::now().as_millisecond() as f64 / 1e3
}

impl Metrics {
    /// This server's identity, which the series carry the hash of.
    pub fn identify(&self, id: &str) {
        *self.server.write() = hashed(id);
    }

    /// Counts a value that was opened or sealed; the prefix says by whom.
    pub fn transformed(
        &self,
        resource: &str,
        (stored, prefix): (bool, &str),
        took: Duration,
        failed: bool,
    ) {
        let direction = if stored { TO_STORAGE } else { FROM_STORAGE };
        let status = if failed { "unknown-non-grpc" } else { "OK" };
        self.operations.increment(&[
            ("resource", resource),
            ("status", status),
            ("transformation_type", direction),
            ("transformer_prefix", prefix),
        ]);
        if !failed {
            let labels = [
                ("transformation_type", direction),
                ("transformer_prefix", prefix),
            ];
            self.durations.observe(&labels, took.as_secs_f64());
        }
    }

    /// Counts a data key that was not remembered.
    pub fn missed(&self) {
        self.misses.increment(&[]);
    }

    /// Counts a call of a plug-in.
    pub fn called(&self, provider: &str, method: &str, code: &str, took: Duration) {
        let labels = [
            ("grpc_status_code", code),
            ("method_name", method),
            ("provider_name", provider),
        ];
        self.calls.observe(&labels, took.as_secs_f64());
    }

    /// Counts a use of a plug-in's key.
    pub fn key_used(&self, provider: &str, stored: bool, key_id: &str) {
        let server = self.server.read();
        let key = hashed(key_id);
        let labels = [
            ("apiserver_id_hash", server.as_str()),
            ("key_id_hash", &key),
            ("provider_name", provider),
            (
                "transformation_type",
                if stored { TO_STORAGE } else { FROM_STORAGE },
            ),
        ];
        self.key_uses.increment(&labels);
        self.key_used.set(&labels, now());
    }

    /// Notes the key that a plug-in says it has.
    pub fn key_told(&self, provider: &str, key_id: &str) {
        let server = self.server.read();
        let key = hashed(key_id);
        let labels = [
            ("apiserver_id_hash", server.as_str()),
            ("key_id_hash", &key),
            ("provider_name", provider),
        ];
        self.key_told.set(&labels, now());
    }

    /// Counts an id of a key that is none.
    pub fn bad_key(&self, provider: &str, why: &str) {
        let labels = [("error", why), ("provider_name", provider)];
        self.bad_keys.increment(&labels);
    }

    /// Notes how many opened data keys are remembered.
    pub fn remembered(&self, provider: &str, deks: usize) {
        self.deks.set(&[("provider_name", provider)], deks as f64);
    }

    /// Counts a reload.
    pub fn reloaded(&self, ok: bool) {
        let server = self.server.read();
        let status = if ok { "success" } else { "failure" };
        let labels = [("apiserver_id_hash", server.as_str()), ("status", status)];
        self.reloads.increment(&labels);
        self.reloaded.set(&labels, now());
    }

    /// Notes which configuration is in force.
    pub fn in_force(&self, hash: &str) {
        let server = self.server.read();
        self.config.clear();
        let labels = [("apiserver_id_hash", server.as_str()), ("hash", hash)];
        self.config.set(&labels, 1.0);
    }

    /// The counters as text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for histograms in [&self.durations, &self.calls] {
            histograms.write(&mut out);
        }
        for family in [
            &self.operations,
            &self.misses,
            &self.key_uses,
            &self.key_used,
            &self.key_told,
            &self.bad_keys,
            &self.deks,
            &self.reloads,
            &self.reloaded,
            &self.config,
        ] {
            family.write(&mut out);
        }
        out
    }
}
