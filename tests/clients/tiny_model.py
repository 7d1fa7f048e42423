"""A language model of 1.3 MB, written on the spot as a GGUF file, for a test of a real engine without a download.

One transformer layer whose attention and feed-forward are zero, so that the next token depends on the last one alone.
The output matrix makes each token of STORY the likeliest successor of the one before: at temperature 0, a chat is
answered with STORY, or with as much of it as `max_tokens` allows.
"""

from __future__ import annotations

import random
import struct
from array import array
from collections.abc import Iterable
from pathlib import Path

STORY = (
    "Listen: this story was written by a model with no mind at all, so that every byte of it can be checked. "
    "In the town of Örebro a baker named Zoë sold “half-moons” 🥐 for 3½ kronor each; nobody knew why 世界 was painted "
    "over her door. One night, while snow\tfell, somebody knocked twice. A fox stood there {holding a \"letter\"} and "
    "said: data: [DONE]? Not yet! It warmed its paws, ate five croissants, paid in naïve little coins, then left "
    "without another word. Since then people greet foxes politely. That is everything 🦊."
)
CONTEXT = 32768
WIDTH, INNER, HEADS = 192, 32, 4

# Jinja, as llama.cpp reads it: ChatML for texts and for lists of text parts.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}"
    "{% else %}{% for part in message.content or [] %}{{ part.text or '' }}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
END_OF_TEXT, TURN_BEGINS, TURN_ENDS = "<|endoftext|>", "<|im_start|>", "<|im_end|>"

NORMAL_TOKEN, CONTROL_TOKEN = 1, 3


class Gguf:
    """The parts of a GGUF file, version 3 (ggml's docs/gguf.md): little-endian, tensors aligned to 32 bytes."""

    ALIGNMENT = 32
    FORMATS = {"u32": (4, "<I"), "i32": (5, "<i"), "f32": (6, "<f"), "bool": (7, "<?"), "string": (8, None)}
    ARRAY = 9

    def __init__(self) -> None:
        self.metadata: list[bytes] = []
        self.tensors: list[bytes] = []
        self.data = bytearray()

    def set(self, key: str, kind: str, value: object) -> None:
        number, form = self.FORMATS[kind]
        one = self._string if form is None else lambda item: struct.pack(form, item)
        if isinstance(value, list):
            encoded = struct.pack("<IIQ", self.ARRAY, number, len(value)) + b"".join(map(one, value))
        else:
            encoded = struct.pack("<I", number) + one(value)
        self.metadata.append(self._string(key) + encoded)

    def add_tensor(self, name: str, shape: tuple[int, ...], values: Iterable[float]) -> None:
        """Adds 32-bit floats; `shape` names the dimension that varies fastest first."""
        dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        self.tensors.append(self._string(name) + dimensions + struct.pack("<IQ", 0, len(self.data)))
        self.data += array("f", values).tobytes()
        self.data += bytes(-len(self.data) % self.ALIGNMENT)

    def write(self, path: Path) -> None:
        head = b"GGUF" + struct.pack("<IQQ", 3, len(self.tensors), len(self.metadata))
        head += b"".join(self.metadata) + b"".join(self.tensors)
        path.write_bytes(head + bytes(-len(head) % self.ALIGNMENT) + self.data)

    @staticmethod
    def _string(text: str) -> bytes:
        encoded = text.encode()
        return struct.pack("<Q", len(encoded)) + encoded


def byte_names() -> list[str]:
    """The printable character by which GPT-2's vocabulary names each byte."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    spare = iter(range(256, 512))
    return [chr(byte if byte in printable else next(spare)) for byte in range(256)]


def story_tokens(names: list[str]) -> list[str]:
    """STORY in tokens no two of which are equal: a word that came before is joined with the next one."""
    tokens: list[str] = []
    pending = ""
    for index, word in enumerate(STORY.split(" ")):
        pending += "".join(names[byte] for byte in (" " * (index > 0) + word).encode())
        if pending not in tokens and pending not in names:
            tokens.append(pending)
            pending = ""
    assert not pending, "the story must end in a new word"
    return tokens


def successors(names: list[str], story: range, end: int) -> dict[int, int]:
    """Which token follows which. Any byte leads into the story, the line break after a role to its beginning."""
    follow = {byte: story[byte % len(story)] for byte in range(256)}
    follow[names.index("Ċ")] = story[0]
    follow.update(zip(story, [*story[1:], end]))
    return follow


def write(path: Path) -> None:
    """Writes the model."""
    names = byte_names()
    words = story_tokens(names)
    vocabulary = [*names, *words, END_OF_TEXT, TURN_BEGINS, TURN_ENDS]
    size, end = len(vocabulary), len(vocabulary) - 1

    dice = random.Random(2026)
    embedding = [[dice.choice((-1.0, 1.0)) for _ in range(WIDTH)] for _ in range(size)]
    output = [[0.0] * WIDTH for _ in range(size)]
    for token, successor in successors(names, range(256, 256 + len(words)), end).items():
        output[successor] = [have + 0.15 * more for have, more in zip(output[successor], embedding[token])]

    file = Gguf()
    file.set("general.architecture", "string", "llama")
    file.set("general.name", "string", "tiny")
    file.set("general.file_type", "u32", 0)
    for key, value in {
        "context_length": CONTEXT, "embedding_length": WIDTH, "block_count": 1, "feed_forward_length": INNER,
        "attention.head_count": HEADS, "attention.head_count_kv": HEADS, "rope.dimension_count": WIDTH // HEADS,
        "vocab_size": size,
    }.items():
        file.set(f"llama.{key}", "u32", value)
    file.set("llama.attention.layer_norm_rms_epsilon", "f32", 1e-5)
    file.set("tokenizer.ggml.model", "string", "gpt2")
    file.set("tokenizer.ggml.pre", "string", "gpt-2")
    file.set("tokenizer.ggml.tokens", "string", vocabulary)
    file.set("tokenizer.ggml.token_type", "i32", [NORMAL_TOKEN] * (size - 3) + [CONTROL_TOKEN] * 3)
    file.set("tokenizer.ggml.merges", "string", ["Ã ħ"])  # must not be empty; no text of ours has this pair
    file.set("tokenizer.ggml.bos_token_id", "u32", end - 1)
    file.set("tokenizer.ggml.eos_token_id", "u32", end)
    file.set("tokenizer.ggml.add_bos_token", "bool", False)
    file.set("tokenizer.chat_template", "string", CHAT_TEMPLATE)

    file.add_tensor("token_embd.weight", (WIDTH, size), (x for row in embedding for x in row))
    file.add_tensor("output_norm.weight", (WIDTH,), [1.0] * WIDTH)
    file.add_tensor("output.weight", (WIDTH, size), (x for row in output for x in row))
    for name in ("attn_norm", "ffn_norm"):
        file.add_tensor(f"blk.0.{name}.weight", (WIDTH,), [1.0] * WIDTH)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        file.add_tensor(f"blk.0.{name}.weight", (WIDTH, WIDTH), [0.0] * (WIDTH * WIDTH))
    for name in ("ffn_gate", "ffn_up"):
        file.add_tensor(f"blk.0.{name}.weight", (WIDTH, INNER), [0.0] * (WIDTH * INNER))
    file.add_tensor("blk.0.ffn_down.weight", (INNER, WIDTH), [0.0] * (WIDTH * INNER))
    file.write(path)
