//! ImageLocality: nodes that already have the pod's images score higher, scaled by how many nodes do.

use crate::framework::{Cycle, Plugin, Rejection, Score};
use crate::limits;
use crate::node::NodeInfo;

pub struct ImageLocality;

const MIB: i64 = 1 << 20;
/// Less than this does not count.
const SIZE_MIN: i64 = 23 * MIB;
/// More than this for each container does not count more.
const SIZE_MAX_EACH: i64 = 1000 * MIB;

/// The pod's images that some node has, with the part of all nodes that have them.
struct Scorer<'a> {
    images: Vec<(&'a str, f64)>,
    size_max: i64,
}

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn pre_score<'a>(
        &self,
        cycle: &Cycle<'a>,
        _nodes: &[&'a NodeInfo],
    ) -> Result<Option<Box<dyn Score + 'a>>, Rejection> {
        let total = cycle.snapshot.len() as f64;
        let known = cycle.pod.images.iter().filter_map(|image| {
            let have = cycle.snapshot.nodes_with_image(image);
            (have > 0).then(|| (&**image, have as f64 / total))
        });
        let images: Vec<_> = known.collect();
        if images.is_empty() {
            return Ok(None);
        }
        Ok(Some(Box::new(Scorer {
            images,
            size_max: SIZE_MAX_EACH * cycle.pod.containers as i64,
        })))
    }
}

impl Score for Scorer<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let size = |name: &str| {
            let mut all = node.node.images.iter();
            all.find(|(n, _)| &**n == name).map_or(0, |(_, size)| *size)
        };
        let images = self.images.iter();
        let sum: i64 = images
            .map(|(name, spread)| (size(name) as f64 * spread) as i64)
            .sum();
        let clamped = sum.clamp(SIZE_MIN, self.size_max.max(SIZE_MIN + 1));
        limits::SCORE_MAX * (clamped - SIZE_MIN) / (self.size_max.max(SIZE_MIN + 1) - SIZE_MIN)
    }
}
