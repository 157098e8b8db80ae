"""How much of the class survives reconstruction: a network trained on raw windows reads rebuilt ones.

W windows, M channels, T steps.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from experiments.data.side import Side
from experiments.fcn import FCN, predict
from experiments.metrics import BATCH, scores, shuffled
from model.guided import GuidedVQShape


@torch.no_grad()
def rebuilt(model: GuidedVQShape, side: Side) -> Iterator[tuple[Tensor, Tensor]]:
    """Raw windows (W, M, T) as the decoder draws them from series-only tokens, a pass at a time; and from the
    same tokens with their codes shuffled, as in `metrics.errors`."""
    model.eval()
    shuffle = torch.Generator().manual_seed(0)
    for x in side.split(BATCH):
        series, (a, q) = model.to_series(x), model.tokenize(x)
        drawn = [model.core.decode_series(series, a._replace(z=z)) for z in (q.z, shuffled(q.z, shuffle))]
        x_hat, x_shuffled = (x_hat.reshape(x.shape) * model.scale + model.offset for x_hat in drawn)
        yield x_hat, x_shuffled


@torch.no_grad()
def survival(model: GuidedVQShape, judge: FCN, side: Side) -> dict[str, float]:
    """`recon/...` of the side's windows, read by a frozen judge."""
    judge.eval()
    read_2W = torch.cat(
        [torch.stack([judge(x).argmax(1).cpu() for x in both]) for both in rebuilt(model, side)], dim=1
    )
    own, lost = (scores(side.label, read_W.numpy()) for read_W in read_2W)
    raw = scores(side.label, predict(judge, side))["macro_f1"]
    found = {
        "recon/fcn_macro_f1": own["macro_f1"],
        "recon/fcn_accuracy": own["accuracy"],
        "recon/fcn_raw_macro_f1": raw,
        "recon/fcn_shuffled_codes_macro_f1": lost["macro_f1"],
    }
    return found | ({"recon/fcn_kept_frac": own["macro_f1"] / raw} if raw else {})
