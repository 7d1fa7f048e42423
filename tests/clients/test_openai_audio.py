"""The official OpenAI SDK on routes whose bodies pass unread: uploads, and files and audio that come back."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from typing import Any

from openai import OpenAI

from processes import Provider

RECORDING = b"RIFF" + bytes(range(256)) * 20_000
BOUNDARY = {"Content-Type": "multipart/form-data; boundary=frontier"}


def script_bytes(provider: Provider, content: bytes, content_type: str, **fields: Any) -> None:
    """Scripts an answer of bytes."""
    body = {"base64": base64.b64encode(content).decode()}
    fixed = {"status": 200, "headers": [["content-type", content_type]], "body": body}
    provider.script(reply={"fixed": fixed}, framing="chunked", **fields)


def test_a_transcription(client: OpenAI, direct: OpenAI, provider: Provider) -> None:
    """With the boundary fixed, the form is known to the byte."""
    provider.script_json(200, {"text": "hello"}, times=2)
    for each in (client, direct):
        answer = each.audio.transcriptions.create(
            model="whisper-1", file=("ä.wav", RECORDING), language="de", extra_headers=BOUNDARY
        )
        assert answer.text == "hello"
    through, plain = provider.received()
    headers = dict(through["headers"])
    assert (through["body_sha256"], through["body_length"]) == (plain["body_sha256"], plain["body_length"])
    assert headers["content-type"] == BOUNDARY["Content-Type"] == dict(plain["headers"])["content-type"]
    assert headers["authorization"] == f"Bearer {provider.key}"
    assert int(headers["content-length"]) == through["body_length"] > len(RECORDING)


def test_a_transcription_that_streams(client: OpenAI, provider: Provider) -> None:
    deltas = [{"type": "transcript.text.delta", "delta": word} for word in ("Hallo", " Welt", " 🦊")]
    events = [*deltas, {"type": "transcript.text.done", "text": "Hallo Welt 🦊"}]
    provider.script(reply={"events": [f"data: {json.dumps(event)}\n\n" for event in events]}, gap_ms=200)
    stream = client.audio.transcriptions.create(model="gpt-4o-transcribe", file=("a.wav", RECORDING), stream=True)
    told, arrived = [], []
    for event in stream:
        told.append(event.to_dict())
        arrived.append(time.monotonic())
    assert told == events
    assert min(later - earlier for earlier, later in zip(arrived, arrived[1:])) > 0.05


def test_speech(client: OpenAI, provider: Provider) -> None:
    script_bytes(provider, RECORDING, "audio/mpeg", pieces=[1, 1000, 70_000])
    asked = {"model": "tts-1", "voice": "alloy", "input": "hello"}
    with client.audio.speech.with_streaming_response.create(**asked) as answer:
        assert answer.headers["content-type"] == "audio/mpeg"
        assert b"".join(answer.iter_bytes()) == RECORDING


def test_speech_is_heard_while_it_is_made(client: OpenAI, provider: Provider) -> None:
    """The provider would wait for a minute: what arrived did not wait for the end."""
    script_bytes(provider, RECORDING[:3000], "audio/pcm", pieces=[1000], cut={"at": {"pieces": 2}, "how": "stall"})
    asked = {"model": "tts-1", "voice": "alloy", "input": "hello", "response_format": "pcm"}
    with client.audio.speech.with_streaming_response.create(**asked) as answer:
        heard = b""
        for piece in answer.iter_bytes():
            heard += piece
            if len(heard) == 2000:
                break
    assert heard == RECORDING[:2000]


def test_a_file_of_20_mb(client: OpenAI, direct: OpenAI, provider: Provider) -> None:
    content = b"".join(hashlib.sha512(number.to_bytes(4, "big")).digest() for number in range(20_000_000 // 64))
    made = {"id": "file-1", "object": "file", "bytes": len(content), "purpose": "fine-tune", "filename": "ü.jsonl"}
    provider.script_json(200, made, times=2)
    for each in (client, direct):
        file = each.files.create(file=("ü.jsonl", content), purpose="fine-tune", extra_headers=BOUNDARY)
        assert (file.id, file.bytes) == ("file-1", 20_000_000)
    through, plain = provider.received()
    assert through["body_complete"] and through["body_length"] == plain["body_length"] > 20_000_000
    assert through["body_sha256"] == plain["body_sha256"]


def test_the_content_of_a_file(client: OpenAI, provider: Provider) -> None:
    script_bytes(provider, RECORDING, "application/octet-stream", pieces=[100_000])
    assert client.files.content("file-1").read() == RECORDING
    assert provider.received()[0]["target"] == "/v1/files/file-1/content"
