"""Every level of model.quantizer keeps one contract; then what each does by hand."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from model.codebooks import Codebook, Cosine, MovingAverage, Rotation, Transformed, distances
from model.config import DISTRIBUTES
from model.quantizer import FSQ_LEVELS, QUANTIZERS, Grid, Quantizer

CODES, WIDTH = 16, 4
every = pytest.mark.parametrize("name", QUANTIZERS)
coded = pytest.mark.parametrize("name", [n for n in QUANTIZERS if n != "none"])
distributed = pytest.mark.parametrize("name", ["standard", "ema", "cosine", "rotation", "simvq"])


def build(name: str, seed: int = 0, codes: int = CODES, width: int = WIDTH) -> Quantizer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return QUANTIZERS[name](codes, width, 0.25, 0.1, 1.0)


def tokens(seed: int = 0, batch: int = 6, width: int = WIDTH) -> Tensor:
    return torch.randn(batch, 5, width, generator=torch.Generator().manual_seed(seed))


def state(level: Quantizer) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in level.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def train(level: Quantizer, steps: int = 3) -> list[Tensor]:
    """Values and gradients of a few steps of plain descent."""
    found = []
    for step in range(steps):
        z = tokens(step).requires_grad_()
        level.zero_grad()
        q = level(z)
        (q.vq + (q.z**2).mean()).backward()
        with torch.no_grad():
            for p in level.parameters():
                assert p.grad is not None
                p -= 0.1 * p.grad
        assert z.grad is not None
        found += [q.z.detach(), q.vq.detach(), z.grad]
    return found


@every
def test_shapes_and_the_value_is_the_code_in_training_and_out(name: str) -> None:
    level, z = build(name), tokens()
    for _ in range(2):
        q, codes = level(z), level.codes()
        assert q.z.shape == z.shape and q.vq.shape == () and torch.isfinite(q.vq)
        if name == "none":
            assert codes is None and q.code is None and q.vq == 0 and torch.equal(q.z, z)
        else:
            assert codes is not None and codes.shape == (CODES, WIDTH)
            assert q.code.shape == (6, 5) and q.code.dtype == torch.long
            torch.testing.assert_close(q.z, codes[q.code], rtol=0, atol=1e-6)
            assert len(q.code.unique()) > 1
        z_q, code = level.lookup(z)
        assert torch.equal(z_q, q.z) and (code is None or torch.equal(code, q.code))
        level.eval()


@coded
def test_the_code_is_the_nearest_one(name: str) -> None:
    level, z = build(name).eval(), tokens()
    place = F.normalize if name == "cosine" else lambda v, dim: v
    near = ((place(z, dim=-1).unsqueeze(2) - level.codes()) ** 2).sum(-1).argmin(-1)
    if name == "fsq":  # nearest on the grid, before it is projected back
        assert isinstance(level, Grid)
        grid = level.book.implicit_codebook
        bounded = level.book.project_in(z).add(math.atanh(0.5 / (1.5 * 1.001))).tanh() * 1.5 * 1.001 - 0.5
        near = ((bounded.unsqueeze(2) / 2 - grid) ** 2).sum(-1).argmin(-1)
    assert torch.equal(level.lookup(z)[1], near)


@every
@pytest.mark.parametrize("training", [True, False])
def test_the_gradient_of_z_arrives_and_straight_through_it_is_the_incoming_one(
    name: str, training: bool
) -> None:
    level, incoming = build(name).train(training), tokens(1)
    for call in (lambda z: level(z).z, lambda z: level.lookup(z)[0]):
        z = tokens().requires_grad_()
        (call(z) * incoming).sum().backward()
        assert z.grad is not None and (z.grad.abs().sum(-1) > 0).all()
        assert torch.equal(z.grad, incoming) == (name not in ("cosine", "rotation", "fsq"))


@every
def test_training_twice_from_a_seed_gives_the_same_bits_and_draws_nothing(name: str) -> None:
    one, two = build(name), build(name)
    before = torch.get_rng_state()
    first = train(one)
    one.lookup(tokens())
    if name in DISTRIBUTES:
        one.distribution(tokens(), 0.1)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(99)
    second = train(two)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True)) and same(state(one), state(two))
    torch.set_rng_state(before)


@every
def test_running_state_moves_only_in_training_with_update(name: str) -> None:
    level, z = build(name), tokens()
    before = state(level)
    level(z, update=False)
    level.lookup(z)
    if name in DISTRIBUTES:
        level.distribution(z, 0.1)
    level.eval()(z)
    level(z, update=True)
    assert same(before, state(level))
    level.train()(z)
    assert same(before, state(level)) == (name not in ("ema", "cosine"))


@every
def test_a_checkpoint_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    level, other = build(name), build(name, seed=1)
    train(level)
    save_file(level.state_dict(), tmp_path / "level.safetensors")
    other.load_state_dict(load_file(tmp_path / "level.safetensors"))
    assert torch.equal(level.eval()(tokens(7)).z, other.eval()(tokens(7)).z)
    ahead, later = train(level.train()), train(other.train())
    assert all(torch.equal(a, b) for a, b in zip(ahead, later, strict=True))
    assert same(state(level), state(other))


@every
def test_autocast_changes_no_code_and_the_loss_is_float32(name: str) -> None:
    level, z = build(name), tokens(batch=400).bfloat16()
    plain = level(z.float(), update=False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        codes, q, (z_q, code) = level.codes(), level(z, update=False), level.lookup(z)
    assert q.vq.dtype == torch.float32
    if name == "none":
        assert torch.equal(q.z, z)
        return
    assert torch.equal(q.code, plain.code) and torch.equal(code, plain.code)
    assert codes is not None and codes.dtype == q.z.dtype == z_q.dtype == torch.float32
    torch.testing.assert_close(q.z, codes[code], rtol=0, atol=1e-6)
    torch.testing.assert_close(q.vq, plain.vq)


@pytest.mark.parametrize("name", ["ema", "cosine"])
def test_autocast_changes_no_running_state(name: str) -> None:
    one, two = build(name), build(name)
    z = tokens(batch=40).bfloat16()
    one(z.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        two(z)
    assert same(state(one), state(two))


@distributed
def test_the_distribution_is_softmin_of_distance_and_its_codes_get_no_gradient(name: str) -> None:
    level, z = build(name), tokens().requires_grad_()
    log_p = level.distribution(z, 0.1)
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(6, 5))
    assert torch.equal(log_p.argmax(-1), level.lookup(z)[1])
    codes = level.codes()
    seen = F.normalize(z, dim=-1) if name == "cosine" else z
    gap = ((seen - codes[0]) ** 2).sum(-1) - ((seen - codes[1]) ** 2).sum(-1)
    torch.testing.assert_close(log_p[..., 1] - log_p[..., 0], gap / 0.1, rtol=1e-4, atol=1e-4)
    log_p[..., 0].sum().backward()
    assert z.grad is not None and z.grad.abs().sum() > 0
    assert all(p.grad is None for p in level.parameters())


def test_levels_without_a_distribution_say_so() -> None:
    without = set(QUANTIZERS) - set(DISTRIBUTES)
    assert without == {"none", "fsq"}
    for name in without:
        with pytest.raises(NotImplementedError, match="no distribution"):
            build(name).distribution(tokens(), 0.1)


@distributed
def test_the_loss_is_the_reference_s_and_the_codebook_term_is_there_where_codes_learn(name: str) -> None:
    level, z = build(name).eval(), tokens()
    codes = level.codes()
    assert codes is not None
    seen = F.normalize(z, dim=-1) if name == "cosine" else z
    d = ((seen.unsqueeze(2) - codes) ** 2).sum(-1)
    p = torch.softmax(-d / 0.01, -1).flatten(0, 1)
    even = p.mean(0)
    spread = -(p * p.clamp(min=1e-5).log()).sum(-1).mean() + (even * even.clamp(min=1e-5).log()).sum()
    weight = 1.0 if name in ("ema", "cosine") else 1.25
    torch.testing.assert_close(level(z).vq, weight * d.min(-1).values.mean() / WIDTH + 0.1 * spread)


@coded
def test_codes_learn_by_gradient_but_where_a_running_mean_keeps_them(name: str) -> None:
    level = build(name)
    q = level(tokens().requires_grad_())
    (q.vq + q.z.sum()).backward()
    moved = any(p.grad is not None and p.grad.abs().sum() > 0 for p in level.parameters())
    assert moved == (name not in ("ema", "cosine"))


def test_open_codebooks_start_from_the_reference_s_codes() -> None:
    start = build("standard").codes()
    assert torch.equal(build("ema").codes(), start) and torch.equal(build("rotation").codes(), start)
    torch.testing.assert_close(build("cosine").codes(), F.normalize(start, dim=-1))


def test_standard_by_hand_and_the_gradient_goes_straight_through() -> None:
    book = Codebook(2, 1, codebook_weight=0.25, entropy_weight=0.0, entropy_gamma=1.0)
    with torch.no_grad():
        book.embedding.weight.copy_(torch.tensor([[0.0], [10.0]]))
    z = torch.tensor([[[1.0], [8.0]]], requires_grad=True)
    q = book(z)
    assert q.code.tolist() == [[0, 1]] and q.z.flatten().tolist() == [0.0, 10.0]
    assert q.vq.item() == pytest.approx(1.25 * (1 + 4) / 2)
    (3 * q.z).sum().backward()
    assert z.grad is not None and z.grad.flatten().tolist() == [3.0, 3.0]


@pytest.mark.parametrize("gamma", [1.0, 0.5])
def test_the_entropy_term_prefers_sure_tokens_and_even_use(gamma: float) -> None:
    book = Codebook(2, 1, codebook_weight=0.0, entropy_weight=1.0, entropy_gamma=gamma)
    with torch.no_grad():
        book.embedding.weight.copy_(torch.tensor([[0.0], [1.0]]))
    even = book(torch.tensor([[[0.0], [1.0]]])).vq.item()
    assert even == pytest.approx(-gamma * math.log(2), abs=1e-3)  # sure tokens, both codes: 0 - gamma log 2
    unsure = book(torch.tensor([[[0.5], [0.5]]])).vq.item()  # beside the entropies, (sg(z_q) - z)^2
    assert unsure == pytest.approx(0.25 + (1 - gamma) * math.log(2), abs=1e-3)


def set_codes(level: MovingAverage, codes: Tensor) -> None:
    level.book.codebook = codes
    level.book._codebook.embed_avg.copy_(codes)


def test_ema_moves_codes_to_the_mean_of_their_tokens_by_hand() -> None:
    level = MovingAverage(2, 1, entropy_weight=0.0, entropy_gamma=1.0)
    set_codes(level, torch.tensor([[0.0], [10.0]]))
    q = level(torch.tensor([[[1.0], [3.0], [8.0]]]))
    # sums .99 x 0 + .01 (1 + 3) and .99 x 10 + .01 x 8, sizes .99 + .02 and .99 + .01
    assert level.codes().flatten().tolist() == pytest.approx([0.04 / 1.01, 9.98], abs=1e-3)
    assert q.code.tolist() == [[0, 0, 1]]
    torch.testing.assert_close(q.z.flatten(), level.codes().flatten()[[0, 0, 1]])


@pytest.mark.parametrize("name", ["ema", "cosine"])
def test_a_running_mean_that_no_token_chose_stays_where_it_was(name: str) -> None:
    level, z = build(name), tokens()
    before, z = level.codes(), z[:1, :1]
    idle = [i for i in range(CODES) if i != int(level.lookup(z)[1])]
    for _ in range(1500):  # the library's smoothed counts had drawn them to the origin by then
        level(z)
    assert before is not None
    torch.testing.assert_close(level.codes()[idle], before[idle], rtol=1e-5, atol=1e-6)


def test_an_ema_update_leaves_the_gradients_of_earlier_passes_alone() -> None:
    grads = []
    for passes in (1, 2):
        level, z = build("ema"), tokens().requires_grad_()
        q = level(z)
        if passes == 2:
            level(tokens(1))
        q.vq.backward()
        grads.append(z.grad)
    assert torch.equal(*grads)


def test_cosine_by_hand_on_the_circle() -> None:
    level = Cosine(2, 2, entropy_weight=0.0, entropy_gamma=1.0).eval()
    set_codes(level, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    z = torch.tensor([[[3.0, 4.0]]], requires_grad=True)
    q = level(z)  # z / |z| = (.6, .8)
    assert q.code.item() == 1 and q.vq.item() == pytest.approx((0.6**2 + 0.2**2) / 2)
    q.z[..., 0].sum().backward()
    assert z.grad is not None  # ((1, 0) - .6 (.6, .8)) / 5
    assert z.grad.flatten().tolist() == pytest.approx([0.64 / 5, -0.48 / 5])


def test_cosine_counts_each_token_as_a_unit_vector_by_hand() -> None:
    level = Cosine(2, 2, entropy_weight=0.0, entropy_gamma=1.0)
    set_codes(level, torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    level(torch.tensor([[[3.0, 4.0]]]))  # .99 (1, 0) + .01 (.6, .8)
    torch.testing.assert_close(level.codes()[0], F.normalize(torch.tensor([0.996, 0.008]), dim=-1))


@pytest.mark.parametrize("left", [1e-5, 1e-10, 2e-11, 1e-11, 1e-12, 1e-30, 0.0])
def test_cosine_codes_stay_unit_vectors_however_long_unused(left: float) -> None:
    level = Cosine(2, 2, entropy_weight=0.0, entropy_gamma=1.0)
    set_codes(level, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    level.book._codebook.embed_avg[0, 1] *= left
    level.book._codebook.cluster_size[0, 1] *= left
    for _ in range(2):
        level(torch.tensor([[[5.0, 0.0]]]))
        torch.testing.assert_close(level.codes(), torch.eye(2))
    assert level(torch.tensor([[[-1.0, 2.0]]])).code.item() == 1
    assert level.codes()[1, 0] < -0.001


def test_rotation_turns_and_scales_the_gradient_by_hand() -> None:
    level = Rotation(2, 2, codebook_weight=0.25, entropy_weight=0.0, entropy_gamma=1.0)
    with torch.no_grad():
        level.embedding.weight.copy_(torch.tensor([[0.0, 1.0], [0.0, -9.0]]))
    z = torch.tensor([[[2.0, 0.0]]], requires_grad=True)
    q = level(z)  # a quarter turn to the left, and half the length
    assert q.z.flatten().tolist() == [0.0, 1.0]
    (q.z * torch.tensor([5.0, 7.0])).sum().backward()
    assert z.grad is not None and z.grad.flatten().tolist() == pytest.approx([3.5, -2.5])
    assert level.embedding.weight.grad is None  # the decoder's gradient goes to z alone


def test_autocast_does_not_coarsen_the_turn() -> None:
    level, grads = build("rotation"), []
    for enabled in (False, True):
        z = tokens().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            q = level(z)
        (q.z * tokens(1)).sum().backward()
        grads.append(z.grad)
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("z", [[0.0, 0.0], [1e-9, 0.0], [0.0, -3.0], [1e-7, -3.0]])
def test_rotation_reaches_its_code_from_nothing_and_from_the_opposite_side(z: list[float]) -> None:
    level = Rotation(1, 2, codebook_weight=0.25, entropy_weight=0.0, entropy_gamma=1.0)
    with torch.no_grad():
        level.embedding.weight.copy_(torch.tensor([[0.0, 1.0]]))
    start = torch.tensor([[z]], requires_grad=True)
    q = level(start)
    torch.testing.assert_close(q.z.flatten(), torch.tensor([0.0, 1.0]))
    q.z.sum().backward()
    assert start.grad is not None and start.grad.isfinite().all()


def test_rotation_and_standard_differ_in_the_gradient_of_z_alone() -> None:
    losses, codes = [], []
    for name in ("standard", "rotation"):
        level = build(name)
        q = level(tokens())
        (q.vq + (q.z**2).sum()).backward()
        losses.append(q.vq.detach())
        codes.append(next(level.parameters()).grad)
    assert torch.equal(*losses) and torch.equal(*codes)


def test_of_simvq_the_transform_alone_learns_and_it_moves_every_code() -> None:
    level = build("simvq")
    assert isinstance(level, Transformed)
    assert [k for k, _ in level.named_parameters()] == ["book.code_transform.weight"]
    before, frozen = level.codes().detach(), level.book.frozen_codebook.clone()
    train(level, steps=1)
    assert torch.equal(frozen, level.book.frozen_codebook)
    assert ((level.codes() - before).abs().sum(-1) > 0).all()


def test_fsq_levels_multiply_to_their_number_of_codes_and_are_three_at_least() -> None:
    assert all(math.prod(v) == k and min(v) >= 3 for k, v in FSQ_LEVELS.items())


@pytest.mark.parametrize("codes", FSQ_LEVELS)
@pytest.mark.parametrize("width", [1, 2, 8])
def test_fsq_has_as_many_codes_as_asked_and_can_reach_them_all(codes: int, width: int) -> None:
    level = build("fsq", codes=codes, width=width)
    assert isinstance(level, Grid)
    assert level.codes().shape == (codes, width)
    level.book.project_in = torch.nn.Identity()
    level.book.dim = level.book.codebook_dim
    z = torch.rand(1, 400 * codes, level.book.dim, generator=torch.Generator().manual_seed(0))
    assert len(level.lookup(torch.atanh(2 * z - 1))[1].unique()) == codes


def test_fsq_refuses_a_number_of_codes_it_has_no_levels_for() -> None:
    with pytest.raises(ValueError, match="37 codes"):
        QUANTIZERS["fsq"](37, 8, 0.25, 0.1, 1.0)


def test_distances_by_hand() -> None:
    d = distances(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    assert d.flatten().tolist() == [4.0, 5.0]


def test_the_library_is_imported_by_the_levels_that_need_it_alone() -> None:
    code = """
import sys
from model.quantizer import QUANTIZERS
for name in ("standard", "none", "ema"):
    QUANTIZERS[name](8, 2, 0.25, 0.1, 1.0)
    print(name, "vector_quantize_pytorch" in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split("\n")[:3] == ["standard False", "none False", "ema True"]
