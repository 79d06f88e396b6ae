//! Bounds of this crate.

use std::time::Duration;

/// Largest request body, as upstream's `--max-request-body-bytes`.
pub const BODY_BYTES: usize = 3 << 20;
/// A body from this size on is large: what it asks for is done beside the runtime's workers, for this many at a time.
pub const LARGE_BODY_BYTES: usize = 256 << 10;
pub const LARGE_BODIES: usize = 2;
/// Bytes of a document up to which its final newline is sent in one buffer with it.
pub const LINE_COPIED_BYTES: usize = 64 << 10;
/// What is let come of a body that nobody reads, and for how long, before the connection is closed.
pub const FORGOTTEN_BYTES: usize = 4 * BODY_BYTES;
pub const FORGOTTEN_WAIT: Duration = Duration::from_secs(10);
/// What aliases of a YAML body may bring again: always as much, this often what the body can hold itself, and never more.
/// Upstream: go.yaml.in/yaml decode.go, `allowedAliasRatio`, whose last bound is 400,000.
pub const YAML_ALIASED_MIN: usize = 1_000;
pub const YAML_ALIASED_TIMES: usize = 99;
pub const YAML_ALIASED_MAX: usize = 100_000;
/// Deepest nesting of a YAML body: as of JSON. Upstream's is 10,000, which no stack of a worker holds.
pub const YAML_DEPTH: usize = 128;
/// Events of one resource kept for watches that resume; a network watcher that lags behind by more is cut off.
pub const RING_EVENTS: usize = 1_024;
/// Changes of the store that are taken over before watchers are told.
pub const FOLLOWED_AT_ONCE: usize = 64;
/// What it takes to tell one network watcher of a change: so much time for each passes between two rounds to all of a
/// resource, or none where that is shorter than a timer knows, and never more.
pub const WATCHER_TOLD: Duration = Duration::from_micros(10);
pub const ROUND_MIN: Duration = Duration::from_millis(1);
pub const ROUND_MAX: Duration = Duration::from_millis(10);
/// Events that a network watcher takes in one go.
pub const WATCHER_EVENTS: usize = 64;
/// Bytes of frames that are made before somebody reads them, but for the last one.
pub const FRAMES_BYTES: usize = 64 << 10;
/// Watches that are served from the store's history at a time; others wait for their turn.
pub const HISTORIES: usize = 16;
/// How long a watch may take, its turn included, to get from history to the present before it is cut off.
pub const HISTORY_WAIT: Duration = Duration::from_secs(60);
/// Between two questions to the store how far it is, as upstream's watch cache asks etcd.
pub const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// Objects of one page when a client names no limit but an old revision is read from the store.
pub const PAGE: usize = 500;
/// Tries of a patch or an unconditional write against concurrent changes. Each lost one means that
/// another write was stored; upstream tries until the request's deadline.
pub const CONFLICT_TRIES: usize = 200;
/// Most operations of a JSON patch.
pub const JSON_PATCH_OPS: usize = 10_000;
/// Longest request before it is answered with 504 (watches and streams excepted).
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a read waits for a revision that is not there yet.
pub const FRESH_WAIT: Duration = Duration::from_secs(3);
/// Shortest lifetime of a watch without `timeoutSeconds`; the longest is twice that.
pub const WATCH_MIN: Duration = Duration::from_secs(1800);
/// Between two bookmarks.
pub const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Connections at a time.
pub const CONNECTIONS: usize = 10_000;
/// Workers that serve them, one for each processor, at most.
pub const LANES: usize = 32;
/// How often such a worker looks for timers at least: well within a request's time.
pub const LANE_TICK: Duration = Duration::from_secs(10);
/// Time for a TLS handshake.
pub const HANDSHAKE: Duration = Duration::from_secs(10);
/// Time between two requests of an HTTP/1.1 connection, headers included, as upstream's IdleTimeout.
pub const HEADER_WAIT: Duration = Duration::from_secs(90);
/// Between two pings to HTTP/2 clients from which nothing came, as upstream's HTTP2_READ_IDLE_TIMEOUT.
pub const PING_EVERY: Duration = Duration::from_secs(30);
/// How long a client may take to answer one, as upstream's HTTP2_PING_TIMEOUT.
pub const PING_WAIT: Duration = Duration::from_secs(15);
/// Bytes that are written to a connection at a time where its writes are gathered: a record of TLS.
pub const GATHERED_BYTES: usize = 16 << 10;
/// Bytes of a frame from which on h2 sends it for itself, less one; and up to how many a frame is sent in pieces of that.
pub const PIECE_BYTES: usize = 1_023;
pub const IN_PIECES_BYTES: usize = 8 << 10;
/// Bytes of request headers.
pub const HEADER_BYTES: usize = 1 << 20;
/// Seats of all priority levels together: upstream's max-requests-inflight and max-mutating-requests-inflight.
pub const SEATS: usize = 400 + 200;
/// Longest wait of a request for its seats.
pub const QUEUE_WAIT: Duration = Duration::from_secs(60);
/// Pairs of priority level and flow schema that are counted apart.
pub const FLOW_SERIES: usize = 1_000;
/// Bodies larger than this are compressed where the client accepts gzip.
pub const GZIP_ABOVE: usize = 128 << 10;
/// Bytes of an answer up to which it is compressed as a whole, so that its length is known.
pub const GZIP_WHOLE: u64 = 1 << 20;
/// Bytes of a protobuf list that are kept from counting them, and objects that are counted between two turns of others.
pub const LIST_KEPT_BYTES: usize = 256 << 10;
pub const LIST_ITEMS_AT_ONCE: usize = 64;
/// How long events live where nothing is said, and further events get the lease of one at most.
pub const EVENT_TTL: Duration = Duration::from_secs(3600);
pub const EVENT_LEASE_SHARED: Duration = Duration::from_secs(60);
/// Events under one lease.
pub const EVENT_LEASE_EVENTS: usize = 1_000;
/// Random letters that `generateName` appends.
pub const SUFFIX_LETTERS: usize = 5;
/// Longest base of `generateName` that is kept.
pub const GENERATE_BASE: usize = 63 - SUFFIX_LETTERS;
/// Deepest nesting of a custom resource's schema.
pub const SCHEMA_DEPTH: usize = 100;
/// Memory of one compiled `pattern` of a schema.
pub const PATTERN_BYTES: usize = 1 << 20;
/// Column and selectable-field names of custom resources kept for the life of the process.
pub const SELECTABLE_NAMES: usize = 10_000;
/// Time to connect to a kubelet, pod or service.
pub const DIAL: Duration = Duration::from_secs(30);
/// Bytes of a kubelet's error text that are shown, as upstream's.
pub const KUBELET_ERROR_BYTES: usize = 50_000;
/// Longest name of a field manager.
pub const FIELD_MANAGER_BYTES: usize = 128;
/// How long a conversion webhook may take (upstream's client: 30 s).
pub const CONVERSION_TIME: Duration = Duration::from_secs(30);
/// Objects in one call of a conversion webhook; lists with more take several.
pub const CONVERSION_OBJECTS: usize = 500;
/// Bytes of a conversion webhook's answer.
pub const CONVERSION_BYTES: usize = 64 << 20;
/// Bytes of converted objects that are remembered.
pub const CONVERTED_BYTES: usize = 16 << 20;
/// How long the head of an aggregated server's answer may take: as long as the longest watch; requests that are no
/// watches and streams end with their own deadline before.
pub const AGGREGATED_HEAD: Duration = Duration::from_secs(3600);
/// The same for a group version's discovery document, as upstream.
pub const AGGREGATED_DISCOVERY: Duration = Duration::from_secs(5);
/// Probes of an aggregated server at a time (any success will do), and the time for one, as upstream.
pub const PROBES: usize = 5;
pub const PROBE_TIME: Duration = Duration::from_secs(5);
/// Between two checks of an aggregated server, and the shortest and longest time after a failed one, as upstream.
pub const PROBE_EVERY: Duration = Duration::from_secs(30);
pub const PROBE_AGAIN: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(30));
/// Between two looks at an aggregated server's documents, and the shortest time after a failed one, as upstream.
pub const DOCUMENTS_EVERY: Duration = Duration::from_secs(60);
pub const DOCUMENTS_AGAIN: Duration = Duration::from_millis(500);
/// Bytes of an aggregated server's discovery document, and resources of one group version.
pub const DISCOVERY_BYTES: usize = 4 << 20;
pub const DISCOVERY_RESOURCES: usize = 1_000;
/// Bytes of an aggregated server's OpenAPI document; time to get one (upstream: 60 s).
pub const OPENAPI_BYTES: usize = 8 << 20;
pub const OPENAPI_TIME: Duration = Duration::from_secs(60);
/// APIServices with a Service that are followed; those beyond, by name, answer with 503.
pub const REMOTES: usize = 200;
/// Bytes of an audit policy.
pub const AUDIT_POLICY_BYTES: usize = 1 << 20;
/// Audit events that wait to be written, as upstream's batch buffer.
pub const AUDIT_EVENTS: usize = 10_000;
/// Most of them, whatever is asked for.
pub const AUDIT_BUFFER: usize = 1_000_000;
/// Bytes of them.
pub const AUDIT_QUEUE_BYTES: usize = 16 << 20;
/// How long lines that nobody waits for are gathered before they are written to the log.
pub const AUDIT_GATHER: Duration = Duration::from_millis(10);
/// How long a request waits for its event to be written, in the modes in which it does.
pub const AUDIT_WAIT: Duration = Duration::from_secs(10);
/// How long an audit webhook may take for one batch, as upstream; bytes of its answer, which nobody reads.
pub const AUDIT_CALL: Duration = Duration::from_secs(30);
pub const AUDIT_ANSWER_BYTES: usize = 64 << 10;
/// Batches under way to an audit webhook, and events where requests wait for them.
pub const AUDIT_SENDS: usize = 8;
pub const AUDIT_SENDS_WAITED: usize = 64;
/// Longest pause between two batches.
pub const AUDIT_THROTTLE: Duration = Duration::from_secs(60);
/// Bytes of an EncryptionConfiguration.
pub const ENCRYPTION_CONFIG_BYTES: usize = 1 << 20;
/// Between two looks at an EncryptionConfiguration that is followed, as upstream, and the shortest and longest pause
/// after it could not be taken over.
pub const ENCRYPTION_POLL: Duration = Duration::from_secs(60);
pub const ENCRYPTION_AGAIN: (Duration, Duration) =
    (Duration::from_millis(500), Duration::from_secs(60));
/// How long new KMS plug-ins may take to be well, at least, before a new configuration is given up, as upstream.
pub const ENCRYPTION_HEALTH: Duration = Duration::from_secs(10);
/// Between two tries to connect to a KMS plug-in that is not there yet.
pub const KMS_CONNECT_EVERY: Duration = Duration::from_millis(100);
/// Bytes of a KMS plug-in's answer (the longest good one has 34 KiB), of its headers, and how much it may send ahead.
pub const KMS_ANSWER_BYTES: usize = 128 << 10;
pub const KMS_HEADER_BYTES: u32 = 16 << 10;
pub const KMS_WINDOW: u32 = 64 << 10;
/// Bytes of a KMS plug-in's error text that are shown.
pub const KMS_ERROR_BYTES: usize = 1 << 10;
/// Calls of KMS plug-ins at a time for the values of one read.
pub const KMS_CALLS: usize = 8;
/// Opened data keys that are remembered for one plug-in.
pub const KMS_DEKS: usize = 1_000;
/// How long a plug-in that did not answer is not asked to open data keys.
pub const KMS_DEAF: Duration = Duration::from_secs(10);
/// How long a KMS plug-in's health counts, good and bad; how often it is asked for, after good and bad; how long
/// values are sealed with a seed after the plug-in was last well: all as upstream.
pub const KMS_WELL: Duration = Duration::from_secs(20);
pub const KMS_UNWELL: Duration = Duration::from_secs(3);
pub const KMS_PROBE_EVERY: Duration = Duration::from_secs(60);
pub const KMS_PROBE_AGAIN: Duration = Duration::from_secs(10);
pub const KMS_SEED_LIFE: Duration = Duration::from_secs(180);
/// Bytes of a TracingConfiguration.
pub const TRACING_CONFIG_BYTES: usize = 1 << 20;
/// Spans that wait to be sent, those of one batch, how long the first of it waits for others, how long the collector
/// may take, as OpenTelemetry's batch processor and exporter; bytes of the collector's answer, which nobody reads.
pub const TRACE_SPANS: usize = 2_048;
pub const TRACE_BATCH: usize = 512;
pub const TRACE_EVERY: Duration = Duration::from_secs(5);
pub const TRACE_CALL: Duration = Duration::from_secs(10);
pub const TRACE_ANSWER_BYTES: usize = 64 << 10;
/// Label sets of one family of metrics.
pub const FAMILY_SERIES: usize = 1_000;
/// How long connections may take to end when the server shuts down.
pub const DRAIN: Duration = Duration::from_secs(10);
/// How long the audit log may take to be written then.
pub const AUDIT_FLUSH: Duration = Duration::from_secs(2);
/// Most that one rule of a definition may cost by its estimate. Upstream: StaticEstimatedCostLimit.
pub const RULE_COST: u64 = 10_000_000;
/// Most that all rules of a version's schema may cost by their estimates. Upstream: StaticEstimatedCRDCostLimit.
pub const CRD_RULES_COST: u64 = 100_000_000;
/// Users of whom is remembered in which way they last acted as another, as upstream.
pub const IMPERSONATORS: usize = 10_000;
/// Whom others may act as: remembered so many, for so long (upstream: 10 s).
pub const IMPERSONATIONS: usize = 4_096;
pub const IMPERSONATION_TTL: Duration = Duration::from_secs(10);
/// Bytes of OpenAPI v3 documents that are kept for the next who asks.
pub const OPENAPI_KEPT: usize = 8 << 20;
