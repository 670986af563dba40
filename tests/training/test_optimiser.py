"""Adam is torch's; Muon moves each weight matrix by an orthogonal step; both go on from their state."""

import copy

import pytest
import torch
from torch import nn

from cirlib.training.optimiser import ADAM_SHARE, _iterate, _iterate_gram, make_optimiser, orthogonal


def model(channels_last: bool = False) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3), nn.Flatten(), nn.Linear(64 * 4, 40))
    return net.to(memory_format=torch.channels_last) if channels_last else net


def step(net: nn.Module, optimiser, number: int = 0, lr: float = 0.01) -> None:
    x = torch.randn(5, 1, 6, 6, generator=torch.Generator().manual_seed(number))
    optimiser.zero_grad()
    net(x).square().sum().backward()
    optimiser.step(lr)


def test_adam_is_that_of_torch():
    ours, theirs = model(), model()
    optimiser, reference = make_optimiser("adam", ours), torch.optim.Adam(theirs.parameters())
    for k in range(3):
        step(ours, optimiser, k, 0.01 / (k + 1))
        reference.param_groups[0]["lr"] = 0.01 / (k + 1)
        theirs.zero_grad()
        theirs(torch.randn(5, 1, 6, 6, generator=torch.Generator().manual_seed(k))).square().sum().backward()
        reference.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize(("fast", "apart"), [(True, 0), (False, 0.1)])  # in bfloat16 as torch has it; in float32 without its noise
def test_muon_is_that_of_torch(monkeypatch, fast, apart):
    monkeypatch.setattr("cirlib.training.optimiser.fast_bf16", lambda device: fast)
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(40, 90, bias=False), nn.Linear(90, 40, bias=False))
    theirs, before = copy.deepcopy(ours), copy.deepcopy(ours)
    optimiser, reference = make_optimiser("muon", ours), torch.optim.Muon(theirs.parameters(), weight_decay=0.0)
    for k in range(3):
        reference.param_groups[0]["lr"] = lr = 0.01 / (k + 1)
        for net in (ours, theirs):
            net.zero_grad()
            net(torch.randn(50, 40, generator=torch.Generator().manual_seed(k))).square().sum().backward()
        optimiser.step(lr)
        reference.step()
    for a, b, start in zip(*(net.parameters() for net in (ours, theirs, before)), strict=True):
        assert (a - b).norm() <= apart * (b - start).norm()


def test_momenta_of_weights_without_gradient_fade_to_nothing():
    """Not to subnormal numbers, which are slow; what still has a gradient keeps its momentum."""
    net = nn.Linear(64, 40, bias=False)
    optimiser = make_optimiser("muon", net)
    momentum = optimiser.momenta[0]
    for k in range(1000):
        net.weight.grad = torch.full_like(net.weight, 1e-3)
        if k:
            net.weight.grad[:, :8] = 0
        optimiser.step(1e-3)
    assert not momentum[:, :8].any() and (momentum[:, 8:] > 9e-4).all()


@pytest.mark.parametrize("shape", [(40, 90), (90, 40)])
@pytest.mark.parametrize("fast", [True, False])
def test_orthogonal_keeps_directions_with_values_near_1(monkeypatch, shape, fast):
    monkeypatch.setattr("cirlib.training.optimiser.fast_bf16", lambda device: fast)
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    out = orthogonal(matrix)
    assert out.dtype == torch.float32
    values = torch.linalg.svdvals(out)
    assert values.min() > 0.6 and values.max() < 1.3
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    along = u.T @ out @ vh.T
    assert (along - along.diagonal().diag()).abs().max() < (0.05 if fast else 1e-4)
    assert not orthogonal(torch.zeros(shape)).any()


def test_small_directions_come_out_as_from_the_long_iteration():
    """In float32 the square matrix alone is iterated; rows of any size, nearly dependent or zero, give what the post's formula gives."""
    matrix = torch.randn(40, 300, generator=torch.Generator().manual_seed(1)) * torch.logspace(0, -6, 40)[:, None]
    matrix[7], matrix[9] = matrix[8], 0
    long = _iterate(matrix.double()).float()
    torch.testing.assert_close(_iterate_gram(matrix), long, rtol=0, atol=1e-4 * float(long.abs().max()))


@pytest.mark.parametrize("channels_last", [False, True])
def test_muon_moves_matrices_by_orthogonal_steps(channels_last):
    """Filters are rows: a step goes as far along each large singular direction of the gradient; the rest is Adam's."""
    net = model(channels_last)
    before = copy.deepcopy(net)
    step(net, make_optimiser("muon", net), lr=0.01)
    moved = {name: (p - q).detach() for (name, p), q in zip(net.named_parameters(), before.parameters(), strict=True)}
    for name in ("1.weight", "3.weight"):
        gradient, change = net.get_parameter(name).grad.flatten(1), moved[name].flatten(1)
        u, values, vh = torch.linalg.svd(gradient, full_matrices=False)
        along = (u.T @ change @ vh.T).diagonal()[:5] / 0.01
        assert values[0] > 2 * values[4]
        assert along.min() > -1.3 and along.max() < -0.6
    for name in ("0.weight", "0.bias", "1.bias", "3.bias"):  # 9 columns only; vectors
        torch.testing.assert_close(moved[name].abs(), torch.full_like(moved[name], 0.01 * ADAM_SHARE), rtol=1e-3, atol=1e-7)


def test_memory_format_does_not_change_muon(monkeypatch):
    """In float32: the rounding of bfloat16 depends on the order of sums."""
    monkeypatch.setattr("cirlib.training.optimiser.fast_bf16", lambda device: False)
    nets = [model(last) for last in (False, True)]
    for net in nets:
        step(net, make_optimiser("muon", net))
    for a, b in zip(*(net.parameters() for net in nets), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ["adam", "muon"])
def test_goes_on_from_its_state(name):
    whole, parts = model(), model()
    optimiser, early = make_optimiser(name, whole), make_optimiser(name, parts)
    for k in range(4):
        step(whole, optimiser, k)
    for k in range(2):
        step(parts, early, k)
    later = make_optimiser(name, parts)
    later.load_state_dict(copy.deepcopy(early.state_dict()))
    for k in (2, 3):
        step(parts, later, k)
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_unknown_optimiser():
    with pytest.raises(ValueError, match=r"unknown optimiser 'mun' \(did you mean 'muon'\?\); valid: adam, muon"):
        make_optimiser("mun", model())


@pytest.mark.parametrize("name", ["adam", "muon"])
def test_what_a_loss_does_not_use_stays_as_it_is(name):
    net = nn.ModuleDict({"used": nn.Linear(40, 40), "unused": nn.Linear(40, 40)})
    optimiser, before = make_optimiser(name, net), copy.deepcopy(net)
    optimiser.zero_grad()
    net["used"](torch.ones(2, 40)).square().sum().backward()
    optimiser.step(0.01)
    for part, same in (("used", False), ("unused", True)):
        assert torch.equal(net[part].weight, before[part].weight) is same
