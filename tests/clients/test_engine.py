"""A real engine, llama.cpp's server, through the gateway: plain HTTP, compared byte for byte with asking it directly.

Normalised, because the engine makes them anew for each answer, are exactly the members `id`, `created` and `timings`;
nothing else, and each only by its value. Temperature 0, a fixed seed and no prompt cache keep the rest fixed.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from openai import OpenAI

import tiny_model
from conftest import CALL_SECONDS
from processes import Engine, Gateway, Reply, request

pytestmark = pytest.mark.engine

VARYING = (
    (re.compile(rb'"id":"(chatcmpl|cmpl)-[A-Za-z0-9]+"'), b'"id":"ID"'),
    (re.compile(rb'"created":\d+'), b'"created":0'),
    (re.compile(rb'"timings":\{[^{}]*\}'), b'"timings":{}'),
)
FIXED = {"model": "tiny", "temperature": 0, "seed": 7, "cache_prompt": False}
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding"}


def normalised(body: bytes) -> bytes:
    for pattern, stand_in in VARYING:
        body = pattern.sub(stand_in, body)
    return body


def without_timings(reply: Reply) -> Reply:
    """llama.cpp tells its `timings` beside the usage: asked for that, it moves them there from the last choice."""
    return Reply(reply.status, reply.headers, re.sub(rb',"timings":\{[^{}]*\}', b"", reply.body))


def chat(**more: Any) -> dict[str, Any]:
    return FIXED | {"messages": [{"role": "user", "content": "Tell me a story, bitte 🦊"}]} | more


def both(gateway: Gateway, engine: Engine, method: str, path: str, body: Any = None) -> tuple[Reply, Reply]:
    """The answer through the gateway and the direct one."""
    sent = None if body is None else json.dumps(body, ensure_ascii=False).encode()
    direct = request(engine.port, method, f"/v1{path}", sent, engine.key)
    return request(gateway.port, method, f"/engine/v1{path}", sent, gateway.key), direct


def assert_same(through: Reply, direct: Reply) -> None:
    assert through.status == direct.status
    assert normalised(through.body) == normalised(direct.body)
    for name, value in direct.headers:
        if name.lower() not in HOP_BY_HOP | {"content-length", "access-control-allow-origin"}:
            assert through.header(name) == value, name
    assert through.header("provider-name") == "engine"


@pytest.mark.parametrize("tokens", [1, 5, 500])
def test_chat(gateway: Gateway, engine: Engine, tokens: int) -> None:
    through, direct = both(gateway, engine, "POST", "/chat/completions", chat(max_tokens=tokens))
    assert_same(through, direct)
    content = through.json()["choices"][0]["message"]["content"]
    assert tiny_model.STORY.startswith(content) and (content == tiny_model.STORY) == (tokens == 500)


@pytest.mark.parametrize("usage", [True, False])
def test_stream(gateway: Gateway, engine: Engine, usage: bool) -> None:
    body = chat(stream=True, max_tokens=500, stream_options={"include_usage": usage})
    through, direct = both(gateway, engine, "POST", "/chat/completions", body)
    assert_same(*((through, direct) if usage else map(without_timings, (through, direct))))
    assert through.body.endswith(b"data: [DONE]\n\n")
    assert (b'"usage":{' in through.body) == usage
    events = [json.loads(line[6:]) for line in through.body.splitlines() if line.startswith(b"data: {")]
    deltas = [choice["delta"].get("content") or "" for event in events for choice in event["choices"]]
    assert "".join(deltas) == tiny_model.STORY


def test_stream_without_stream_options(gateway: Gateway, engine: Engine) -> None:
    through, direct = both(gateway, engine, "POST", "/chat/completions", chat(stream=True, max_tokens=20))
    assert_same(without_timings(through), without_timings(direct))
    assert b'"usage"' not in through.body


@pytest.mark.parametrize("stream", [True, False])
def test_completions(gateway: Gateway, engine: Engine, stream: bool) -> None:
    body = FIXED | {"prompt": "Once", "max_tokens": 12, "stream": stream}
    assert_same(*both(gateway, engine, "POST", "/completions", body))


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings(gateway: Gateway, engine: Engine, encoding: str) -> None:
    body = {"model": "tiny", "input": ["hello", "Straße 世界"], "encoding_format": encoding}
    through, direct = both(gateway, engine, "POST", "/embeddings", body)
    assert_same(through, direct)
    assert len(through.json()["data"]) == 2


def test_models(gateway: Gateway, engine: Engine) -> None:
    through, direct = both(gateway, engine, "GET", "/models")
    assert_same(through, direct)
    assert through.json()["data"][0]["id"] == "tiny"


def test_an_error_of_the_engine_passes(gateway: Gateway, engine: Engine) -> None:
    through, direct = both(gateway, engine, "POST", "/chat/completions", {"model": "tiny"})
    assert_same(through, direct)
    assert through.status == 400


def test_the_engine_knows_only_the_managed_key(gateway: Gateway, engine: Engine) -> None:
    body = json.dumps(chat(max_tokens=1)).encode()
    assert request(engine.port, "POST", "/v1/chat/completions", body, gateway.key).status == 401
    assert request(gateway.port, "POST", "/engine/v1/chat/completions", body, engine.key).status == 401
    assert request(gateway.port, "POST", "/engine/v1/chat/completions", body, gateway.key).status == 200


def test_the_sdk_reads_the_story(gateway: Gateway, engine: Engine) -> None:
    client = OpenAI(base_url=gateway.base_url("engine"), api_key=gateway.key, max_retries=0, timeout=CALL_SECONDS)
    messages = [{"role": "user", "content": "A story, please"}]
    stream = client.chat.completions.create(
        model="tiny", messages=messages, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == tiny_model.STORY
    assert chunks[-1].usage.completion_tokens > 50
