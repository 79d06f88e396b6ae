//! `k0s ctr images …`: containerd's ctr on our store, in its words and columns.

use std::io::Write;
use std::path::Path;

use oci::{Error, ImageStore, StoredImage};

/// `ctr images import FILE`: prints what was imported.
pub async fn import(store: &ImageStore, archive: &Path, out: &mut impl Write) -> Result<(), Error> {
    for name in store.import(archive).await? {
        let target = store.get(&name).map(|i| i.target).unwrap_or_default();
        print(out, &format!("unpacking {name} ({target})...done\n"))?;
    }
    Ok(())
}

/// `ctr images ls`, or with `quiet` (`-q`) the references alone.
pub fn list(store: &ImageStore, quiet: bool, out: &mut impl Write) -> Result<(), Error> {
    let mut rows: Vec<[String; 6]> = Vec::new();
    let mut names: Vec<(String, StoredImage)> = Vec::new();
    for image in store.list() {
        for name in image.names.iter().chain(&image.digests).chain([&image.id]) {
            names.push((name.clone(), image.clone()));
        }
    }
    names.sort_by(|a, b| a.0.cmp(&b.0));
    if quiet {
        return names
            .iter()
            .try_for_each(|(name, _)| print(out, &format!("{name}\n")));
    }
    rows.push(["REF", "TYPE", "DIGEST", "SIZE", "PLATFORMS", "LABELS"].map(str::to_string));
    for (name, image) in names {
        let mut labels = vec!["io.cri-containerd.image=managed"];
        if image.pinned {
            labels.push("io.cri-containerd.pinned=pinned");
        }
        rows.push([
            name,
            image.media_type.clone(),
            image.target.clone(),
            size(image.size),
            image.platform.clone(),
            labels.join(","),
        ]);
    }
    table(&rows, out)
}

/// `ctr images rm REF…`: removes names; prints each.
pub async fn remove(
    store: &ImageStore,
    references: &[String],
    out: &mut impl Write,
) -> Result<(), Error> {
    for reference in references {
        store.untag(reference).await?;
        print(out, &format!("{reference}\n"))?;
    }
    Ok(())
}

/// `ctr images pull REF`.
pub async fn pull(store: &ImageStore, reference: &str, out: &mut impl Write) -> Result<(), Error> {
    store
        .pull(reference, None, std::sync::Arc::new(|_| {}))
        .await?;
    let target = store.get(reference).map(|i| i.target).unwrap_or_default();
    print(out, &format!("unpacking linux {target}...\ndone\n"))
}

/// `ctr images tag SOURCE TARGET`.
pub async fn tag(
    store: &ImageStore,
    source: &str,
    target: &str,
    out: &mut impl Write,
) -> Result<(), Error> {
    store.tag(source, target).await?;
    print(out, &format!("{target}\n"))
}

fn print(out: &mut impl Write, text: &str) -> Result<(), Error> {
    out.write_all(text.as_bytes()).map_err(|source| Error::Io {
        operation: "write to",
        path: "standard output".into(),
        source,
    })
}

/// Columns padded to their widest cell and one blank, as Go's tabwriter does.
fn table(rows: &[[String; 6]], out: &mut impl Write) -> Result<(), Error> {
    let mut widths = [0; 6];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(&format!("{cell:width$} "));
        }
        line.push('\n');
        print(out, &line)?;
    }
    Ok(())
}

/// Bytes as containerd's progress package prints them.
fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::{list, size};
    use oci::{ImageStore, StoreOptions};

    #[test]
    fn sizes_are_containerds() {
        assert_eq!(size(0), "0.0 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(5 << 20), "5.0 MiB");
    }

    #[test]
    fn an_empty_store_has_a_heading() {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(&dir.path().join("s"), StoreOptions::default()).unwrap();
        let mut out = Vec::new();
        list(&store, false, &mut out).unwrap();
        assert_eq!(out, b"REF TYPE DIGEST SIZE PLATFORMS LABELS \n");
    }
}
