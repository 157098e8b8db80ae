"""Do codes mean what they are named? Numbers over held-out windows, from the arrays of `lexicon.build`.

W windows, M channels, T steps, B series of a window, K tokens of one, N codes, Q concepts, I tokens in a row.
docs/metrics.md has a line for each name.
"""

import numpy as np
from sklearn.metrics import normalized_mutual_info_score

from experiments.lexicon import Arrays

PERMUTATIONS = 200
RARE = 0.002  # part of all tokens below which a code is not judged


def measure(found: Arrays) -> dict[str, float]:
    """Every number that the lexicon allows, by metric name."""
    out = {"meaning/shapes_apart_frac": apart(found)}
    concept, label = found["token_concept"], found["label"]
    if (concept >= 0).all():
        out |= {f"meaning/{k}": v for k, v in agreement(found["code"], concept, label).items()}
    event = events(found)
    if event is not None:
        out |= {f"meaning/event_{k}": v for k, v in agreement(found["code"], event, label).items()}
        out["meaning/recovered_frac"] = recovered(found, event)
    if len(found["name"]):
        out["meaning/named_frac"] = float((found["name"][0] >= 0)[in_use(found)].mean())
        out |= {f"meaning/{k}": v for k, v in faithfulness(found).items()}
    if "text_use" in found:
        out["meaning/text_overlap"] = overlap(found["text_use"], found["train_use"].sum(0))
    return out


def apart(found: Arrays) -> float:
    """Part of the variance of held-out tokens' decoded shapes, each of mean 0 and deviation 1, that lies
    between codes: 0 where all codes draw the same, 1 where nothing is common to what they draw."""
    use_N = np.bincount(found["code"].ravel(), minlength=len(found["shape"])) / found["code"].size
    common_AS = np.tensordot(use_N, found["shape"], 1)
    return float(1 - (common_AS**2).sum() / (use_N @ (found["shape"] ** 2).sum((1, 2))))


def agreement(code_WBK: np.ndarray, concept_WBK: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Normalised mutual information and purity (the part of tokens that have their code's commonest concept),
    each with the mean of its permutation null, and the nmi's p. Tokens without a concept, -1, are left out.

    The null keeps the class: codes are dealt anew among the tokens of all windows of a class, since whatever
    knows the class alone agrees with its sub-actions already. Tokens of a window depend on each other, which
    the null does not know: a small p says that codes follow sub-actions, not by how much.
    """
    there = concept_WBK.ravel() >= 0
    code, concept = code_WBK.ravel()[there], concept_WBK.ravel()[there]
    group = np.broadcast_to(label[:, None, None], code_WBK.shape).ravel()[there]
    members = [np.flatnonzero(group == y) for y in np.unique(group)]
    rng = np.random.default_rng(0)

    def both(code_I: np.ndarray) -> tuple[float, float]:
        return float(normalized_mutual_info_score(code_I, concept)), purity(code_I, concept)

    null = []
    for _ in range(PERMUTATIONS):
        dealt = code.copy()
        for places in members:
            dealt[places] = rng.permutation(code[places])
        null.append(both(dealt))
    (nmi, pure), null_P2 = both(code), np.array(null)
    p = (1 + (null_P2[:, 0] >= nmi).sum()) / (1 + PERMUTATIONS)
    means = null_P2.mean(0)
    return {
        "nmi": nmi, "nmi_null": float(means[0]), "nmi_p": float(p),
        "purity": pure, "purity_null": float(means[1]),
    }  # fmt: skip


def purity(code: np.ndarray, concept: np.ndarray) -> float:
    table = np.zeros((code.max() + 1, concept.max() + 1))
    np.add.at(table, (code, concept), 1)
    return float(table.max(1).sum() / len(code))


def events(found: Arrays) -> np.ndarray | None:
    """What mostly happens from a token's t to t + l (W, B, K), -1 for nothing; None where it is unknown."""
    event_WMT = found["event"]
    if not event_WMT.size or event_WMT.shape[1] != found["code"].shape[1]:
        return None
    steps = event_WMT.shape[2]
    place = (np.arange(steps) + 0.5) / steps
    t, end = found["t"][..., None], (found["t"] + found["l"])[..., None]
    inside = (place >= t) & (place <= end)
    middle = np.abs(place - (t + end) / 2)
    inside |= middle == middle.min(-1, keepdims=True)  # a token shorter than a step
    kinds = np.arange(-1, len(found["events"]))
    count = np.stack([(inside & (event_WMT == kind)[:, :, None]).sum(-1) for kind in kinds], -1)
    return kinds[count.argmax(-1)]


def recovered(found: Arrays, event_WBK: np.ndarray) -> float:
    """Part of the codes in use whose name is what mostly happens where they lie."""
    table = np.zeros((len(found["z"]), len(found["events"]) + 1))
    np.add.at(table, (found["code"].ravel(), event_WBK.ravel() + 1), 1)
    judged = in_use(found) & (table.argmax(1) > 0)
    name, truth = found["name"][0], found["events"][table.argmax(1) - 1]
    right = (name >= 0) & (found["concepts"][name] == truth)
    return float(right[judged].mean()) if judged.any() else 0.0


def in_use(found: Arrays) -> np.ndarray:
    """Which codes have tokens enough to be judged by (N,)."""
    count = np.bincount(found["code"].ravel(), minlength=len(found["z"]))
    return count >= RARE * count.sum()


def faithfulness(found: Arrays) -> dict[str, float]:
    """What the score of the predicted class loses with a token whose name is one of that class's sub-actions,
    what it loses with any token of the window, and the part of random namings that do as well or better.

    The probe is linear, so that a token's loss is its `contribution`. Windows in which all tokens or none are
    so named are left out.
    """
    name = found["name"][0]
    member_WQ = found["of_class"][found["predicted"]]
    member_WQ = np.pad(member_WQ, ((0, 0), (0, 1)))  # no name, -1, is of no class
    rng, tokens = np.random.default_rng(0), found["contribution"].reshape(len(found["label"]), -1)
    code = found["code"].reshape(tokens.shape)

    def lost(name_N: np.ndarray) -> tuple[float, float]:
        mine = np.take_along_axis(member_WQ[:, name_N], code, 1)
        count = mine.sum(1)
        told = (count > 0) & (count < mine.shape[1])
        if not told.any():
            return 0.0, 0.0
        drop = (tokens * mine).sum(1)[told] / count[told]
        return float(drop.mean()), float(tokens[told].mean())

    named_drop, random_drop = lost(name)
    null = [np.subtract(*lost(rng.permutation(name))) for _ in range(PERMUTATIONS)]
    p = (1 + sum(value >= named_drop - random_drop for value in null)) / (1 + PERMUTATIONS)
    return {"named_drop": named_drop, "random_drop": random_drop, "named_drop_p": float(p)}


def overlap(text_N: np.ndarray, series_N: np.ndarray) -> float:
    """Part of the codes' use that text and series share: 1 minus the total variation between both."""
    return float(np.minimum(text_N / text_N.sum(), series_N / series_N.sum()).sum())
