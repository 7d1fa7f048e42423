"""Errors through the gateway, as the official SDK's exceptions: class, status, message, type and code."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import openai
import pytest
from openai import OpenAI

from conftest import CALL_SECONDS
from processes import Gateway, Provider, free_port, wait_until

CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
SLOW_DOWN = {"error": {"message": "Slow down", "type": "requests", "param": None, "code": "rate_limit_exceeded"}}


def client_of(gateway: Gateway, key: str, provider: str = "openai", retries: int = 0) -> OpenAI:
    return OpenAI(base_url=gateway.base_url(provider), api_key=key, max_retries=retries, timeout=CALL_SECONDS)


def caught(kind: type[openai.APIStatusError], call: Callable[[], Any]) -> openai.APIStatusError:
    """The error of a call, which has to be of exactly this class."""
    with pytest.raises(kind) as raised:
        call()
    assert type(raised.value) is kind
    return raised.value


def assert_error(error: openai.APIStatusError, status: int, kind: str, code: str, message: str | None = None) -> None:
    assert (error.status_code, error.type, error.code) == (status, kind, code)
    assert set(error.body) == {"message", "type", "param", "code"}
    assert error.request_id and error.response.headers["content-type"].startswith("application/json")
    if message is not None:
        assert error.body["message"] == message


@pytest.mark.parametrize("key", ["fake", "sk-aigw-" + "A" * 49, "ключ".encode().hex()])
def test_a_wrong_key(gateway: Gateway, provider: Provider, key: str) -> None:
    error = caught(openai.AuthenticationError, lambda: client_of(gateway, key).models.list())
    assert_error(error, 401, "invalid_request_error", "invalid_api_key")
    assert error.body["message"].startswith("Invalid AI Gateway API key") and key not in str(error)
    assert provider.received() == []


def test_the_providers_key_is_no_key_of_the_gateway(gateway: Gateway, provider: Provider) -> None:
    error = caught(openai.AuthenticationError, lambda: client_of(gateway, provider.key).models.list())
    assert_error(error, 401, "invalid_request_error", "invalid_api_key", "Invalid AI Gateway API key")


def test_a_key_that_is_made_and_revoked_while_the_gateway_runs(gateway: Gateway) -> None:
    made = gateway.create_key("leaver", gateway.scopes("openai"))
    client = client_of(gateway, made["key"])
    eventually(lambda: client.models.list(), openai.AuthenticationError)
    gateway.revoke_key(made["id"])
    error = eventually_caught(openai.AuthenticationError, lambda: client.models.list())
    assert_error(error, 401, "invalid_request_error", "revoked_api_key")


def test_a_missing_scope(gateway: Gateway, provider: Provider) -> None:
    made = gateway.create_key("reader", ["get:/openai/v1/models"])
    client = client_of(gateway, made["key"])
    eventually(lambda: client.models.list(), openai.AuthenticationError)
    provider.forget()
    error = caught(openai.PermissionDeniedError, lambda: client.chat.completions.create(**CHAT))
    message = "Invalid AI Gateway API scope"
    assert_error(error, 403, "invalid_request_error", "insufficient_permissions", message)
    assert provider.received() == []


def test_a_model_outside_of_the_keys_list(gateway: Gateway, provider: Provider) -> None:
    made = gateway.create_key("modest", gateway.scopes("openai"), models=["gpt-4o-mini", "text-*"])
    client = client_of(gateway, made["key"])
    eventually(lambda: client.models.list(), openai.AuthenticationError)
    assert client.chat.completions.create(**CHAT | {"model": "gpt-4o-mini"}).choices
    provider.forget()
    error = caught(openai.PermissionDeniedError, lambda: client.chat.completions.create(**CHAT))
    assert_error(error, 403, "invalid_request_error", "model_not_allowed")
    speech = {"model": "gpt-4o-mini", "voice": "alloy", "input": "hello"}
    error = caught(openai.PermissionDeniedError, lambda: client.audio.speech.create(**speech))
    assert_error(error, 403, "invalid_request_error", "route_not_metered")
    assert provider.received() == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [(409, openai.ConflictError), (422, openai.UnprocessableEntityError), (503, openai.InternalServerError)],
)
def test_other_errors_of_the_provider(
    client: OpenAI, provider: Provider, status: int, kind: type[openai.APIStatusError]
) -> None:
    body = {"error": {"message": "No", "type": "theirs", "param": "x", "code": "their_code"}}
    provider.script_json(status, body)
    error = caught(kind, lambda: client.chat.completions.create(**CHAT))
    assert_error(error, status, "theirs", "their_code", "No")


def test_an_unknown_route(client: OpenAI, provider: Provider) -> None:
    error = caught(openai.NotFoundError, lambda: client.moderations.create(input="x"))
    assert_error(error, 404, "invalid_request_error", "unknown_url", "Route not found")
    assert provider.received() == []


def test_the_providers_unknown_model(client: OpenAI, direct: OpenAI) -> None:
    ask = CHAT | {"model": "gpt-none"}
    error = caught(openai.NotFoundError, lambda: client.chat.completions.create(**ask))
    plain = caught(openai.NotFoundError, lambda: direct.chat.completions.create(**ask))
    assert error.response.content == plain.response.content
    assert_error(error, 404, "invalid_request_error", "model_not_found")
    assert error.response.headers["provider-name"] == "openai"
    error = caught(openai.NotFoundError, lambda: client.models.retrieve("gpt-none"))
    assert_error(error, 404, "invalid_request_error", "model_not_found", "The model 'gpt-none' does not exist")


def test_the_providers_bad_request(client: OpenAI, direct: OpenAI) -> None:
    error = caught(openai.BadRequestError, lambda: client.chat.completions.create(**CHAT, n=0))
    plain = caught(openai.BadRequestError, lambda: direct.chat.completions.create(**CHAT, n=0))
    assert error.response.content == plain.response.content and error.param == "n"


def test_the_providers_rate_limit(client: OpenAI, provider: Provider) -> None:
    headers = {"retry-after": "17", "x-ratelimit-reset-requests": "17s", "x-should-retry": "true"}
    provider.script_json(429, SLOW_DOWN, headers, times=0)
    error = caught(openai.RateLimitError, lambda: client.chat.completions.create(**CHAT))
    assert_error(error, 429, "requests", "rate_limit_exceeded", "Slow down")
    for name, value in headers.items():
        assert error.response.headers[name] == value


def test_the_sdk_retries_what_it_may(gateway: Gateway, provider: Provider) -> None:
    provider.script_json(429, SLOW_DOWN, {"retry-after-ms": "10"})
    chat = client_of(gateway, gateway.key, retries=2).chat.completions.create(**CHAT)
    assert chat.choices[0].message.content
    assert len(provider.received()) == 2


def test_the_sdk_does_not_retry_what_it_is_told_not_to(gateway: Gateway, provider: Provider) -> None:
    provider.script_json(429, SLOW_DOWN, {"x-should-retry": "false"})
    caught(openai.RateLimitError, lambda: client_of(gateway, gateway.key, retries=2).chat.completions.create(**CHAT))
    assert len(provider.received()) == 1


def test_the_providers_own_failure(client: OpenAI, provider: Provider) -> None:
    page = "<html>Bad gateway</html>"
    fixed = {"status": 502, "headers": [["content-type", "text/html"]], "body": page}
    provider.script(reply={"fixed": fixed}, times=0)
    error = caught(openai.InternalServerError, lambda: client.chat.completions.create(**CHAT))
    assert (error.status_code, error.response.text) == (502, page)
    provider.forget()
    assert client.chat.completions.create(**CHAT).choices


@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_provider_that_hangs_up(client: OpenAI, provider: Provider, how: str) -> None:
    provider.script(cut={"at": "head", "how": how}, times=0)
    error = caught(openai.InternalServerError, lambda: client.chat.completions.create(**CHAT))
    assert_error(error, 502, "server_error", "upstream_error")
    assert str(provider.port) not in str(error)


@pytest.mark.parametrize("fault", ["bad_status_line", "bad_header_line"])
def test_a_provider_that_answers_no_http(client: OpenAI, provider: Provider, fault: str) -> None:
    provider.script(fault=fault, times=0, after="silent_close")
    error = caught(openai.InternalServerError, lambda: client.chat.completions.create(**CHAT))
    assert_error(error, 502, "server_error", "upstream_error")


def test_a_provider_that_is_silent(client: OpenAI, provider: Provider) -> None:
    provider.script(cut={"at": "head", "how": "stall"}, times=0)
    error = caught(openai.InternalServerError, lambda: client.chat.completions.create(**CHAT))
    assert_error(error, 504, "server_error", "upstream_timeout")


def test_a_client_that_does_not_wait(gateway: Gateway, provider: Provider) -> None:
    """The SDK's own timeout ends the call at the provider, too."""
    provider.script(cut={"at": "head", "how": "stall"}, times=0)
    impatient = client_of(gateway, gateway.key).with_options(timeout=0.5)
    with pytest.raises(openai.APITimeoutError):
        impatient.chat.completions.create(**CHAT)
    wait_until(lambda: provider.received()[0]["cancelled"], "the provider sees the client leave", seconds=5)


def test_a_gateway_that_is_not_there(gateway: Gateway) -> None:
    client = OpenAI(base_url=f"http://127.0.0.1:{free_port()}/openai/v1", api_key=gateway.key, max_retries=0)
    with pytest.raises(openai.APIConnectionError):
        client.models.list()


def test_a_provider_that_is_down(gateway: Gateway) -> None:
    client = client_of(gateway, gateway.key, "down")
    error = caught(openai.InternalServerError, lambda: client.chat.completions.create(**CHAT))
    assert_error(error, 502, "server_error", "upstream_error")
    assert "127.0.0.1" not in str(error)


def test_a_provider_that_refuses_the_managed_key(gateway: Gateway) -> None:
    """The client must not believe that its own key is wrong, and gets none of the provider's, which OpenAI quotes."""
    client = client_of(gateway, gateway.key, "wrongkey")
    error = caught(openai.InternalServerError, lambda: client.chat.completions.create(**CHAT))
    assert_error(error, 502, "server_error", "upstream_auth_error")
    assert "sk-manag" not in error.response.text and "Incorrect API key" not in error.response.text


@pytest.mark.parametrize("how", ["reset", "close", "stall"])
def test_a_stream_that_breaks_is_an_error(client: OpenAI, provider: Provider, how: str) -> None:
    provider.script(cut={"at": {"pieces": 4}, "how": how}, gap_ms=20)
    chunks = []
    with pytest.raises(openai.APIError) as raised:
        for chunk in client.chat.completions.create(**CHAT, stream=True):
            chunks.append(chunk)
    # A reset may overtake the event that was sent just before it.
    assert len(chunks) in ({3, 4} if how == "reset" else {4})
    expected = "upstream_timeout" if how == "stall" else "upstream_error"
    assert (raised.value.type, raised.value.code) == ("server_error", expected)


def test_a_whole_answer_that_breaks_is_no_answer(client: OpenAI, provider: Provider) -> None:
    provider.script(cut={"at": {"body": 20}, "how": "close"}, times=0)
    with pytest.raises(openai.APIError):
        client.chat.completions.create(**CHAT)


def eventually(call: Callable[[], Any], until_then: type[Exception]) -> None:
    """Calls until it works: the gateway notices a changed key file within 2 s."""
    deadline = time.monotonic() + 5
    while True:
        try:
            call()
            return
        except until_then:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def eventually_caught(kind: type[openai.APIStatusError], call: Callable[[], Any]) -> openai.APIStatusError:
    """The error that a call comes to within 5 s."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            call()
            time.sleep(0.05)
        except kind as error:
            return error
    raise AssertionError(f"no {kind.__name__} within 5 s")
