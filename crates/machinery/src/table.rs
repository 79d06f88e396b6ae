//! Columns and rows of the server-side Table. Upstream: meta/v1 Table, pkg/printers.

use serde_json::Value;

/// One column definition of a Table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    /// `string`, `integer`, `number`, `boolean`, `date`.
    pub kind: String,
    /// `name`, `date-time`, ... or empty.
    pub format: String,
    /// 0 is always shown; above that only in wide output.
    pub priority: i32,
    pub description: String,
}

/// The cells of one object; how many equals how many columns.
pub type Row = Vec<Value>;

impl Column {
    /// A string column that is always shown.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            kind: "string".into(),
            format: String::new(),
            priority: 0,
            description: String::new(),
        }
    }

    /// The `Name` column every built-in table starts with.
    pub fn name() -> Self {
        Self {
            format: "name".into(),
            ..Self::new("Name")
        }
    }

    /// An integer column.
    pub fn integer(name: &str) -> Self {
        Self {
            kind: "integer".into(),
            ..Self::new(name)
        }
    }

    /// The same column, shown only in wide output.
    pub fn wide(self) -> Self {
        Self {
            priority: 1,
            ..self
        }
    }
}
