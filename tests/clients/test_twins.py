"""OpenAI's SDKs for Python and Node are asked the same: each case of the one suite has the other's of the same name, or a
reason here why not."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
PAIRS = {
    "chat.test.js": "test_openai_sdk.py",
    "errors.test.js": "test_openai_errors.py",
    "failover.test.js": "test_failover.py",
    "files.test.js": "test_openai_audio.py",
    "realtime.test.js": "test_openai_realtime.py",
}
ONLY_PYTHON = {
    "async client": "Node has no other",
    "an async dialogue and twenty at once": "Node has no other: twenty at once",
    "the providers no passes": "Node: one of the handshakes that are refused",
    "the key as a sub protocol as browsers send it": "Node: its client for browsers, in every case",
}
ONLY_NODE = {
    "the sdks own helper for streams": "Python has none of this kind",
    "twenty at once": "Python: an async dialogue and twenty at once",
}


def of_python(file: str) -> set[str]:
    found = re.findall(r"^(?:async )?def test_(\w+)\(", (HERE / file).read_text(), re.MULTILINE)
    return {name.replace("_", " ") for name in found}


def of_node(file: str) -> set[str]:
    """What stands behind a colon, or is the name of a client before one, tells runs of one case apart."""
    found = re.findall(r"^ *test\((['\"`])(.*?)\1, async", (HERE / "node" / file).read_text(), re.MULTILINE)
    names = (name.removeprefix("${name}: ").split(": ")[0] for _, name in found)
    return {re.sub(r"[^a-z0-9]+", " ", name.lower().replace("'", "")) for name in names}


def test_each_file_has_its_twin() -> None:
    assert {file.name for file in (HERE / "node").glob("*.test.js")} == set(PAIRS)


def test_each_case_has_its_twin_or_a_reason() -> None:
    python = set().union(*(of_python(file) for file in PAIRS.values()))
    node = set().union(*(of_node(file) for file in PAIRS))
    assert len(python) > 50 and len(node) > 50, "the cases are found"
    assert python - node == set(ONLY_PYTHON)
    assert node - python == set(ONLY_NODE)
