"""Losses. Each takes tensors, returns a scalar, and says its equation and source. Cosines and angles are
float32 under any precision: a temperature or a fine difference would show how bfloat16 rounds them.

B series, A axes, T steps, K tokens, S shape length, N codes, W windows, D width, E text width, Y classes,
Q concepts.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from model.attributes import MIN_LENGTH, Attributes
from model.codebooks import full_precision

SPREAD_THRESHOLD = 0.2
SUPCON_TEMPERATURE = 0.1  # arXiv 2004.11362, section 4
CONCEPT_TEMPERATURE = 0.1


def series(x_hat_BAT: Tensor, x_BAT: Tensor) -> Tensor:
    """Reconstruction, mean((x^ - x)^2) (VQShape, eq. 5)."""
    return F.mse_loss(x_hat_BAT, x_BAT)


def shape(s_hat_BKAS: Tensor, s_BKAS: Tensor) -> Tensor:
    """mean((s^ - sg(s))^2), s the series between t and t + l (VQShape, eq. 6)."""
    return F.mse_loss(s_hat_BKAS, s_BKAS.detach())


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
    with full_precision(a_WD):
        logits_WW = scale * F.normalize(a_WD.float(), dim=-1) @ F.normalize(b_WD.float(), dim=-1).T
    positive_WW = (group_W.unsqueeze(0) == group_W.unsqueeze(1)).to(logits_WW.dtype)
    positive_WW = positive_WW / positive_WW.sum(1, keepdim=True)
    log_p_WW = logits_WW.log_softmax(1) + logits_WW.T.log_softmax(1)
    return -(positive_WW * log_p_WW).sum(1).mean() / 2


def supcon(a_WD: Tensor, b_WD: Tensor, group_W: Tensor) -> Tensor:
    """Supervised contrastive loss over both modalities at once (SupCon, arXiv 2004.11362, eq. 2; across
    modalities as in LSA, which the researcher's notes name).

    v = the 2W unit vectors of a and b; P(i) = the others of i's group, of either modality:
    -1/2W sum_i 1/|P(i)| sum_{p in P(i)} log(exp(v_i . v_p / 0.1) / sum_{j != i} exp(v_i . v_j / 0.1)).
    Unlike in `info_nce`, vectors of one modality repel and attract each other too.
    """
    v_ID = F.normalize(torch.cat([a_WD, b_WD]).float(), dim=-1)
    group_I = group_W.repeat(2)
    itself_II = torch.eye(len(v_ID), dtype=torch.bool, device=v_ID.device)
    with full_precision(v_ID):
        log_p_II = (v_ID @ v_ID.T / SUPCON_TEMPERATURE).masked_fill(itself_II, -torch.inf).log_softmax(1)
    positive_II = (group_I.unsqueeze(0) == group_I.unsqueeze(1)) & ~itself_II
    return -(log_p_II.masked_fill(~positive_II, 0).sum(1) / positive_II.sum(1)).mean()


def consistency(
    alone: Attributes,
    guided: Attributes,
    into: tuple[str, ...],
    log_p_alone_BKN: Tensor | None = None,
    log_p_guided_BKN: Tensor | None = None,
) -> Tensor:
    """The series-only attributes are pulled to the guided ones, which are detached.

    Mean over the attributes in `into` of KL(p_guided || p_alone) over code distributions for z, and of
    smooth L1 for mu, sigma, t and l (self-distillation; this project's own).
    """
    terms = []
    for name in into:
        if name == "z":
            assert log_p_alone_BKN is not None and log_p_guided_BKN is not None
            kl = F.kl_div(log_p_alone_BKN, log_p_guided_BKN.detach(), reduction="none", log_target=True)
            terms.append(kl.sum(-1).mean())
        else:
            terms.append(F.smooth_l1_loss(getattr(alone, name), getattr(guided, name).detach()))
    return torch.stack(terms).mean()


def text_recon(predicted_WE: Tensor, target_WE: Tensor) -> Tensor:
    """mean(1 - cos(predicted, target)); the target is the text's mean embedding, centred over the table.

    Predicted from the series-only codes, or (text_recon_level guided) from the fused tokens: a copy path.
    A table of one text has nothing left after centring: its cosine is 0 and no gradient flows.
    """
    return (1 - F.cosine_similarity(predicted_WE, target_WE, dim=-1)).mean()


def ce_series(logits_WY: Tensor, label_W: Tensor) -> Tensor:
    """Cross-entropy on the series-only path."""
    return F.cross_entropy(logits_WY, label_W)


def ce_guided(logits_WY: Tensor, group_W: Tensor, weight_Y: Tensor) -> Tensor:
    """Cross-entropy on pooled guided series tokens (ce_guided_series) or on text that took from the series
    (ce_guided_text), classes weighted by inverse frequency: sum_i w_yi ce_i / sum_i w_yi (as LSA does, the
    work that the researcher's notes name). The target is the class that the window's text was made for.

    Text made from the label solves both, so neither is a score.
    """
    return F.cross_entropy(logits_WY, group_W, weight_Y)


def series_from_text(x_hat_BAT: Tensor, x_BAT: Tensor) -> Tensor:
    """mean((x^ - x)^2), x^ decoded from text codes with the series' own mu, sigma, t and l, which are
    detached (this project's own)."""
    return F.mse_loss(x_hat_BAT, x_BAT)


def concept_log_p(v_BKE: Tensor, concept_QE: Tensor) -> Tensor:
    """log p (B, K, Q) of each concept, softmax(cos(v, concept) / 0.1)."""
    with full_precision(v_BKE):
        cosine_BKQ = F.normalize(v_BKE.float(), dim=-1) @ F.normalize(concept_QE, dim=-1).T
    return (cosine_BKQ / CONCEPT_TEMPERATURE).log_softmax(-1)


def sub_action_attention(log_p_BKQ: Tensor, target_BKQ: Tensor) -> Tensor:
    """Mean over tokens of KL(sg(target) || p); the target is a token's attention over its label's phrases,
    spread to concepts (this project's own)."""
    kl = F.kl_div(log_p_BKQ, target_BKQ.detach(), reduction="none")
    return kl.sum(-1).mean()


def sub_action_nearest(log_p_BKQ: Tensor, own_BQ: Tensor) -> Tensor:
    """-mean log p(c), c the likeliest (nearest by cosine) concept of the token's own label: pulled to it,
    pushed from all others (InfoNCE, arXiv 1807.03748, with a latent positive; this project's own)."""
    return -log_p_BKQ.masked_fill(~own_BQ.unsqueeze(1), -torch.inf).amax(-1).mean()
