//! Taints and tolerations. Upstream: component-helpers/scheduling/corev1.

use api::core::v1::{Taint, Toleration};

/// Whether a toleration tolerates a taint (the operators Lt and Gt are behind a gate that is off).
pub fn tolerates(t: &Toleration, taint: &Taint) -> bool {
    let text = |o: &Option<String>| o.clone().unwrap_or_default();
    let effect = t.effect.as_deref().unwrap_or("");
    let key = t.key.as_deref().unwrap_or("");
    if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    match t.operator.as_deref().unwrap_or("") {
        "Exists" => true,
        "" | "Equal" => !key.is_empty() && text(&t.value) == text(&taint.value),
        _ => false,
    }
}

/// Whether some toleration tolerates a taint.
pub fn tolerated(all: &[Toleration], taint: &Taint) -> bool {
    all.iter().any(|t| tolerates(t, taint))
}

/// The first taint that keeps a pod away and is not tolerated.
pub fn untolerated<'a>(taints: &'a [Taint], tolerations: &[Toleration]) -> Option<&'a Taint> {
    taints
        .iter()
        .filter(|t| matches!(t.effect.as_str(), "NoSchedule" | "NoExecute"))
        .find(|t| !tolerated(tolerations, t))
}
