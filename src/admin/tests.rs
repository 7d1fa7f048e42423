//! Facts about the admin service over real sockets.
//!
//! Never does: use a fixed port, or go around the service's own connections.

use super::*;
use crate::config::{Cors, Listener, ServerSettings, Snapshot, Startup};
use crate::keys::{KeyFile, KeyRing};
use crate::limit::LocalLimiter;
use crate::meter::price::PriceBook;
use crate::route::{Attempts, RouteTable};
use crate::telemetry::{LogSettings, LogWriter, Phase, TelemetrySettings};
use crate::units::RouteSet;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

const SOON: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(20);

fn keys() -> KeyRing {
    let digest = "e".repeat(64);
    let scopes = r#"[{"method":"get","path":"/openai/v1/models"}]"#;
    let file = format!(r#"{{"{digest}":{{"id":"key_1","username":"john.doe","salt":"ZmFrZQ==","scopes":{scopes}}}}}"#);
    KeyRing::build(KeyFile::parse(file.as_bytes(), None).expect("a key file"), |_| RouteSet::default())
}

fn snapshot() -> Snapshot {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Snapshot {
        server: ServerSettings {
            max_body: 0,
            max_buffered: 0,
            max_header_bytes: 0,
            body_timeout: LONG,
            idle_timeout: LONG,
            head_timeout: LONG,
            max_in_flight: 1,
            max_connections: 1,
            max_connections_per_address: None,
            trusted_proxies: Vec::new(),
            cors: Cors::Any,
            answer_headers: Default::default(),
            readiness_delay: LONG,
            grace: LONG,
        },
        startup: Startup {
            listen: vec![Listener { address, tls: None }],
            threads: 1,
            upgrade_socket: None,
            admin_listen: address,
            admin_token: None,
            max_series: 1_000,
            compat_metrics: true,
            log_level: log::LevelFilter::Info,
            ledger: None,
        },
        providers: Vec::new(),
        models: Arc::default(),
        attempts: Attempts::default(),
        prices: PriceBook::built_in().expect("the built-in book"),
        routes: Arc::new(RouteTable::default()),
        key_file: None,
        keys: keys(),
        limits: Default::default(),
        access_log: false,
    }
}

/// A service that runs.
struct Running {
    address: SocketAddr,
    readiness: Arc<Readiness>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

fn state(token: Option<&str>) -> AdminState {
    let log = LogWriter::new(Box::new(std::io::sink()), LogSettings::default()).expect("a thread");
    let settings = TelemetrySettings { max_series: 1_000, compat_metrics: true, version: "0" };
    AdminState {
        telemetry: Arc::new(Telemetry::new(&settings, log).expect("telemetry")),
        readiness: Arc::default(),
        ledger: Ledger::off(),
        limiter: Arc::new(LocalLimiter::new(std::time::Instant::now())),
        live: Arc::new(Live::new(Arc::new(snapshot()))),
        token: token.map(|token| Secret::new(token.to_owned())),
    }
}

fn start(token: Option<&str>) -> Running {
    start_with(state(token))
}

fn start_with(state: AdminState) -> Running {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    let readiness = Arc::clone(&state.readiness);
    let (stop, watch) = watch::channel(false);
    let task = tokio::spawn(async move { Admin::new(listener, state).start(watch).await });
    Running { address, readiness, stop, task }
}

async fn send(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.write_all(bytes).await.expect("sent");
    let mut answer = Vec::new();
    // A connection that is closed with bytes unread ends in a reset.
    let _ = timeout(LONG, stream.read_to_end(&mut answer)).await.expect("in time");
    String::from_utf8(answer).expect("UTF-8")
}

async fn ask(address: SocketAddr, method: &str, path: &str, extra: &str) -> (u16, String, String) {
    let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{extra}\r\n");
    let answer = send(address, request.as_bytes()).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.expect("a status"), head.to_lowercase(), body.to_owned())
}

#[tokio::test]
async fn ping_is_the_originals() {
    let admin = start(None);
    let (status, head, body) = ask(admin.address, "GET", "/ping", "").await;
    assert_eq!((status, &*body), (200, "pong"));
    for header in
        ["content-type: text/html; charset=utf-8", "cache-control: no-store", "x-content-type-options: nosniff"]
    {
        assert!(head.contains(header), "{head}");
    }
    let (status, _, body) = ask(admin.address, "GET", "/livez", "").await;
    assert_eq!((status, &*body), (200, r#"{"alive":true}"#));
}

#[tokio::test]
async fn metrics_are_prometheus_text_and_head_works() {
    let admin = start(None);
    let (status, head, body) = ask(admin.address, "GET", "/metrics", "").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"));
    assert!(body.contains("\ngateway_panics_total 0\n"));
    let (status, head, body) = ask(admin.address, "HEAD", "/metrics", "").await;
    assert_eq!((status, &*body), (200, ""));
    assert!(head.contains("content-length: "));
}

#[tokio::test]
async fn readyz_follows_the_phase() {
    let admin = start(None);
    assert_eq!(ask(admin.address, "GET", "/readyz", "").await.0, 503);
    admin.readiness.advance(Phase::Ready);
    assert_eq!(ask(admin.address, "GET", "/readyz", "").await.0, 200);
    admin.readiness.advance(Phase::Draining);
    let (status, _, body) = ask(admin.address, "GET", "/readyz", "").await;
    assert_eq!(status, 503);
    assert!(body.contains(r#""draining":true"#));
}

#[tokio::test]
async fn other_paths_and_methods_are_openais_errors() {
    let admin = start(None);
    let code = |body: &str| serde_json::from_str::<serde_json::Value>(body).expect("JSON")["error"]["code"].clone();
    for path in ["/", "/metrics/", "/api/keys", "/api", "/%2e%2e/metrics"] {
        let (status, _, body) = ask(admin.address, "GET", path, "").await;
        assert_eq!((status, code(&body)), (404, "unknown_url".into()), "{path}");
    }
    let (status, _, body) = ask(admin.address, "DELETE", "/metrics", "").await;
    assert_eq!((status, code(&body)), (405, "method_not_allowed".into()));
}

#[tokio::test]
async fn the_api_needs_the_token() {
    let admin = start(Some("admin-token"));
    for wrong in [
        "",
        "authorization: Bearer\r\n",
        "authorization: Bearer \r\n",
        "authorization: Bearer admin-toke\r\n",
        "authorization: Bearer admin-tokenx\r\n",
        "authorization: Basic admin-token\r\n",
        "authorization: admin-token\r\n",
        "authorization: Bearer admin-token\r\nauthorization: Bearer admin-token\r\n",
    ] {
        for path in ["/api/keys", "/api/none", "/api", "/api/"] {
            assert_eq!(ask(admin.address, "GET", path, wrong).await.0, 401, "{path} {wrong}");
        }
    }
    let right = "authorization: bearer admin-token\r\n";
    let (status, _, body) = ask(admin.address, "GET", "/api/keys", right).await;
    assert_eq!(status, 200);
    let keys: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(keys["data"][0]["id"], "key_1");
    assert_eq!(keys["data"][0]["username"], "john.doe");
    assert_eq!(keys["data"][0]["state"], "active");
    assert_eq!(keys["data"][0]["scopes"][0], "get:/openai/v1/models");
    assert!(!body.contains("eeee") && !body.contains("ZmFrZQ"), "{body}");
    assert_eq!(ask(admin.address, "GET", "/api/none", right).await.0, 404);
    assert_eq!(ask(admin.address, "GET", "/ping", "").await.0, 200);
}

#[tokio::test]
async fn usage_is_told_by_groups_or_call_by_call() {
    let (_folder, path) = crate::ledger::tests::sample();
    let ledger = Ledger::open(&crate::ledger::tests::settings(path), 8).expect("a thread");
    let admin = start_with(AdminState { ledger, ..state(Some("admin-token")) });
    let get = async |query: &str| {
        let (status, _, body) =
            ask(admin.address, "GET", &format!("/api/usage{query}"), "authorization: Bearer admin-token\r\n").await;
        (status, serde_json::from_str::<serde_json::Value>(&body).expect("JSON"))
    };
    assert_eq!(ask(admin.address, "GET", "/api/usage", "").await.0, 401);
    let (status, told) = get("?by=user&since=2025-11-01&model=gpt-4o&user=ann&user=no+one%21").await;
    assert_eq!((status, &told["data"][0]["user"], &told["total"]["requests"]), (200, &"ann".into(), &3.into()));
    let (_, told) = get("?limit=2&since=2025-11-01").await;
    assert_eq!((&told["data"][0]["id"], &told["has_more"]), (&"req_2".into(), &true.into()));
    let (_, told) = get(&format!("?limit=5&cursor={}", told["next_cursor"].as_str().expect("a cursor"))).await;
    assert_eq!(told["data"].as_array().map(Vec::len), Some(4));
    assert_eq!((&told["has_more"], &told["next_cursor"]), (&false.into(), &serde_json::Value::Null));
    for (query, name) in [
        ("?by=planet", "by"),
        ("?since=soon", "since"),
        ("?state=setled", "state"),
        ("?since=2025-11-02&until=2025-11-01", "since"),
        ("?limit=0", "limit"),
        ("?limit=1001", "limit"),
        ("?cursor=x", "cursor"),
        ("?by=user&cursor=1-1", "cursor"),
        ("?colour=red", "colour"),
        ("?user=%ff", "%ff"),
    ] {
        let (status, told) = get(query).await;
        assert_eq!(
            (status, &told["error"]["param"], &told["error"]["code"]),
            (400, &name.into(), &"invalid_parameter".into())
        );
        assert!(told["error"]["message"].as_str().is_some_and(|text| text.contains("expected")), "{told}");
    }
}

#[tokio::test]
async fn usage_without_a_ledger_says_so() {
    let right = "authorization: Bearer admin-token\r\n";
    let admin = start(Some("admin-token"));
    let (status, _, body) = ask(admin.address, "GET", "/api/usage", right).await;
    assert!(status == 404 && body.contains("ledger_off"), "{body}");
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("text.db"), "no database ".repeat(999)).expect("written");
    let settings = crate::ledger::tests::settings(folder.path().join("text.db"));
    let ledger = Ledger::open(&settings, 8).expect("a thread");
    let admin = start_with(AdminState { ledger: ledger.clone(), ..state(Some("admin-token")) });
    admin.readiness.advance(Phase::Ready);
    let (status, _, body) = ask(admin.address, "GET", "/api/usage", right).await;
    assert!(status == 503 && body.contains("ledger_unavailable") && !body.contains("text.db"), "{body}");
    while ledger.is_up() {
        sleep(Duration::from_millis(5)).await;
    }
    let (status, _, body) = ask(admin.address, "GET", "/readyz", "").await;
    assert!(status == 200 && body.contains("the ledger is down"), "{body}");
    let (_, _, metrics) = ask(admin.address, "GET", "/metrics", "").await;
    assert!(metrics.contains("\ngateway_ledger_up 0\n"), "{metrics}");
}

#[tokio::test]
async fn an_empty_token_opens_nothing() {
    let admin = start(Some(""));
    let empty = "authorization: Bearer \r\n";
    assert_eq!(ask(admin.address, "GET", "/api/keys", empty).await.0, 401);
}

#[tokio::test]
async fn a_long_head_is_refused_and_a_body_is_not_waited_for() {
    let admin = start(None);
    let long = format!("x: {}\r\n", "y".repeat(40_000));
    let answer = send(admin.address, format!("GET /ping HTTP/1.1\r\nhost: x\r\n{long}\r\n").as_bytes()).await;
    assert!(!answer.contains("pong"), "{answer}");
    let body = "content-length: 9999999999\r\n";
    assert_eq!(ask(admin.address, "GET", "/ping", body).await.0, 200);
}

/// Serves with short limits on a port of its own.
async fn limited(limits: Limits) -> (SocketAddr, watch::Sender<bool>) {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (stop, watch) = watch::channel(false);
    tokio::spawn(serve(listener, health::router(&Arc::new(state(None))), limits, watch));
    (address, stop)
}

#[tokio::test]
async fn slow_heads_and_idle_connections_end_and_make_room() {
    let limits = Limits { connections: 2, head: SOON, life: LONG, rest: LONG };
    let (address, _stop) = limited(limits).await;
    let mut slow = Vec::new();
    for start in ["", "GET /ping HTT", "GET /ping HTTP/1.1\r\nhost: x\r\n\r\n"] {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        stream.write_all(start.as_bytes()).await.expect("sent");
        slow.push(stream);
    }
    let (status, _, _) = timeout(LONG, ask(address, "GET", "/ping", "")).await.expect("room in time");
    assert_eq!(status, 200);
    for mut stream in slow {
        let mut rest = Vec::new();
        let _ = timeout(LONG, stream.read_to_end(&mut rest)).await.expect("closed in time");
    }
}

#[tokio::test]
async fn a_connection_that_goes_on_for_ever_is_ended() {
    let limits = Limits { connections: 1, head: LONG, life: SOON, rest: SOON };
    let (address, _stop) = limited(limits).await;
    // Asks for ever and never reads.
    let mut greedy = TcpStream::connect(address).await.expect("connected");
    let asking =
        tokio::spawn(
            async move { while greedy.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await.is_ok() {} },
        );
    timeout(LONG, asking).await.expect("ended").expect("no panic");
    let (status, _, _) = timeout(LONG, ask(address, "GET", "/ping", "")).await.expect("room in time");
    assert_eq!(status, 200);
}

#[tokio::test]
async fn stops_when_told_and_closes_its_listener() {
    let admin = start(None);
    assert_eq!(ask(admin.address, "GET", "/ping", "").await.0, 200);
    let _idle = TcpStream::connect(admin.address).await.expect("connected");
    admin.stop.send(true).expect("heard");
    timeout(LONG, admin.task).await.expect("stopped").expect("no panic");
    assert!(TcpStream::connect(admin.address).await.is_err());
}
