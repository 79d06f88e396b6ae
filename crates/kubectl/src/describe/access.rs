//! Roles and bindings.

use super::lines::Lines;
use super::{Describer, Seen};
use crate::object;
use crate::rules;

const GROUP: &str = "rbac.authorization.k8s.io";

pub const ROLE: Describer = Describer::of(GROUP, "Role", role).without_events();
pub const CLUSTER_ROLE: Describer = Describer::of(GROUP, "ClusterRole", role).without_events();
pub const ROLE_BINDING: Describer = Describer::of(GROUP, "RoleBinding", binding).without_events();
pub const CLUSTER_ROLE_BINDING: Describer =
    Describer::of(GROUP, "ClusterRoleBinding", binding).without_events();

fn role(seen: &Seen<'_>, w: &mut Lines) {
    w.put(0, format!("Name:\t{}", object::name(seen.object)));
    seen.marks(w);
    w.put(0, "PolicyRule:");
    w.table(
        1,
        &["Resources", "Non-Resource URLs", "Resource Names", "Verbs"],
    );
    for rule in rules::compact(object::items(seen.object, "/rules")) {
        w.put(1, rule.cells().join("\t"));
    }
}

fn binding(seen: &Seen<'_>, w: &mut Lines) {
    w.put(0, format!("Name:\t{}", object::name(seen.object)));
    seen.marks(w);
    w.put(0, "Role:");
    for (title, field) in [("Kind", "/roleRef/kind"), ("Name", "/roleRef/name")] {
        w.put(1, format!("{title}:\t{}", object::text(seen.object, field)));
    }
    w.put(0, "Subjects:");
    w.table(1, &["Kind", "Name", "Namespace"]);
    for s in object::items(seen.object, "/subjects") {
        let cells = ["/kind", "/name", "/namespace"].map(|f| object::text(s, f));
        w.put(1, cells.join("\t"));
    }
}
