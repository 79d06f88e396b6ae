//! The server's tables as text. Upstream: cli-runtime/printers/tableprinter.go.

use serde_json::Value;

use crate::object;
use crate::tabwriter::TabWriter;

/// How a table is shown.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub no_headers: bool,
    pub wide: bool,
    pub show_labels: bool,
    pub label_columns: Vec<String>,
    pub with_namespace: bool,
    /// `deployment.apps`, before names, where several kinds are shown.
    pub kind: Option<String>,
}

/// Prints tables one after another with columns that do not shrink.
#[derive(Debug)]
pub struct TablePrinter {
    options: Options,
    writer: TabWriter,
    columns: Vec<Value>,
    headed: bool,
}

// === TablePrinter ===

impl TablePrinter {
    /// A printer that has shown nothing yet.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            writer: TabWriter::table(),
            columns: Vec::new(),
            headed: false,
        }
    }

    /// The text of a table; headers come once.
    pub fn text(&mut self, table: &Value) -> String {
        let columns = object::items(table, "/columnDefinitions");
        if !columns.is_empty() {
            self.columns = columns.to_vec();
        }
        let rows = object::items(table, "/rows");
        let mut text = String::new();
        if !self.headed && !self.options.no_headers {
            text.push_str(&self.header());
            text.push('\n');
        }
        self.headed = true;
        for row in rows {
            text.push_str(&self.row(row));
            text.push('\n');
        }
        self.writer.layout(&text)
    }

    fn shown(&self, column: &Value) -> bool {
        self.options.wide || column["priority"].as_i64().unwrap_or(0) == 0
    }

    fn header(&self) -> String {
        let mut cells: Vec<String> = Vec::new();
        if self.options.with_namespace {
            cells.push("NAMESPACE".into());
        }
        cells.extend(
            self.columns
                .iter()
                .filter(|c| self.shown(c))
                .map(|c| object::text(c, "/name").to_uppercase()),
        );
        // A label's column is named by the last part of its key.
        cells.extend(
            self.options
                .label_columns
                .iter()
                .map(|l| l.rsplit('/').next().unwrap_or_default().to_uppercase()),
        );
        if self.options.show_labels {
            cells.push("LABELS".into());
        }
        cells.join("\t")
    }

    fn row(&self, row: &Value) -> String {
        let mut cells: Vec<String> = Vec::new();
        if self.options.with_namespace {
            cells.push(object::text(row, "/object/metadata/namespace").into());
        }
        for (column, cell) in self.columns.iter().zip(object::items(row, "/cells")) {
            if !self.shown(column) {
                continue;
            }
            let text = cell_text(cell);
            cells.push(match &self.options.kind {
                Some(kind) if column["format"] == "name" => format!("{kind}/{text}"),
                _ => text,
            });
        }
        let labels = row
            .pointer("/object/metadata/labels")
            .unwrap_or(&Value::Null);
        for l in &self.options.label_columns {
            cells.push(labels[l.as_str()].as_str().unwrap_or_default().to_string());
        }
        if self.options.show_labels {
            let text = object::selector(labels);
            cells.push(if text.is_empty() {
                "<none>".into()
            } else {
                text
            });
        }
        cells.join("\t")
    }
}

fn cell_text(cell: &Value) -> String {
    let text = object::plain(cell);
    match text.find(['\n', '\r', '\u{c}']) {
        Some(at) => format!("{}...", &text[..at]),
        None => text.replace('\t', "\\t"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn table() -> Value {
        json!({"columnDefinitions": [
                {"name": "Name", "format": "name"}, {"name": "Ready", "priority": 0},
                {"name": "Node", "priority": 1}],
            "rows": [
                {"cells": ["web-1", "1/1", "n1"], "object": {"metadata": {"namespace": "a", "labels": {"x": "y", "app": "web"}}}},
                {"cells": ["b", "0/1\nmore", "n2"], "object": {"metadata": {"namespace": "longer-name"}}}]})
    }

    #[test]
    fn tables_are_shown_as_asked() {
        let show = |o: Options| TablePrinter::new(o).text(&table());
        assert_eq!(
            show(Options::default()),
            "NAME    READY\nweb-1   1/1\nb       0/1...\n"
        );
        let wide = Options {
            wide: true,
            with_namespace: true,
            show_labels: true,
            no_headers: true,
            kind: Some("pod".into()),
            ..Options::default()
        };
        assert_eq!(
            show(wide),
            "a             pod/web-1   1/1      n1    app=web,x=y\nlonger-name   pod/b       0/1...   n2    <none>\n"
        );
        let labels = Options {
            label_columns: vec!["k8s.io/app".into(), "app".into()],
            ..Options::default()
        };
        assert_eq!(
            show(labels).lines().next(),
            Some("NAME    READY    APP   APP")
        );
    }
}
