"""The official OpenAI SDK through the gateway: what it reads is what it reads from the provider directly."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI

from conftest import CALL_SECONDS
from processes import Gateway, Provider, request, wait_until

MODEL = "gpt-4o"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["C", "F"]}},
            "required": ["city", "unit"],
        },
    },
}


def question(text: str = "Where does the river go?") -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def dumps(items: Any) -> list[str]:
    return [item.model_dump_json() for item in items]


def same(client: OpenAI, direct: OpenAI, **asked: Any) -> Any:
    """The chat's answer, once it is known to be the direct one."""
    through, plain = client.chat.completions.create(**asked), direct.chat.completions.create(**asked)
    assert through.model_dump_json() == plain.model_dump_json()
    return through


def same_stream(client: OpenAI, direct: OpenAI, **asked: Any) -> list[Any]:
    through = list(client.chat.completions.create(stream=True, **asked))
    assert dumps(through) == dumps(direct.chat.completions.create(stream=True, **asked))
    return through


def test_models(client: OpenAI, direct: OpenAI) -> None:
    models = client.models.list()
    assert models.model_dump_json() == direct.models.list().model_dump_json()
    assert MODEL in [model.id for model in models]
    assert client.models.retrieve(MODEL).model_dump_json() == direct.models.retrieve(MODEL).model_dump_json()


def test_chat(client: OpenAI, direct: OpenAI) -> None:
    chat = same(client, direct, model=MODEL, messages=question())
    assert chat.choices[0].message.content.startswith("This is the built-in demo provider.")
    assert chat.choices[0].finish_reason == "stop"
    assert chat.usage.total_tokens == chat.usage.prompt_tokens + chat.usage.completion_tokens


def test_chat_with_several_choices_and_a_ceiling(client: OpenAI, direct: OpenAI) -> None:
    chat = same(client, direct, model=MODEL, messages=question(), n=3, max_completion_tokens=5)
    assert [choice.finish_reason for choice in chat.choices] == ["length"] * 3


def test_stream(client: OpenAI, direct: OpenAI) -> None:
    chunks = same_stream(client, direct, model=MODEL, messages=question())
    whole = client.chat.completions.create(model=MODEL, messages=question())
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole.choices[0].message.content
    assert all(chunk.usage is None and "usage" not in chunk.model_fields_set for chunk in chunks)


def test_stream_with_usage(client: OpenAI, direct: OpenAI) -> None:
    chunks = same_stream(client, direct, model=MODEL, messages=question(), stream_options={"include_usage": True})
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == len(chunks) - 3
    assert all("usage" in chunk.model_fields_set and chunk.usage is None for chunk in chunks[:-1])


def test_the_events_of_a_stream_arrive_one_by_one(client: OpenAI, provider: Provider) -> None:
    provider.script(words=4, gap_ms=200)
    stream = client.chat.completions.create(model=MODEL, messages=question(), stream=True)
    arrived = [time.monotonic() for _ in stream]
    assert len(arrived) == 6
    gaps = [later - earlier for earlier, later in zip(arrived, arrived[1:])]
    assert min(gaps) > 0.05, gaps


def test_tools(client: OpenAI, direct: OpenAI) -> None:
    asked = {"model": MODEL, "messages": question(), "tools": [WEATHER]}
    chat = same(client, direct, **asked, tool_choice="required")
    call = chat.choices[0].message.tool_calls[0]
    assert chat.choices[0].finish_reason == "tool_calls" and call.function.name == "get_weather"
    assert json.loads(call.function.arguments)["unit"] == "C"
    conversation = [
        *question("get_weather, please"),
        {"role": "assistant", "tool_calls": [call.model_dump()]},
        {"role": "tool", "tool_call_id": call.id, "content": "rain"},
    ]
    assert same(client, direct, **asked | {"messages": conversation}).choices[0].message.content


def test_tools_streamed(client: OpenAI, direct: OpenAI) -> None:
    chunks = same_stream(client, direct, model=MODEL, messages=question("Call get_weather"), tools=[WEATHER])
    calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert calls[0].id and calls[0].function.name == "get_weather"
    assert set(json.loads("".join(call.function.arguments for call in calls))) == {"city", "unit"}
    assert len(calls) > 3


def test_completions(client: OpenAI, direct: OpenAI) -> None:
    asked = {"model": "gpt-3.5-turbo-instruct", "prompt": "Once upon", "max_tokens": 8}
    through = client.completions.create(**asked)
    assert through.model_dump_json() == direct.completions.create(**asked).model_dump_json()
    streamed = list(client.completions.create(**asked, stream=True))
    assert "".join(chunk.choices[0].text for chunk in streamed) == through.choices[0].text


def test_embeddings(client: OpenAI, direct: OpenAI) -> None:
    """The SDK asks for base64 unless told otherwise, and decodes it."""
    asked = {"model": "text-embedding-3-small", "input": ["one", "two"], "dimensions": 64}
    encoded = client.embeddings.create(**asked)
    plain = client.embeddings.create(**asked, encoding_format="float")
    assert encoded.model_dump_json() == direct.embeddings.create(**asked).model_dump_json()
    assert plain.model_dump_json() == direct.embeddings.create(**asked, encoding_format="float").model_dump_json()
    for one, other in zip(encoded.data, plain.data, strict=True):
        assert len(one.embedding) == 64
        assert all(abs(x - y) < 1e-6 for x, y in zip(one.embedding, other.embedding, strict=True))


def test_responses(client: OpenAI, direct: OpenAI) -> None:
    asked = {"model": MODEL, "input": "Where does the river go?"}
    through = client.responses.create(**asked)
    assert through.model_dump_json() == direct.responses.create(**asked).model_dump_json()
    assert through.status == "completed" and through.output_text
    events = list(client.responses.create(**asked, stream=True))
    assert dumps(events) == dumps(direct.responses.create(**asked, stream=True))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert events[-1].type == "response.completed" and events[-1].response.output_text == "".join(deltas)


def test_images(client: OpenAI, direct: OpenAI) -> None:
    asked = {"model": "gpt-image-1", "prompt": "a bridge", "n": 2}
    through = client.images.generate(**asked)
    assert through.model_dump_json() == direct.images.generate(**asked).model_dump_json()
    assert len(through.data) == 2 and through.data[0].b64_json.startswith("iVBORw0KGgo")


def test_headers_of_an_answer(client: OpenAI, direct: OpenAI) -> None:
    asked = {"model": MODEL, "messages": question()}
    headers = client.chat.completions.with_raw_response.create(**asked).headers
    upstream = direct.chat.completions.with_raw_response.create(**asked).headers
    assert headers["x-request-id"] and headers["x-request-id"] != upstream["x-request-id"]
    assert headers["x-upstream-request-id"] == upstream["x-request-id"]
    assert headers["provider-name"] == "openai"
    assert headers["provider-response-time"].isdigit()
    assert "set-cookie" in upstream and "set-cookie" not in headers
    passing = [name for name in upstream if name.startswith(("openai-", "x-ratelimit-"))]
    assert len(passing) > 6
    assert {name: headers.get(name) for name in passing} == {name: upstream[name] for name in passing}
    assert headers["content-type"] == upstream["content-type"]


def test_headers_of_a_stream_and_the_sdks_request_id(client: OpenAI) -> None:
    with client.chat.completions.with_streaming_response.create(
        model=MODEL, messages=question(), stream=True
    ) as response:
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["provider-name"] == "openai"
    chat = client.chat.completions.create(model=MODEL, messages=question())
    again = client.chat.completions.create(model=MODEL, messages=question())
    assert chat._request_id and chat._request_id != again._request_id


def test_what_goes_upstream(client: OpenAI, gateway: Gateway, provider: Provider) -> None:
    """The managed key in place of the client's, the body untouched, the SDK's own headers passed on."""
    headers = {"OpenAI-Organization": "org-1", "Cookie": "a=b", "On-Behalf-Of": "somebody"}
    client.chat.completions.create(
        model=MODEL, messages=question("ümlaut 🦊"), extra_headers=headers, extra_query={"q": "1"}
    )
    [received] = provider.received()
    sent = {name.lower(): value for name, value in received["headers"]}
    assert received["target"] == "/v1/chat/completions?q=1"
    assert sent["authorization"] == f"Bearer {provider.key}"
    assert sent["host"] == f"127.0.0.1:{provider.port}"
    assert sent["openai-organization"] == "org-1" and sent["user-agent"].startswith("OpenAI/Python")
    assert "cookie" not in sent
    assert not any(gateway.key in value for value in sent.values())


def test_a_body_passes_byte_for_byte(gateway: Gateway, provider: Provider) -> None:
    body = '{ "x": 1.0,\n "big":12345678901234567890, "messages":[{"role":"user","content":"\\u00e9 é"}], "model":"gpt-4o" }'
    path = "/openai/v1/chat/completions"
    through = request(gateway.port, "POST", path, body.encode(), gateway.key)
    direct = request(provider.port, "POST", "/v1/chat/completions", body.encode(), provider.key)
    assert (through.status, through.body) == (200, direct.body)
    first, second = provider.received()
    assert first["body_sha256"] == second["body_sha256"] and first["body_length"] == len(body.encode())


@pytest.mark.parametrize(
    "script", [{"words": 2000}, {"cut": {"at": {"pieces": 3}, "how": "stall"}}], ids=["busy", "silent"]
)
def test_cancelling_a_stream_cancels_it_upstream(client: OpenAI, provider: Provider, script: dict[str, Any]) -> None:
    """Also where the provider is silent, so that no failing write tells that the client has left."""
    provider.script(gap_ms=20, **script)
    stream = client.chat.completions.create(model=MODEL, messages=question(), stream=True)
    for _ in range(3):
        next(stream)
    stream.close()
    wait_until(lambda: provider.received()[0]["cancelled"], "the provider sees the client leave", seconds=1)


def test_cancelling_before_the_first_byte_cancels_it_upstream(gateway: Gateway, provider: Provider) -> None:
    provider.script(delay_ms=2500)

    async def ask_and_leave() -> None:
        async with AsyncOpenAI(base_url=gateway.base_url(), api_key=gateway.key, max_retries=0) as client:
            call = asyncio.create_task(client.chat.completions.create(model=MODEL, messages=question()))
            await asyncio.to_thread(wait_until, lambda: bool(provider.received()), "the request arrives", 5)
            call.cancel()

    asyncio.run(ask_and_leave())
    wait_until(lambda: provider.received()[0]["cancelled"], "the provider sees the client leave", seconds=1)


def test_a_prompt_of_5_mb(client: OpenAI, direct: OpenAI, provider: Provider) -> None:
    chat = same(client, direct, model=MODEL, messages=question("wörd " * 1_000_000))
    assert chat.usage.prompt_tokens > 1_000_000
    first, second = provider.received()
    assert first["body_length"] == second["body_length"] > 5_000_000
    assert first["body_sha256"] == second["body_sha256"]


def test_async_client(gateway: Gateway, direct: OpenAI) -> None:
    async def ask() -> tuple[str, list[str]]:
        async with AsyncOpenAI(
            base_url=gateway.base_url(), api_key=gateway.key, max_retries=0, timeout=CALL_SECONDS
        ) as client:
            chat = await client.chat.completions.create(model=MODEL, messages=question())
            stream = await client.chat.completions.create(model=MODEL, messages=question(), stream=True)
            return chat.model_dump_json(), [chunk.model_dump_json() async for chunk in stream]

    chat, chunks = asyncio.run(ask())
    assert chat == direct.chat.completions.create(model=MODEL, messages=question()).model_dump_json()
    assert chunks == dumps(direct.chat.completions.create(model=MODEL, messages=question(), stream=True))


def test_fifty_streams_at_once(gateway: Gateway, provider: Provider) -> None:
    provider.script(times=0, gap_ms=5)

    async def ask_all(base_url: str, key: str) -> list[list[str]]:
        async with AsyncOpenAI(base_url=base_url, api_key=key, max_retries=0, timeout=CALL_SECONDS) as client:

            async def ask(index: int) -> list[str]:
                asked = question(f"stream {index}")
                stream = await client.chat.completions.create(model=MODEL, messages=asked, stream=True)
                return [chunk.model_dump_json() async for chunk in stream]

            return await asyncio.gather(*map(ask, range(50)))

    through = asyncio.run(ask_all(gateway.base_url(), gateway.key))
    direct = asyncio.run(ask_all(f"http://127.0.0.1:{provider.port}/v1", provider.key))
    assert through == direct
    assert len({"".join(stream) for stream in through}) == 50
