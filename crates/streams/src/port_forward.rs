//! Port-forward. Upstream: apimachinery portforward, KEP-4006.
