"""What a finished trial's codes draw, where they occur and what they are named: read off the stored model.

W held-out windows, M channels, T steps, B series of a window, K tokens of one, F numbers of a token (pooled:
with their squares), A axes of a series, S shape length, N codes, C code width, Z features that the probe
reads, Q concepts, Y classes, E kinds of evidence, D windows drawn.
"""

import io
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch

from experiments import classifier, data, modality, naming
from experiments.config import RunConfig
from experiments.data.side import Side
from experiments.encoder import TextCache
from experiments.ledger import Store, write_bytes
from experiments.metrics import BATCH
from experiments.naming import Names
from experiments.probe import Linear
from experiments.threads import limited
from experiments.watch import stamp
from model import checkpoint
from model.guided import GuidedVQShape
from model.representations import Tokens

FILE, FORMAT = "lexicon.npz", 2
MOST = {"train": 4096, "test": 1024}  # windows that are looked at, evenly spread over a side
A_CLASS = 3  # windows of a class that are kept for pictures
EXAMPLES = 5
Arrays = dict[str, Any]  # of arrays


def build(store: Store, signature: str, device: str = "cpu") -> Arrays:
    """The arrays of lexicon.npz, by name.

    Of codes: shape (N, A, S) decoded; z (N, C); train_use (Y, N) tokens of training windows; p (E, N, Q) the
    probability that a code means a concept by each `evidence`, the one that counts first, and name (E, N) the
    concept that is clear of all others, -1 for none; example (N, 5, 2) held-out window and series of the
    tokens that fit it best, a window once, -1 for none, example_t, example_l and example_x (N, 5, A, steps)
    with them. Of held-out windows: window, label, subject, predicted (W,); code, t, l (W, B, K); mu, sigma
    (W, B, K, A); token_concept (W, B, K) the concept of its class that a token attends to most, -1 where
    nothing attends; contribution (W, B, K) what the token adds to the score of the predicted class, against
    an average one and without what `keep_scale` adds; fit (W, B, K) squared error of its shape, both of unit
    deviation; drawn (D,) places of windows kept for pictures, series and x_hat (D, M, T) with them. event (W,
    M, T) what is known to happen, -1 for nothing; no windows where nothing is known. Series, mu and sigma are
    in standard deviations of the training windows. Texts: evidence (E,), concepts (Q,), events, classes (Y,),
    channels (M,); of_class (Y, Q) which concepts a class has; named_by text, or labels where training saw no
    phrases. With texts of classes also similarity (Y, Y), mean cosine of the series of a class and the texts
    of another, and with text codes text_use (N,), how often the texts of training windows use each code.

    Raises FileNotFoundError and ValueError for a trial that has no model, or no codes.
    """
    result = store.result(signature)
    if result is None or result["status"] != "done":
        raise FileNotFoundError(f"{signature} is no finished trial of {store.root}")
    config, folder = RunConfig.model_validate(result["config"]), store.trial(signature)
    if config.baseline != "none" or config.model.quantizer == "none":
        what = "quantizer none" if config.baseline == "none" else f"the baseline {config.baseline}"
        raise ValueError(f"{signature} has no codes: it is {what}")
    with limited(config.threads):
        return _arrays(store, folder, config, result["digests"], device)


def _arrays(
    store: Store, folder: Path, config: RunConfig, digests: dict[str, str | None], device: str
) -> Arrays:
    model, probe = checkpoint.from_pretrained(folder / "model").to(device), classifier.read(folder)
    loaded = data.load_split(config.data, str(digests["data"]), store.cache)
    encoder = digests.get("encoder")
    cache = None if encoder is None else TextCache(store.cache, config.text.encoder, str(encoder))
    names = naming.names(config, digests, loaded, cache)
    places = _spread(len(loaded.split.train), MOST["train"])
    rows = loaded.split.test[_spread(len(loaded.split.test), MOST["test"])]
    label, whole = np.asarray(loaded.windows.label), loaded.split.train[places]
    if names.table is not None:
        names = names._replace(table=names.table.to(device))
    reader = Reader(model, loaded, names, config.probe.representation, device)
    train, test = reader.read(whole, names.group[places]), reader.read(rows, label[rows])
    codes = model.core.codebook.codes()
    assert codes is not None
    found = {"z": codes.detach().cpu().numpy(), "window": rows, "label": label[rows]}
    with torch.no_grad():
        found["shape"] = model.core.shape_decoder(codes).cpu().numpy()
    found["subject"] = np.asarray(loaded.windows.subject[rows])
    found["train_use"] = used(train["code"], label[whole], len(loaded.classes), len(codes))
    found["evidence"], found["p"] = _evidence(model, train, names, names.group[places], len(codes))
    found["name"] = np.array([naming.clear(p) for p in found["p"]], dtype=int).reshape(-1, len(codes))
    concept = test["attended"].argmax(-1) if "attended" in test else np.full(test["code"].shape, -1)
    found |= {k: test[k] for k in ("code", "t", "l", "mu", "sigma", "fit")} | {"token_concept": concept}
    with np.load(folder / "predictions.npz") as kept:
        found["predicted"] = kept["predicted"][np.searchsorted(kept["window"], rows)]
    found["contribution"] = explained(
        test, found["predicted"], probe, len(codes), config.probe.representation
    ).astype(np.float32)
    found |= _examples(test, len(codes)) | _pictured(test, found, loaded)
    texts = {"classes": loaded.classes, "channels": loaded.channels, "concepts": names.names}
    texts["events"], found["event"] = _events(config, rows)
    found |= {k: np.array(list(v), dtype=np.str_) for k, v in texts.items()}
    if cache is not None:
        side = Side.of(loaded.windows, rows, device)
        cosine = modality.by_class(config, digests, model, side, cache)
        use = modality.text_use(config, digests, model, loaded, cache)
        found |= {k: v for k, v in (("similarity", cosine), ("text_use", use)) if v is not None}
    return found | {"named_by": np.array(names.by), "of_class": names.of_class}


def of(store: Store, signature: str, device: str = "cpu") -> Arrays:
    """The trial's lexicon.npz, made where it is missing or of another result. Raises as `build` does."""
    path, belongs = store.trial(signature) / FILE, _stamp(store, signature)
    with suppress(FileNotFoundError, ValueError, KeyError, EOFError, BadZipFile), np.load(path) as kept:
        if kept["result"].tolist() == belongs:
            return dict(kept)
    found = build(store, signature, device) | {"result": np.array(belongs)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **found)
    write_bytes(path, buffer.getvalue())
    return found


def _stamp(store: Store, signature: str) -> list[str]:
    """Tells a trial's result from the one of another try, and this format from others."""
    result = store.result(signature)
    return [str(FORMAT), "" if result is None else stamp(result)]


class Reader(NamedTuple):
    """Reads a side's tokens, in evaluation mode and from the series alone."""

    model: GuidedVQShape
    loaded: data.Loaded
    names: Names
    representation: str
    device: str

    def read(self, rows: np.ndarray, label: np.ndarray) -> Arrays:
        """Arrays (W, B, K, ...), by name. label (W,): the class whose phrases tokens attend to."""
        parts, first = list[Arrays](), 0
        for x_WMT in Side.of(self.loaded.windows, rows, self.device).split(BATCH):
            parts.append(self._part(x_WMT, label[first : first + len(x_WMT)]))
            first += len(x_WMT)
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    @torch.no_grad()
    def _part(self, x_WMT: torch.Tensor, label_W: np.ndarray) -> Arrays:
        model, core = self.model, self.model.core
        x_BAT = model.to_series(x_WMT)
        h_BKD = core.embed(x_BAT)
        a = core.attr_decoder(h_BKD)
        q = core.codebook(a.z, update=False)
        out = core.rebuild(x_BAT, a, q)
        assert q.code is not None
        offset_BA1, scale_BA1 = core.scale(x_BAT)
        to_token = [v[:, None, :, 0] for v in (offset_BA1, scale_BA1)]
        found = {"code": q.code, "t": a.t[..., 0], "l": a.l[..., 0], "x": x_BAT, "x_hat": out.x_hat}
        found |= {"mu": a.mu * to_token[1] + to_token[0], "sigma": a.sigma * to_token[1]}
        found["fit"] = ((_unit(out.s_hat) - _unit(core.true_shapes(x_BAT, a))) ** 2).mean((-2, -1))
        if self.representation != "histogram":
            found["token"] = Tokens(a, q).each(self.representation)
        if self.names.table is not None:
            label_B = torch.from_numpy(label_W).to(self.device).repeat_interleave(model.streams)
            found["attended"] = naming.attended(model, h_BKD, self.names.table, label_B)
        if model.sub_actions is not None and model.config.sub_actions == "head":
            found["head"] = model.sub_actions.log_p(h_BKD).exp()
        return {k: v.unflatten(0, (len(x_WMT), -1)).cpu().numpy() for k, v in found.items()}


def _unit(s_BKAS: torch.Tensor) -> torch.Tensor:
    """Each token's shape with mean 0 and deviation 1; a flat one stays flat."""
    s_BKAS = s_BKAS - s_BKAS.mean(-1, keepdim=True)
    return s_BKAS / (s_BKAS.std(-1, keepdim=True) + 1e-6)


def _spread(count: int, most: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def used(code_WBK: np.ndarray, label: np.ndarray, classes: int, codes: int) -> np.ndarray:
    """How many tokens of each class have each code (Y, N)."""
    flat = code_WBK.reshape(len(label), -1)
    return np.stack([np.bincount(flat[label == y].ravel(), minlength=codes) for y in range(classes)])


def _evidence(
    model: GuidedVQShape, train: Arrays, names: Names, group: np.ndarray, codes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Kinds of evidence (E,) and what they say (E, N, Q): decoder, head, attention, cooccurrence."""
    found: dict[str, np.ndarray] = {}
    if names.names:
        told = names.by == "text"  # a sub-action head of shuffled texts is shown as it is
        if model.config.sub_actions == "decoder" and told:
            found["decoder"] = model.name_codes().cpu().numpy()
        for kind, key in (("head", "head"), ("attention", "attended")):
            if key in train and told:
                found[kind] = _by_code(train[key], train["code"], codes)
        count_YN = used(train["code"], group, len(names.of_class), codes)
        found["cooccurrence"] = naming.by_cooccurrence(count_YN, names.of_class)
    p_ENQ = np.array(list(found.values())).reshape(len(found), codes, len(names.names))
    return np.array(list(found), dtype=np.str_), p_ENQ.astype(np.float32)


def _by_code(p_WBKQ: np.ndarray, code_WBK: np.ndarray, codes: int) -> np.ndarray:
    """Mean over the tokens of each code (N, Q); zeros for one that never occurs."""
    code, p_IQ = code_WBK.ravel(), p_WBKQ.reshape(-1, p_WBKQ.shape[-1])
    total_NQ = np.zeros((codes, p_IQ.shape[1]))
    np.add.at(total_NQ, code, p_IQ)
    return total_NQ / np.maximum(np.bincount(code, minlength=codes), 1)[:, None]


def explained(
    test: Arrays, predicted: np.ndarray, probe: Linear, codes: int, representation: str
) -> np.ndarray:
    """What each token adds to the score of its window's predicted class (W, B, K). The probe is linear, so
    tokens add up: one count of a histogram, else a token's numbers against the training windows' mean;
    pooled, all tokens of a series have the same weights, and each has its share of the means."""
    windows, series, tokens = test["code"].shape
    weight_WZ = probe.toward(predicted).T
    if representation == "histogram":
        place = test["code"] + codes * np.arange(series)[:, None]
        return np.take_along_axis(weight_WZ, place.reshape(windows, -1), 1).reshape(place.shape)
    pooled, token_WBKF = representation == "pooled", test["token"]
    read = (series, 1 if pooled else tokens, token_WBKF.shape[-1])  # what the probe reads, but for scales
    mean_BKF = probe.mean[: prod(read)].reshape(read)
    weight_WBKF = weight_WZ[:, : prod(read)].reshape(windows, *read)
    added_WBK = ((token_WBKF - mean_BKF) * weight_WBKF).sum(-1)
    return added_WBK / tokens if pooled else added_WBK


def _examples(test: Arrays, codes: int) -> Arrays:
    code, fit = test["code"], test["fit"]
    found = np.full((codes, EXAMPLES, 3), -1)
    at = np.argsort(fit, axis=None, kind="stable")
    places = np.stack(np.unravel_index(at, code.shape), 1)
    for n in range(codes):
        mine = places[code.ravel()[at] == n]
        best = np.sort(np.unique(mine[:, 0], return_index=True)[1])[:EXAMPLES]  # a window once
        found[n, : len(best)] = mine[best]
    w, b, k = np.moveaxis(found, -1, 0)
    out = {"example": found[..., :2], "example_x": test["x"][w, b]}
    return out | {f"example_{name}": test[name][w, b, k] for name in ("t", "l")}


def _pictured(test: Arrays, found: Arrays, loaded: data.Loaded) -> Arrays:
    """The first windows of each class, of as many subjects as there are."""
    drawn: list[int] = []
    for y in range(len(loaded.classes)):
        mine = np.flatnonzero(found["label"] == y)
        subject = found["subject"][mine]
        turn = np.array([(subject[:i] == subject[i]).sum() for i in range(len(mine))], dtype=int)
        drawn += mine[np.argsort(turn, kind="stable")][:A_CLASS].tolist()
    shape = (len(drawn), len(loaded.channels), -1)
    out = {"drawn": np.array(drawn, dtype=int)}
    return out | {to: test[name][drawn].reshape(shape) for to, name in (("series", "x"), ("x_hat", "x_hat"))}


def _events(config: RunConfig, rows: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    known = data.entry(config.data.name).events
    if known is None or config.data.length is not None:
        return (), np.zeros((0, 0, 0), dtype=np.int8)
    phrases, event_WMT = known()
    return phrases, event_WMT[rows]
