//! A small HTTP/1 server, a thread for each connection, with the habits of Go's that the tests see: an answer of 400
//! to anything that is no request, and content types found from content.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

const LINE_BYTES: u64 = 64 << 10;
const HEADERS: usize = 256;
const BODY_BYTES: u64 = 32 << 20;

/// A request.
#[derive(Debug, Default)]
pub struct Request {
    pub method: String,
    /// Decoded, without query.
    pub path: String,
    /// Of query and form.
    pub parameters: Vec<(String, String)>,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub peer: String,
    /// Certificates the client showed, its own first.
    pub certificates: Vec<Vec<u8>>,
}

/// An answer.
#[derive(Debug, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// What answers.
pub type Handler = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

// === Request ===

impl Request {
    /// A parameter, empty where there is none.
    pub fn parameter(&self, name: &str) -> &str {
        let found = self.parameters.iter().find(|(n, _)| n == name);
        found.map(|(_, v)| v.as_str()).unwrap_or_default()
    }

    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, v)| v.as_str())
    }
}

// === Reply ===

impl Reply {
    /// 200 with a body.
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// As Go's http.Error.
    pub fn error(status: u16, text: &str) -> Self {
        Self::ok(format!("{text}\n"))
            .status(status)
            .with("Content-Type", "text/plain; charset=utf-8")
            .with("X-Content-Type-Options", "nosniff")
    }

    /// JSON as Go writes it.
    pub fn json(value: &serde_json::Value) -> Self {
        Self::ok(go_json(value)).with("Content-Type", "application/json")
    }

    /// Another status.
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// A further header.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_string(), value.to_string()));
        self
    }
}

/// Compact JSON with the three characters that Go escapes.
pub fn go_json(value: &serde_json::Value) -> String {
    let text = value.to_string();
    text.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

/// Listens on all addresses of both families, or of IPv4 where there is no IPv6.
pub fn listen(port: u16) -> Result<TcpListener> {
    TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
        .or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))
        .with_context(|| format!("listen tcp :{port}"))
}

/// The same for datagrams.
pub fn listen_udp(port: u16) -> Result<UdpSocket> {
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port))
        .or_else(|_| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)))
        .with_context(|| format!("listen udp :{port}"))
}

/// `ip:port`, IPv4 as itself.
pub fn plain(address: SocketAddr) -> String {
    SocketAddr::new(address.ip().to_canonical(), address.port()).to_string()
}

/// The node name of the UTS namespace.
pub fn hostname() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// Serves for ever.
pub fn serve(listener: TcpListener, tls: Option<Arc<ServerConfig>>, handler: Handler) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // Out of descriptors: others must end first.
            std::thread::sleep(std::time::Duration::from_millis(10));
            continue;
        };
        let (tls, handler) = (tls.clone(), handler.clone());
        std::thread::spawn(move || {
            // A client that goes away is no news.
            let _ended = connection(stream, tls, &handler);
        });
    }
}

/// Serves in the background.
pub fn spawn(listener: TcpListener, tls: Option<Arc<ServerConfig>>, handler: Handler) {
    std::thread::spawn(move || serve(listener, tls, handler));
}

fn connection(stream: TcpStream, tls: Option<Arc<ServerConfig>>, handler: &Handler) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(300)))?;
    let peer = plain(stream.peer_addr()?);
    match tls {
        None => {
            let half = stream.try_clone()?;
            requests(&mut BufReader::new(stream), half, &peer, &[], handler)
        }
        Some(config) => {
            let mut connection = ServerConnection::new(config)?;
            let mut stream = stream;
            while connection.is_handshaking() {
                connection.complete_io(&mut stream)?;
            }
            let certificates: Vec<Vec<u8>> = connection
                .peer_certificates()
                .unwrap_or_default()
                .iter()
                .map(|c| c.to_vec())
                .collect();
            let both = Shared(Arc::new(std::sync::Mutex::new(StreamOwned::new(
                connection, stream,
            ))));
            let mut reader = BufReader::new(both.clone());
            requests(&mut reader, both, &peer, &certificates, handler)
        }
    }
}

/// One TLS stream for reading and writing in turn.
#[derive(Clone)]
struct Shared(Arc<std::sync::Mutex<StreamOwned<ServerConnection, TcpStream>>>);

impl Shared {
    fn stream(&self) -> std::sync::MutexGuard<'_, StreamOwned<ServerConnection, TcpStream>> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Read for Shared {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.stream().read(buf)
    }
}

impl Write for Shared {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.stream().write(buf)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream().flush()
    }
}

fn requests(
    reader: &mut impl BufRead,
    mut writer: impl Write,
    peer: &str,
    certificates: &[Vec<u8>],
    handler: &Handler,
) -> Result<()> {
    loop {
        let (mut request, version) = match head(reader) {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(()),
            Err(_) => {
                writer.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request")?;
                writer.flush()?;
                return Ok(());
            }
        };
        request.peer = peer.to_string();
        request.certificates = certificates.to_vec();
        if request
            .header("Expect")
            .is_some_and(|e| e.eq_ignore_ascii_case("100-continue"))
        {
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            writer.flush()?;
        }
        request.body = body(reader, &request.headers)?;
        let form = request
            .header("Content-Type")
            .is_some_and(|t| t.starts_with("application/x-www-form-urlencoded"));
        if form {
            let text = String::from_utf8_lossy(&request.body).into_owned();
            request.parameters.extend(pairs(&text));
        }
        let connection = request
            .header("Connection")
            .unwrap_or_default()
            .to_ascii_lowercase();
        let mut keep =
            (version == "HTTP/1.1" && connection != "close") || connection == "keep-alive";
        let reply = handler(&request);
        keep &= !reply
            .headers
            .iter()
            .any(|(n, v)| n == "Connection" && v == "close");
        respond(&mut writer, &request.method, reply, keep)?;
        if !keep {
            return Ok(());
        }
    }
}

fn respond(writer: &mut impl Write, method: &str, reply: Reply, keep: bool) -> Result<()> {
    let mut out = format!("HTTP/1.1 {} {}\r\n", reply.status, reason(reply.status));
    for (name, value) in &reply.headers {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    let typed = reply.headers.iter().any(|(n, _)| n == "Content-Type");
    if !typed && !reply.body.is_empty() {
        out.push_str(&format!("Content-Type: {}\r\n", sniff(&reply.body)));
    }
    out.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
    if !keep && !reply.headers.iter().any(|(n, _)| n == "Connection") {
        out.push_str("Connection: close\r\n");
    }
    out.push_str("\r\n");
    let mut data = out.into_bytes();
    if method != "HEAD" {
        data.extend_from_slice(&reply.body);
    }
    writer.write_all(&data)?;
    writer.flush()?;
    Ok(())
}

fn line(reader: &mut impl BufRead) -> Result<Option<String>> {
    let mut bytes = Vec::new();
    reader.take(LINE_BYTES).read_until(b'\n', &mut bytes)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    if bytes.last() != Some(&b'\n') {
        bail!("a line without end");
    }
    Ok(Some(
        String::from_utf8_lossy(&bytes)
            .trim_end_matches(['\r', '\n'])
            .to_string(),
    ))
}

fn head(reader: &mut impl BufRead) -> Result<Option<(Request, String)>> {
    let Some(first) = line(reader)? else {
        return Ok(None);
    };
    let parts: Vec<&str> = first.split(' ').collect();
    let [method, target, version] = parts[..] else {
        bail!("no request");
    };
    if !version.starts_with("HTTP/1.") || method.is_empty() {
        bail!("no request");
    }
    let mut headers = Vec::new();
    loop {
        let text = line(reader)?.context("headers without end")?;
        if text.is_empty() {
            break;
        }
        let (name, value) = text.split_once(':').context("no header")?;
        headers.push((name.to_string(), value.trim().to_string()));
        if headers.len() > HEADERS {
            bail!("too many headers");
        }
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = match path.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => path,
    };
    Ok(Some((
        Request {
            method: method.to_string(),
            path: decode(path, false),
            parameters: pairs(query),
            headers,
            ..Request::default()
        },
        version.to_string(),
    )))
}

/// Reads a body by its length, in chunks, or none.
pub fn body(reader: &mut impl BufRead, headers: &[(String, String)]) -> Result<Vec<u8>> {
    let get = |name: &str| {
        headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    };
    let mut data = Vec::new();
    if get("Transfer-Encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
        loop {
            let size = line(reader)?.context("a chunk without size")?;
            let size = u64::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)?;
            if size + data.len() as u64 > BODY_BYTES {
                bail!("a body longer than the limit");
            }
            let mut chunk = vec![0; usize::try_from(size)?];
            reader.read_exact(&mut chunk)?;
            data.extend_from_slice(&chunk);
            // The line end of the chunk, or after the last one the trailers.
            while line(reader)?.is_some_and(|l| !l.is_empty()) {}
            if size == 0 {
                return Ok(data);
            }
        }
    }
    let length: u64 = get("Content-Length").map_or(Ok(0), str::parse)?;
    if length > BODY_BYTES {
        bail!("a body longer than the limit");
    }
    data.resize(usize::try_from(length)?, 0);
    reader.read_exact(&mut data)?;
    Ok(data)
}

/// `a=b&c=d`.
pub fn pairs(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|p| !p.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name, true), decode(value, true))
        })
        .collect()
}

/// Percent-decoding, and `+` for a blank in queries.
pub fn decode(text: &str, query: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = text
            .get(at + 1..at + 3)
            .and_then(|h| u8::from_str_radix(h, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
                continue;
            }
            (b'+', _) if query => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Percent-encoding of a query value.
pub fn encode(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~') => {
                char::from(b).to_string()
            }
            b => format!("%{b:02X}"),
        })
        .collect()
}

/// The content type by the first bytes, as far as the tests tell types apart.
pub fn sniff(body: &[u8]) -> &'static str {
    const TAGS: &[&str] = &[
        "<!doctype html",
        "<html",
        "<head",
        "<script",
        "<iframe",
        "<h1",
        "<div",
        "<font",
        "<table",
        "<a",
        "<style",
        "<title",
        "<b",
        "<body",
        "<br",
        "<p",
    ];
    let start = body
        .iter()
        .position(|b| !b.is_ascii_whitespace())
        .unwrap_or(body.len());
    let text = &body[start..];
    let html = TAGS.iter().any(|tag| {
        text.len() > tag.len()
            && text[..tag.len()].eq_ignore_ascii_case(tag.as_bytes())
            && matches!(text[tag.len()], b' ' | b'>')
    });
    if html || text.starts_with(b"<!--") {
        return "text/html; charset=utf-8";
    }
    let binary = body
        .iter()
        .take(512)
        .any(|b| matches!(b, 0..=8 | 11 | 14..=26 | 28..=31));
    if binary {
        "application/octet-stream"
    } else {
        "text/plain; charset=utf-8"
    }
}

fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status)
        .ok()
        .and_then(|s| s.canonical_reason())
        .unwrap_or("status code")
}

/// The address that packets to such a peer leave from.
pub fn own_address(peer: IpAddr) -> Result<IpAddr> {
    let any: IpAddr = if peer.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect((peer, 9))?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::{Handler, Reply, listen, serve, sniff};
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::sync::Arc;

    #[test]
    fn types_are_found_from_content() {
        assert_eq!(sniff(b"<a href=\"/x\">t</a>"), "text/html; charset=utf-8");
        assert_eq!(sniff(b"foo"), "text/plain; charset=utf-8");
        assert_eq!(sniff(b"<abbr>"), "text/plain; charset=utf-8");
        assert_eq!(sniff(&[0, 1]), "application/octet-stream");
    }

    #[test]
    fn what_is_no_request_gets_400_at_once() {
        let listener = listen(0).unwrap();
        let port = listener.local_addr().unwrap().port();
        let handler: Handler = Arc::new(|r| Reply::ok(r.parameter("msg")));
        std::thread::spawn(move || serve(listener, None, handler));
        let ask = |text: &str| {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.write_all(text.as_bytes()).unwrap();
            let mut out = String::new();
            stream.read_to_string(&mut out).unwrap();
            out
        };
        assert!(ask("hostName\n").starts_with("HTTP/1.1 400 Bad Request"));
        let good = ask("GET /?msg=a%20b HTTP/1.0\r\n\r\n");
        assert!(
            good.starts_with("HTTP/1.1 200 OK") && good.ends_with("\r\n\r\na b"),
            "{good}"
        );
        let head = ask("HEAD /?msg=x HTTP/1.1\r\nConnection: close\r\n\r\n");
        assert!(
            head.contains("Content-Length: 1") && head.ends_with("\r\n\r\n"),
            "{head}"
        );
    }
}
