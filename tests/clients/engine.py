"""llama.cpp's own HTTP server on a port of 127.0.0.1, with the tiny model: `engine.py --port PORT --api-key KEY`.

Prints one JSON line {"listening": URL} once it serves, and runs until its standard input ends, so that it cannot
outlive the tests.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import xllamacpp

import tiny_model

MODEL = "tiny"
SLOTS = 8


def parameters(model: Path, port: int, api_key: str) -> xllamacpp.CommonParams:
    chosen = xllamacpp.CommonParams()
    chosen.model.path = str(model)
    chosen.model_alias = {MODEL}
    chosen.hostnames, chosen.port, chosen.api_keys = ["127.0.0.1"], port, [api_key]
    chosen.n_parallel, chosen.n_ctx, chosen.n_threads_http = SLOTS, 2048 * SLOTS, 64
    # One thread computes this model faster than several would agree about it.
    chosen.cpuparams.n_threads = chosen.cpuparams_batch.n_threads = 1
    chosen.embedding, chosen.pooling_type = True, xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    chosen.use_jinja, chosen.ui, chosen.warmup, chosen.fit_params = True, False, False, False
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--api-key", required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tiny-model-") as folder:
        model = Path(folder) / "tiny.gguf"
        tiny_model.write(model)
        server = xllamacpp.Server(parameters(model, arguments.port, arguments.api_key))
    print(json.dumps({"listening": server.listening_address}), flush=True)
    sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
