//! The subcommands of agnhost, one file for each kin, and the tools that its image has.

mod conversion;
mod curl;
mod dig;
mod grpc;
mod guestbook;
mod issuer;
mod mounttest;
mod mtls;
mod nc;
mod netexec;
mod nettest;
mod sample;
mod serve;
mod simple;
mod web;
mod webhook;

use anyhow::Result;

/// Something to run with all of argv; gives the exit code.
pub struct Command {
    pub name: &'static str,
    pub run: fn(&[String]) -> Result<u8>,
}

/// Chosen by argv[1].
pub static COMMANDS: &[Command] = &[
    Command {
        name: "connect",
        run: nc::connect,
    },
    Command {
        name: "crd-conversion-webhook",
        run: conversion::run,
    },
    Command {
        name: "dns-server-list",
        run: simple::dns_server_list,
    },
    Command {
        name: "dns-suffix",
        run: simple::dns_suffix,
    },
    Command {
        name: "entrypoint-tester",
        run: simple::entrypoint_tester,
    },
    Command {
        name: "etc-hosts",
        run: simple::etc_hosts,
    },
    Command {
        name: "fake-gitserver",
        run: simple::fake_gitserver,
    },
    Command {
        name: "grpc-health-checking",
        run: grpc::run,
    },
    Command {
        name: "guestbook",
        run: guestbook::run,
    },
    Command {
        name: "inclusterclient",
        run: issuer::in_cluster_client,
    },
    Command {
        name: "liveness",
        run: web::liveness,
    },
    Command {
        name: "logs-generator",
        run: simple::logs_generator,
    },
    Command {
        name: "mounttest",
        run: mounttest::run,
    },
    Command {
        name: "mtlsclient",
        run: mtls::client,
    },
    Command {
        name: "mtlsserver",
        run: mtls::server,
    },
    Command {
        name: "netexec",
        run: netexec::run,
    },
    Command {
        name: "nettest",
        run: nettest::run,
    },
    Command {
        name: "nonewprivs",
        run: simple::nonewprivs,
    },
    Command {
        name: "pause",
        run: simple::pause,
    },
    Command {
        name: "porter",
        run: serve::porter,
    },
    Command {
        name: "serve-hostname",
        run: serve::serve_hostname,
    },
    Command {
        name: "tcp-reset",
        run: nc::tcp_reset,
    },
    Command {
        name: "test-service-account-issuer-discovery",
        run: issuer::run,
    },
    Command {
        name: "test-webserver",
        run: web::test_webserver,
    },
    Command {
        name: "webhook",
        run: webhook::run,
    },
];

/// Chosen by the base name of argv[0].
pub static TOOLS: &[Command] = &[
    Command {
        name: "curl",
        run: curl::run,
    },
    Command {
        name: "dig",
        run: dig::dig,
    },
    // In the etcd image, beside the sample API server.
    Command {
        name: "etcd",
        run: sample::etcd,
    },
    Command {
        name: "getent",
        run: dig::getent,
    },
    Command {
        name: "nc",
        run: nc::run,
    },
    Command {
        name: "nonewprivs",
        run: simple::nonewprivs,
    },
    Command {
        name: "nslookup",
        run: dig::nslookup,
    },
    Command {
        name: "pause",
        run: simple::bare_pause,
    },
    Command {
        name: "sample-apiserver",
        run: sample::run,
    },
    // The shell of the busybox image.
    Command {
        name: "sh",
        run: simple::shell,
    },
    // The server of the nginx and httpd images.
    Command {
        name: "webserver",
        run: web::webserver,
    },
];
