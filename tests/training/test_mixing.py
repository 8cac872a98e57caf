"""Mixup and CutMix: each equals a plain loop over images, and their draws have the published distribution."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from src.training import mixing


def pictures(count: int, side: int = 16, channels: int = 3) -> Tensor:
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(side))


def draws(*rows: tuple[float, float, float, float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32)


def reference(image: Tensor, partner: Tensor, row: list[float]) -> tuple[Tensor, float]:
    """One image, as the papers' code does it: arXiv:1710.09412, and rand_bbox of arXiv:1905.04899."""
    share, cuts, centre_x, centre_y = row
    if not cuts:
        return share * image + (1 - share) * partner, share
    side = image.shape[-1]
    cut = int(side * math.sqrt(1 - share))
    left, right = (min(max(int(centre_x * side) + half, 0), side) for half in (-(cut // 2), cut // 2))
    top, bottom = (min(max(int(centre_y * side) + half, 0), side) for half in (-(cut // 2), cut // 2))
    mixed = image.clone()
    mixed[:, top:bottom, left:right] = partner[:, top:bottom, left:right]
    return mixed, 1 - (right - left) * (bottom - top) / side**2


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.2, 0.0), (0.0, 1.0), (0.3, 0.8)])
@pytest.mark.parametrize(("count", "side", "channels"), [(200, 16, 3), (60, 33, 3), (7, 8, 1), (2, 224, 3), (1, 5, 2)])
def test_mixing_is_a_plain_loop_over_images_each_with_the_one_before_it(
    count: int, side: int, channels: int, mixup: float, cutmix: float
) -> None:
    inputs, numbers = pictures(count, side, channels), mixing.draw(count, mixup=mixup, cutmix=cutmix, seed=count)
    before = inputs.clone()
    mixed, kept = mixing.mix(inputs, numbers)
    expected = [reference(inputs[i], inputs[i - 1], numbers[i].tolist()) for i in range(count)]
    torch.testing.assert_close(mixed, torch.stack([image for image, _ in expected]), atol=1e-6, rtol=0)
    torch.testing.assert_close(kept, torch.tensor([share for _, share in expected]), atol=1e-6, rtol=0)
    assert torch.equal(inputs, before)
    assert (mixed.dtype, kept.dtype, kept.shape) == (torch.float32, torch.float32, (count,))


def test_cutmix_keeps_the_share_of_pixels_that_it_says_also_where_the_border_cuts_the_rectangle() -> None:
    inputs = torch.arange(500.0).view(-1, 1, 1, 1).expand(-1, 3, 20, 20)
    mixed, kept = mixing.mix(inputs, mixing.draw(500, mixup=0.0, cutmix=1.0, seed=1))
    own = mixed == inputs
    assert torch.equal(own, own[:, :1].expand_as(own)), "the channels differ"
    torch.testing.assert_close(own.float().mean((1, 2, 3)), kept, atol=1e-6, rtol=0)
    assert bool((mixed[~own] == inputs.roll(1, 0)[~own]).all())
    edges = ~own[:, 0]
    assert int((edges[:, 0].any(1) | edges[:, -1].any(1) | edges[:, :, 0].any(1) | edges[:, :, -1].any(1)).sum()) > 100


def test_the_rectangle_lies_where_it_is_drawn() -> None:
    inputs = torch.stack([torch.zeros(1, 16, 16), torch.ones(1, 16, 16)])
    mixed, kept = mixing.mix(inputs, draws((0.75, 1, 0.25, 0.5), (0.75, 1, 0.99, 0.0)))
    expected = torch.zeros(16, 16)
    expected[4:12, 0:8] = 1  # 8 x 8 pixels about row 8 and column 4
    assert torch.equal(mixed[0, 0], expected)
    expected = torch.ones(16, 16)
    expected[0:4, 11:16] = 0  # about row 0 and column 15
    assert torch.equal(mixed[1, 0], expected)
    assert kept.tolist() == [1 - 64 / 256, 1 - 20 / 256]


@pytest.mark.parametrize("cuts", [0.0, 1.0])
def test_an_image_that_keeps_all_of_itself_is_bit_equal_and_one_that_keeps_nothing_is_the_one_before(
    cuts: float,
) -> None:
    inputs = pictures(6)
    mixed, kept = mixing.mix(inputs, draws((1, cuts, 0.5, 0.5)).repeat(6, 1))
    assert torch.equal(mixed, inputs)
    assert kept.tolist() == [1.0] * 6
    mixed, kept = mixing.mix(inputs, draws((0, cuts, 0.5, 0.5)).repeat(6, 1))
    assert torch.equal(mixed, inputs.roll(1, 0))
    assert kept.tolist() == [0.0] * 6


def test_with_both_off_every_image_stays() -> None:
    inputs = pictures(5)
    mixed, kept = mixing.mix(inputs, mixing.draw(5, mixup=0.0, cutmix=0.0, seed=0))
    assert torch.equal(mixed, inputs)
    assert kept.tolist() == [1.0] * 5


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
@pytest.mark.parametrize("column", ["mixup", "cutmix"])
def test_lambda_has_the_moments_of_its_beta_distribution(column: str, alpha: float) -> None:
    numbers = mixing.draw(20000, **{"mixup": 0.0, "cutmix": 0.0, column: alpha}, seed=5)
    share = numbers[:, 0].double()
    variance = 1 / (4 * (2 * alpha + 1))
    assert share.mean().item() == pytest.approx(0.5, abs=4 * math.sqrt(variance / 20000))
    assert share.var().item() == pytest.approx(variance, rel=0.05)
    assert bool((numbers[:, 1] == (column == "cutmix")).all())
    assert numbers[:, 2:].mean().item() == pytest.approx(0.5, abs=0.01)
    assert numbers.shape == (20000, 4)
    assert 0 <= numbers.min() <= numbers.max() <= 1


def test_where_both_are_on_half_of_the_images_get_each_with_its_own_distribution() -> None:
    numbers = mixing.draw(20000, mixup=0.2, cutmix=4.0, seed=5)
    cuts = numbers[:, 1] == 1
    assert set(numbers[:, 1].tolist()) == {0.0, 1.0}
    assert abs(int(cuts.sum()) - 10000) < 4 * math.sqrt(5000)
    for chosen, alpha in ((cuts, 4.0), (~cuts, 0.2)):
        assert numbers[chosen, 0].var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.06)
    drawn = numbers.double()
    assert bool((np.abs(np.corrcoef(drawn.T.numpy()) - np.eye(4)) < 0.03).all()), "the columns depend on each other"


def test_draws_depend_on_their_seed_alone() -> None:
    state = torch.get_rng_state()
    first = mixing.draw(9, mixup=0.2, cutmix=1.0, seed=2**62)
    np.random.seed(1)
    assert torch.equal(mixing.draw(9, mixup=0.2, cutmix=1.0, seed=2**62), first)
    assert not torch.equal(mixing.draw(9, mixup=0.2, cutmix=1.0, seed=7), first)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_the_loss_is_the_cross_entropy_with_mixed_labels(label_smoothing: float) -> None:
    numbers = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(40, 7, generator=numbers)
    labels, partners = torch.randint(7, (2, 40), generator=numbers)
    kept = torch.rand(40, generator=numbers)
    soft = kept.unsqueeze(1) * F.one_hot(labels, 7) + (1 - kept).unsqueeze(1) * F.one_hot(partners, 7)
    expected = F.cross_entropy(logits, soft, reduction="sum", label_smoothing=label_smoothing)
    ours = mixing.cross_entropy(logits, labels, partners=partners, kept=kept, label_smoothing=label_smoothing)
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_the_loss_without_mixing_is_torchs_and_with_it_a_loop_over_images(label_smoothing: float) -> None:
    numbers = torch.Generator().manual_seed(1)
    logits, labels = torch.randn(30, 5, generator=numbers), torch.randint(5, (30,), generator=numbers)
    plain = mixing.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    torch.testing.assert_close(plain / 30, F.cross_entropy(logits, labels, label_smoothing=label_smoothing))
    inputs = pictures(30)
    _, kept = mixing.mix(inputs, mixing.draw(30, mixup=0.4, cutmix=1.0, seed=3))
    total = 0.0
    for i in range(30):
        row, own, other = logits[i : i + 1], labels[i : i + 1], labels[i - 1 : i] if i else labels[-1:]
        losses = [F.cross_entropy(row, label, label_smoothing=label_smoothing).item() for label in (own, other)]
        total += kept[i].item() * losses[0] + (1 - kept[i].item()) * losses[1]
    mixed = mixing.cross_entropy(logits, labels, partners=labels.roll(1, 0), kept=kept, label_smoothing=label_smoothing)
    assert mixed.item() == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("mixed", [True, False])
def test_the_loss_is_float32_and_has_a_gradient_whatever_the_logits_are(mixed: bool) -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(2)).bfloat16().requires_grad_()
    labels = torch.tensor([0, 1, 2, 0])
    mixing_in = {"partners": labels.roll(1, 0), "kept": torch.full((4,), 0.7)} if mixed else {}
    loss = mixing.cross_entropy(logits, labels, **mixing_in)
    loss.backward()
    assert loss.shape == ()
    assert torch.equal(loss, mixing.cross_entropy(logits.detach().float(), labels, **mixing_in))
    assert bool((logits.grad != 0).any())


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_each_class_counts_by_its_weight_and_no_image_differs_from_a_batch_of_its_own(
    mixed: bool, label_smoothing: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(9, 3, generator=generator), torch.arange(9) % 3
    weights, partners, kept = torch.tensor([0.5, 1.0, 4.0]), labels.roll(1), torch.linspace(0, 1, 9)
    options = {"label_smoothing": label_smoothing, "class_weights": weights}
    found = mixing.cross_entropy(logits, labels, **({"partners": partners, "kept": kept} if mixed else {}), **options)
    smooth = torch.full((9, 3), label_smoothing / 3)
    own = F.one_hot(labels, 3) * kept.unsqueeze(1) + F.one_hot(partners, 3) * (1 - kept.unsqueeze(1))
    targets = smooth + (1 - label_smoothing) * (own if mixed else F.one_hot(labels, 3))
    assert found == pytest.approx(-(targets * weights * logits.log_softmax(1)).sum().item(), rel=1e-6)


def test_balanced_weights_are_scikit_learns_and_average_one_over_the_images() -> None:
    labels = torch.tensor([0] * 70 + [1] * 25 + [2] * 5)
    found = mixing.balanced_weights(labels, 3)
    theirs = compute_class_weight("balanced", classes=np.arange(3), y=labels.numpy())
    assert found.tolist() == pytest.approx(theirs.tolist())
    assert found[labels].mean().item() == pytest.approx(1.0)
    absent = mixing.balanced_weights(labels, 4)
    assert torch.equal(absent[:3], found), "a class without images takes nothing from the others"
    assert absent.isfinite().all()
