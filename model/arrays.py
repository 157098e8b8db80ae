"""Raw numpy arrays in, tokens out.

W windows, M channels, T steps, B series (M a window if channels are independent, else 1), A axes of a series,
K tokens, C code width, F features.
"""

from typing import NamedTuple

import numpy as np
import torch

from model.guided import GuidedVQShape

BATCH = 128  # windows a pass: what memory is bounded by


class ArrayTokens(NamedTuple):
    """code (W, B/W, K) int64, None without a codebook; z (W, B/W, K, C) the code's value; t start and l
    length, in parts of the window, both (W, B/W, K); mu and sigma (W, B/W, K, A), of the
    series as the model normalises it; features {representation: (W, F)}."""

    code: np.ndarray | None
    z: np.ndarray
    t: np.ndarray
    l: np.ndarray  # noqa: E741 - the paper's name
    mu: np.ndarray
    sigma: np.ndarray
    features: dict[str, np.ndarray]


def tokenize(model: GuidedVQShape, x: np.ndarray) -> ArrayTokens:
    """Tokens of raw windows (W, M, T), or of one (M, T), which counts as W = 1; real numbers of any dtype.

    Runs in evaluation mode on the model's device, whatever the model's mode, and leaves that as it is. Raises
    ValueError for other shapes or dtypes, and for values that are not finite.
    """
    x_WMT = np.asarray(x)
    if x_WMT.ndim == 2:
        x_WMT = x_WMT[None]
    length, channels = model.sizes.length, model.sizes.channels
    if x_WMT.ndim != 3 or x_WMT.shape[1:] != (channels, length) or not len(x_WMT):
        raise ValueError(
            f"expected windows (W, {channels} channels, {length} steps) or one ({channels}, {length}), "
            f"found shape {np.shape(x)}"
        )
    if x_WMT.dtype.kind not in "fiu":
        raise ValueError(f"expected real numbers, found dtype {x_WMT.dtype}")
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        parts = [_pass(model, x_WMT, first) for first in range(0, len(x_WMT), BATCH)]
    finally:
        for module, mode in modes:
            module.training = mode
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    own = {name: joined.pop(name, None) for name in ArrayTokens._fields[:-1]}
    return ArrayTokens(**own, features=joined)


@torch.no_grad()
def _pass(model: GuidedVQShape, x_WMT: np.ndarray, first: int) -> dict[str, np.ndarray]:
    """Fields and representations by name, of the windows from `first` on."""
    with np.errstate(over="ignore"):  # what overflows is found below
        x = x_WMT[first : first + BATCH].astype(np.float32)
    if not np.isfinite(x).all():
        window, channel, step = (int(at[0]) for at in np.nonzero(~np.isfinite(x)))
        raise ValueError(
            f"expected finite numbers, found {x[window, channel, step]} in window {first + window}, "
            f"channel {channel}, step {step}"
        )
    x_in = torch.from_numpy(x).to(model.offset)
    tokens = model.tokenize(x_in)
    a = tokens.attributes
    found = {"z": tokens.quantized.z, "t": a.t[..., 0], "l": a.l[..., 0], "mu": a.mu, "sigma": a.sigma}
    if tokens.quantized.code is not None:
        found["code"] = tokens.quantized.code
    found = {name: value.unflatten(0, (len(x), -1)) for name, value in found.items()}
    found |= model.features(x_in, tokens)
    # numpy has no bfloat16
    return {k: (v.float() if v.is_floating_point() else v).cpu().numpy() for k, v in found.items()}
