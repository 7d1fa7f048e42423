"""What a thousand calls of the official SDK used: the ledger, the metrics and the provider's own count are compared.

Each call is known by its request id, which the gateway sends to the provider too. The kinds are mixed by a seed, so that
a failure can be repeated; what a client reads before it leaves depends on the moment.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from processes import BINARY, Gateway, Provider, Upstream, request, wait_until

CALLS = 1000
AT_ONCE = 24
SEED = 20261125
MODEL = "gpt-4o-mini"
# USD per token of the shipped price book.
INPUT, OUTPUT = Decimal("0.15") / 1_000_000, Decimal("0.6") / 1_000_000
EMBEDDED = Decimal("0.02") / 1_000_000
KINDS = {"whole": 30, "stream": 30, "embedding": 10, "left": 12, "cut": 8, "refused": 10}


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[Provider, Gateway]]:
    """A provider and a gateway of the test's own, whose ledger is empty."""
    (tmp_path / "provider").mkdir()
    (tmp_path / "gateway").mkdir()
    provider = Provider(tmp_path / "provider")
    gateway = Gateway(tmp_path / "gateway", {"openai": Upstream(provider.port, provider.key)})
    yield provider, gateway
    gateway.stop()
    provider.stop()


def usage(gateway: Gateway, *arguments: str) -> dict[str, Any]:
    command = [BINARY, "usage", "--config", "gateway.yaml", "--json", *arguments]
    done = subprocess.run(command, cwd=gateway.folder, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def records(gateway: Gateway) -> dict[str, dict[str, Any]]:
    """All records by request id, page by page."""
    found, cursor = {}, ""
    while True:
        reply = request(gateway.admin_port, "GET", f"/api/usage?limit=500{cursor}", key=gateway.admin_token)
        assert reply.status == 200, reply.body
        page = reply.json()
        found |= {record["id"]: record for record in page["data"]}
        if not page["has_more"]:
            return found
        cursor = f"&cursor={page['next_cursor']}"


def metrics(gateway: Gateway) -> dict[str, Decimal]:
    text = request(gateway.admin_port, "GET", "/metrics").body.decode()
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {series: Decimal(value) for series, value in lines if series.startswith("gateway_")}


def total(series: dict[str, Decimal], name: str, *labels: str) -> Decimal:
    return sum((n for key, n in series.items() if key.startswith(f"{name}{{") and all(l in key for l in labels)), Decimal(0))


class Caller:
    """Makes calls of all kinds and counts how they ended."""

    def __init__(self, gateway: Gateway, provider: Provider) -> None:
        self.provider, self.chance, self.ended = provider, random.Random(SEED), Counter()
        self.client = AsyncOpenAI(base_url=gateway.base_url(), api_key=gateway.key, max_retries=0, timeout=30)
        self.settled: list[str] = []
        # Bytes of text that a client got of a stream that did not come to its end, and whether it got all that was sent.
        self.seen: dict[str, tuple[int, bool]] = {}
        # So that a client can leave in the middle of a stream.
        provider.script(path="/v1/chat/completions", gap_ms=3, times=0)

    async def all(self, count: int) -> None:
        kinds = self.chance.choices(list(KINDS), list(KINDS.values()), k=count)
        room = asyncio.Semaphore(AT_ONCE)

        async def one(number: int, kind: str) -> None:
            async with room:
                await getattr(self, kind)(number)

        await asyncio.gather(*(one(number, kind) for number, kind in enumerate(kinds)))

    def ask(self, number: int, **more: Any) -> dict[str, Any]:
        text = f"Call {number}: " + "where does the river go? " * self.chance.randint(1, 9)
        return {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}

    def over(self, kind: str, id_: str | None = None) -> None:
        self.ended[kind] += 1
        if id_:
            self.settled.append(id_)

    async def whole(self, number: int) -> None:
        answer = await self.client.chat.completions.with_raw_response.create(**self.ask(number))
        told = answer.parse().usage
        cost = INPUT * told.prompt_tokens + OUTPUT * told.completion_tokens
        assert Decimal(answer.headers["x-gateway-cost-usd"]) == cost
        self.over("whole", answer.headers["x-request-id"])

    async def stream(self, number: int) -> None:
        asks = self.chance.random() < 0.5
        more = {"stream_options": {"include_usage": True}} if asks else {}
        stream = await self.client.chat.completions.create(**self.ask(number, stream=True, **more))
        chunks = [chunk async for chunk in stream]
        assert (chunks[-1].usage is not None) == asks
        self.over("stream", stream.response.headers["x-request-id"])

    async def embedding(self, number: int) -> None:
        model = "text-embedding-3-small"
        embeddings = self.client.embeddings.with_raw_response
        answer = await embeddings.create(model=model, input=f"call {number}", dimensions=8)
        self.over("embedding", answer.headers["x-request-id"])

    async def left(self, number: int) -> None:
        """Leaves a stream somewhere, or before it begins."""
        ask = self.ask(number, stream=True, n=self.chance.choice([1, 3]))
        if self.chance.random() < 0.2:
            asked = asyncio.create_task(self.client.chat.completions.create(**ask))
            await asyncio.sleep(self.chance.random() / 100)
            asked.cancel()
            try:
                await (await asked).close()
            except asyncio.CancelledError:
                pass
        else:
            stream, some = await self.client.chat.completions.create(**ask), self.chance.randint(0, 60)
            seen = 0
            async for chunk in stream:
                seen += sum(len((choice.delta.content or "").encode()) for choice in chunk.choices)
                some -= 1
                if some < 0:
                    break
            await stream.close()
            self.seen[stream.response.headers["x-request-id"]] = (seen, False)
        self.over("left")

    async def cut(self, _: int) -> None:
        at, how = self.chance.randint(1, 12), self.chance.choice(["close", "reset"])
        # One that has a price, and one that has none.
        model = self.chance.choice([MODEL, "gpt-3.5-turbo-instruct"])
        self.provider.script(path="/v1/completions", cut={"at": {"pieces": at}, "how": how})
        seen, id_ = 0, None
        with pytest.raises(openai.APIError):
            stream = await self.client.completions.create(model=model, prompt="cut", stream=True)
            id_ = stream.response.headers["x-request-id"]
            async for chunk in stream:
                seen += sum(len(choice.text.encode()) for choice in chunk.choices)
        if id_:
            self.seen[id_] = (seen, how == "close")
        self.over("cut")

    async def refused(self, number: int) -> None:
        body = {"error": {"message": "Slow down", "type": "requests", "param": None, "code": "rate_limit_exceeded"}}
        self.provider.script_json(429, body, path="/v1/responses")
        with pytest.raises(openai.RateLimitError):
            await self.client.responses.create(model=MODEL, input=f"call {number}")
        self.over("refused")


def settle(gateway: Gateway, expected: int) -> dict[str, dict[str, Any]]:
    """The records, once none is open and there are as many as there have to be."""

    def is_over() -> bool:
        told = usage(gateway, "--by", "")["total"]
        return told["requests"] >= expected and told["open"] == 0

    wait_until(is_over, f"{expected} records are there", seconds=15)
    return records(gateway)


def test_a_thousand_mixed_calls_add_up(own: tuple[Provider, Gateway]) -> None:
    provider, gateway = own
    caller = Caller(gateway, provider)
    asyncio.run(caller.all(CALLS))
    assert sum(caller.ended.values()) == CALLS and set(caller.ended) == set(KINDS), caller.ended
    # A client that leaves before its request was sent makes no call.
    received = {dict(map(tuple, call["headers"]))["x-request-id"]: call for call in provider.received()}
    found = settle(gateway, len(received))
    assert set(received) <= set(found) and CALLS - caller.ended["left"] <= len(found) <= CALLS
    states = Counter(record["state"] for record in found.values())
    assert states["unknown"] == 0 and states["intent"] == 0 and states["failed"] >= caller.ended["refused"], states
    assert states["estimated"] >= caller.ended["cut"] + caller.ended["left"] // 2, states

    # Whatever was settled is what the provider counts, call by call; what is estimated is within its bounds.
    for id_ in caller.settled:
        assert found[id_]["state"] == "settled", found[id_]
    tokens, cost = Counter(), Counter()
    for id_, record in found.items():
        told, state = record["tokens"], record["state"]
        if state == "failed":
            assert told is None and record["cost_usd"] == "0"
            continue
        used = received[id_]["used"]
        if state == "settled":
            assert (told["input"], told["output"]) == (used["input"], used["output"]), (record, used)
        else:
            assert told["input"] == -(-received[id_]["body_length"] // 3) and told["output"] <= 40 * used["output"], record
            # A token for three bytes of the text that the provider had sent: no less than the client has read.
            seen, is_all = caller.seen.get(id_, (0, False))
            least = -(-seen // 3)
            assert told["output"] == least if is_all else told["output"] >= least, (record, seen)
        prices = {MODEL: (INPUT, OUTPUT), "text-embedding-3-small": (EMBEDDED, Decimal(0))}.get(record["model"])
        if prices is None:
            assert record["cost_usd"] is None, record
        else:
            assert Decimal(record["cost_usd"]) == prices[0] * told["input"] + prices[1] * told["output"], record
        tokens[state, "input"] += told["input"]
        tokens[state, "output"] += told["output"]
        cost[state] += Decimal(record["cost_usd"] or 0)

    estimated = [record for record in found.values() if record["state"] == "estimated"]
    assert sum(caller.seen.get(record["id"], (0, False))[0] > 0 for record in estimated) >= caller.ended["cut"], states
    assert {record["cost_usd"] is None for record in estimated} == {True, False}, "with a price and without one"

    # The command, the metrics and the provider agree about the sums.
    own_count = [call["used"] for id_, call in received.items() if found[id_]["state"] == "settled"]
    series = metrics(gateway)
    for group in usage(gateway, "--by", "state")["data"]:
        state = group["state"]
        assert group["requests"] == states[state] == series[f'gateway_metered_total{{certainty="{state}"}}']
        assert Decimal(group["cost_usd"] or 0) == cost[state], group
        for kind in ("input", "output"):
            assert (group["tokens"][kind] or 0) == tokens[state, kind], group
            if state == "settled":
                assert group["tokens"][kind] == sum(used[kind] for used in own_count)
    for kind in ("input", "output"):
        everything = sum(tokens[state, kind] for state in states)
        assert total(series, "gateway_tokens_total", f'type="{kind}"') == everything
    # Metrics of money are floating point.
    assert abs(total(series, "gateway_cost_usd_total") - sum(cost.values())) < Decimal("1e-9")
    unpriced = sum(record["cost_usd"] is None for record in found.values())
    assert total(series, "gateway_cost_unknown_total") == unpriced


def test_kill_9_loses_no_settled_record(own: tuple[Provider, Gateway]) -> None:
    """Settled is what was committed: what the command tells before the kill is there, unchanged, after it."""
    provider, gateway = own
    caller = Caller(gateway, provider)

    async def until_killed() -> dict[str, dict[str, Any]]:
        calls = asyncio.create_task(caller.all(CALLS))
        while len(caller.settled) < 150:
            await asyncio.sleep(0.01)
        before = await asyncio.to_thread(records, gateway)
        gateway.process.child.kill()
        calls.cancel()
        await asyncio.gather(calls, return_exceptions=True)
        return before

    before = {id_: record for id_, record in asyncio.run(until_killed()).items() if record["state"] != "intent"}
    assert len([record for record in before.values() if record["state"] == "settled"]) >= 50
    gateway.restart()
    after = records(gateway)
    assert all(after[id_] == record for id_, record in before.items())
    received = {dict(map(tuple, call["headers"]))["x-request-id"]: call for call in provider.received()}
    for id_, record in after.items():
        if record["state"] == "settled":
            used = received[id_]["used"]
            assert (record["tokens"]["input"], record["tokens"]["output"]) == (used["input"], used["output"])
