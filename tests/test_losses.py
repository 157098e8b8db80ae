"""Each loss has one value computed by hand."""

import math

import pytest
import torch

from model import losses as L
from model.attributes import Attributes
from model.shapes import cut


def test_series_and_shape_are_mean_squares_and_the_shape_target_is_detached() -> None:
    a, b = torch.tensor([[1.0, 3.0]], requires_grad=True), torch.tensor([[0.0, 1.0]], requires_grad=True)
    assert L.series(a, b).item() == pytest.approx(2.5)
    L.shape(a, b).backward()
    assert b.grad is None and a.grad is not None


def test_spread_by_hand_for_two_tokens() -> None:
    # l = 1/64 gives scale 1, so k = (1, 0) and (cos .1 pi / ..., ...): chord 2 sin(pi dt / 2) = 2 sin(.05)
    t = torch.tensor([[[0.0], [0.1 / math.pi]]])
    length = torch.full((1, 2, 1), 1 / 64)
    chord = 2 * math.sin(0.05)
    assert L.spread(t, length).item() == pytest.approx(2 * (0.2 - chord) / 4, abs=1e-6)


def test_info_nce_by_hand_with_one_and_with_two_positives() -> None:
    a = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    zero = torch.tensor(0.0)
    alone = math.log(1 + math.exp(-1))  # each row: log(e + 1) - 1
    assert L.info_nce(a, a, torch.tensor([0, 1]), zero).item() == pytest.approx(alone, abs=1e-6)
    both = math.log(1 + math.e) - 0.5  # every pair is a positive: the mean logit is 1/2
    assert L.info_nce(a, a, torch.tensor([4, 4]), zero).item() == pytest.approx(both, abs=1e-6)


def test_info_nce_does_not_care_for_the_order_of_its_sides() -> None:
    g = torch.Generator().manual_seed(0)
    a, b, group = (
        torch.randn(5, 4, generator=g),
        torch.randn(5, 4, generator=g),
        torch.tensor([0, 1, 0, 2, 1]),
    )
    scale = torch.tensor(1.0)
    torch.testing.assert_close(L.info_nce(a, b, group, scale), L.info_nce(b, a, group, scale))


def test_info_nces_learned_scale_is_at_most_100() -> None:
    a, b = torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.tensor([[0.8, 0.6], [0.0, 1.0]])
    beyond = torch.tensor(6.0, requires_grad=True)
    group = torch.tensor([0, 1])
    found = L.info_nce(a, b, group, beyond)
    assert found.item() == pytest.approx(L.info_nce(a, b, group, torch.tensor(math.log(100))).item())
    found.backward()
    assert beyond.grad == 0


def test_consistency_moves_the_series_only_side_alone() -> None:
    alone, guided = (
        Attributes(*(torch.full((1, 1, 1), v).requires_grad_() for v in values))
        for values in ((0.0, 0.5, 1.0, 0.2, 0.3), (0.1, 0.6, 2.0, 0.3, 0.4))
    )
    log_p, log_q = (torch.tensor([[p]]).log().requires_grad_() for p in ([0.5, 0.5], [0.9, 0.1]))
    L.consistency(alone, guided, ("l", "mu", "sigma", "t", "z"), log_p, log_q).backward()
    assert log_p.grad is not None and log_q.grad is None
    assert all(value.grad is not None for value in alone[1:]) and all(value.grad is None for value in guided)


def test_consistency_by_hand() -> None:
    one = Attributes(*(torch.full((1, 1, 1), v) for v in (0.0, 0.5, 1.0, 0.2, 0.3)))
    two = one._replace(mu=torch.full((1, 1, 1), 1.0))
    log_p, log_q = torch.tensor([[[0.5, 0.5]]]).log(), torch.tensor([[[0.9, 0.1]]]).log()
    kl = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    assert L.consistency(one, two, ("z",), log_p, log_q).item() == pytest.approx(kl, abs=1e-6)
    assert L.consistency(one, two, ("mu",)).item() == pytest.approx(0.125)
    assert L.consistency(one, two, ("mu", "z"), log_p, log_q).item() == pytest.approx(
        (kl + 0.125) / 2, abs=1e-6
    )


def test_text_recon_by_hand_and_a_table_of_one_text_gives_no_gradient() -> None:
    p = torch.tensor([[3.0, 4.0]], requires_grad=True)
    assert L.text_recon(p, torch.tensor([[1.0, 0.0]])).item() == pytest.approx(1 - 0.6)
    L.text_recon(p, torch.zeros(1, 2)).backward()
    assert p.grad is not None and p.grad.abs().sum() == 0


def test_ce_series_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)]])
    assert L.ce_series(logits, torch.tensor([1])).item() == pytest.approx(math.log(4 / 3), abs=1e-6)


def test_cut_resamples_by_linear_interpolation_and_smooths_with_held_edges() -> None:
    x = torch.arange(5.0).view(1, 1, 5)
    t, length = torch.tensor([[[0.25]]]), torch.tensor([[[0.5]]])
    torch.testing.assert_close(cut(x, t, length, 5, 1), torch.tensor([[[[1.0, 1.5, 2.0, 2.5, 3.0]]]]))
    smooth = cut(x, torch.zeros(1, 1, 1), torch.ones(1, 1, 1), 5, 3)
    torch.testing.assert_close(smooth, torch.tensor([[[[1 / 3, 1.0, 2.0, 3.0, 11 / 3]]]]))


def test_cut_ends_with_the_series_and_gives_no_gradient_to_start_and_length() -> None:
    x = torch.arange(5.0).view(1, 1, 5).requires_grad_()
    t, length = torch.tensor([[[0.75]]], requires_grad=True), torch.tensor([[[0.5]]], requires_grad=True)
    found = cut(x, t, length, 3, 1)  # t + l is 1.25
    torch.testing.assert_close(found, torch.tensor([[[[3.0, 3.5, 4.0]]]]))
    assert not found.requires_grad


def test_supcon_by_hand_counts_the_others_of_a_group_in_both_modalities() -> None:
    a, b = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, 3.0], [1.0, 0.0]])
    # each vector has cosine 1 (over 0.1: 10) to one other and 0 to two; its pair is among those two
    others = math.log(math.exp(10) + 2)
    assert L.supcon(a, b, torch.tensor([0, 1])).item() == pytest.approx(others, rel=1e-6)
    assert L.supcon(a, b, torch.tensor([7, 7])).item() == pytest.approx(others - 10 / 3, rel=1e-6)


def test_ce_guided_by_hand_weighs_classes() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])
    found = L.ce_guided(logits, torch.tensor([1, 0]), torch.tensor([1.0, 3.0]))
    assert found.item() == pytest.approx((3 * math.log(4 / 3) + math.log(2)) / 4, abs=1e-6)


def test_series_from_text_is_a_mean_square() -> None:
    x_hat, x = torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[0.0, 1.0]]])
    assert L.series_from_text(x_hat, x).item() == pytest.approx(2.5)


def test_concept_log_p_by_hand() -> None:
    v, concept = torch.tensor([[[3.0, 4.0]]]), torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    expected = [-math.log(1 + math.exp(2)), 2 - math.log(1 + math.exp(2))]  # cosines .6 and .8, over .1
    assert L.concept_log_p(v, concept).flatten().tolist() == pytest.approx(expected, abs=1e-5)


def test_sub_action_attention_by_hand_and_its_target_is_detached() -> None:
    log_p = torch.tensor([[[0.5, 0.5], [0.5, 0.5]]]).log().requires_grad_()
    target = torch.tensor([[[0.9, 0.1], [1.0, 0.0]]], requires_grad=True)
    found = L.sub_action_attention(log_p, target)
    kl = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    assert found.item() == pytest.approx((kl + math.log(2)) / 2, abs=1e-6)
    found.backward()
    assert target.grad is None and log_p.grad is not None and log_p.grad.isfinite().all()


def test_sub_action_nearest_by_hand_takes_the_likeliest_of_the_labels_own() -> None:
    log_p = torch.tensor([[[0.5, 0.3, 0.2]], [[0.5, 0.3, 0.2]]]).log()
    own = torch.tensor([[False, True, True], [True, False, True]])
    assert L.sub_action_nearest(log_p, own).item() == pytest.approx(-math.log(0.3 * 0.5) / 2, abs=1e-6)
