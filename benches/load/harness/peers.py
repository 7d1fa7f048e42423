"""Other gateways to compare with: fetched once into target/load, and set up to do the same work."""

import os
import shutil
import subprocess
import sys

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


def litellm(folder, upstream, managed_key):
    """One worker, with a key check. From PyPI."""
    venv = gateway.TOOLS / "litellm"
    if not (venv / "bin/litellm").exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin/pip", "install", "--quiet", "--disable-pip-version-check", "litellm[proxy]"], check=True)
    key, port = "sk-bench-litellm-key", servers.free_port()
    config = folder / "litellm.yaml"
    config.write_text(LITELLM_CONFIG.format(upstream=upstream, managed_key=managed_key, key=key))
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "NO_DOCS": "True"}
    command = [venv / "bin/litellm", "--config", config, "--host", "127.0.0.1", "--port", port, "--num_workers", "1"]
    environment = {**os.environ, **quiet, "PATH": f"{venv}/bin:{os.environ['PATH']}"}
    return load.Target("litellm", f"http://127.0.0.1:{port}/v1", key), command, environment


def portkey(folder, upstream, managed_key):
    """Without a key check, which it has not. From npm."""
    home = gateway.TOOLS / "portkey"
    server = home / "node_modules/@portkey-ai/gateway/build/start-server.js"
    if not server.exists():
        if not shutil.which("npm"):
            sys.exit("portkey needs node and npm: apt-get install nodejs npm")
        home.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", home, "@portkey-ai/gateway"],
                       check=True)
    preload = folder / "portkey-headers.cjs"
    preload.write_text(PORTKEY_HEADERS)
    port = servers.free_port()
    headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": f"http://{upstream}/v1"}
    target = load.Target("portkey", f"http://127.0.0.1:{port}/v1", managed_key, headers=headers)
    environment = {**os.environ, "NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1"}
    return target, ["node", "-r", preload, server, f"--port={port}", "--headless"], environment


ALL = {"litellm": litellm, "portkey": portkey}
