//! The end: gently by SIGTERM, at once by SIGINT.

use std::time::Instant;

use ai_gateway::demo::{Cut, CutAt, HowCut};
use tokio::net::TcpStream;

use super::*;

const LONG_GRACE: &str = "shutdown: { readiness_delay: 700ms, grace: 900s }";

async fn with_shutdown(shutdown: &str) -> Service {
    Service::with(Setup { server: shutdown.to_owned(), ..Setup::default() }).await
}

/// A stream that stands still after its first events.
fn endless() -> Script {
    Script { cut: Some(Cut { at: CutAt::Pieces(3), how: HowCut::Stall }), ..Script::default() }
}

/// The status and the code in the access line of the one call that there was.
fn cut_call(ended: &Ended) -> (String, String) {
    let lines = ended.stdout.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let calls: Vec<_> = lines.filter(|line| line["message"] == "gateway request").collect();
    assert_eq!(calls.len(), 1, "{ended:?}");
    let text = |field: &str| calls[0]["meta"][field].as_str().unwrap_or_default().to_owned();
    (text("statusCode"), text("code"))
}

#[tokio::test]
async fn sigterm_lets_a_stream_end_and_ends_with_it() {
    let mut service = with_shutdown(LONG_GRACE).await;
    service.provider.script(slow(60, 50).on("/v1/chat/completions"));
    let stream = begin_stream(service.connect().await).await;
    let mut kept = service.connect().await;
    assert_eq!(kept.request("GET", "/openai/v1/models", &[bearer(KEY)], b"").await.status, 200);
    service.process.signal("TERM");
    eventually("not ready", async || service.admin("/readyz").await.status == 503).await;
    let readyz = service.connect().await.request("GET", "/readyz", &[], b"").await;
    assert_eq!((readyz.status, readyz.json()["draining"].as_bool()), (503, Some(true)), "on the proxy's port as well");
    assert_eq!(service.get("/openai/v1/models").await.status, 200, "calls are served until load balancers know");
    eventually("connections are refused", async || TcpStream::connect(service.address).await.is_err()).await;
    assert!(kept.is_closed().await, "a quiet connection is closed too");
    assert_eq!(service.admin("/livez").await.status, 200, "the admin service stays to the end");
    assert_eq!(service.admin("/readyz").await.status, 503);
    assert!(service.process.runs());
    assert_eq!(stream.1.version, "HTTP/1.1");
    assert!(is_whole(stream).await);
    let over = Instant::now();
    let ended = service.process.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(over.elapsed() < Duration::from_secs(3), "{:?} after the last stream", over.elapsed());
    assert!(service.process.messages().contains(&"INFO the last call is over".to_owned()));
    assert_eq!(ended.stderr, "");
}

#[tokio::test]
async fn who_has_connected_before_a_stop_is_served_when_it_speaks() {
    let mut service = with_shutdown("shutdown: { readiness_delay: 10ms, grace: 900s }").await;
    let mut silent = service.connect().await;
    // That it was accepted is told by the gauge.
    eventually("it is let in", async || service.metric("gateway_connections").await == 1.0).await;
    service.process.signal("TERM");
    service.process.says("listeners are closed").await;
    let answer = silent.request("GET", "/openai/v1/models", &[bearer(KEY)], b"").await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert_eq!(service.process.end().await.code, Some(0));
}

#[tokio::test]
async fn the_access_line_of_the_last_stream_is_not_lost() {
    let mut service = Service::start().await;
    service.provider.script(slow(20, 30).on("/v1/chat/completions"));
    let stream = begin_stream(service.connect().await).await;
    service.process.signal("TERM");
    assert!(is_whole(stream).await);
    service.process.end().await;
    let calls = service.process.messages().into_iter().filter(|message| message == "INFO gateway request").count();
    assert_eq!(calls, 1);
}

#[tokio::test]
async fn sigterm_ends_an_idle_gateway_after_the_readiness_delay() {
    let mut service = Service::start().await;
    let mut kept = service.connect().await;
    assert_eq!(kept.request("GET", "/openai/v1/models", &[bearer(KEY)], b"").await.status, 200);
    let told = Instant::now();
    service.process.signal("TERM");
    let ended = service.process.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(told.elapsed() < Duration::from_secs(3), "{:?}", told.elapsed());
}

#[tokio::test]
async fn streams_are_cut_when_the_grace_period_is_over() {
    let mut service = with_shutdown("shutdown: { readiness_delay: 10ms, grace: 1s }").await;
    service.provider.script(endless());
    let (mut connection, head) = begin_stream(service.connect().await).await;
    let told = Instant::now();
    service.process.signal("TERM");
    let answer = connection.body(head, false).await;
    assert!(!answer.complete && !answer.text().contains("[DONE]"));
    let ended = service.process.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(told.elapsed() > Duration::from_secs(1), "{:?}", told.elapsed());
    assert!(told.elapsed() < Duration::from_secs(5), "{:?}", told.elapsed());
    service.process.says("WARN the grace period is over, 1 calls are cut").await;
    assert_eq!(cut_call(&ended), ("200".to_owned(), "shutting_down".to_owned()));
}

#[tokio::test]
async fn sigint_stops_at_once() {
    let mut service = with_shutdown(LONG_GRACE).await;
    service.provider.script(endless());
    let (mut connection, head) = begin_stream(service.connect().await).await;
    let told = Instant::now();
    service.process.signal("INT");
    assert!(!connection.body(head, false).await.complete);
    let ended = service.process.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(cut_call(&ended), ("200".to_owned(), "shutting_down".to_owned()));
    assert!(told.elapsed() < Duration::from_secs(3), "{:?}", told.elapsed());
}

#[tokio::test]
async fn sigint_ends_a_drain() {
    let mut service = with_shutdown(LONG_GRACE).await;
    service.provider.script(endless());
    let _stream = begin_stream(service.connect().await).await;
    service.process.signal("TERM");
    service.process.says("listeners are closed, 1 calls run on").await;
    service.process.signal("INT");
    assert_eq!(service.process.end().await.code, Some(0));
}

#[tokio::test]
async fn a_hangup_during_a_drain_does_no_harm() {
    let mut service = with_shutdown(LONG_GRACE).await;
    service.provider.script(slow(40, 50).on("/v1/chat/completions"));
    let stream = begin_stream(service.connect().await).await;
    service.process.signal("TERM");
    service.process.signal("HUP");
    service.process.signal("QUIT");
    service.process.says("INFO configuration reloaded").await;
    assert_eq!(service.admin("/readyz").await.status, 503, "a reload does not make it ready again");
    assert!(is_whole(stream).await);
    assert_eq!(service.process.end().await.code, Some(0));
}
