//! What becomes of an object, given how its owners stand.

use serde::{Deserialize, Serialize};

use super::graph::Object;

/// The finalizer of deletion in the foreground.
pub const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of deletion that orphans.
pub const ORPHAN: &str = "orphan";

/// An owner reference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<bool>,
    #[serde(
        default,
        rename = "blockOwnerDeletion",
        skip_serializing_if = "Option::is_none"
    )]
    pub block: Option<bool>,
}

/// How an owner stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is there and stays.
    Solid,
    /// It is being deleted and waits for its dependents.
    Waiting,
    /// It does not exist.
    Absent,
}

/// How a dependent is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Background,
    Foreground,
    Orphan,
}

/// What to do with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Keep,
    /// Keep it with these owners only.
    Refs(Vec<Owner>),
    Delete {
        policy: Policy,
        /// First stop blocking the owners: they wait for each other in a circle.
        unblock: bool,
    },
}

// === Owner ===

impl Owner {
    /// The API group of the owner.
    pub fn group(&self) -> &str {
        self.api_version
            .split_once('/')
            .map_or("", |(group, _)| group)
    }

    /// The same reference, not blocking.
    pub fn unblocked(&self) -> Self {
        Self {
            block: self.block.map(|_| false),
            ..self.clone()
        }
    }
}

/// Decides about an object that is not being deleted. `standings` are in order of its owners.
pub fn verdict(
    object: &Object,
    standings: &[Standing],
    has_dependents: bool,
    a_dependent_waits: bool,
) -> Verdict {
    let any = |wanted| standings.contains(&wanted);
    if standings.is_empty() {
        return Verdict::Keep;
    }
    if any(Standing::Solid) {
        if !any(Standing::Waiting) && !any(Standing::Absent) {
            return Verdict::Keep;
        }
        let owners = object.owners.iter().zip(standings);
        let solid = owners.filter(|(_, s)| **s == Standing::Solid);
        return Verdict::Refs(solid.map(|(o, _)| o.clone()).collect());
    }
    if any(Standing::Waiting) && has_dependents {
        return Verdict::Delete {
            policy: Policy::Foreground,
            unblock: a_dependent_waits,
        };
    }
    let policy = if object.has_finalizer(ORPHAN) {
        Policy::Orphan
    } else if object.has_finalizer(FOREGROUND) {
        Policy::Foreground
    } else {
        Policy::Background
    };
    Verdict::Delete {
        policy,
        unblock: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(owners: &[&str], finalizers: &[&str]) -> Object {
        let owner = |uid: &&str| Owner {
            api_version: "v1".into(),
            kind: "Pod".into(),
            name: (*uid).into(),
            uid: (*uid).into(),
            controller: None,
            block: Some(true),
        };
        Object {
            owners: owners.iter().map(owner).collect(),
            finalizers: finalizers.iter().map(|f| (*f).to_string()).collect(),
            deleting: false,
        }
    }

    #[test]
    fn owners_decide() {
        use Policy::*;
        use Standing::*;
        let delete = |policy, unblock| Verdict::Delete { policy, unblock };
        let refs = |uids: &[&str]| Verdict::Refs(object(uids, &[]).owners);
        let two = || object(&["a", "b"], &[]);
        let table = [
            (two(), [Solid, Solid], false, false, Verdict::Keep),
            (two(), [Solid, Absent], true, false, refs(&["a"])),
            (two(), [Waiting, Solid], true, true, refs(&["b"])),
            (
                two(),
                [Absent, Absent],
                true,
                false,
                delete(Background, false),
            ),
            (
                two(),
                [Waiting, Absent],
                false,
                false,
                delete(Background, false),
            ),
            (
                two(),
                [Waiting, Absent],
                true,
                false,
                delete(Foreground, false),
            ),
            (
                two(),
                [Waiting, Waiting],
                true,
                true,
                delete(Foreground, true),
            ),
            (
                object(&["a", "b"], &[ORPHAN]),
                [Absent, Absent],
                true,
                false,
                delete(Orphan, false),
            ),
            (
                object(&["a", "b"], &[FOREGROUND]),
                [Absent, Absent],
                false,
                false,
                delete(Foreground, false),
            ),
        ];
        for (object, standings, dependents, waits, wanted) in table {
            let got = verdict(&object, &standings, dependents, waits);
            assert_eq!(got, wanted, "{standings:?} {dependents} {waits}");
        }
    }
}
