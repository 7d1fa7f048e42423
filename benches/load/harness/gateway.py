"""Builds what a benchmark needs of this repository, and starts a gateway for it."""

import hashlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

from . import servers

ROOT = Path(__file__).resolve().parents[3]
TOOLS = ROOT / "target/load"

CONFIG = """
server: {{ listen: [{listen}], threads: {threads}, shutdown: {{ readiness_delay: 0s, grace: 24h }} }}
admin: {{ listen: "{admin}" }}
keys: {{ file: {dir}/keys.json }}
providers:
  openai:
    base_url: "{upstream}"
    {trust}
    api_key: {managed_key}
    timeouts: {{ total: 24h }}
    routes:
      [ get /v1/models, post /v1/chat/completions, post /v1/embeddings, post /v1/audio/transcriptions stream ]
ledger: {ledger}
limits: {limits}
"""

# Limits that nobody reaches, of each kind that is counted.
LIMITS = """{ key: { requests_per_minute: 1000000000, tokens_per_minute: 1000000000000, concurrent_requests: 100000,
  budgets: [ { usd: 1000000, per: month } ] } }"""


def cargo(*arguments):
    subprocess.run(["cargo", *arguments], cwd=ROOT, check=True)


def build_tools():
    """The folder with the binaries of `tools/`."""
    cargo("build", "--quiet", "--release", "--locked", "--manifest-path", "benches/load/tools/Cargo.toml", "--target-dir", TOOLS)
    return TOOLS / "release"


def build_gateway(profile):
    """As it is shipped where the profile is `dist`."""
    if profile != "dist":
        cargo("build", "--quiet", "--locked", "--profile", profile)
        return ROOT / "target" / profile / "ai-gateway"
    subprocess.run(["provision/release/build"], cwd=ROOT, check=True)
    return ROOT / "target" / host() / "dist/ai-gateway"


def host():
    """The target that rustc builds for by itself."""
    told = subprocess.run(["rustc", "--version", "--verbose"], check=True, capture_output=True, text=True).stdout
    return next(line.removeprefix("host: ") for line in told.splitlines() if line.startswith("host: "))


def build_bare_pingora(profile):
    cargo("build", "--quiet", "--locked", "--profile", profile, "--example", "bare_pingora")
    return ROOT / "target" / profile / "examples/bare_pingora"


def add_keys(file, count):
    """Adds so many keys to a file that has one: like it, but for their names and digests."""
    (digest, entry), = json.loads(file.read_text()).items()
    pattern = json.dumps({"<digest>": entry | {"id": "<id>", "username": "<user>"}}, indent=2)[1:-2]
    with file.open("r+") as out:
        out.seek(0, os.SEEK_END)
        out.seek(out.tell() - len("\n}"))
        for number in range(count):
            name = hashlib.sha256(f"{digest} {number}".encode()).hexdigest()
            one = pattern.replace("<digest>", name).replace("<id>", f"key_{name[:12]}").replace("<user>", f"user{number}@example.com")
            out.write("," + one)
        out.write("\n}")


class Gateway:
    """A configuration with one key, in a folder of its own. `command` serves it at `url`, an OpenAI client's base URL."""

    def __init__(self, binary, folder, upstream, managed_key, *, threads=1, ledger=False, limits=False, keys=1,
                 certificate=None, trust=""):
        """`upstream` is `HOST:PORT`, or a URL; `certificate` the files of one and of its key, to serve with TLS; `trust` what
        the provider needs for that, and what else it is to have, as lines of YAML: `ca_file: FILE`."""
        folder = Path(folder)
        folder.mkdir(parents=True)
        config = folder / "gateway.yaml"
        port = servers.free_port()
        listen, self.url = f'"127.0.0.1:{port}"', f"http://127.0.0.1:{port}/openai/v1"
        if certificate:
            cert, key = certificate
            listen = f"{{ address: {listen}, tls: {{ cert: {cert}, key: {key} }} }}"
            self.url = f"https://localhost:{port}/openai/v1"
        ledger = f"{{ path: {folder}/ledger.db }}" if ledger else "off"
        upstream = upstream if "://" in upstream else f"http://{upstream}"
        config.write_text(CONFIG.format(dir=folder, listen=listen, admin=f"127.0.0.1:{servers.free_port()}", threads=threads,
                                        upstream=upstream, trust=trust, managed_key=managed_key, ledger=ledger,
                                        limits=LIMITS if limits else "{}"))
        made = subprocess.run([binary, "keys", "create", "--config", config, "bench", "all"],
                              check=True, capture_output=True, text=True)
        self.key = made.stdout.split()[0]
        if keys > 1:
            add_keys(folder / "keys.json", keys - 1)
        self.command = [binary, "serve", "--config", config]
        self.keys = keys
        self.log = folder / "gateway.log"

    def reload(self, pid, patience=120):
        """Sends the signal, and waits until the log says that it was obeyed."""
        begun = self.log.stat().st_size
        os.kill(pid, signal.SIGHUP)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            with self.log.open() as log:
                log.seek(begun)
                if "configuration reloaded" in log.read():
                    return
            time.sleep(0.05)
        raise RuntimeError(f"no reload within {patience} s; see {self.log}")
