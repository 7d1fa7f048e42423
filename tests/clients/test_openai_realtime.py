"""The official OpenAI SDK's realtime client through a WebSocket of the gateway: events, frames, errors and codes."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI
from openai.resources.realtime.realtime import RealtimeConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from conftest import CALL_SECONDS
from processes import Gateway, wait_until
from realtime import WORDS, Realtime

MODEL = "gpt-realtime"


def client_of(gateway: Gateway, key: str, provider: str = "realtime") -> OpenAI:
    return OpenAI(base_url=gateway.base_url(provider), api_key=key, max_retries=0, timeout=CALL_SECONDS)


@pytest.fixture
def dialogue(gateway: Gateway) -> Iterator[RealtimeConnection]:
    """An open dialogue whose first event was read."""
    with client_of(gateway, gateway.key).realtime.connect(model=MODEL) as connection:
        assert connection.recv().type == "session.created"
        yield connection


def until(connection: RealtimeConnection, last: str) -> list[Any]:
    """The events up to one of this type."""
    events = [connection.recv()]
    while events[-1].type != last:
        events.append(connection.recv())
    return events


def test_a_dialogue_of_text(dialogue: RealtimeConnection) -> None:
    dialogue.session.update(session={"type": "realtime", "output_modalities": ["text"], "instructions": "kurz"})
    updated = dialogue.recv()
    assert (updated.type, updated.session.instructions) == ("session.updated", "kurz")
    for _ in range(3):
        dialogue.response.create()
        events = until(dialogue, "response.done")
        deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
        assert deltas == WORDS
        assert [event.text for event in events if event.type == "response.output_text.done"] == ["".join(WORDS)]
        assert events[-1].response.usage.output_tokens == len(WORDS)


def test_an_async_dialogue_and_twenty_at_once(gateway: Gateway) -> None:
    async def ask(client: AsyncOpenAI) -> list[str]:
        async with client.realtime.connect(model=MODEL) as connection:
            await connection.response.create()
            deltas = []
            async for event in connection:
                if event.type == "response.output_text.delta":
                    deltas.append(event.delta)
                elif event.type == "response.done":
                    return deltas
            raise AssertionError("it ended")

    async def all_of_them() -> list[list[str]]:
        async with AsyncOpenAI(base_url=gateway.base_url("realtime"), api_key=gateway.key) as client:
            return await asyncio.gather(*(ask(client) for _ in range(20)))

    assert asyncio.run(all_of_them()) == [WORDS] * 20


def test_what_the_handshake_tells_the_provider(gateway: Gateway, realtime: Realtime) -> None:
    with client_of(gateway, gateway.key).realtime.connect(
        model=MODEL, extra_query={"q": "ü"}, extra_headers={"OpenAI-Safety-Identifier": "u1", "Cookie": "a=b"}
    ) as connection:
        session = connection.recv().to_dict()["session"]
    headers = {name.lower(): value for name, value in session["handshake"]["headers"]}
    assert session["model"] == MODEL and session["handshake"]["target"] == f"/v1/realtime?model={MODEL}&q=%C3%BC"
    # It had the key, or there would be no dialogue; what it gives back of it is covered.
    assert headers["authorization"] == f"Bearer {'*' * len(realtime.key)}" and headers["openai-safety-identifier"] == "u1"
    assert "cookie" not in headers and gateway.key not in json.dumps(session)


def test_an_error_is_an_event_and_the_dialogue_goes_on(dialogue: RealtimeConnection) -> None:
    dialogue.send({"type": "no.such.event", "event_id": "mine"})  # type: ignore[arg-type]
    refused = dialogue.recv()
    assert (refused.type, refused.error.code, refused.error.event_id) == ("error", "invalid_value", "mine")
    dialogue.response.create()
    assert until(dialogue, "response.done")


def test_megabytes_of_audio_arrive_byte_for_byte(dialogue: RealtimeConnection) -> None:
    pieces = [bytes([number]) * (1 << number) for number in range(21)]
    for piece in pieces:
        dialogue.input_audio_buffer.append(audio=base64.b64encode(piece).decode())
    dialogue.input_audio_buffer.commit()
    committed = dialogue.recv()
    assert committed.type == "input_audio_buffer.committed"
    assert committed.item_id == hashlib.sha256(b"".join(pieces)).hexdigest()


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1008, "policy ✋"), (4000, "session expired")])
def test_the_providers_close_is_the_clients(dialogue: RealtimeConnection, code: int, reason: str) -> None:
    dialogue.send({"type": "test.close", "code": code, "reason": reason})  # type: ignore[arg-type]
    with pytest.raises(ConnectionClosed) as closed:
        dialogue.recv()
    assert closed.value.rcvd and (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, reason)


def test_the_clients_close_is_the_providers(dialogue: RealtimeConnection, realtime: Realtime) -> None:
    dialogue.close(code=4001, reason="enough")
    wait_until(lambda: [4001, "enough"] in realtime.closed, "the provider hears the code", seconds=5)


def refused_with(status: int, client: OpenAI, model: str = MODEL) -> dict[str, Any]:
    """The error of a handshake that is answered with this status."""
    with pytest.raises(InvalidStatus) as refused:
        client.realtime.connect(model=model).enter()
    response = refused.value.response
    assert (response.status_code, response.headers["content-type"]) == (status, "application/json")
    return json.loads(response.body)["error"]


def test_a_handshake_that_is_refused(gateway: Gateway) -> None:
    assert refused_with(401, client_of(gateway, "fake"))["code"] == "invalid_api_key"
    assert refused_with(404, client_of(gateway, gateway.key, "nobody"))["code"] == "unknown_url"
    assert refused_with(502, client_of(gateway, gateway.key, "wrongkey"))["code"] == "upstream_auth_error"
    assert refused_with(502, client_of(gateway, gateway.key, "down"))["code"] == "upstream_error"


def test_the_providers_no_passes(gateway: Gateway) -> None:
    with pytest.raises(InvalidStatus) as refused:
        client_of(gateway, gateway.key).realtime.connect(model="gpt-none").enter()
    response = refused.value.response
    assert (response.status_code, response.body) == (404, b"The model does not exist\n")
    assert response.headers["provider-name"] == "realtime"


def test_a_key_with_a_list_of_models(gateway: Gateway) -> None:
    made = gateway.create_key("speaker", gateway.scopes("realtime"), models=["gpt-realtime*"])
    client = client_of(gateway, made["key"])

    def speaks() -> bool:
        try:
            with client.realtime.connect(model="gpt-realtime-mini") as connection:
                return connection.recv().session.model == "gpt-realtime-mini"
        except InvalidStatus:
            return False

    wait_until(speaks, "the gateway knows the key", seconds=5)
    assert refused_with(403, client, "o1")["code"] == "model_not_allowed"


def test_the_key_as_a_sub_protocol_as_browsers_send_it(gateway: Gateway, realtime: Realtime) -> None:
    url = f"ws://127.0.0.1:{gateway.port}/realtime/v1/realtime?model={MODEL}"
    protocols: Any = ["realtime", f"openai-insecure-api-key.{gateway.key}"]
    with connect(url, subprotocols=protocols) as connection:
        assert connection.subprotocol == "realtime"
        told = connection.recv()
    assert gateway.key not in told and "insecure" not in told and realtime.key in told
