"""The official Anthropic SDK through the gateway: messages, streams, token counts, and errors as its exceptions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic

from conftest import CALL_SECONDS
from processes import Gateway, Provider

ASK = {"model": "claude-haiku-4-5", "max_tokens": 300, "messages": [{"role": "user", "content": "Say hello"}]}
TOOL = {
    "name": "get_weather",
    "description": "The weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def client_of(gateway: Gateway, retries: int = 0, **credential: str) -> Anthropic:
    return Anthropic(base_url=gateway.origin("anthropic"), max_retries=retries, timeout=CALL_SECONDS, **credential)


@pytest.fixture
def claude(gateway: Gateway, provider: Provider) -> Anthropic:
    """The SDK as a user of the gateway has it. It does not retry, so that a test sees each answer."""
    return client_of(gateway, api_key=gateway.key)


@pytest.fixture
def direct(provider: Provider) -> Anthropic:
    """The SDK without a gateway."""
    base_url = f"http://127.0.0.1:{provider.port}"
    headers = {"x-api-key": provider.key}
    return Anthropic(
        base_url=base_url, api_key=provider.key, default_headers=headers, max_retries=0, timeout=CALL_SECONDS
    )


def caught(kind: type[anthropic.APIStatusError], call: Callable[[], Any]) -> anthropic.APIStatusError:
    """The error of a call, which has to be of exactly this class."""
    with pytest.raises(kind) as raised:
        call()
    assert type(raised.value) is kind
    return raised.value


def assert_own(error: anthropic.APIStatusError, status: int, kind: str, code: str) -> None:
    """An error of the gateway's own, as the SDK understands it."""
    assert (error.status_code, error.type, error.error_code) == (status, kind, code)
    assert error.api_message and error.request_id == error.response.headers["x-request-id"]


def sent_headers(provider: Provider) -> dict[str, str]:
    return {name.lower(): value for name, value in provider.received()[-1]["headers"]}


def test_a_message_is_what_the_provider_says(claude: Anthropic, direct: Anthropic) -> None:
    through, plain = claude.messages.create(**ASK), direct.messages.create(**ASK)
    assert through == plain and through.content[0].text
    assert through.stop_reason == "end_turn" and through.usage.output_tokens > 0
    assert through._request_id == plain._request_id, "the provider's own, for questions to it"


@pytest.mark.parametrize("credential", ["api_key", "auth_token"])
def test_either_credential_of_the_sdk_is_good_and_stays_here(
    gateway: Gateway, provider: Provider, credential: str
) -> None:
    client = client_of(gateway, **{"api_key": None, credential: gateway.key})
    assert client.messages.create(**ASK, extra_headers={"anthropic-beta": "one,two"}).content
    sent = sent_headers(provider)
    assert sent["x-api-key"] == provider.key and "authorization" not in sent
    # The SDK's own version: that of its major release.
    assert (sent["anthropic-version"], sent["anthropic-beta"]) == ("2026-10-21", "one,two")
    assert gateway.key not in str(provider.received()[-1])


def test_a_stream_is_the_message(claude: Anthropic) -> None:
    whole = claude.messages.create(**ASK)
    with claude.messages.stream(**ASK) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert len(pieces) > 5 and "".join(pieces) == whole.content[0].text == final.content[0].text
    assert (final.stop_reason, final.usage.output_tokens) == ("end_turn", whole.usage.output_tokens)


def test_tools(claude: Anthropic) -> None:
    ask = ASK | {"tools": [TOOL], "messages": [{"role": "user", "content": "Call get_weather for Paris"}]}
    whole = claude.messages.create(**ask)
    assert whole.stop_reason == "tool_use" and set(whole.content[0].input) == {"city"}
    with claude.messages.stream(**ask) as stream:
        assert stream.get_final_message().content == whole.content


def test_tokens_are_counted_and_models_listed(claude: Anthropic) -> None:
    count = claude.messages.count_tokens(model=ASK["model"], messages=ASK["messages"])
    assert count.input_tokens == claude.messages.create(**ASK).usage.input_tokens
    assert ASK["model"] in [model.id for model in claude.models.list()]


def test_refusals_are_the_sdks_own_exceptions(gateway: Gateway, claude: Anthropic, provider: Provider) -> None:
    wrong = client_of(gateway, api_key="sk-ant-wrong")
    error = caught(anthropic.AuthenticationError, lambda: wrong.messages.create(**ASK))
    assert_own(error, 401, "authentication_error", "invalid_api_key")
    error = caught(anthropic.NotFoundError, lambda: claude.messages.batches.list())
    assert_own(error, 404, "not_found_error", "unknown_url")
    elsewhere = Anthropic(base_url=gateway.origin("openai"), api_key=gateway.key, max_retries=0)
    assert caught(anthropic.NotFoundError, lambda: elsewhere.messages.create(**ASK)).error_code is None
    assert provider.received() == []


@pytest.mark.parametrize(
    ("status", "kind", "type_"),
    [
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (404, anthropic.NotFoundError, "not_found_error"),
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (500, anthropic.InternalServerError, "api_error"),
        (529, anthropic.OverloadedError, "overloaded_error"),
    ],
)
def test_errors_of_the_provider(
    claude: Anthropic, provider: Provider, status: int, kind: type[anthropic.APIStatusError], type_: str
) -> None:
    body = {"type": "error", "error": {"type": type_, "message": "No"}, "request_id": "req_theirs"}
    provider.script_json(status, body, {"request-id": "req_theirs", "retry-after": "0"})
    error = caught(kind, lambda: claude.messages.create(**ASK))
    assert (error.type, error.api_message, error.body) == (type_, "No", body)
    assert error.request_id == "req_theirs"


def test_the_gateways_own_credential_is_refused(claude: Anthropic, provider: Provider) -> None:
    provider.script_json(401, {"type": "error", "error": {"type": "authentication_error", "message": "No"}})
    error = caught(anthropic.InternalServerError, lambda: claude.messages.create(**ASK))
    assert_own(error, 502, "api_error", "upstream_auth_error")


def test_a_stream_that_is_cut_raises(claude: Anthropic, provider: Provider) -> None:
    provider.script(words=60, cut={"at": {"pieces": 20}, "how": "close"})
    pieces = []
    with pytest.raises(anthropic.APIStatusError) as raised, claude.messages.stream(**ASK) as stream:
        pieces.extend(stream.text_stream)
    assert len(pieces) > 5
    assert (raised.value.type, raised.value.error_code) == ("api_error", "upstream_error")


def test_a_failing_target_is_a_wait_and_no_error(claude: Anthropic, provider: Provider) -> None:
    ask = ASK | {"model": "claude-twice"}
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    provider.script_json(529, overloaded)
    assert claude.messages.create(**ask).model == "claude-sonnet-4-5"
    start = 'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":1}}}\n\n'
    told = 'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
    provider.script(reply={"events": [start, told]})
    with claude.messages.stream(**ask) as stream:
        assert stream.get_final_message().stop_reason == "end_turn"
    assert len(provider.received()) == 4


def test_the_sdks_own_retries_wait_as_they_are_told(gateway: Gateway, provider: Provider) -> None:
    body = {"type": "error", "error": {"type": "rate_limit_error", "message": "Slow down"}}
    provider.script_json(429, body, {"retry-after": "0"})
    assert client_of(gateway, retries=2, api_key=gateway.key).messages.create(**ASK).content
    assert len(provider.received()) == 2
