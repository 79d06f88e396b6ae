//! The network of a machine that has no one to set it up: the kernel's `ip=` parameter.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use linux::netlink::address::PrefixRoute;
use linux::netlink::link::Link;
use linux::netlink::route::Route;
use linux::netlink::{Socket, Subsystem};

/// How long a driver may take to show its interface.
const LINK_WITHIN: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// `ip=<client>:<server>:<gateway>:<netmask>:<host name>:<device>:<autoconf>:<dns0>:<dns1>`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Address and length of its prefix.
    address: Option<(Ipv4Addr, u8)>,
    gateway: Option<Ipv4Addr>,
    host_name: Option<String>,
    device: Option<String>,
    name_servers: Vec<Ipv4Addr>,
}

impl Plan {
    /// From the kernel's command line. Without `ip=` nothing but the loopback interface is wanted.
    pub fn parse(command_line: &str) -> Result<Self> {
        // What stands after `--` is not the kernel's.
        let mut words = command_line.split_whitespace().take_while(|w| *w != "--");
        let Some(value) = words.find_map(|w| w.strip_prefix("ip=")) else {
            return Ok(Self::default());
        };
        let fields: Vec<&str> = value.split(':').collect();
        let text = |at: usize| fields.get(at).copied().filter(|t| !t.is_empty());
        let address = |at: usize| {
            let parsed = text(at).map(str::parse::<Ipv4Addr>).transpose();
            parsed.with_context(|| format!("kernel parameter ip={value}: field {}", at + 1))
        };
        // Alone it is an address or how to come by one.
        let word = |t: &&str| fields.len() == 1 && !t.starts_with(|c: char| c.is_ascii_digit());
        match text(6).or_else(|| text(0).filter(word)) {
            None | Some("off" | "none") => {}
            Some(how) => bail!(
                "kernel parameter ip={value}: \"{how}\" is not supported, only addresses that the parameter names"
            ),
        }
        let client = if text(0).is_some_and(|t| word(&t)) {
            None
        } else {
            address(0)?
        };
        let mask = address(3)?.unwrap_or(Ipv4Addr::new(255, 255, 255, 0));
        let prefix = u32::from(mask).leading_ones();
        ensure!(
            prefix == u32::from(mask).count_ones(),
            "kernel parameter ip={value}: {mask} is no netmask"
        );
        let servers = [address(7)?, address(8)?];
        Ok(Self {
            address: client.map(|c| (c, prefix as u8)),
            gateway: address(2)?,
            host_name: text(4).map(String::from),
            device: text(5).map(String::from),
            name_servers: servers.into_iter().flatten().collect(),
        })
    }
}

/// Carries a plan out. What is there already stays.
pub fn set_up(plan: &Plan) -> Result<()> {
    if let Some(name) = &plan.host_name {
        linux::boot::set_host_name(name).context("set the host's name")?;
    }
    let servers = plan.name_servers.iter();
    let lines: String = servers.map(|s| format!("nameserver {s}\n")).collect();
    let resolver = Path::new("/etc/resolv.conf");
    if !lines.is_empty() && !resolver.exists() {
        std::fs::create_dir_all("/etc").context("make /etc")?;
        std::fs::write(resolver, lines).context("write /etc/resolv.conf")?;
    }
    let mut socket = Socket::open(Subsystem::Route).context("open a netlink socket")?;
    let loopback = socket
        .link_index("lo")?
        .context("there is no interface lo")?;
    socket.set_up(loopback, true).context("set lo up")?;
    let Some((ip, prefix)) = plan.address else {
        return Ok(());
    };
    let index = link(&mut socket, plan.device.as_deref())?;
    socket.set_up(index, true).context("set the interface up")?;
    present(socket.add_address(index, IpAddr::V4(ip), prefix, PrefixRoute::Add))
        .with_context(|| format!("add address {ip}/{prefix}"))?;
    if let Some(gateway) = plan.gateway {
        let route = Route::via(Ipv4Addr::UNSPECIFIED.into(), 0, gateway.into(), index);
        present(socket.add_route(&route)).with_context(|| format!("add the route by {gateway}"))?;
    }
    Ok(())
}

fn present(done: Result<(), linux::netlink::Error>) -> Result<(), linux::netlink::Error> {
    match done {
        Err(e) if e.is_present() => Ok(()),
        done => done,
    }
}

/// The interface of a name, or the first of hardware; its driver may still be at it.
fn link(socket: &mut Socket, name: Option<&str>) -> Result<u32> {
    let until = Instant::now() + LINK_WITHIN;
    loop {
        let links = socket.links().context("list interfaces")?;
        if let Some(found) = choose(&links, name) {
            return Ok(found.index);
        }
        if Instant::now() > until {
            bail!(
                "there is no network interface {}",
                name.unwrap_or("of hardware")
            );
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn choose<'a>(links: &'a [Link], name: Option<&str>) -> Option<&'a Link> {
    links.iter().find(|l| match name {
        Some(name) => l.name == name,
        None => l.kind.is_empty() && l.name != "lo",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_parameter_is_read_as_the_kernel_reads_it() {
        let plan = Plan::parse(
            "quiet ip=10.0.2.15::10.0.2.2:255.255.0.0:vm:eth0:off:10.0.2.3 -- ip=1.1.1.1",
        )
        .unwrap();
        let want = Plan {
            address: Some((Ipv4Addr::new(10, 0, 2, 15), 16)),
            gateway: Some(Ipv4Addr::new(10, 0, 2, 2)),
            host_name: Some("vm".into()),
            device: Some("eth0".into()),
            name_servers: vec![Ipv4Addr::new(10, 0, 2, 3)],
        };
        assert_eq!(plan, want);
        assert_eq!(Plan::parse("ip=off").unwrap(), Plan::default());
        assert_eq!(Plan::parse("quiet -- ip=1.1.1.1").unwrap(), Plan::default());
    }

    #[test]
    fn what_it_cannot_do_is_said() {
        for (line, says) in [
            ("ip=dhcp", "\"dhcp\" is not supported"),
            ("ip=:::::eth0:dhcp", "\"dhcp\" is not supported"),
            ("ip=10.0.0.300", "field 1"),
            ("ip=10.0.0.3::gateway", "field 3"),
            ("ip=10.0.0.3:::255.0.255.0", "255.0.255.0 is no netmask"),
        ] {
            let error = format!("{:#}", Plan::parse(line).unwrap_err());
            assert!(error.contains(says), "{line}: {error}");
        }
    }
}
