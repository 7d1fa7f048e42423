"""Fixtures: one gateway, and one scriptable provider, one of realtime and one engine for the whole run, forgetful between tests.

The gateway's binary is AI_GATEWAY_BIN or target/debug/ai-gateway; everything else is started here.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from openai import OpenAI

from processes import BINARY, Engine, Gateway, Provider, Upstream, free_port, request, wait_until
from realtime import Realtime

TEST_SECONDS = 60
CALL_SECONDS = 20


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """Ends a test that hangs."""

    def expire(*_: object) -> None:
        raise TimeoutError(f"the test took more than {TEST_SECONDS} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.alarm(TEST_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def running_provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    provider = Provider(tmp_path_factory.mktemp("provider"))
    yield provider
    provider.stop()


@pytest.fixture(scope="session")
def realtime() -> Iterator[Realtime]:
    realtime = Realtime()
    yield realtime
    realtime.stop()


@pytest.fixture(scope="session")
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine | None]:
    """The engine; absent where no test of this run uses it, because it takes seconds to start."""
    if not any(item.get_closest_marker("engine") for item in request.session.items):
        yield None
        return
    engine = Engine(tmp_path_factory.mktemp("engine"))
    yield engine
    engine.stop()


@pytest.fixture(scope="session")
def gateway(
    running_provider: Provider, realtime: Realtime, engine: Engine | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    upstreams = {
        "openai": Upstream(running_provider.port, running_provider.key),
        "anthropic": Upstream(running_provider.port, running_provider.key, "anthropic"),
        "realtime": Upstream(realtime.port, realtime.key),
        "engine": Upstream(engine.port, engine.key) if engine else Upstream(free_port(), "sk-none"),
    }
    gateway = Gateway(tmp_path_factory.mktemp("gateway"), upstreams)
    yield gateway
    gateway.stop()


@dataclass
class Failover:
    """A gateway whose models have a second provider behind the scriptable one."""

    gateway: Gateway
    backup: Provider

    def is_rested(self) -> bool:
        """Whether all targets may be asked, so that a test meets the first of them."""
        lines = request(self.gateway.admin_port, "GET", "/metrics").body.decode().splitlines()
        states = [line for line in lines if line.startswith("gateway_target_state{")]
        return bool(states) and all(line.endswith(" 0") for line in states)


@pytest.fixture(scope="session")
def running_failover(running_provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Failover]:
    backup = Provider(tmp_path_factory.mktemp("backup"))
    upstreams = {
        "openai": Upstream(running_provider.port, running_provider.key),
        "backup": Upstream(backup.port, backup.key),
    }
    # The provider that is down is one that the gateway of all tests has, too.
    behind = {"provider": "backup", "model": "gpt-4o-mini"}
    more = {
        "models": {
            "gpt-4o": {"order": "ordered", "targets": [{"provider": "openai"}, behind]},
            "down-first": {"order": "ordered", "targets": [{"provider": "down"}, behind]},
        },
        "attempts": {"cooldown": {"consecutive_failures": 1000, "first": "100ms", "longest": "100ms"}},
    }
    gateway = Gateway(tmp_path_factory.mktemp("failover"), upstreams, more)
    yield Failover(gateway, backup)
    gateway.stop()
    backup.stop()


@pytest.fixture
def failover(running_failover: Failover, provider: Provider) -> Failover:
    running_failover.backup.forget()
    wait_until(running_failover.is_rested, "all targets may be asked")
    return running_failover


@pytest.fixture
def provider(running_provider: Provider) -> Iterator[Provider]:
    running_provider.forget()
    yield running_provider
    running_provider.forget()


@pytest.fixture
def client(gateway: Gateway, provider: Provider) -> OpenAI:
    """The SDK as a user of the gateway has it. It does not retry, so that a test sees each answer."""
    return OpenAI(base_url=gateway.base_url(), api_key=gateway.key, max_retries=0, timeout=CALL_SECONDS)


@pytest.fixture
def direct(provider: Provider) -> OpenAI:
    """The SDK without a gateway."""
    base_url = f"http://127.0.0.1:{provider.port}/v1"
    return OpenAI(base_url=base_url, api_key=provider.key, max_retries=0, timeout=CALL_SECONDS)


def pytest_configure(config: pytest.Config) -> None:
    if not BINARY.exists():
        pytest.exit(f"there is no {BINARY}: run `cargo build`, or set AI_GATEWAY_BIN", returncode=2)
    config.addinivalue_line("markers", "engine: needs llama.cpp's server")
