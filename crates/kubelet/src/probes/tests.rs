use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

fn probe(v: serde_json::Value) -> Probe {
    serde_json::from_value(v).unwrap()
}

#[test]
fn thresholds_need_equal_answers_in_a_row() {
    let p = probe(json!({"failureThreshold":2,"successThreshold":2}));
    let mut c = Counter::default();
    let answers = [false, true, true, false, false, false, true];
    let got: Vec<Option<bool>> = answers.iter().map(|a| c.count(*a, &p)).collect();
    assert_eq!(
        got,
        [None, None, Some(true), None, Some(false), Some(false), None]
    );
}

/// Answers every connection with one text.
async fn server(answer: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let n = stream.read(&mut request).await.unwrap();
            let text = String::from_utf8_lossy(&request[..n]).to_lowercase();
            assert!(text.contains("user-agent: kube-probe/1.37"), "{text}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    port
}

async fn ask(port: u16) -> Outcome {
    let action = serde_json::from_value(json!({"port":port,"path":"/x?y=z"})).unwrap();
    http::probe(&action, "127.0.0.1", port, Duration::from_secs(5)).await
}

#[tokio::test]
async fn http_statuses_redirects_and_refusals() {
    let ok = server("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    assert_eq!(ask(ok).await, Outcome::Success);
    let bad = server("HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n").await;
    let text = "HTTP probe failed with statuscode: 503".to_string();
    assert_eq!(ask(bad).await, Outcome::Failure(text));
    let away =
        server("HTTP/1.1 302 X\r\nlocation: http://other.invalid/\r\ncontent-length: 0\r\n\r\n")
            .await;
    assert!(matches!(ask(away).await, Outcome::Warning(_)));
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let text = format!(
        "Get \"http://127.0.0.1:{closed}/x?y=z\": dial tcp 127.0.0.1:{closed}: connect: connection refused"
    );
    assert_eq!(ask(closed).await, Outcome::Failure(text));
    assert_eq!(
        tcp::probe("127.0.0.1", ok, Duration::from_secs(1)).await,
        Outcome::Success
    );
    let refused = grpc::probe("127.0.0.1", closed, "", Duration::from_secs(1)).await;
    assert!(
        matches!(refused, Outcome::Failure(t) if t.starts_with("timeout: failed to connect service"))
    );
}

#[test]
fn ports_by_number_and_name() {
    let c: Container =
        serde_json::from_value(json!({"name":"c","ports":[{"name":"web","containerPort":80}]}))
            .unwrap();
    assert_eq!(port(&IntOrString::String("web".into()), &c), Ok(80));
    assert_eq!(port(&IntOrString::Int(8080), &c), Ok(8080));
    assert!(port(&IntOrString::String("none".into()), &c).is_err());
}
