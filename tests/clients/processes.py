"""The processes that the tests need: the gateway, the scriptable provider, the engine; and how to ask them over HTTP.

Each one is started on free ports of 127.0.0.1, is known to serve when its constructor returns, and is ended by
`stop()`. What it printed is kept in a file, which an error shows the end of.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme

HERE = Path(__file__).parent
BINARY = Path(os.environ.get("AI_GATEWAY_BIN", HERE.parent.parent / "target/debug/ai-gateway")).absolute()
START_SECONDS = 30
STOP_SECONDS = 10


@dataclass
class Reply:
    """An answer, read to its end."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for other, value in self.headers if other.lower() == name.lower()), None)

    def json(self) -> Any:
        return json.loads(self.body)


def request(port: int, method: str, path: str, body: bytes | None = None, key: str | None = None) -> Reply:
    """Sends one request on a connection of its own, with what http.client adds, the body's type and the key."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return Reply(answer.status, answer.getheaders(), answer.read())
    finally:
        connection.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(holds: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    """Asks until the answer is yes; a refused connection counts as no."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if holds():
                return
        except (OSError, http.client.HTTPException):
            pass
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


class Process:
    """A child with its output in a file."""

    def __init__(self, command: list[str | Path], log: Path, cwd: Path) -> None:
        self.log = log
        with log.open("wb") as output:
            self.child = subprocess.Popen(
                list(map(str, command)), stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, cwd=cwd
            )

    def await_ready(self, ready: Callable[[], bool]) -> None:
        def alive_and_ready() -> bool:
            assert self.child.poll() is None, f"{self.child.args} ended with {self.child.returncode}:\n{self.output()}"
            return ready()

        try:
            wait_until(alive_and_ready, f"{self.child.args} serves")
        except AssertionError as error:
            self.stop()
            raise AssertionError(f"{error}\n{self.output()}") from None

    def output(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    def stop(self) -> None:
        if self.child.stdin:
            self.child.stdin.close()
        self.child.terminate()
        try:
            self.child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


class Engine:
    """llama.cpp's server."""

    def __init__(self, folder: Path) -> None:
        self.port, self.key = free_port(), f"sk-engine-{secrets.token_hex(8)}"
        command = [sys.executable, HERE / "engine.py", "--port", str(self.port), "--api-key", self.key]
        self.process = Process(command, folder / "engine.log", HERE)
        self.process.await_ready(lambda: request(self.port, "GET", "/health").status == 200)

    def stop(self) -> None:
        self.process.stop()


class Provider:
    """The scriptable provider. The fields of a script are those of `src/demo/script.rs`."""

    def __init__(self, folder: Path) -> None:
        self.port, self.key = free_port(), f"sk-managed-{secrets.token_hex(8)}"
        listen = f"127.0.0.1:{self.port}"
        command = [BINARY, "demo", "--provider-only", "--listen", listen, "--api-key", self.key]
        self.process = Process(command, folder / "provider.log", folder)
        self.process.await_ready(lambda: request(self.port, "GET", "/__received").status == 200)

    def stop(self) -> None:
        self.process.stop()

    def script(self, **fields: Any) -> None:
        reply = request(self.port, "POST", "/__script", json.dumps(fields).encode())
        assert reply.status == 200, reply.body

    def script_json(self, status: int, body: Any, headers: dict[str, str] | None = None, **fields: Any) -> None:
        """Scripts an answer of JSON."""
        all_headers = [["content-type", "application/json"], *map(list, (headers or {}).items())]
        fixed = {"status": status, "headers": all_headers, "body": json.dumps(body)}
        self.script(reply={"fixed": fixed}, **fields)

    def state(self) -> dict[str, Any]:
        return request(self.port, "GET", "/__received").json()

    def received(self) -> list[dict[str, Any]]:
        return self.state()["received"]

    def forget(self) -> None:
        """Clears scripts and what was received."""
        request(self.port, "DELETE", "/__script")
        request(self.port, "DELETE", "/__received")


@dataclass
class Upstream:
    """A provider as the gateway is to know it."""

    port: int
    key: str
    dialect: str = "openai"


class Gateway:
    """The gateway, before all providers, and before two that cannot serve: one with a wrong key, one that is down.

    It listens in the clear, and at `tls_port` with a certificate that `ca_file` has the authority of. `more` are sections of
    its configuration that take the place of those below.
    """

    ANTHROPIC_ROUTES = ("get /v1/models", "post /v1/messages", "post /v1/messages/count_tokens")
    # Two targets, so that a failure of the first is a wait to the client and no more.
    TWICE = {
        "order": "ordered",
        "targets": [
            {"provider": "anthropic", "model": "claude-haiku-4-5"},
            {"provider": "anthropic", "model": "claude-sonnet-4-5"},
        ],
    }
    ROUTES = (
        "get /v1/models",
        "get /v1/models/{model}",
        "post /v1/chat/completions",
        "post /v1/completions",
        "post /v1/embeddings",
        "post /v1/images/generations",
        "post /v1/responses",
        "post /v1/audio/transcriptions stream",
        "post /v1/audio/speech stream",
        "post /v1/files stream",
        "get /v1/files/{file}/content stream",
        "get /v1/realtime websocket",
    )

    def __init__(self, folder: Path, upstreams: dict[str, Upstream], more: dict[str, Any] | None = None) -> None:
        self.folder, self.key_file, self.ca_file = folder, folder / "keys.json", folder / "ca.pem"
        self.port, self.tls_port, self.admin_port = free_port(), free_port(), free_port()
        wrong = Upstream(upstreams["openai"].port, "sk-managed-0000000000000000")
        upstreams = upstreams | {"wrongkey": wrong, "down": Upstream(free_port(), "sk-down")}
        self.upstreams = upstreams
        self.admin_token = secrets.token_hex(16)
        self._write_certificate()
        config = folder / "gateway.yaml"
        config.write_text(self._config(upstreams, more or {}))
        self.key = self.create_key("tests", [scope for name in upstreams for scope in self.scopes(name)])["key"]
        self.restart()

    def restart(self) -> None:
        """Starts it; again, where it was killed."""
        command = [BINARY, "serve", "--config", self.folder / "gateway.yaml"]
        self.process = Process(command, self.folder / "gateway.log", self.folder)
        self.process.await_ready(lambda: request(self.admin_port, "GET", "/readyz").status == 200)

    def stop(self) -> None:
        self.process.stop()

    def base_url(self, provider: str = "openai") -> str:
        return f"{self.origin(provider)}/v1"

    def origin(self, provider: str) -> str:
        """What SDKs want that have the version in their own paths."""
        return f"http://127.0.0.1:{self.port}/{provider}"

    def tls_url(self, provider: str = "openai") -> str:
        return f"https://localhost:{self.tls_port}/{provider}/v1"

    def scopes(self, provider: str) -> list[str]:
        routes = self.ANTHROPIC_ROUTES if self.upstreams[provider].dialect == "anthropic" else self.ROUTES
        return [f"{method}:/{provider}{path}" for method, path, *_ in map(str.split, routes)]

    def create_key(self, user: str, scopes: list[str], models: Sequence[str] = ()) -> dict[str, str]:
        """Makes a key; has `key` and `id`. Without `models` it may use any."""
        listed = [argument for model in models for argument in ("--model", model)]
        return json.loads(self._keys("create", user, ",".join(scopes), *listed, "--file", self.key_file, "--json"))

    def revoke_key(self, key_id: str) -> None:
        self._keys("revoke", key_id, "--file", self.key_file, "--json")

    def _keys(self, *arguments: str | Path) -> str:
        command = [BINARY, "keys", *arguments]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def _write_certificate(self) -> None:
        authority = trustme.CA()
        shown = authority.issue_cert("localhost", "127.0.0.1")
        authority.cert_pem.write_to_path(self.ca_file)
        shown.private_key_pem.write_to_path(self.folder / "tls.key")
        shown.cert_chain_pems[0].write_to_path(self.folder / "tls.crt")
        (self.folder / "tls.key").chmod(0o600)

    def _config(self, upstreams: dict[str, Upstream], more: dict[str, Any]) -> str:
        tls = {"cert": str(self.folder / "tls.crt"), "key": str(self.folder / "tls.key")}
        routes = [self._entry(route) for route in self.ROUTES]
        # JSON is YAML, and needs no further package.
        return json.dumps(
            {
                "server": {
                    "listen": [f"127.0.0.1:{self.port}", {"address": f"127.0.0.1:{self.tls_port}", "tls": tls}],
                    "shutdown": {"readiness_delay": "0s", "grace": "60s"},
                },
                "admin": {"listen": f"127.0.0.1:{self.admin_port}", "token": self.admin_token},
                "keys": {"file": str(self.key_file)},
                # One provider that fails in every way is asked by all tests: each sees what one attempt comes to.
                "attempts": {
                    "max_attempts": 1,
                    "cooldown": {"consecutive_failures": 1000, "first": "100ms", "longest": "100ms"},
                },
                "providers": {
                    name: {
                        "base_url": f"http://127.0.0.1:{upstream.port}",
                        "api_key": upstream.key,
                        "timeouts": {
                            "connect": "2s",
                            "first_byte": {"stream": "3s", "other": "3s"},
                            "idle": "3s",
                            "total": "60s",
                        },
                    }
                    # Those of the other dialect have its default routes.
                    | ({"routes": routes} if upstream.dialect == "openai" else {"dialect": upstream.dialect})
                    for name, upstream in upstreams.items()
                },
                "models": {"claude-twice": self.TWICE} if "anthropic" in upstreams else {},
            }
            | more,
            indent=2,
        )

    @staticmethod
    def _entry(route: str) -> str | dict[str, str]:
        return {"route": route, "model": "query"} if route.endswith(" websocket") else route
