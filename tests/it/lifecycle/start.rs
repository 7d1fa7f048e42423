//! The start: what is printed, what keeps a gateway from starting, and gateways inside a program.

use std::net::{SocketAddr, TcpListener};
use std::process::Command;

use ai_gateway::config::{Environment, Sources};
use ai_gateway::server::{self, Options, Running};

use super::*;

#[tokio::test]
async fn the_start_tells_what_is_served() {
    let setup = Setup { admin: "token: short".to_owned(), ..Setup::default() };
    let service = Service::with(setup).await;
    let process = &service.process;
    process.says("INFO configuration: gateway.yaml").await;
    let key_file = std::path::absolute(service.folder.path()).expect("a path").join("keys.json");
    process.says(&format!("INFO 1 key from {}", key_file.display())).await;
    process.says("WARN admin.token is shorter than 16 characters").await;
    let upstream = format!("http://{}", service.provider.addr());
    process.says(&format!("INFO route GET /openai/v1/models -> {upstream}/v1/models")).await;
    process.says(&format!("INFO route POST /openai/v1/chat/completions -> {upstream}/v1/chat/completions")).await;
    assert!(service.address.port() != 0 && service.admin.port() != 0);
    assert_eq!(process.stderr(), "");
}

#[tokio::test]
async fn a_busy_port_is_told_at_once() {
    for (field, from) in [("server.listen", "listen: [\"127.0.0.1:0\"]"), ("admin.listen", "{ listen: \"127.0.0.1:0\"")]
    {
        let (_provider, folder) = prepare(&Setup::default()).await;
        let holder = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = holder.local_addr().expect("an address");
        let path = folder.path().join("gateway.yaml");
        let yaml = std::fs::read_to_string(&path).expect("read");
        let with = yaml.replacen(from, &from.replace("127.0.0.1:0", &address.to_string()), 1);
        std::fs::write(path, with).expect("written");
        let begun = std::time::Instant::now();
        let ended = Process::run(folder.path(), SERVE, &[]).await;
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        let expected = format!(
            "ai-gateway: {field} {address}: the port is in use (hint: stop what listens there, `ss -ltnp` names it, or \
             change {field})\n"
        );
        assert_eq!((ended.code, ended.stderr), (Some(2), expected));
        assert!(!ended.stdout.contains("listening on"), "{}", ended.stdout);
    }
}

#[tokio::test]
async fn a_second_gateway_on_the_same_configuration_says_so() {
    let service = Service::start().await;
    service.change("listen: [\"127.0.0.1:0\"]", &format!("listen: [\"{}\"]", service.address));
    service.change("{ listen: \"127.0.0.1:0\"", &format!("{{ listen: \"{}\"", service.admin));
    let second = Process::run(service.folder.path(), SERVE, &[]).await;
    assert_eq!(second.code, Some(2));
    assert!(second.stderr.contains(&format!("server.listen {}: the port is in use", service.address)), "{second:?}");
    assert_eq!(service.get("/openai/v1/models").await.status, 200, "the first one does not mind");
}

#[tokio::test]
async fn a_provider_key_is_all_that_a_start_needs() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut process = Process::start(folder.path(), &["serve"], &[("OPENAI_API_KEY", PROVIDER_KEY)]);
    let served = || process.messages().iter().any(|message| message.contains("admin service on http://"));
    eventually("it serves or says why not", async || served() || process.stderr().ends_with('\n')).await;
    if served() {
        let (address, admin) = process.serves().await;
        assert_eq!((address.port(), admin), (8080, SocketAddr::from(([127, 0, 0, 1], 8081))));
        process.says("INFO configuration: built-in defaults").await;
        process.says("INFO route POST /openai/v1/embeddings -> https://api.openai.com/v1/embeddings").await;
        process.says("WARN no key file at /").await;
        let address = SocketAddr::from(([127, 0, 0, 1], 8080));
        let refused = Connection::open(address).await.request("GET", "/openai/v1/models", &[bearer(KEY)], b"").await;
        refused.error(401, "invalid_request_error", "invalid_api_key");
        process.signal("INT");
        assert_eq!(process.end().await.code, Some(0));
    } else {
        // Somebody else uses the usual ports of this machine; that far it came with the key alone.
        let ended = process.end().await;
        let told = ["server.listen [::]:8080: the port is in use", "admin.listen 127.0.0.1:8081: the port is in use"];
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(told.iter().any(|told| ended.stderr.contains(told)), "{ended:?}");
    }
    let check = Process::run(folder.path(), &["check"], &[("OPENAI_API_KEY", PROVIDER_KEY)]).await;
    assert_eq!(check.code, Some(0), "{check:?}");
}

#[tokio::test]
async fn without_a_provider_key_the_start_names_the_variable() {
    let folder = tempfile::tempdir().expect("a folder");
    let ended = Process::run(folder.path(), &["serve"], &[]).await;
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("the variable OPENAI_API_KEY is not set or empty"), "{ended:?}");
}

/// Writes a configuration into a pipe that the starting process waits for.
async fn feed(pipe: std::path::PathBuf, yaml: String) {
    tokio::task::spawn_blocking(move || std::fs::write(pipe, yaml)).await.expect("no panic").expect("written");
}

#[tokio::test]
async fn a_hangup_before_anything_serves_does_not_kill() {
    let (_provider, folder) = prepare(&Setup::default()).await;
    let (file, pipe) = (folder.path().join("gateway.yaml"), folder.path().join("pipe.yaml"));
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    let yaml = std::fs::read_to_string(file).expect("read");
    let mut process = Process::start(folder.path(), &["serve", "--config", "pipe.yaml"], &[]);
    // Opening the pipe to write returns when the process has opened it to read: it is about to load its configuration.
    let mut opened = tokio::fs::OpenOptions::new().write(true).open(&pipe).await.expect("opened");
    process.signal("HUP");
    process.signal("HUP");
    tokio::io::AsyncWriteExt::write_all(&mut opened, yaml.as_bytes()).await.expect("written");
    tokio::io::AsyncWriteExt::flush(&mut opened).await.expect("written");
    drop(opened);
    let (address, _) = process.serves().await;
    // The signal is kept, and obeyed as soon as there is something to reload.
    feed(pipe, yaml).await;
    process.says("INFO configuration reloaded from pipe.yaml").await;
    let answer = Connection::open(address).await.request("GET", "/openai/v1/models", &[bearer(KEY)], b"").await;
    assert_eq!(answer.status, 200);
    assert!(process.runs());
}

/// A gateway on an address of its own, where no other test takes a port that it has given back.
fn embedded(provider: SocketAddr) -> Running {
    let yaml = format!(
        "server: {{ listen: [\"127.0.0.77:0\"], threads: 1, shutdown: {{ readiness_delay: 10ms }} }}\n\
         admin: {{ listen: \"127.0.0.77:0\" }}\nkeys: {{ file: none.json }}\n\
         providers: {{ openai: {{ base_url: \"http://{provider}\", api_key: x }} }}\n"
    );
    let sources =
        Sources { file: None, yaml: Some(yaml), directory: "/nonexistent".into(), environment: Environment::default() };
    server::start(sources, Options { log: Box::new(Log::default()), logger: false, ..Options::default() })
        .expect("started")
}

/// Whether nobody listens there. (A client's own port cannot be bound either, and is no listener.)
fn is_free(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok() || std::net::TcpStream::connect(address).is_err()
}

#[tokio::test]
async fn gateways_of_one_process_are_independent() {
    let (one, other) = (World::start().await, World::start().await);
    assert_eq!(one.get("/openai/v1/models").await.status, 200);
    assert_eq!(other.get("/openai/v1/models").await.status, 200);
    assert_eq!((one.provider.received().len(), other.provider.received().len()), (1, 1));
    assert_eq!((one.log.calls(1).await.len(), other.log.calls(1).await.len()), (1, 1));
    let addresses = [one.gateway.addresses()[0], one.gateway.admin_address()];
    one.gateway.stop();
    assert!(addresses.into_iter().all(is_free), "stop() gives the ports back");
    assert_eq!(other.get("/openai/v1/models").await.status, 200);
    let gauge = "gateway_inflight_requests";
    eventually("no call is left", async || metric(&other.metrics().await, gauge) == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_gateway_gives_its_ports_back() {
    // Wherever in its start it is caught.
    for delay_us in (0..40).map(|round| round * 250) {
        let gateway = embedded(SocketAddr::from(([127, 0, 0, 1], 9)));
        let addresses = [gateway.addresses()[0], gateway.admin_address()];
        assert!(!addresses.into_iter().any(is_free));
        tokio::time::sleep(Duration::from_micros(delay_us)).await;
        drop(gateway);
        assert!(addresses.into_iter().all(is_free), "after {delay_us} us");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_with_the_last_call_and_wait_tells_when() {
    let world = World::start().await;
    world.provider.script(slow(20, 20).on("/v1/chat/completions"));
    let stream = begin_stream(world.connect().await).await;
    let reading = tokio::spawn(is_whole(stream));
    let addresses = [world.gateway.addresses()[0], world.gateway.admin_address()];
    world.gateway.drain();
    let gateway = world.gateway;
    tokio::task::spawn_blocking(move || gateway.wait()).await.expect("no panic");
    assert!(reading.await.expect("no panic"), "wait() came back before the stream was over");
    assert!(addresses.into_iter().all(is_free));
}
