//! The binary as a real process: a folder of its own, an environment of its own, real signals, captured output.
//!
//! Invariant: it inherits no variable, listens on free ports, and is dead when the test is over.
//! Never does: wait without an end; block the runtime, in which the provider lives too.

use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use ai_gateway::demo::{Provider, ProviderOptions};
use serde_json::Value;
use tempfile::TempDir;

use super::{Authority, Client, Connection, KEY, KEY_FILE, PROVIDER_KEY, Response, Setup, bearer, eventually, yaml};

/// A process of the binary.
pub struct Process {
    child: Child,
    stdout: Output,
    stderr: Output,
    /// Holds a pipe open that is read no longer.
    unread: Option<JoinHandle<ChildStdout>>,
}

/// A command that has ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

type Output = Arc<Mutex<Vec<u8>>>;

impl Process {
    /// Starts the binary in a folder with these variables and no others.
    pub fn start(folder: &Path, args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut this = Self::spawn(folder, args, variables);
        collect(this.child.stdout.take().expect("a pipe"), &this.stdout);
        this
    }

    /// The same, but nobody reads its standard output further than to its addresses.
    pub fn start_unread(folder: &Path, args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut this = Self::spawn(folder, args, variables);
        let mut pipe = this.child.stdout.take().expect("a pipe");
        let stdout = Arc::clone(&this.stdout);
        this.unread = Some(std::thread::spawn(move || {
            let has_address = |line: &str| line.contains("admin service on http://");
            while !text(&stdout).split_inclusive('\n').any(|line| line.ends_with('\n') && has_address(line)) {
                let mut room = [0; 1024];
                match pipe.read(&mut room) {
                    Ok(count @ 1..) => stdout.lock().expect("no panic").extend_from_slice(&room[..count]),
                    _ => break,
                }
            }
            pipe
        }));
        this
    }

    /// Starts one of `examples/`, which cargo builds beside the tests.
    pub fn example(name: &str, folder: &Path, variables: &[(&str, &str)]) -> Self {
        let beside = std::env::current_exe().expect("a path");
        let program = beside.ancestors().nth(2).expect("a folder").join("examples").join(name);
        assert!(program.exists(), "{} is missing: `cargo build --examples`", program.display());
        Self::start_program(program.to_str().expect("UTF-8"), folder, &["gateway.yaml"], variables)
    }

    /// Another program, such as a shell that becomes the binary.
    pub fn start_program(program: &str, folder: &Path, args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut this = Self::spawn_program(program, folder, args, variables);
        collect(this.child.stdout.take().expect("a pipe"), &this.stdout);
        this
    }

    fn spawn(folder: &Path, args: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::spawn_program(env!("CARGO_BIN_EXE_ai-gateway"), folder, args, variables)
    }

    fn spawn_program(program: &str, folder: &Path, args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(program);
        command.current_dir(folder).args(args).env_clear().env("TMPDIR", folder).envs(variables.iter().copied());
        Self::spawn_command(&mut command)
    }

    /// What a command of the test's own starts.
    pub fn of(command: &mut Command) -> Self {
        let mut this = Self::spawn_command(command);
        collect(this.child.stdout.take().expect("a pipe"), &this.stdout);
        this
    }

    fn spawn_command(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("started");
        let (stdout, stderr) = Default::default();
        collect(child.stderr.take().expect("a pipe"), &stderr);
        Self { child, stdout, stderr, unread: None }
    }

    /// Runs a command to its end.
    pub async fn run(folder: &Path, args: &[&str], variables: &[(&str, &str)]) -> Ended {
        let mut process = Self::start(folder, args, variables);
        process.end().await
    }

    /// Waits for its end.
    pub async fn end(&mut self) -> Ended {
        let mut status = None;
        eventually("the process has ended", async || {
            status = self.child.try_wait().expect("a child");
            // The readers hold the other halves until they have seen the end of the output.
            status.is_some() && Arc::strong_count(&self.stdout) == 1 && Arc::strong_count(&self.stderr) == 1
        })
        .await;
        Ended { code: status.and_then(|status| status.code()), stdout: self.stdout(), stderr: self.stderr() }
    }

    /// Closes the pipe that was started unread: its reader has gone.
    pub fn hang_up(&mut self) {
        drop(self.unread.take().expect("started unread").join().expect("no panic"));
    }

    /// Waits for the end of a process that was started unread; gives its exit code.
    pub async fn end_unread(&mut self) -> Option<i32> {
        let mut status = None;
        eventually("the process has ended", async || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        })
        .await;
        status.and_then(|status| status.code())
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Tells whether it runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// Sends a signal by its name, such as `HUP`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(sent.expect("kill runs").success());
    }

    /// A line of `/proc/PID/status` in KiB, such as `VmRSS`, or `VmHWM` for its peak.
    pub fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("Linux");
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).expect("a size")
    }

    /// Makes `VmHWM` what is in use now.
    pub fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").expect("Linux, and a process of ours");
    }

    /// What it has used of the processor so far, in all its threads. Linux counts in hundredths of a second.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("Linux");
        let (_, behind_name) = stat.rsplit_once(") ").expect("a name in brackets");
        let ticks = behind_name.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("a number"));
        Duration::from_millis(10 * ticks.sum::<u64>())
    }

    /// Waits until it does next to nothing: a fifth of a processor over half a second, in which nobody calls it.
    pub async fn comes_to_rest(&self) {
        eventually("it has come to rest", async || {
            let before = self.cpu();
            tokio::time::sleep(Duration::from_millis(500)).await;
            self.cpu() - before < Duration::from_millis(100)
        })
        .await;
    }

    /// Its threads.
    pub fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("Linux").count()
    }

    /// A line of `/proc/PID/limits`: what stands behind this name, the soft and the hard one.
    pub fn limits(&self, name: &str) -> [String; 2] {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", self.child.id())).expect("Linux");
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).expect("a limit");
        let mut words = line.split_whitespace().map(str::to_owned);
        [words.next().expect("a limit"), words.next().expect("a limit")]
    }

    /// Its standard output so far.
    pub fn stdout(&self) -> String {
        text(&self.stdout)
    }

    /// Its standard error so far.
    pub fn stderr(&self) -> String {
        text(&self.stderr)
    }

    /// The messages of its log so far, with their levels in front: `INFO listening on ...`.
    pub fn messages(&self) -> Vec<String> {
        let stdout = self.stdout();
        let whole = stdout.rsplit_once('\n').map_or("", |(whole, _)| whole).lines();
        let lines = whole.map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")));
        let word = |value: &Value| value.as_str().expect("a text").to_owned();
        lines.map(|line: Value| format!("{} {}", word(&line["level"]), word(&line["message"]))).collect()
    }

    /// Waits for a message that contains this, and gives it.
    pub async fn says(&self, what: &str) -> String {
        let found = || self.messages().into_iter().find(|message| message.contains(what));
        eventually(&format!("the log says {what:?}"), async || found().is_some()).await;
        found().expect("it was there")
    }

    /// Waits until it serves; gives the addresses of the proxy and of the admin service.
    pub async fn serves(&self) -> (SocketAddr, SocketAddr) {
        let address = |message: String| {
            let (_, address) = message.rsplit_once("http://").expect("an address");
            address.parse().expect("an address")
        };
        (address(self.says("listening on http://").await), address(self.says("admin service on http://").await))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(mut pipe: impl Read + Send + 'static, output: &Output) {
    let output = Arc::clone(output);
    std::thread::spawn(move || {
        let mut room = [0; 16 * 1024];
        while let Ok(count @ 1..) = pipe.read(&mut room) {
            output.lock().expect("no panic").extend_from_slice(&room[..count]);
        }
    });
}

fn text(output: &Output) -> String {
    String::from_utf8(output.lock().expect("no panic").clone()).expect("UTF-8")
}

/// A gateway as a process, its provider and its files.
pub struct Service {
    pub provider: Provider,
    pub process: Process,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub folder: TempDir,
}

impl Service {
    /// The default world with the gateway as a process.
    pub async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    /// One that differs.
    pub async fn with(setup: Setup) -> Self {
        let (provider, folder) = prepare(&setup).await;
        let variables: Vec<(&str, &str)> =
            setup.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let process = Process::start(folder.path(), SERVE, &variables);
        let (address, admin) = process.serves().await;
        Self { provider, process, address, admin, folder }
    }

    /// Writes the YAML anew, changed by replacing one text with another, which must be there.
    pub fn change(&self, from: &str, to: &str) {
        let path = self.folder.path().join("gateway.yaml");
        let yaml = std::fs::read_to_string(&path).expect("read");
        assert!(yaml.contains(from), "{from:?} is not in {yaml}");
        std::fs::write(path, yaml.replacen(from, to, 1)).expect("written");
    }

    /// Runs a command of the `keys` family beside it.
    pub async fn keys(&self, args: &[&str]) -> Ended {
        let args: Vec<&str> = ["keys"].iter().chain(args).chain(&["--config", "gateway.yaml"]).copied().collect();
        Process::run(self.folder.path(), &args, &[]).await
    }

    /// A client for its listener with TLS, which believes this authority.
    pub async fn client(&self, authority: &Authority) -> Client {
        let message = self.process.says("listening on https://").await;
        let (_, address) = message.rsplit_once("https://").expect("an address");
        Client::new(address.parse().expect("an address"), authority.issuer())
    }

    /// The same gateway again, in place of the one that ended.
    pub async fn again(&mut self) {
        self.process = Process::start(self.folder.path(), SERVE, &[]);
        (self.address, self.admin) = self.process.serves().await;
    }

    /// A new connection to it.
    pub async fn connect(&self) -> Connection {
        Connection::open(self.address).await
    }

    /// The status that a key gets for a path.
    pub async fn status(&self, key: &str, path: &str) -> u16 {
        self.connect().await.request("GET", path, &[bearer(key)], b"").await.status
    }

    /// A request with the test key on a connection of its own.
    pub async fn get(&self, path: &str) -> Response {
        self.connect().await.request("GET", path, &[bearer(KEY)], b"").await
    }

    /// What the admin service answers.
    pub async fn admin(&self, path: &str) -> Response {
        Connection::open(self.admin).await.request("GET", path, &[], b"").await
    }

    /// The value of one series, given as it stands in the exposition.
    pub async fn metric(&self, series: &str) -> f64 {
        super::metric(&self.admin("/metrics").await.text(), series)
    }
}

/// How the gateway of a folder is started.
pub const SERVE: &[&str] = &["serve", "--config", "gateway.yaml"];

/// Starts the provider of a gateway and writes the gateway's files.
pub async fn prepare(setup: &Setup) -> (Provider, TempDir) {
    let options = ProviderOptions { api_key: Some(PROVIDER_KEY.to_owned()), control: true, ..Default::default() };
    let provider = Provider::start(setup.options.clone().unwrap_or(options)).await.expect("the provider starts");
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    write("keys.json", setup.key_file.as_deref().unwrap_or(KEY_FILE));
    setup.files.iter().for_each(|(name, text)| write(name, text));
    write("gateway.yaml", &yaml(setup, &provider, threads()));
    (provider, folder)
}

/// How many worker threads this test's process has: half of the tests one, whose runtime is another one (`server::parts`).
pub fn threads() -> usize {
    let thread = std::thread::current();
    1 + thread.name().unwrap_or_default().bytes().map(usize::from).sum::<usize>() % 2
}
