//! `ai-gateway demo`: the gateway in front of the built-in provider, with a key, and what to paste to try it.
//!
//! Invariant: it needs no account, no file and no free port in particular, listens on loopback only, and leaves nothing
//! behind.
//! Never does: stand in for a test; what it starts is the real gateway, by the road that `serve` takes.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Failure;
use crate::config::{Environment, Sources};
use crate::demo::{Provider, ProviderOptions};
use crate::keys::{Allowance, NewKey, Scope, create_alone};
use crate::ledger::{Question, Reader, Scratch};
use crate::server::{Options, Running, Signals, StartError, start};
use crate::units::Secret;

/// Shows the gateway with a built-in provider.
#[derive(Debug, clap::Args)]
pub(super) struct DemoArgs {
    /// Sends the printed request itself, prints the answer and what was recorded of it, and exits: 0 where it worked.
    #[arg(long)]
    check: bool,
    /// Starts the built-in provider alone, in place of an account; it prints its address. Tests script it by /__script.
    #[arg(long)]
    provider_only: bool,
    /// Where the provider alone listens.
    #[arg(long, requires = "provider_only", value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The key that the provider alone accepts [default: any]
    #[arg(long, requires = "provider_only", value_name = "KEY")]
    api_key: Option<String>,
}

/// What the built-in provider takes for a key. No secret: it opens nothing else.
const PROVIDER_KEY: &str = "sk-demo-provider-key";
/// The pause between two events of a stream, so that it can be seen to stream.
const PACE: Duration = Duration::from_millis(60);
const PROXY_PORT: u16 = 8080;
const ADMIN_PORT: u16 = 8081;
const ANY_PORT: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));

pub(super) fn run(args: &DemoArgs) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if args.provider_only {
        return runtime.block_on(provider_alone(args));
    }
    let signals = Signals::catch()?;
    let options = ProviderOptions { api_key: Some(PROVIDER_KEY.to_owned()), pace: PACE, ..ProviderOptions::default() };
    let provider = runtime.block_on(Provider::start(options))?;
    let (key, key_file) = create_key()?;
    let scratch = Scratch::new()?;
    let own = Own { provider: provider.addr(), key_file, ledger: scratch.database() };
    let running = start_somewhere(&own)?;
    if args.check {
        let answered = ask(&running, &key);
        // A stop has the last records written.
        running.stop();
        answered?;
        writeln!(io::stdout(), "recorded: {}", recorded(&own.ledger)?)?;
        return Ok(0);
    }
    // Without a reader there is nobody to tell.
    let _ = io::stdout().write_all(welcome(&running, &key, &own).as_bytes());
    signals.obey(running);
    Ok(0)
}

/// Starts the gateway on the usual ports where they are free, else on any. Somebody may take one between our look and
/// our start, so that a busy port is no reason to give up.
fn start_somewhere(own: &Own) -> Result<Running, StartError> {
    let start_on = |proxy, admin| {
        let options = Options { log: Box::new(io::stderr()), ..Options::default() };
        start(sources(own, proxy, admin), options)
    };
    match start_on(free(PROXY_PORT), free(ADMIN_PORT)) {
        Err(StartError::Listen { .. }) => start_on(ANY_PORT, ANY_PORT),
        started => started,
    }
}

async fn provider_alone(args: &DemoArgs) -> Result<u8, Failure> {
    let options = ProviderOptions {
        listen: args.listen,
        api_key: args.api_key.clone(),
        control: true,
        ..ProviderOptions::default()
    };
    let provider = Provider::start(options).await?;
    writeln!(io::stdout(), r#"{{"listening":"http://{}"}}"#, provider.addr())?;
    tokio::signal::ctrl_c().await?;
    provider.stop().await;
    Ok(0)
}

/// What the demo's gateway has of its own.
struct Own {
    provider: SocketAddr,
    /// In base64.
    key_file: String,
    ledger: PathBuf,
}

/// A key of the demo's own, and the key file in base64 that holds it.
fn create_key() -> Result<(Secret, String), Failure> {
    let scopes = ["/openai/*", "/anthropic/*"].map(|path| Scope::new("*", path).map_err(Failure::wrong));
    let new = NewKey {
        username: "demo".to_owned(),
        scopes: scopes.into_iter().collect::<Result<_, _>>()?,
        expires_at: None,
        models: None,
        team: None,
        allowance: Allowance::default(),
        now: SystemTime::now(),
    };
    let (created, file) = create_alone(new).map_err(Failure::wrong)?;
    Ok((Secret::new(created.token.expose().to_owned()), STANDARD.encode(file)))
}

fn sources(own: &Own, proxy: SocketAddr, admin: SocketAddr) -> Sources {
    let Own { provider, key_file, ledger } = own;
    // Quoted as in JSON, which YAML's double quotes are made for.
    let ledger = serde_json::Value::from(ledger.to_string_lossy());
    let yaml = format!(
        "server: {{ listen: [\"{proxy}\"], shutdown: {{ readiness_delay: 10ms }} }}\n\
         admin: {{ listen: \"{admin}\" }}\n\
         providers:\n  \
           openai: {{ base_url: \"http://{provider}\", api_key: {PROVIDER_KEY} }}\n  \
           anthropic: {{ base_url: \"http://{provider}\", dialect: anthropic, api_key: {PROVIDER_KEY} }}\n\
         ledger: {{ path: {ledger} }}\n"
    );
    // None of the process's variables: a demo is the same everywhere.
    let environment = Environment::from_iter([("HASHED_API_KEYS", key_file.as_str())]);
    Sources { file: None, yaml: Some(yaml), directory: PathBuf::from("/nonexistent"), environment }
}

/// The usual address where its port is free, else one with any free port.
fn free(port: u16) -> SocketAddr {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match TcpListener::bind(usual) {
        Ok(_) => usual,
        Err(_) => ANY_PORT,
    }
}

fn origin(running: &Running) -> String {
    let address = running.addresses().first().map(ToString::to_string).unwrap_or_default();
    format!("http://{address}")
}

fn base_url(running: &Running) -> String {
    format!("{}/openai/v1", origin(running))
}

const QUESTION: &str = r#"{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello"}]}"#;

const MESSAGE: &str =
    r#"{"model": "claude-haiku-4-5", "max_tokens": 200, "messages": [{"role": "user", "content": "Say hello"}]}"#;

fn welcome(running: &Running, key: &Secret, own: &Own) -> String {
    let (base_url, key, admin) = (base_url(running), key.expose(), running.admin_address());
    let (origin, ledger) = (origin(running), own.ledger.display());
    format!(
        r#"
AI Gateway is serving a built-in provider. Nothing leaves this machine.

  base URL   {base_url}
  API key    {key}
  admin      http://{admin}/metrics  /ping  /livez  /readyz

Try it with curl:

curl {base_url}/chat/completions -H "Authorization: Bearer {key}" -H "Content-Type: application/json" -d '{QUESTION}'

or with Python (pip install openai):

from openai import OpenAI

client = OpenAI(base_url="{base_url}", api_key="{key}")
stream = client.chat.completions.create(
    model="gpt-4o-mini", messages=[{{"role": "user", "content": "Say hello"}}], stream=True
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()

or Anthropic's API:

curl {origin}/anthropic/v1/messages -H "x-api-key: {key}" -H "Content-Type: application/json" -d '{MESSAGE}'

and see what was used:

ai-gateway usage --ledger {ledger}

Log lines go to standard error. Ctrl-C ends it.
"#
    )
}

/// What the ledger says of the calls so far.
fn recorded(ledger: &Path) -> Result<String, Failure> {
    let total = Reader::open(ledger, None)?.groups(&Question::default(), 1)?.json()["total"].take();
    let (calls, [input, output]) = (&total["requests"], ["input", "output"].map(|kind| &total["tokens"][kind]));
    let cost = total["cost_usd"].as_str().unwrap_or("?");
    Ok(format!("{calls} call, {input} tokens of input, {output} of output, {cost} USD"))
}

/// Sends the printed request by the plainest client there is.
fn ask(running: &Running, key: &Secret) -> Result<(), Failure> {
    let address = running.addresses().first().copied().ok_or_else(|| Failure::wrong("nothing listens"))?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(
        stream,
        "POST /openai/v1/chat/completions HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{QUESTION}",
        key.expose(),
        QUESTION.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let good = head.starts_with("HTTP/1.1 200 ") && body.contains("chat.completion");
    writeln!(io::stdout(), "POST {}/chat/completions\n{body}", base_url(running))?;
    if good { Ok(()) } else { Err(Failure { code: 1, text: format!("the demo's request was not answered: {head}") }) }
}
