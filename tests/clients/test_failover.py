"""A provider that fails while another one can serve: the official SDK sees a whole answer, later, and nothing else. It does
not retry by itself, so that what it sees is the gateway's doing."""

from __future__ import annotations

from typing import Any

import pytest
from openai import OpenAI

from conftest import CALL_SECONDS, Failover
from processes import Provider

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "Where does the river go?"}]}
SLOW_DOWN = {"error": {"message": "Slow down", "type": "requests", "param": None, "code": "rate_limit_exceeded"}}
TROUBLE = {"error": {"message": "Trouble", "type": "server_error", "param": None, "code": None}}


def fixed(status: int, body: Any, headers: dict[str, str] | None = None) -> dict[str, Any]:
    return {"status": status, "body": body, "headers": headers or {}}


FAULTS: dict[str, dict[str, Any]] = {
    "500": fixed(500, TROUBLE),
    "429": fixed(429, SLOW_DOWN, {"retry-after": "3"}),
    "reset": {"cut": {"at": "head", "how": "reset"}},
    "close": {"cut": {"at": "head", "how": "close"}},
    "silence": {"cut": {"at": "head", "how": "stall"}},
}
# The first event of a stream has a role and no content.
STREAM_FAULTS = {
    "cut before content": {"cut": {"at": {"pieces": 1}, "how": "close"}},
    "reset before content": {"cut": {"at": {"pieces": 1}, "how": "reset"}},
    "error before content": {"reply": {"events": ['data: {"error":{"message":"Trouble","type":"server_error"}}\n\n']}},
}


def script(provider: Provider, fault: dict[str, Any]) -> None:
    if "status" in fault:
        provider.script_json(fault["status"], fault["body"], fault["headers"], times=0)
    else:
        provider.script(times=0, **fault)


def client_of(failover: Failover) -> OpenAI:
    gateway = failover.gateway
    return OpenAI(base_url=gateway.base_url(), api_key=gateway.key, max_retries=0, timeout=CALL_SECONDS)


def backup_of(failover: Failover) -> OpenAI:
    backup = failover.backup
    base_url = f"http://127.0.0.1:{backup.port}/v1"
    return OpenAI(base_url=base_url, api_key=backup.key, max_retries=0, timeout=CALL_SECONDS)


def whole(client: OpenAI, model: str) -> str:
    answer = client.chat.completions.create(model=model, **ASK)
    assert (answer.choices[0].finish_reason, answer.model) == ("stop", "gpt-4o-mini")
    return answer.choices[0].message.content


def streamed(client: OpenAI, model: str) -> str:
    chunks = list(client.chat.completions.create(model=model, stream=True, **ASK))
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert {chunk.model for chunk in chunks} == {"gpt-4o-mini"}
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_whole_answer_comes_from_the_one_that_can_serve(failover: Failover, provider: Provider, fault: str) -> None:
    script(provider, FAULTS[fault])
    assert whole(client_of(failover), "gpt-4o") == whole(backup_of(failover), "gpt-4o-mini")
    assert 1 <= len(provider.received()) <= 3


@pytest.mark.parametrize("fault", FAULTS | STREAM_FAULTS)
def test_a_stream_comes_from_the_one_that_can_serve(failover: Failover, provider: Provider, fault: str) -> None:
    script(provider, (FAULTS | STREAM_FAULTS)[fault])
    assert streamed(client_of(failover), "gpt-4o") == streamed(backup_of(failover), "gpt-4o-mini")
    assert 1 <= len(provider.received()) <= 3


def test_one_that_is_down_is_passed_over(failover: Failover) -> None:
    client, backup = client_of(failover), backup_of(failover)
    assert whole(client, "down-first") == whole(backup, "gpt-4o-mini")
    assert streamed(client, "down-first") == streamed(backup, "gpt-4o-mini")


def test_one_that_is_well_again_is_asked(failover: Failover, provider: Provider) -> None:
    provider.script_json(500, TROUBLE)
    answer = client_of(failover).chat.completions.create(model="gpt-4o", **ASK)
    assert answer.model == "gpt-4o" and len(provider.received()) == 2
    assert failover.backup.received() == []


def test_names_are_listed_with_who_serves_them(failover: Failover) -> None:
    client = client_of(failover)
    models = {model.id: model.owned_by for model in client.models.list()}
    assert (models["gpt-4o"], models["down-first"]) == ("openai, backup", "down, backup")
    assert models["gpt-4o-mini"] == "system"
    assert client.models.retrieve("down-first").owned_by == "down, backup"
    assert client.models.retrieve("gpt-4o-mini").owned_by == "system"
