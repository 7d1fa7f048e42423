"""The official OpenAI SDK on routes whose bodies pass unread: an upload, and audio that comes back."""

from __future__ import annotations

import base64

from openai import OpenAI

from processes import Provider

RECORDING = b"RIFF" + bytes(range(256)) * 20_000


def test_a_transcription(client: OpenAI, provider: Provider) -> None:
    provider.script_json(200, {"text": "hello"})
    answer = client.audio.transcriptions.create(model="whisper-1", file=("a.wav", RECORDING))
    assert answer.text == "hello"
    received = provider.received()[-1]
    headers = dict(received["headers"])
    assert headers["content-type"].startswith("multipart/form-data; boundary=")
    assert headers["authorization"] == f"Bearer {provider.key}"
    assert int(headers["content-length"]) == received["body_length"] > len(RECORDING)


def test_speech(client: OpenAI, provider: Provider) -> None:
    body = {"base64": base64.b64encode(RECORDING).decode()}
    fixed = {"status": 200, "headers": [["content-type", "audio/mpeg"]], "body": body}
    provider.script(reply={"fixed": fixed}, framing="chunked", pieces=[1, 1000, 70_000])
    asked = {"model": "tts-1", "voice": "alloy", "input": "hello"}
    with client.audio.speech.with_streaming_response.create(**asked) as answer:
        assert answer.headers["content-type"] == "audio/mpeg"
        assert b"".join(answer.iter_bytes()) == RECORDING
