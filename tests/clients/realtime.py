"""A provider of OpenAI's realtime API, as far as text and buffers of audio go: for the official clients' WebSockets.

Source of the events: platform.openai.com/docs/api-reference/realtime. Beside them, `test.close` makes it close with a code
and a reason of the client's choice. The first event tells what the handshake was, and GET /__closed how each dialogue ended.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

WORDS = ["This ", "is ", "said ", "in ", "a ", "WebSocket: ", "ümlaut ", "世界 ", "🦊"]


class Realtime:
    """The provider on a free port of 127.0.0.1, with a thread for each dialogue."""

    def __init__(self) -> None:
        self.key = f"sk-realtime-{secrets.token_hex(8)}"
        self.closed: list[list[Any]] = []
        self.server = serve(
            self._speak,
            "127.0.0.1",
            0,
            process_request=self._shake_hands,
            select_subprotocol=lambda _, offered: "realtime" if "realtime" in offered else None,
            max_size=None,
        )
        self.port: int = self.server.socket.getsockname()[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()

    def _shake_hands(self, connection: ServerConnection, request: Request) -> Response | None:
        if request.path == "/__closed":
            return connection.respond(HTTPStatus.OK, json.dumps(self.closed))
        url = urlsplit(request.path)
        models = parse_qs(url.query).get("model", [])
        if request.headers.get_all("Authorization") != [f"Bearer {self.key}"]:
            return connection.respond(HTTPStatus.UNAUTHORIZED, "a wrong key\n")
        if url.path != "/v1/realtime" or models == ["gpt-none"]:
            return connection.respond(HTTPStatus.NOT_FOUND, "The model does not exist\n")
        return None

    def _speak(self, connection: ServerConnection) -> None:
        request = connection.request
        assert request
        handshake = {"target": request.path, "headers": [list(header) for header in request.headers.raw_items()]}
        model = parse_qs(urlsplit(request.path).query).get("model", [None])[0]
        session = {"id": "sess_1", "type": "realtime", "object": "realtime.session", "model": model}
        dialogue = Dialogue(connection, session)
        try:
            dialogue.send("session.created", session=session | {"handshake": handshake})
            for message in connection:
                dialogue.answer(message)
        except ConnectionClosed:
            pass
        self.closed.append([connection.close_code, connection.close_reason])


class Dialogue:
    """The events of one WebSocket."""

    def __init__(self, connection: ServerConnection, session: dict[str, Any]) -> None:
        self.connection, self.session, self.audio, self.events = connection, session, b"", 0

    def send(self, kind: str, **members: Any) -> None:
        self.events += 1
        event = {"type": kind, "event_id": f"event_{self.events}"} | members
        self.connection.send(json.dumps(event, ensure_ascii=False))

    def answer(self, message: str | bytes) -> None:
        try:
            event = json.loads(message)
        except ValueError:
            return self.refuse("The event is not valid JSON", "invalid_json", None)
        match event.get("type"):
            case "session.update":
                self.session |= event["session"]
                self.send("session.updated", session=self.session)
            case "input_audio_buffer.append":
                self.audio += base64.b64decode(event["audio"])
            case "input_audio_buffer.commit":
                digest = hashlib.sha256(self.audio).hexdigest()
                self.send("input_audio_buffer.committed", item_id=digest, previous_item_id=None)
            case "response.create":
                self.respond()
            case "test.close":
                self.connection.close(event["code"], event["reason"])
            case _:
                self.refuse("Invalid value: 'type'", "invalid_value", event.get("event_id"))

    def refuse(self, message: str, code: str, event_id: str | None) -> None:
        error = {"type": "invalid_request_error", "code": code, "message": message, "param": None, "event_id": event_id}
        self.send("error", error=error)

    def respond(self) -> None:
        response = {"id": "resp_1", "object": "realtime.response", "status": "in_progress", "output": []}
        place = {"response_id": "resp_1", "item_id": "item_1", "output_index": 0, "content_index": 0}
        self.send("response.created", response=response)
        for word in WORDS:
            self.send("response.output_text.delta", **place, delta=word)
        self.send("response.output_text.done", **place, text="".join(WORDS))
        usage = {"total_tokens": 12, "input_tokens": 3, "output_tokens": len(WORDS)}
        self.send("response.done", response=response | {"status": "completed", "usage": usage})
