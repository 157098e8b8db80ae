"""Losses. Each takes tensors, returns a scalar, and says its equation and source.

B series, T steps, K tokens, S shape length, N codes, W windows, D width, E text width.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from model.attributes import MIN_LENGTH, Attributes

SPREAD_THRESHOLD = 0.2


def series(x_hat_BT: Tensor, x_BT: Tensor) -> Tensor:
    """Reconstruction, mean((x^ - x)^2) (VQShape, eq. 5)."""
    return F.mse_loss(x_hat_BT, x_BT)


def shape(s_hat_BKS: Tensor, s_BKS: Tensor) -> Tensor:
    """mean((s^ - sg(s))^2), s the series between t and t + l (VQShape, eq. 6)."""
    return F.mse_loss(s_hat_BKS, s_BKS.detach())


def spread(t_BK1: Tensor, l_BK1: Tensor) -> Tensor:
    """Disentanglement: mean over token pairs of relu(0.2 - |k_i - k_j|), the diagonal counted as 0, with
    k = [cos(pi t), sin(pi t)] log l / log(1/64) (VQShape, eq. 7 and 8)."""
    scale = l_BK1.log() / math.log(MIN_LENGTH)
    k_BK2 = torch.cat([torch.cos(torch.pi * t_BK1), torch.sin(torch.pi * t_BK1)], dim=-1) * scale
    d_BKK = torch.linalg.vector_norm(k_BK2.unsqueeze(1) - k_BK2.unsqueeze(2), dim=-1)
    off_diagonal = 1 - torch.eye(d_BKK.shape[-1], device=d_BKK.device, dtype=d_BKK.dtype)
    return (F.relu(SPREAD_THRESHOLD - d_BKK) * off_diagonal).mean()


def info_nce(a_WD: Tensor, b_WD: Tensor, group_W: Tensor, log_scale: Tensor) -> Tensor:
    """Symmetric InfoNCE with several positives (CLIP, arXiv 2103.00020; positives as in SupCon,
    arXiv 2004.11362, eq. 2, across modalities).

    L(a, b) = -1/W sum_i 1/|P(i)| sum_{p in P(i)} log softmax_j(s a_i . b_j)_p, P(i) = {j: group_j = group_i},
    with unit vectors and the learned scale s = exp(log_scale), at most 100. Returns the mean of L(a, b) and
    L(b, a).
    """
    scale = log_scale.clamp(max=math.log(100)).exp()
    logits_WW = scale * F.normalize(a_WD, dim=-1) @ F.normalize(b_WD, dim=-1).T
    positive_WW = (group_W.unsqueeze(0) == group_W.unsqueeze(1)).to(logits_WW.dtype)
    positive_WW = positive_WW / positive_WW.sum(1, keepdim=True)
    log_p_WW = logits_WW.log_softmax(1) + logits_WW.T.log_softmax(1)
    return -(positive_WW * log_p_WW).sum(1).mean() / 2


def consistency(
    alone: Attributes,
    guided: Attributes,
    log_p_alone_BKN: Tensor,
    log_p_guided_BKN: Tensor,
    into: tuple[str, ...],
) -> Tensor:
    """The series-only attributes are pulled to the guided ones, which are detached.

    Mean over the attributes in `into` of KL(p_guided || p_alone) over code distributions for z, and of
    smooth L1 for mu, sigma, t and l (self-distillation; this project's own).
    """
    terms = []
    for name in into:
        if name == "z":
            kl = F.kl_div(log_p_alone_BKN, log_p_guided_BKN.detach(), reduction="none", log_target=True)
            terms.append(kl.sum(-1).mean())
        else:
            terms.append(F.smooth_l1_loss(getattr(alone, name), getattr(guided, name).detach()))
    return torch.stack(terms).mean()


def text_recon(predicted_WE: Tensor, target_WE: Tensor) -> Tensor:
    """mean(1 - cos(predicted, target)); the target is the text's mean embedding, centred over the table.

    A table of one text has nothing left after centring: its cosine is 0 and no gradient flows.
    """
    return (1 - F.cosine_similarity(predicted_WE, target_WE, dim=-1)).mean()


def ce_series(logits_WY: Tensor, label_W: Tensor) -> Tensor:
    """Cross-entropy on the series-only path."""
    return F.cross_entropy(logits_WY, label_W)
