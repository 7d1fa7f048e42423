//! Who gets which key: the configured provider gets ours, nobody gets a client's.

use ai_gateway::demo::Reply;

use super::*;

const CHAT: &str = "/openai/v1/chat/completions";
const CANARY: &str = "client-key-canary";

/// A second server that must not hear of anything.
async fn stranger() -> (tokio::net::TcpListener, std::net::SocketAddr) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

/// Nobody has connected: what is there is accepted at once.
fn is_alone(listener: tokio::net::TcpListener) -> bool {
    let listener = listener.into_std().expect("a listener");
    matches!(listener.accept(), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

async fn a_redirect_goes_to_the_client_and_is_not_followed(pair: Pair) {
    let (listener, address) = stranger().await;
    let world = World::with(Setup { pair, ..each_kind(ALL, "") }).await;
    for (status, path) in [301, 302, 303, 307, 308].into_iter().flat_map(|status| [(status, CHAT), (status, SPEECH)]) {
        let headers = vec![("location".to_owned(), format!("http://{address}/v1/chat/completions"))];
        let reply = Reply::Fixed { status, headers, body: "".into() };
        world.provider.script(Script { reply, ..Script::default() });
        let answer = world.client().await.post(path, &chat("x")).await;
        assert!(matches!(answer.status, 301..=308 | 502), "{}: {path}", answer.status);
    }
    assert_eq!(world.provider.received().len(), 10);
    assert!(is_alone(listener), "the gateway followed a redirect");
}

async fn no_host_that_a_client_names_is_asked(pair: Pair) {
    let (listener, address) = stranger().await;
    let world = World::of(pair).await;
    let named = address.to_string();
    let names = [
        "x-forwarded-host",
        "x-host",
        "x-original-host",
        "forwarded",
        "x-forwarded-server",
        "x-original-url",
        "x-rewrite-url",
        "destination",
        "x-upstream",
        "x-portkey-custom-host",
    ];
    for name in names {
        let value = if name == "forwarded" { format!("host={named}") } else { named.clone() };
        let headers = [bearer(KEY), ("content-type", "application/json".to_owned()), (name, value)];
        let answer = world.client().await.request("POST", CHAT, &headers, chat("x").as_bytes()).await;
        assert_eq!(answer.status, 200, "{name}");
    }
    let received = world.provider.received();
    assert_eq!(received.len(), names.len());
    for call in received {
        assert_eq!((call.header("host"), call.header_count("host")), (Some(&*world.host), 1));
        assert_eq!(call.target, "/v1/chat/completions");
    }
    assert!(is_alone(listener));
}

async fn a_clients_credentials_stay_here(pair: Pair) {
    let world = World::of(pair).await;
    let carriers = [
        ("api-key", CANARY.to_owned()),
        ("x-api-key", CANARY.to_owned()),
        ("cookie", format!("session={CANARY}")),
        ("proxy-authorization", format!("Bearer {CANARY}")),
        ("x-goog-api-key", CANARY.to_owned()),
    ];
    for (name, value) in carriers {
        let headers = [bearer(KEY), ("content-type", "application/json".to_owned()), (name, value)];
        let answer = world.client().await.request("POST", CHAT, &headers, chat("x").as_bytes()).await;
        assert!(matches!(answer.status, 200 | 401), "{name}: {}", answer.status);
    }
    let received = world.provider.received();
    assert!(!received.is_empty());
    for call in received {
        assert_eq!(call.header_count("authorization"), 1);
        assert_eq!(call.header("authorization"), Some(&*format!("Bearer {PROVIDER_KEY}")));
        for (name, value) in &call.headers {
            let value = String::from_utf8_lossy(value);
            assert!(!value.contains(CANARY) && !value.contains(KEY), "{name}: {value}");
        }
    }
}

over_all_pairs!(
    a_redirect_goes_to_the_client_and_is_not_followed,
    no_host_that_a_client_names_is_asked,
    a_clients_credentials_stay_here,
);

#[tokio::test]
async fn no_key_is_among_the_arguments_of_the_process() {
    let service = Service::start().await;
    let line = std::fs::read(format!("/proc/{}/cmdline", service.process.id())).expect("its command line");
    let line = String::from_utf8_lossy(&line);
    assert!(line.contains("serve") && !line.contains("sk-"), "{line}");
}
