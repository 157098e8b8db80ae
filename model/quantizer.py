"""The levels of `model.quantizer`, and the two of them that measure no distance to codes.

B series, K tokens, C code width, N codes.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from model.codebooks import (
    Codebook,
    Cosine,
    MovingAverage,
    Quantized,
    Quantizer,
    Rotation,
    Transformed,
    full_precision,
)
from model.config import FSQ_LEVELS


class Grid(Quantizer):
    """fsq: z is projected to a few numbers, each is rounded to a level, and they are projected back (Mentzer
    et al. 2023, arXiv 2309.15505). No distances, so no loss. Where C is the number of axes already, z itself
    is rounded and the codes are fixed.

    Raises ValueError for a number of codes that FSQ_LEVELS lacks.
    """

    def __init__(self, codes: int, code_width: int) -> None:
        from vector_quantize_pytorch import FSQ

        super().__init__()
        if codes not in FSQ_LEVELS:
            raise ValueError(f"fsq has no levels for {codes} codes; try {sorted(FSQ_LEVELS)}")
        self.book = FSQ(FSQ_LEVELS[codes], dim=code_width)

    def forward(self, z_BKC: Tensor, update: bool = True) -> Quantized:
        return Quantized(*self.lookup(z_BKC), torch.zeros((), device=z_BKC.device))

    def lookup(self, z_BKC: Tensor) -> tuple[Tensor, Tensor]:
        with full_precision(z_BKC):
            z, code_BK = self.book(z_BKC.float())
        return z, code_BK.long()

    def codes(self) -> Tensor:
        with full_precision(self.book.implicit_codebook):
            return self.book.project_out(self.book.implicit_codebook)


class Unquantized(Quantizer):
    """none: z as it is."""

    def forward(self, z_BKC: Tensor, update: bool = True) -> Quantized:
        return Quantized(z_BKC, None, torch.zeros((), device=z_BKC.device))

    def lookup(self, z_BKC: Tensor) -> tuple[Tensor, None]:
        return z_BKC, None

    def codes(self) -> None:
        return None


# Of codes, code_width, codebook_weight, entropy_weight, entropy_gamma, in this order.
QUANTIZERS: dict[str, Callable[[int, int, float, float, float], Quantizer]] = {
    "standard": Codebook,
    "ema": lambda codes, width, _, weight, gamma: MovingAverage(codes, width, weight, gamma),
    "none": lambda *_: Unquantized(),
    "cosine": lambda codes, width, _, weight, gamma: Cosine(codes, width, weight, gamma),
    "rotation": Rotation,
    "simvq": Transformed,
    "fsq": lambda codes, width, *_: Grid(codes, width),
}
