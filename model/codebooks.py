"""What a quantizer promises, and the five that take z to the nearest of N codes.

B series, K tokens, C code width, N codes.

They differ in how codes are kept and how the gradient passes; the loss is one. `vector_quantize_pytorch` is
imported where a level that needs it is built: most runs do without.
"""

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.recompute import InBlocks

ENTROPY_TEMPERATURE = 0.01
EMA_DECAY = 0.99  # van den Oord et al. 2017, appendix A.1


class Quantized(NamedTuple):
    """z (B, K, C): the code's value with the level's gradient; code (B, K) long: its number, None where
    there are no codes; vq: the scalar loss, float32."""

    z: Tensor
    code: Tensor | None
    vq: Tensor


def entropy(p: Tensor) -> Tensor:
    """Shannon entropy in nats over the last axis."""
    return -(p * p.clamp(min=1e-5).log()).sum(-1)


def full_precision(v: Tensor) -> torch.autocast:
    """No autocast on the device of `v`: `v.float()` alone would not keep a product from bfloat16."""
    return torch.autocast(v.device.type, enabled=False)


def distances(z_BKC: Tensor, codes_NC: Tensor) -> Tensor:
    """Squared Euclidean distances (B, K, N), in float32 under any precision."""
    with full_precision(z_BKC):
        z, codes = z_BKC.float(), codes_NC.float()
        return (z**2).sum(-1, keepdim=True) + (codes**2).sum(-1) - 2 * z @ codes.T


class Quantizer(InBlocks):
    """What every level keeps to. Nothing here draws a random number once it is built."""

    def forward(self, z_BKC: Tensor, update: bool = True) -> Quantized:
        """The value of z equals `codes()[code]`. Running state, if a level has any, moves in training mode
        with `update` and never else: text passes `update=False`, so that use is counted on series."""
        raise NotImplementedError

    def lookup(self, z_BKC: Tensor) -> tuple[Tensor, Tensor | None]:
        """z and code as `forward` gives them, without the loss; running state stays as it is."""
        raise NotImplementedError

    def codes(self) -> Tensor | None:
        """The codes (N, C) as they are now, float32; None where there are none."""
        raise NotImplementedError

    def distribution(self, z_BKC: Tensor, temperature: float) -> Tensor:
        """log p (B, K, N) of each code, softmin(distance / temperature); the codes get no gradient.
        Raises NotImplementedError for a level that config.DISTRIBUTES does not name."""
        raise NotImplementedError(f"{type(self).__name__} has no distribution over codes")


class Nearest(Quantizer):
    """z to the nearest code, with the VQ-VAE's loss (van den Oord et al. 2017) and LFQ's entropy term:

    vq = mean((sg(z_q) - z)^2) + w mean((z_q - sg(z))^2) + e (mean_i H(p_i) - gamma H(mean_i p_i)),
    p = softmin(d / 0.01); w is `codebook_weight`, 0 where no gradient moves the codes, e `entropy_weight`.
    """

    def __init__(self, codebook_weight: float, entropy_weight: float, entropy_gamma: float) -> None:
        super().__init__()
        self.weights = (codebook_weight, entropy_weight, entropy_gamma)

    def codes(self) -> Tensor:  # here there always are some
        raise NotImplementedError

    def place(self, z_BKC: Tensor) -> Tensor:
        """z where the codes live; distances, loss and gradient start from there."""
        return z_BKC

    def pass_gradient(self, z_BKC: Tensor, z_q_BKC: Tensor) -> Tensor:
        """z_q, with a gradient to z: straight through."""
        return z_BKC + (z_q_BKC - z_BKC).detach()

    def move(self, z_BKC: Tensor) -> None:
        """Take a training batch into the running state."""

    def forward(self, z_BKC: Tensor, update: bool = True) -> Quantized:
        if update and self.training:
            self.move(z_BKC.detach())
        return self.run(self.measure, z_BKC, self.codes())

    def measure(self, z_BKC: Tensor, codes_NC: Tensor) -> Quantized:
        """`forward`, of codes that have moved."""
        codebook_weight, entropy_weight, entropy_gamma = self.weights
        z_BKC = self.place(z_BKC)
        d_BKN = distances(z_BKC, codes_NC)
        code_BK = d_BKN.argmin(-1)
        z_q = F.embedding(code_BK, codes_NC)
        vq = ((z_q.detach() - z_BKC) ** 2).mean() + codebook_weight * ((z_q - z_BKC.detach()) ** 2).mean()
        if entropy_weight:
            p_IN = torch.softmax(-d_BKN.flatten(0, 1) / ENTROPY_TEMPERATURE, dim=-1)
            vq = vq + entropy_weight * (entropy(p_IN).mean() - entropy_gamma * entropy(p_IN.mean(0)))
        return Quantized(self.pass_gradient(z_BKC, z_q), code_BK, vq)

    def lookup(self, z_BKC: Tensor) -> tuple[Tensor, Tensor]:
        z_BKC, codes_NC = self.place(z_BKC), self.codes()
        code_BK = distances(z_BKC, codes_NC).argmin(-1)
        return self.pass_gradient(z_BKC, F.embedding(code_BK, codes_NC)), code_BK

    def distribution(self, z_BKC: Tensor, temperature: float) -> Tensor:
        return torch.log_softmax(-distances(self.place(z_BKC), self.codes().detach()) / temperature, dim=-1)


def reference_start(codes: int, code_width: int) -> nn.Embedding:
    """The reference's first codes, which every level that keeps codes in the open starts from."""
    embedding = nn.Embedding(codes, code_width)
    nn.init.uniform_(embedding.weight, -1 / codes, 1 / codes)
    return embedding


class Codebook(Nearest):
    """standard: the reference's. Codes learn by gradient; z's gradient goes straight through."""

    def __init__(
        self, codes: int, code_width: int, codebook_weight: float, entropy_weight: float, entropy_gamma: float
    ) -> None:
        super().__init__(codebook_weight, entropy_weight, entropy_gamma)
        self.embedding = reference_start(codes, code_width)

    def codes(self) -> Tensor:
        return self.embedding.weight


class Rotation(Codebook):
    """rotation: the standard level, but the gradient is turned and scaled as z was on its way to the code
    (Fifty et al. 2024, arXiv 2410.06424)."""

    def __init__(
        self, codes: int, code_width: int, codebook_weight: float, entropy_weight: float, entropy_gamma: float
    ) -> None:
        from vector_quantize_pytorch.vector_quantize_pytorch import rotate_to

        super().__init__(codes, code_width, codebook_weight, entropy_weight, entropy_gamma)
        self.rotate_to = rotate_to

    def pass_gradient(self, z_BKC: Tensor, z_q_BKC: Tensor) -> Tensor:
        with full_precision(z_BKC):
            turned = self.rotate_to(z_BKC.float(), z_q_BKC.detach())
        # By turning alone a z shorter than 1e-6 falls short of its code.
        return turned + (z_q_BKC - turned).detach()


class MovingAverage(Nearest):
    """ema: a code is the running mean of the z that chose it (van den Oord et al. 2017, appendix A.1), as
    VectorQuantize keeps it. A training batch moves the codes first and is quantised by them then, so that
    `codes()` holds what `forward` gave. Dead codes are not revived: that draws random numbers."""

    cosine: ClassVar[bool] = False

    def __init__(self, codes: int, code_width: int, entropy_weight: float, entropy_gamma: float) -> None:
        from vector_quantize_pytorch import VectorQuantize

        super().__init__(0.0, entropy_weight, entropy_gamma)
        start = self.place(reference_start(codes, code_width).weight.detach())
        self.book = VectorQuantize(
            code_width,
            codes,
            decay=EMA_DECAY,
            use_cosine_sim=self.cosine,
            kmeans_init=False,
            threshold_ema_dead_code=0,
            rotation_trick=False,
        )
        self.book.codebook = start
        self.book._codebook.embed_avg.copy_(start)  # the sums behind the codes; each counts one z at first

    def codes(self) -> Tensor:
        return self.book.codebook.clone()  # the next batch overwrites them behind autograd's back

    def move(self, z_BKC: Tensor) -> None:
        with full_precision(z_BKC):
            before_NC = self.codes()
            code_BK = distances(self.place(z_BKC), before_NC).argmin(-1)
            self.book.update_indices(z_BKC.float(), code_BK)
            # The library smooths counts, which would draw a code that nobody chooses to the origin.
            chosen_N = torch.zeros(len(before_NC), dtype=torch.bool, device=z_BKC.device)
            chosen_N[code_BK.flatten()] = True
            self.book.codebook = torch.where(chosen_N.unsqueeze(1), self.book.codebook, before_NC)


class Cosine(MovingAverage):
    """cosine: ema on the unit sphere (codes as in Yu et al. 2021, arXiv 2110.04627; VectorQuantize learns
    them by moving average only, so its plain twin is ema). z in the loss is z / |z|."""

    cosine = True

    def place(self, z_BKC: Tensor) -> Tensor:
        return F.normalize(z_BKC.float(), dim=-1)

    def codes(self) -> Tensor:
        return self.place(self.book.codebook)


class Transformed(Nearest):
    """simvq: codes are one learned linear map of frozen Gaussian vectors (Zhu et al. 2024, arXiv 2411.02038),
    so that a step moves all of them."""

    def __init__(
        self, codes: int, code_width: int, codebook_weight: float, entropy_weight: float, entropy_gamma: float
    ) -> None:
        from vector_quantize_pytorch import SimVQ

        super().__init__(codebook_weight, entropy_weight, entropy_gamma)
        self.book = SimVQ(code_width, codes, rotation_trick=False)

    def codes(self) -> Tensor:
        with full_precision(self.book.frozen_codebook):
            return self.book.codebook
