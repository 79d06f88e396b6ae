//! Bounds of this crate.

/// Bytes of a manifest or index (the distribution specification asks for at least 4 MiB).
pub const MANIFEST_BYTES: u64 = 4 << 20;

/// Bytes of an image config.
pub const CONFIG_BYTES: u64 = 8 << 20;

/// Layers of an image: the kernel's overlayfs takes no more (`OVL_MAX_STACK`).
pub const LAYERS: usize = 500;

/// Manifests in an index, and images in an archive.
pub const INDEX_ENTRIES: usize = 4_096;

/// Indexes within indexes.
pub const INDEX_DEPTH: usize = 4;

/// Bytes a layer may unpack to.
pub const LAYER_BYTES: u64 = 128 << 30;

/// Entries of a layer.
pub const LAYER_ENTRIES: u64 = 4_000_000;

/// Bytes after which the ratio of unpacked to packed bytes counts.
pub const RATIO_AFTER: u64 = 1 << 30;

/// Highest ratio of unpacked to packed bytes beyond `RATIO_AFTER`.
pub const RATIO: u64 = 500;

/// Bytes of a path or link name in a layer.
pub const PATH_BYTES: usize = 4_096;

/// Bytes of one record of extended headers (pax) in a layer.
pub const PAX_BYTES: u64 = 1 << 20;

/// Pieces of a sparse file.
pub const SPARSE_PIECES: usize = 65_536;

/// Symbolic links followed on the way to one path (the kernel's `MAXSYMLINKS`).
pub const SYMLINKS: usize = 40;

/// Files in an archive of images.
pub const ARCHIVE_FILES: usize = 100_000;

/// Bytes a compressed archive of images may unpack to.
pub const ARCHIVE_BYTES: u64 = 512 << 30;

/// Images in a store.
pub const IMAGES: usize = 10_000;

/// Names of one image.
pub const NAMES: usize = 1_000;

/// Layers of one pull that download at once (containerd's `max_concurrent_downloads`).
pub const DOWNLOADS: usize = 3;

/// Attempts of a blob's download; each goes on where the one before stopped.
pub const BLOB_ATTEMPTS: u32 = 5;

/// Redirects followed for one request.
pub const REDIRECTS: usize = 10;

/// Bytes of a token server's answer, an error body, a `hosts.toml`.
pub const TEXT_BYTES: u64 = 1 << 20;

/// Seconds to connect to a registry.
pub const CONNECT_SECONDS: u64 = 15;

/// Seconds until a registry answers with headers.
pub const ANSWER_SECONDS: u64 = 60;

/// Seconds without a byte after which a download counts as stalled (the CRI plugin's
/// `image_pull_progress_timeout` is 5 minutes for the whole pull).
pub const STALL_SECONDS: u64 = 60;

/// Hosts of one registry in `hosts.toml`.
pub const HOSTS: usize = 64;

/// Tokens remembered for one pull.
pub const TOKENS: usize = 64;
