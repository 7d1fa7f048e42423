"""The requests that a benchmark sends and the load generators that send them."""

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

HERE = Path(__file__).resolve().parent.parent

# What the OpenAI Python client sends with every request.
CLIENT_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "gzip, deflate",
    "Content-Type": "application/json",
    "User-Agent": "OpenAI/Python 1.99.0",
    "X-Stainless-Arch": "x64",
    "X-Stainless-Async": "false",
    "X-Stainless-Lang": "python",
    "X-Stainless-OS": "Linux",
    "X-Stainless-Package-Version": "1.99.0",
    "X-Stainless-Retry-Count": "0",
    "X-Stainless-Runtime": "CPython",
    "X-Stainless-Runtime-Version": "3.12.3",
}

MESSAGES = [
    {"role": "system", "content": "You are a terse assistant that answers in plain English. " * 6},
    {"role": "user", "content": "Explain in two sentences what a reverse proxy does and why it is useful."},
]
CHAT = {"model": "gpt-4o-mini", "messages": MESSAGES, "temperature": 0.2, "max_tokens": 256}
STREAM = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
EMBEDDINGS = {"model": "text-embedding-3-small", "input": "The quick brown fox jumps over the lazy dog."}


BOUNDARY = "bench-boundary"
UPLOAD_BYTES = 1_000_000


@dataclass(frozen=True)
class Scenario:
    """What is sent: an object as JSON, a text as it is."""

    name: str
    method: str
    path: str
    body: dict | str | None
    content_type: str = "application/json"


def multipart(size):
    """A form with a model and a file of so many bytes."""
    part = f"--{BOUNDARY}\r\nContent-Disposition: form-data; name="
    file = f'{part}"file"; filename="talk.wav"\r\nContent-Type: audio/wav\r\n\r\n{"RIFF" * (size // 4)}\r\n'
    return f'{part}"model"\r\n\r\nwhisper-1\r\n{file}--{BOUNDARY}--\r\n'


MODELS = Scenario("models", "GET", "/models", None)
CHAT_PLAIN = Scenario("chat", "POST", "/chat/completions", CHAT)
CHAT_STREAM = Scenario("stream", "POST", "/chat/completions", STREAM)
EMBED = Scenario("embeddings", "POST", "/embeddings", EMBEDDINGS)
UPLOAD = Scenario("upload", "POST", "/audio/transcriptions", multipart(UPLOAD_BYTES), f"multipart/form-data; boundary={BOUNDARY}")


@dataclass
class Target:
    """A server under test; `url` is what an OpenAI client calls its base URL, `model` the name it needs."""

    name: str
    url: str
    key: str
    pid: int | None = None
    headers: dict = field(default_factory=dict)
    model: str | None = None
    version: str = ""
    threads: int = 1

    @property
    def address(self):
        return urlsplit(self.url).netloc

    def all_headers(self, scenario=CHAT_PLAIN):
        own = {"Content-Type": scenario.content_type, "Authorization": f"Bearer {self.key}"}
        return {**CLIENT_HEADERS, **self.headers, **own}

    def body(self, scenario):
        if scenario.body is None:
            return ""
        if isinstance(scenario.body, str):
            return scenario.body
        return json.dumps({**scenario.body, "model": self.model} if self.model else scenario.body)


class Loader:
    """Runs the load generators on one CPU and returns what they print."""

    def __init__(self, load_client, work_dir, cpu):
        self.load_client, self.work_dir, self.cpu = load_client, Path(work_dir), cpu

    def wrk(self, target, scenario, connections, seconds):
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", HERE / "request.lua"]
        for name, value in target.all_headers(scenario).items():
            command += ["-H", f"{name}: {value}"]
        command += [target.url + scenario.path, "--", scenario.method]
        if scenario.body is not None:
            command.append(self._file(target, scenario, "body", target.body(scenario)))
        return self._run(command, seconds + 30)

    def paced(self, target, scenario, rate, seconds, connections=16):
        return self._run([*self._client("paced", target, scenario), "--rate", rate, "--seconds", seconds,
                          "--connections", connections], seconds + 60)

    def sse(self, target, streams, rounds):
        return self._run([*self._client("sse", target, CHAT_STREAM), "--streams", streams, "--rounds", rounds], 170)

    def hold(self, target, streams):
        """Opens streams and returns (process, what it printed); close its stdin to end them."""
        command = self._on_cpu([*self._client("hold", target, CHAT_STREAM), "--streams", streams])
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return process, json.loads(process.stdout.readline())

    def _client(self, mode, target, scenario):
        return [self.load_client, mode, "--address", target.address, "--request", self._request_file(target, scenario)]

    def _request_file(self, target, scenario):
        body = target.body(scenario)
        lines = [f"{scenario.method} {urlsplit(target.url).path}{scenario.path} HTTP/1.1", f"Host: {target.address}"]
        lines += [f"{name}: {value}" for name, value in target.all_headers(scenario).items()]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        return self._file(target, scenario, "request", "\r\n".join(lines) + "\r\n\r\n" + body)

    def _file(self, target, scenario, kind, text):
        path = self.work_dir / f"{target.name}-{scenario.name}.{kind}"
        path.write_text(text, newline="")
        return path

    def _on_cpu(self, command):
        return ["taskset", "-c", str(self.cpu), *map(str, command)]

    def _run(self, command, patience):
        done = subprocess.run(self._on_cpu(command), capture_output=True, text=True, timeout=patience)
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed: {done.stderr[-400:]}")
        result = json.loads(done.stdout.strip().splitlines()[-1])
        if done.stderr.strip():
            result["complaint"] = done.stderr.strip().splitlines()[0][:200]
        return result
