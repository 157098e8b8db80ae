"""Less memory for more time: the backward pass makes activations again, block by block (Chen et al. 2016,
arXiv 1604.06174). A block keeps what it was given and no more, and runs twice on the same random numbers:
every loss, gradient and weight stays what it was.

A module calls its blocks by `run`, which keeps what they make until `recompute` says otherwise.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def kept(block: Callable[..., Any], *given: Any) -> Any:
    return block(*given)


def again(block: Callable[..., Any], *given: Any) -> Any:
    """block(*given), which the backward pass runs again. It may write to no buffer: it would do so twice. Nor
    may it ask whether two tensors are one: the second time they are not."""
    if not torch.is_grad_enabled():
        return block(*given)
    # Re-entrant, a block whose input needs no gradient, as the shape decoder's, would leave its weights none.
    return checkpoint(block, *given, use_reentrant=False)


class InBlocks(nn.Module):
    """A module with blocks."""

    run: Callable[..., Any] = staticmethod(kept)


def recompute(model: nn.Module) -> None:
    """From now on the backward pass of `model`, and of its copies, makes the activations of blocks again."""
    for module in model.modules():
        if isinstance(module, InBlocks):
            module.run = again
