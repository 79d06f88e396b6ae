//! Names: /etc/hosts, then the name servers of /etc/resolv.conf with its search list. What dig, getent and nslookup
//! show comes from here too.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, bail};

pub const A: u16 = 1;
pub const CNAME: u16 = 5;
pub const PTR: u16 = 12;
pub const TXT: u16 = 16;
pub const AAAA: u16 = 28;
pub const SRV: u16 = 33;

/// resolv.conf.
#[derive(Debug, Clone)]
pub struct Config {
    pub servers: Vec<IpAddr>,
    pub search: Vec<String>,
    pub ndots: usize,
}

/// A record of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub name: String,
    pub kind: u16,
    pub ttl: u32,
    /// As dig prints it.
    pub data: String,
}

// === Config ===

impl Config {
    /// The container's.
    pub fn read() -> Self {
        Self::parse(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let mut config = Self {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
        };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => config
                    .servers
                    .extend(words.next().and_then(|w| w.parse::<IpAddr>().ok())),
                Some("search") => config.search = words.map(str::to_string).collect(),
                Some("options") => {
                    for word in words {
                        if let Some(n) = word.strip_prefix("ndots:") {
                            config.ndots = n.parse().unwrap_or(1);
                        }
                    }
                }
                _ => {}
            }
        }
        if config.servers.is_empty() {
            config.servers.push(Ipv4Addr::LOCALHOST.into());
        }
        config
    }

    /// The names to ask for, in order.
    pub fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(absolute) = name.strip_suffix('.') {
            return vec![absolute.to_string()];
        }
        let searched = self
            .search
            .iter()
            .map(|s| format!("{name}.{}", s.trim_end_matches('.')));
        let dots = name.matches('.').count();
        if dots >= self.ndots {
            std::iter::once(name.to_string()).chain(searched).collect()
        } else {
            searched.chain(std::iter::once(name.to_string())).collect()
        }
    }

    /// Asks the name servers; an empty list where the name has no such records.
    pub fn query(&self, name: &str, kind: u16, tcp: bool) -> Result<Vec<Record>> {
        let mut last = anyhow::anyhow!("no name server");
        for _ in 0..2 {
            for server in &self.servers {
                match ask(SocketAddr::new(*server, 53), name, kind, tcp) {
                    Ok(records) => return Ok(records),
                    Err(e) => last = e,
                }
            }
        }
        Err(last)
    }

    /// The first name of the search list that has such records.
    pub fn search(&self, name: &str, kind: u16, tcp: bool) -> Result<Vec<Record>> {
        let mut failed = None;
        for candidate in self.candidates(name) {
            match self.query(&candidate, kind, tcp) {
                Ok(records) if !records.is_empty() => return Ok(records),
                Ok(_) => {}
                Err(e) => failed = Some(e),
            }
        }
        failed.map_or(Ok(Vec::new()), Err)
    }
}

/// The addresses of a host: itself, from /etc/hosts, or from DNS.
pub fn lookup(host: &str) -> Result<Vec<IpAddr>> {
    if let Ok(ip) = host.trim_start_matches('[').trim_end_matches(']').parse() {
        return Ok(vec![ip]);
    }
    let text = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let known = hosts(&text, host);
    if !known.is_empty() {
        return Ok(known);
    }
    let config = Config::read();
    let mut found = Vec::new();
    let mut failed = None;
    for kind in [A, AAAA] {
        match config.search(host, kind, false) {
            Ok(records) => {
                found.extend(records.iter().filter_map(|r| r.data.parse::<IpAddr>().ok()))
            }
            Err(e) => failed = Some(e),
        }
    }
    match (found.is_empty(), failed) {
        (false, _) => Ok(found),
        (true, Some(e)) => Err(e.context(format!("lookup {host}"))),
        (true, None) => bail!("lookup {host}: no such host"),
    }
}

/// Addresses of a name in the text of /etc/hosts.
fn hosts(text: &str, host: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split('#').next()?.split_whitespace();
            let ip: IpAddr = words.next()?.parse().ok()?;
            words.any(|w| w.eq_ignore_ascii_case(host)).then_some(ip)
        })
        .collect()
}

fn ask(server: SocketAddr, name: &str, kind: u16, tcp: bool) -> Result<Vec<Record>> {
    let id: u16 = rand::random();
    let request = question(id, name, kind)?;
    let patience = Some(Duration::from_secs(3));
    if !tcp {
        let any: IpAddr = if server.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_read_timeout(patience)?;
        socket.connect(server)?;
        socket.send(&request)?;
        let mut buffer = [0; 4096];
        loop {
            let n = socket.recv(&mut buffer)?;
            if n >= 12 && buffer[..2] == id.to_be_bytes() {
                if buffer[2] & 2 == 0 {
                    return answer(&buffer[..n]);
                }
                // Cut off: by TCP then.
                break;
            }
        }
    }
    let mut stream = TcpStream::connect_timeout(&server, Duration::from_secs(3))?;
    stream.set_read_timeout(patience)?;
    let length = u16::try_from(request.len())?.to_be_bytes();
    stream.write_all(&[&length, request.as_slice()].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut buffer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut buffer)?;
    answer(&buffer)
}

fn question(id: u16, name: &str, kind: u16) -> Result<Vec<u8>> {
    let mut out = id.to_be_bytes().to_vec();
    out.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.').filter(|l| !l.is_empty()) {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|n| *n < 64)
            .context("a label too long")?;
        out.push(length);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&[0, 1]);
    Ok(out)
}

/// The answer section; a name that does not exist has an empty one.
fn answer(message: &[u8]) -> Result<Vec<Record>> {
    let word = |at: usize| -> Result<usize> {
        let bytes = message.get(at..at + 2).context("a message cut off")?;
        Ok(usize::from(u16::from_be_bytes([bytes[0], bytes[1]])))
    };
    match message.get(3).context("a message cut off")? & 15 {
        0 | 3 => {}
        code => bail!("the name server answered with code {code}"),
    }
    let mut at = 12;
    for _ in 0..word(4)? {
        at = name(message, at)?.1 + 4;
    }
    let mut records = Vec::new();
    for _ in 0..word(6)? {
        let (owner, next) = name(message, at)?;
        let kind = word(next)? as u16;
        let ttl = (word(next + 4)? as u32) << 16 | word(next + 6)? as u32;
        let length = word(next + 8)?;
        let start = next + 10;
        let raw = message
            .get(start..start + length)
            .context("a record cut off")?;
        let data = match (kind, raw) {
            (A, [a, b, c, d]) => Ipv4Addr::new(*a, *b, *c, *d).to_string(),
            (AAAA, raw) if raw.len() == 16 => {
                let mut bytes = [0; 16];
                bytes.copy_from_slice(raw);
                Ipv6Addr::from(bytes).to_string()
            }
            (CNAME | PTR, _) => format!("{}.", name(message, start)?.0),
            (SRV, _) => {
                let target = name(message, start + 6)?.0;
                format!(
                    "{} {} {} {target}.",
                    word(start)?,
                    word(start + 2)?,
                    word(start + 4)?
                )
            }
            (TXT, raw) => format!(
                "{:?}",
                String::from_utf8_lossy(raw.get(1..).unwrap_or_default())
            ),
            _ => format!("\\# {length}"),
        };
        records.push(Record {
            name: format!("{owner}."),
            kind,
            ttl,
            data,
        });
        at = start + length;
    }
    Ok(records)
}

/// A name at an offset, and what is behind it.
fn name(message: &[u8], mut at: usize) -> Result<(String, usize)> {
    let mut labels: Vec<String> = Vec::new();
    let mut end = None;
    for _ in 0..128 {
        let length = usize::from(*message.get(at).context("a name cut off")?);
        match length {
            0 => return Ok((labels.join("."), end.unwrap_or(at + 1))),
            1..=63 => {
                let label = message
                    .get(at + 1..at + 1 + length)
                    .context("a name cut off")?;
                labels.push(String::from_utf8_lossy(label).into_owned());
                at += 1 + length;
            }
            192.. => {
                end.get_or_insert(at + 2);
                let low = usize::from(*message.get(at + 1).context("a name cut off")?);
                at = (length & 63) << 8 | low;
            }
            _ => bail!("a name that is none"),
        }
    }
    bail!("a name without end")
}

/// The number of a type.
pub fn kind(text: &str) -> Option<u16> {
    Some(match text.to_ascii_uppercase().as_str() {
        "A" => A,
        "AAAA" => AAAA,
        "CNAME" => CNAME,
        "PTR" => PTR,
        "SRV" => SRV,
        "TXT" => TXT,
        _ => return None,
    })
}

/// The name of a type.
pub fn kind_name(kind: u16) -> String {
    match kind {
        A => "A".into(),
        AAAA => "AAAA".into(),
        CNAME => "CNAME".into(),
        PTR => "PTR".into(),
        SRV => "SRV".into(),
        TXT => "TXT".into(),
        other => format!("TYPE{other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{A, Config, answer, hosts};

    #[test]
    fn the_search_list_is_used_by_ndots() {
        let config = Config::parse("nameserver 10.0.0.1\nsearch a.b c.\noptions ndots:5\n");
        assert_eq!(config.candidates("x"), ["x.a.b", "x.c", "x"]);
        assert_eq!(config.candidates("x."), ["x"]);
        assert_eq!(config.candidates("1.2.3.4.5.6")[0], "1.2.3.4.5.6");
    }

    #[test]
    fn answers_are_read() {
        let mut message = vec![
            0, 1, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0, 1, b'x', 0, 0, 1, 0, 1,
        ];
        message.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 10, 0, 0, 1]);
        let records = answer(&message).unwrap();
        assert_eq!(
            (
                records[0].name.as_str(),
                records[0].kind,
                records[0].data.as_str()
            ),
            ("x.", A, "10.0.0.1")
        );
        assert!(answer(&message[..20]).is_err());
        // A name that points to itself.
        let cyclic = [&message[..12], &[0xc0, 12, 0, 1, 0, 1]].concat();
        assert!(answer(&cyclic).is_err());
    }

    #[test]
    fn hosts_are_found() {
        let text = "# x\n127.0.0.1 localhost\n10.1.1.1\tfoo bar # c\n";
        assert_eq!(hosts(text, "bar").len(), 1);
        assert!(hosts(text, "c").is_empty());
    }
}
