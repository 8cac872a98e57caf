"""RMSProp: TensorFlow's numbers, not torch's; it leaves alone what has no gradient, and resumes to the bit."""

import io
import math
from collections.abc import Iterable

import pytest
import torch
from torch import Tensor, nn

from src.training.rmsprop import RMSProp


def stepped(optimizer: torch.optim.Optimizer, weight: nn.Parameter, gradients: Iterable[Tensor | None]) -> None:
    for gradient in gradients:
        weight.grad = gradient
        optimizer.step()


def group(*weights: nn.Parameter, lr: float = 0.1, weight_decay: float = 0.0) -> dict[str, object]:
    return {"params": list(weights), "lr": lr, "weight_decay": weight_decay}


def test_three_steps_of_two_weights_are_those_computed_by_hand() -> None:
    """decay 0.9, momentum 0.9, epsilon 0.001, lr 0.1, from the weights 1 and -2; the first weight:

    g = 0.5: s = 0.9 * 1 + 0.1 * 0.25 = 0.925, m = 0.1 * 0.5 / sqrt(0.926) = 0.0519594, w = 0.9480406
    g = 0.2: s = 0.9 * 0.925 + 0.1 * 0.04 = 0.8365, m = 0.9 * 0.0519594 + 0.02 / sqrt(0.8375) = 0.0686178, w = 0.8794227
    g = -1: s = 0.9 * 0.8365 + 0.1 * 1 = 0.85285, m = 0.9 * 0.0686178 - 0.1 / sqrt(0.85385) = -0.0464644, w = 0.9258871
    """
    weight = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = RMSProp([group(weight)], decay=0.9, momentum=0.9, epsilon=1e-3)
    expected = {
        (0.5, -1.0): ([0.925, 1.0], [0.0519594459, -0.0999500375], [0.9480405541, -1.9000499625]),
        (0.2, 0.0): ([0.8365, 0.9], [0.0686178359, -0.0899550337], [0.8794227182, -1.8100949288]),
        (-1.0, 3.0): ([0.85285, 1.71], [-0.0464643661, 0.1483891523], [0.9258870843, -1.9584840811]),
    }
    for gradient, (mean_square, momentum, moved) in expected.items():
        stepped(optimizer, weight, [torch.tensor(gradient, dtype=torch.float64)])
        assert optimizer.state[weight]["mean_square"].tolist() == pytest.approx(mean_square, rel=1e-9)
        assert optimizer.state[weight]["momentum"].tolist() == pytest.approx(momentum, rel=1e-8)
        assert weight.tolist() == pytest.approx(moved, rel=1e-9)


def test_each_weight_follows_the_equations_under_weight_decay_and_a_changing_rate() -> None:
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(shape, dtype=torch.float64)) for shape in ((3, 4), (5,))]
    decays, rates = (0.1, 0.0), (0.01, 0.05, 0.02, 0.0, 0.03)
    by_hand = [[(w, 1.0, 0.0) for w in weight.flatten().tolist()] for weight in weights]
    optimizer = RMSProp([group(w, weight_decay=d) for w, d in zip(weights, decays, strict=True)])
    for rate in rates:
        for weight, settings, decay, values in zip(weights, optimizer.param_groups, decays, by_hand, strict=True):
            settings["lr"], weight.grad = rate, torch.randn_like(weight)
            for index, (w, s, m) in enumerate(values):
                g = weight.grad.flatten()[index].item() + decay * w
                s = 0.9 * s + 0.1 * g**2
                m = 0.9 * m + rate * g / math.sqrt(s + 1e-3)
                values[index] = (w - m, s, m)
        optimizer.step()
    for weight, values in zip(weights, by_hand, strict=True):
        assert weight.flatten().tolist() == pytest.approx([w for w, _, _ in values], rel=1e-12)


def test_it_differs_from_torchs_in_its_start_its_epsilon_and_where_the_rate_enters() -> None:
    """From the same start, without epsilon and at one rate they agree; with any of the three changed, they do not."""
    torch.manual_seed(0)
    gradients = [torch.randn(6, dtype=torch.float64) for _ in range(6)]

    def run(*, ours: bool, epsilon: float = 0.0, start: float = 0.0, rates: tuple[float, float] = (0.1, 0.1)) -> Tensor:
        weight = nn.Parameter(torch.zeros(6, dtype=torch.float64))
        if ours:
            optimizer: torch.optim.Optimizer = RMSProp([group(weight)], decay=0.9, momentum=0.9, epsilon=epsilon)
            optimizer.state[weight]["mean_square"] = torch.full_like(weight, start)
            optimizer.state[weight]["momentum"] = torch.zeros_like(weight)
        else:
            optimizer = torch.optim.RMSprop([weight], lr=0.1, alpha=0.9, momentum=0.9, eps=epsilon)
        stepped(optimizer, weight, gradients[:3])
        optimizer.param_groups[0]["lr"] = rates[1]
        stepped(optimizer, weight, gradients[3:])
        return weight.detach()

    torch.testing.assert_close(run(ours=True), run(ours=False), rtol=1e-12, atol=1e-12)
    for change in ({"epsilon": 0.01}, {"rates": (0.1, 0.01)}):
        assert not torch.allclose(run(ours=True, **change), run(ours=False, **change), rtol=1e-3)
    assert not torch.allclose(run(ours=True, start=1.0), run(ours=False), rtol=1e-3)


def test_torchs_first_step_is_three_times_longer() -> None:
    """Its mean square holds a tenth of the first gradient's square; ours holds nine tenths of 1 besides."""
    ours, theirs = (nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(2))
    stepped(RMSProp([group(ours)]), ours, [torch.ones_like(ours)])
    stepped(torch.optim.RMSprop([theirs], lr=0.1, alpha=0.9, eps=1e-3), theirs, [torch.ones_like(theirs)])
    assert ours.item() == pytest.approx(-0.1 / math.sqrt(1.001))
    assert theirs.item() == pytest.approx(-0.1 / (math.sqrt(0.1) + 1e-3))


def test_a_weight_without_a_gradient_keeps_its_bits_and_its_state() -> None:
    torch.manual_seed(0)
    weight, never = nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(4))
    optimizer, first = RMSProp([group(weight, never, weight_decay=0.5)]), never.detach().clone()
    stepped(optimizer, weight, [torch.randn(4)])
    before = [weight.detach().clone(), *(value.clone() for value in optimizer.state[weight].values())]
    stepped(optimizer, weight, [None, None])
    after = [weight, *optimizer.state[weight].values()]
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert torch.equal(never, first)
    assert never not in optimizer.state


def test_a_run_that_resumes_ends_with_the_same_bits() -> None:
    torch.manual_seed(0)
    start, gradients = torch.randn(7), [torch.randn(7) for _ in range(8)]
    undisturbed = nn.Parameter(start.clone())
    stepped(RMSProp([group(undisturbed, weight_decay=0.1)]), undisturbed, gradients)
    killed = nn.Parameter(start.clone())
    optimizer, file = RMSProp([group(killed, weight_decay=0.1)]), io.BytesIO()
    stepped(optimizer, killed, gradients[:5])
    torch.save({"weight": killed.detach(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    resumed = nn.Parameter(state["weight"])
    optimizer = RMSProp([group(resumed, lr=9.0)])  # the state brings the rate and the decay along
    optimizer.load_state_dict(state["optimizer"])
    stepped(optimizer, resumed, gradients[5:])
    assert torch.equal(resumed, undisturbed)
    assert not torch.equal(resumed, killed)


def test_under_loss_scaling_a_step_is_the_unscaled_one_and_an_overflow_moves_nothing() -> None:
    plain, scaled = (nn.Parameter(torch.linspace(-1, 1, 5)) for _ in range(2))
    scaler, optimizer = torch.amp.GradScaler("cpu", init_scale=1024.0), RMSProp([group(scaled)])
    (plain**2).sum().backward()
    RMSProp([group(plain)]).step()
    scaler.scale((scaled**2).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(plain, scaled)
    before = scaled.detach().clone()
    scaled.grad = torch.full_like(scaled, math.inf)
    scaler.step(optimizer)
    assert torch.equal(scaled, before)


def test_a_closure_is_evaluated_with_gradients_and_its_loss_returned() -> None:
    weight = nn.Parameter(torch.ones(2))
    optimizer = RMSProp([group(weight)])

    def closure() -> float:
        optimizer.zero_grad()
        loss = (weight**2).sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 2.0
    assert (weight < 1).all()
