"""The pretended GPU refuses what a GPU refuses: what passes there is placed right."""

import copy

import pytest
import torch
from pretended_gpu import is_pretended
from torch import nn

from rayfs.engine.repeated_step import EAGER_STEPS, RepeatedStep, replayable

HERE, INDEX = torch.ones(4, 4), torch.tensor([0, 2])
REFUSED = {
    "operands": lambda there: there + HERE,
    "a module's input": lambda there: nn.Linear(4, 4)(there),
    "a module there, its input here": lambda there: nn.Linear(4, 4).to(there.device)(HERE),
    "a list": lambda there: torch.cat([there, HERE]),
    "indices": lambda there: HERE[INDEX.to(there.device)],
    "a generator": lambda there: torch.rand(2, device=there.device, generator=torch.Generator()),
    "a generator of the other": lambda there: torch.rand(2, generator=torch.Generator(there.device)),
    "in place": lambda there: there.normal_(generator=torch.Generator()),
    "a loss": lambda there: nn.functional.cross_entropy(there, torch.zeros(4, dtype=torch.int64)),
}


@pytest.fixture(autouse=True)
def pretended(gpu):
    if not is_pretended():
        pytest.skip("this machine has a GPU")
    return gpu


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_on_two_devices_is_refused(name, gpu):
    with pytest.raises(RuntimeError):
        REFUSED[name](torch.ones(4, 4, device=gpu))


def test_arrays_are_of_the_host(gpu):
    with pytest.raises(TypeError):
        torch.ones(2, device=gpu).numpy()
    assert torch.ones(2, device=gpu).cpu().numpy().sum() == 2


def test_everything_made_from_what_is_there_is_there(gpu):
    network = copy.deepcopy(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten())).to(gpu)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, fused=True)
    loss = network(torch.ones(2, 1, 5, 5).to(gpu)).square().mean()
    loss.backward()
    optimizer.step()
    states = [state["momentum_buffer"] for state in optimizer.state.values()]
    tensors = [loss, *network.parameters(), *network.buffers(), *(p.grad for p in network.parameters()), *states]
    assert {tensor.device for tensor in tensors} == {torch.device("cuda", 0)} and len(states) == 4
    assert next(copy.deepcopy(network).cpu().parameters()).device.type == "cpu"
    there = torch.ones(3, 2, device=gpu)
    assert there[0].is_cuda and there[INDEX].is_cuda and there.T.is_cuda and not there.cpu().is_cuda


CAPTURED = {
    "a number": lambda there: there * there.sum().item(),
    "a branch": lambda there: there if there.sum() > 0 else -there,
    "a mask": lambda there: there[there > 0],
    "a copy to the host": lambda there: there.cpu(),
    "a copy from the host": lambda there: there + HERE.to(there.device),
    "written from the host": lambda there: there.copy_(HERE),
}


@pytest.mark.parametrize("name", CAPTURED)
def test_steps_that_no_graph_can_hold_are_refused(name, gpu):
    there = torch.ones(4, 4, device=gpu)
    repeated = RepeatedStep(lambda: CAPTURED[name](there), gpu, [], True)
    with replayable(gpu, True), pytest.raises(RuntimeError, match="captured"):
        for _ in range(EAGER_STEPS + 1):
            repeated()


def test_graph_computes_again_and_python_does_not(gpu):
    weight = torch.zeros(2, device=gpu, requires_grad=True)
    generator, steps = torch.Generator(gpu), []

    def step() -> torch.Tensor:
        steps.append(len(steps))
        ((weight + torch.rand(2, device=gpu, generator=generator) + len(steps)) ** 2).sum().backward()
        with torch.no_grad():
            weight.sub_(weight.grad)
            weight.grad.zero_()
        return weight.detach() * 1

    repeated = RepeatedStep(step, gpu, [generator], True)
    with replayable(gpu, True):
        found = [repeated() for _ in range(EAGER_STEPS + 3)]
    weight_then, draws = torch.zeros(2), torch.Generator()
    for i, result in enumerate(found):
        n_steps = min(i, EAGER_STEPS) + 1  # Python counted no further
        weight_then = weight_then - 2 * (weight_then + torch.rand(2, generator=draws) + n_steps)
        torch.testing.assert_close(result.cpu(), weight_then)
    assert len(steps) == EAGER_STEPS + 1


def test_draws_from_an_unknown_generator_are_refused(gpu):
    generator = torch.Generator(gpu)
    repeated = RepeatedStep(lambda: torch.rand(2, device=gpu, generator=generator), gpu, [], True)
    with replayable(gpu, True), pytest.raises(RuntimeError, match="does not know"):
        for _ in range(EAGER_STEPS + 1):
            repeated()
