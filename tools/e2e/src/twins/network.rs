//! Twins of [sig-network].

mod api;
mod dns;
mod jig;
mod paths;
mod services;
mod slices;

use super::Twin;

pub const TWINS: &[Twin] = &[
    Twin::new(
        "[sig-network] API Server should provide secure master service [Conformance]",
        "apiserver",
        |cx| Box::pin(slices::master_service(cx)),
    ),
    Twin::new(
        "[sig-network] API Server should have Endpoints and EndpointSlices pointing to API Server [Conformance]",
        "apiserver",
        |cx| Box::pin(slices::master_endpoints(cx)),
    ),
    Twin::new(
        "[sig-network] DNS should provide DNS for the cluster [Conformance]",
        "dns",
        |cx| Box::pin(dns::cluster(cx)),
    ),
    Twin::new(
        "[sig-network] DNS should provide /etc/hosts entries for the cluster [Conformance]",
        "dns",
        |cx| Box::pin(dns::hosts(cx)),
    ),
    Twin::new(
        "[sig-network] DNS should provide DNS for services [Conformance]",
        "dns",
        |cx| Box::pin(dns::services(cx, false)),
    ),
    Twin::new(
        "[sig-network] DNS should resolve DNS of partial qualified names for services [LinuxOnly] [Conformance]",
        "dns",
        |cx| Box::pin(dns::services(cx, true)),
    ),
    Twin::new(
        "[sig-network] DNS should provide DNS for pods for Hostname [Conformance]",
        "dns",
        |cx| Box::pin(dns::pod_names(cx, false)),
    ),
    Twin::new(
        "[sig-network] DNS should provide DNS for pods for Subdomain [Conformance]",
        "dns",
        |cx| Box::pin(dns::pod_names(cx, true)),
    ),
    Twin::new(
        "[sig-network] DNS should provide DNS for ExternalName services [Conformance]",
        "dns",
        |cx| Box::pin(dns::external_name(cx)),
    ),
    Twin::new(
        "[sig-network] DNS should support configurable pod DNS nameservers [Conformance]",
        "dns",
        |cx| Box::pin(dns::nameservers(cx)),
    ),
    Twin::new(
        "[sig-network] Endpoints should test the lifecycle of an Endpoint [Conformance]",
        "endpoints",
        |cx| Box::pin(slices::endpoints_lifecycle(cx)),
    ),
    Twin::new(
        "[sig-network] EndpointsController should create and delete Endpoints for a Service with a selector that matches no pods [Conformance]",
        "endpoints",
        |cx| Box::pin(slices::empty_endpoints(cx)),
    ),
    Twin::new(
        "[sig-network] EndpointsController should create Endpoints for Pods matching a Service [Conformance]",
        "endpoints",
        |cx| Box::pin(slices::matching_endpoints(cx)),
    ),
    Twin::new(
        "[sig-network] EndpointSlice should create and delete EndpointSlices for a Service with a selector that matches no pods [Conformance]",
        "endpointslice",
        |cx| Box::pin(slices::empty_slices(cx)),
    ),
    Twin::new(
        "[sig-network] EndpointSlice should create Endpoints and EndpointSlices for Pods matching a Service [Conformance]",
        "endpointslice",
        |cx| Box::pin(slices::matching_slices(cx)),
    ),
    Twin::new(
        "[sig-network] EndpointSlice should support creating EndpointSlice API operations [Conformance]",
        "endpointslice",
        |cx| Box::pin(api::endpoint_slices(cx)),
    ),
    Twin::new(
        "[sig-network] EndpointSlice should support a Service with multiple ports specified in multiple EndpointSlices [Conformance]",
        "endpointslice",
        |cx| Box::pin(slices::custom_ports(cx)),
    ),
    Twin::new(
        "[sig-network] EndpointSlice should support a Service with multiple endpoint IPs specified in multiple EndpointSlices [Conformance]",
        "endpointslice",
        |cx| Box::pin(slices::custom_addresses(cx)),
    ),
    Twin::new(
        "[sig-network] EndpointSliceMirroring should mirror a custom Endpoints resource through create update and delete [Conformance]",
        "endpointslicemirroring",
        |cx| Box::pin(slices::mirrored(cx)),
    ),
    Twin::new(
        "[sig-network] HostPort validates that there is no conflict between pods with same hostPort but different hostIP and protocol [LinuxOnly] [Conformance]",
        "hostport",
        |cx| Box::pin(paths::host_ports(cx)),
    ),
    Twin::new(
        "[sig-network] Ingress API should support creating Ingress API operations [Conformance]",
        "ingress",
        |cx| Box::pin(api::ingresses(cx)),
    ),
    Twin::new(
        "[sig-network] IngressClass API should support creating IngressClass API operations [Conformance]",
        "ingressclass",
        |cx| Box::pin(api::ingress_classes(cx)),
    ),
    Twin::new(
        "[sig-network] Networking Granular Checks: Pods should function for intra-pod communication: http [Conformance] [NodeConformance]",
        "pod-network-test",
        |cx| Box::pin(paths::pod_to_pod(cx, "http")),
    ),
    Twin::new(
        "[sig-network] Networking Granular Checks: Pods should function for node-pod communication: http [LinuxOnly] [Conformance] [NodeConformance]",
        "pod-network-test",
        |cx| Box::pin(paths::node_to_pod(cx, "http")),
    ),
    Twin::new(
        "[sig-network] Networking Granular Checks: Pods should function for intra-pod communication: udp [Conformance] [NodeConformance]",
        "pod-network-test",
        |cx| Box::pin(paths::pod_to_pod(cx, "udp")),
    ),
    Twin::new(
        "[sig-network] Networking Granular Checks: Pods should function for node-pod communication: udp [LinuxOnly] [Conformance] [NodeConformance]",
        "pod-network-test",
        |cx| Box::pin(paths::node_to_pod(cx, "udp")),
    ),
    Twin::new(
        "[sig-network] Proxy version v1 should proxy through a service and a pod [Conformance]",
        "proxy",
        |cx| Box::pin(paths::proxy_ports(cx)),
    ),
    Twin::new(
        "[sig-network] Proxy version v1 A set of valid responses are returned for both pod and service ProxyWithPath [Conformance]",
        "proxy",
        |cx| Box::pin(paths::proxy_with_path(cx)),
    ),
    Twin::new(
        "[sig-network] Proxy version v1 A set of valid responses are returned for both pod and service Proxy [Conformance]",
        "proxy",
        |cx| Box::pin(paths::proxy(cx)),
    ),
    Twin::new(
        "[sig-network] Service endpoints latency should not be very high [Conformance]",
        "svc-latency",
        |cx| Box::pin(slices::latency(cx)),
    ),
    Twin::new(
        "[sig-network] ServiceCIDR and IPAddress API should support ServiceCIDR API operations [Conformance]",
        "servicecidr",
        |cx| Box::pin(api::service_cidrs(cx)),
    ),
    Twin::new(
        "[sig-network] ServiceCIDR and IPAddress API should support IPAddress API operations [Conformance]",
        "servicecidr",
        |cx| Box::pin(api::ip_addresses(cx)),
    ),
    Twin::new(
        "[sig-network] Services should serve a basic endpoint from pods [Conformance]",
        "services",
        |cx| Box::pin(services::basic(cx)),
    ),
    Twin::new(
        "[sig-network] Services should serve multiport endpoints from pods [Conformance]",
        "services",
        |cx| Box::pin(services::multiport(cx)),
    ),
    Twin::new(
        "[sig-network] Services should serve endpoints on same port and different protocols [Conformance]",
        "services",
        |cx| Box::pin(services::protocols(cx)),
    ),
    Twin::new(
        "[sig-network] Services should be able to create a functioning NodePort service [Conformance]",
        "services",
        |cx| Box::pin(services::node_port(cx)),
    ),
    Twin::new(
        "[sig-network] Services should be able to change the type from ExternalName to ClusterIP [Conformance]",
        "services",
        |cx| Box::pin(services::from_external_name(cx, "ClusterIP")),
    ),
    Twin::new(
        "[sig-network] Services should be able to change the type from ClusterIP to ExternalName [Conformance]",
        "services",
        |cx| Box::pin(services::to_external_name(cx, "ClusterIP")),
    ),
    Twin::new(
        "[sig-network] Services should be able to change the type from ExternalName to NodePort [Conformance]",
        "services",
        |cx| Box::pin(services::from_external_name(cx, "NodePort")),
    ),
    Twin::new(
        "[sig-network] Services should be able to change the type from NodePort to ExternalName [Conformance]",
        "services",
        |cx| Box::pin(services::to_external_name(cx, "NodePort")),
    ),
    Twin::new(
        "[sig-network] Services should have session affinity work for service with type clusterIP [LinuxOnly] [Conformance]",
        "services",
        |cx| Box::pin(services::affinity(cx, "ClusterIP", false)),
    ),
    Twin::new(
        "[sig-network] Services should be able to switch session affinity for service with type clusterIP [LinuxOnly] [Conformance]",
        "services",
        |cx| Box::pin(services::affinity(cx, "ClusterIP", true)),
    ),
    Twin::new(
        "[sig-network] Services should have session affinity work for NodePort service [LinuxOnly] [Conformance]",
        "services",
        |cx| Box::pin(services::affinity(cx, "NodePort", false)),
    ),
    Twin::new(
        "[sig-network] Services should be able to switch session affinity for NodePort service [LinuxOnly] [Conformance]",
        "services",
        |cx| Box::pin(services::affinity(cx, "NodePort", true)),
    ),
    Twin::new(
        "[sig-network] Services should find a service from listing all namespaces [Conformance]",
        "services",
        |cx| Box::pin(services::listed(cx)),
    ),
    Twin::new(
        "[sig-network] Services should complete a service status lifecycle [Conformance]",
        "services",
        |cx| Box::pin(services::status_lifecycle(cx)),
    ),
    Twin::new(
        "[sig-network] Services should delete a collection of services [Conformance]",
        "services",
        |cx| Box::pin(services::collection(cx)),
    ),
];
