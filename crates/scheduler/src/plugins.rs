//! All plugins in upstream's default order with their weights: one file each, one line each.
//! Upstream: scheduler apis/config/v1 getDefaultPlugins. The order is that of every extension point.

use crate::framework::Plugin;

pub mod default_preemption;
pub mod dynamic_resources;
pub mod image_locality;
pub mod inter_pod_affinity;
pub mod node_affinity;
pub mod node_declared_features;
pub mod node_name;
pub mod node_ports;
pub mod node_resources_balanced_allocation;
pub mod node_resources_fit;
pub mod node_unschedulable;
pub mod node_volume_limits;
pub mod pod_topology_spread;
pub mod scheduling_gates;
pub mod taint_toleration;
pub mod volume_binding;
pub mod volume_restrictions;
pub mod volume_zone;

/// A plugin and the weight of its scores. PrioritySort is `queue::Queue` itself, DefaultBinder is `act::bind`.
pub struct Listed {
    pub plugin: &'static dyn Plugin,
    pub weight: i64,
}

const fn listed(plugin: &'static dyn Plugin, weight: i64) -> Listed {
    Listed { plugin, weight }
}

/// The plugins; their places identify them.
pub static PLUGINS: &[Listed] = &[
    listed(&scheduling_gates::SchedulingGates, 0),
    listed(&node_unschedulable::NodeUnschedulable, 0),
    listed(&node_name::NodeName, 0),
    listed(&taint_toleration::TaintToleration, 3),
    listed(&node_affinity::NodeAffinity, 2),
    listed(&node_ports::NodePorts, 0),
    listed(&node_resources_fit::NodeResourcesFit, 1),
    listed(&volume_restrictions::VolumeRestrictions, 0),
    listed(&node_volume_limits::NodeVolumeLimits, 0),
    listed(&volume_binding::VolumeBinding, 0),
    listed(&volume_zone::VolumeZone, 0),
    listed(&pod_topology_spread::PodTopologySpread, 2),
    listed(&inter_pod_affinity::InterPodAffinity, 2),
    listed(&dynamic_resources::DynamicResources, 0),
    listed(&default_preemption::DefaultPreemption, 0),
    listed(
        &node_resources_balanced_allocation::NodeResourcesBalancedAllocation,
        1,
    ),
    listed(&image_locality::ImageLocality, 1),
    listed(&node_declared_features::NodeDeclaredFeatures, 0),
];

#[cfg(test)]
mod tests;
