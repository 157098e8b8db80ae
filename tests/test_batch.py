"""What a batch hands to the model."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from model.batch import BatchText


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_texts_gradient_is_the_same_on_two_threads_as_by_indexing_on_one(threads: None) -> None:
    """Two threads that index sum in another order in about half of all passes."""
    g = torch.Generator().manual_seed(0)
    g_ULD, real_UL = torch.randn(3, 16, 256, generator=g), torch.ones(3, 16, dtype=torch.bool)
    text_W, grad_BLD = torch.arange(32) % 3, torch.randn(64, 16, 256, generator=g)

    def gradient() -> Tensor:
        leaf = g_ULD.clone().requires_grad_()
        BatchText.of(leaf, real_UL, text_W, streams=2).g.backward(grad_BLD)
        assert leaf.grad is not None
        return leaf.grad

    torch.set_num_threads(1)
    leaf = g_ULD.clone().requires_grad_()
    leaf[text_W.repeat_interleave(2)].backward(grad_BLD)
    torch.set_num_threads(2)
    assert all(torch.equal(gradient(), leaf.grad) for _ in range(50))
