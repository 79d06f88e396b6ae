//! Host names of URLs and ExternalName services: looked up by hickory, as getaddrinfo would load the host's NSS into
//! a static binary.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, OnceLock};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;

/// Looks up names; reads the host's resolv.conf at the first look-up. Cheap to clone.
#[derive(Clone, Default)]
pub struct Names(Arc<OnceLock<TokioResolver>>);

impl Names {
    fn resolver(&self) -> Result<&TokioResolver, String> {
        if let Some(made) = self.0.get() {
            return Ok(made);
        }
        let mut builder = TokioResolver::builder_tokio().map_err(|e| e.to_string())?;
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        let made = builder.build().map_err(|e| e.to_string())?;
        Ok(self.0.get_or_init(|| made))
    }

    /// The addresses of a host; an address is its own. The error is Go's text.
    pub async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        if let Ok(ip) = host.trim_matches(['[', ']']).parse() {
            return Ok(vec![ip]);
        }
        // RFC 6761 6.3; a bare root has neither /etc/hosts nor a resolver.
        if host.eq_ignore_ascii_case("localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        match self.resolver()?.lookup_ip(host).await {
            Ok(found) => Ok(found.iter().collect()),
            Err(e) if e.is_nx_domain() || e.is_no_records_found() => {
                Err(format!("dial tcp: lookup {host}: no such host"))
            }
            Err(e) => Err(format!("dial tcp: lookup {host}: {e}")),
        }
    }
}
