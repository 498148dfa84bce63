"""The 4-D convolution is one: all four kernel axes are summed, once, with one bias, and it costs what its sums cost."""

import itertools
import time

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional  # noqa: E402

from StrokeSegmentationLib.convolution4d import Convolution4d, convolution4d  # noqa: E402


def by_the_formula(x, weight, bias, time_stride=1):
    """Every product of the definition, one after another, in double precision."""
    outputs, _, *kernel = weight.shape
    batch, _, *size = x.shape
    pads = [extent // 2 for extent in kernel]
    padded = functional.pad(x.double(), [pad for pad in reversed(pads) for _ in range(2)])
    frames = range(0, size[1], time_stride)
    y = bias.double().view(1, -1, 1, 1, 1, 1).repeat(batch, 1, size[0], len(frames), *size[2:])
    for d, e, f, g in itertools.product(*map(range, kernel)):
        moved = padded[:, :, d : d + size[0], e : e + size[1], f : f + size[2], g : g + size[3]][:, :, :, ::time_stride]
        y = y + torch.einsum("bcztji,oc->boztji", moved, weight[:, :, d, e, f, g].double())
    return y


def one_value_by_hand(x, weight, bias, place):
    """The sum at one place, in plain Python."""
    z, t, j, i = place
    total = float(bias.detach()[0])
    for c, d, e, f, g in itertools.product(*map(range, weight.shape[1:])):
        at = (z + d - weight.shape[2] // 2, t + e - weight.shape[3] // 2, j + f - weight.shape[4] // 2, i + g - weight.shape[5] // 2)
        if all(0 <= a < size for a, size in zip(at, x.shape[2:], strict=True)):
            total += float(weight[0, c, d, e, f, g]) * float(x[(0, c, *at)])
    return total


@pytest.mark.parametrize("kernel", [(3, 3, 3, 3), (1, 3, 3, 3), (5, 1, 3, 1), (3, 5, 1, 3)])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_forward_and_backward_match_the_direct_sum(kernel, stride):
    torch.manual_seed(1)
    layer = Convolution4d(3, 4, kernel, stride)
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, 3, 4, 7, 6, 5, requires_grad=True)
    y = layer(x)
    y.backward(weighting := torch.randn(y.shape))
    found = [y.detach(), x.grad, layer.weight.grad, layer.bias.grad]
    exact_x, exact_weight, exact_bias = (value.detach().clone().double().requires_grad_() for value in (x, layer.weight, layer.bias))
    exact = by_the_formula(exact_x, exact_weight, exact_bias, stride)
    exact.backward(weighting.double())
    for value, truth in zip(found, [exact.detach(), exact_x.grad, exact_weight.grad, exact_bias.grad], strict=True):
        assert value.shape == truth.shape
        assert float((value - truth).abs().max()) <= 1e-5 * max(1.0, float(truth.abs().max()))


def test_a_value_counted_by_hand_agrees_at_a_corner_and_inside():
    torch.manual_seed(2)
    layer = Convolution4d(2, 1)
    torch.nn.init.constant_(layer.bias, 0.7)
    x = torch.randn(1, 2, 3, 4, 4, 5)
    y = layer(x).detach()
    for place in ((0, 0, 0, 0), (1, 2, 2, 3), (2, 3, 3, 4)):
        assert float(y[(0, 0, *place)]) == pytest.approx(one_value_by_hand(x, layer.weight.detach(), layer.bias, place), abs=1e-5)


def test_it_is_linear_with_one_bias_unlike_a_sum_of_activated_convolutions():
    torch.manual_seed(3)
    layer = Convolution4d(2, 3)
    torch.nn.init.normal_(layer.bias)
    a, b = torch.randn(2, 1, 2, 3, 5, 4, 4)
    nothing = layer(torch.zeros_like(a))
    assert torch.allclose(nothing, layer.bias.view(1, -1, 1, 1, 1, 1).expand_as(nothing))
    assert torch.allclose(layer(2 * a - 3 * b) - nothing, 2 * (layer(a) - nothing) - 3 * (layer(b) - nothing), atol=1e-4)


def test_what_is_seen_in_a_slice_reaches_its_neighbors_only():
    layer = Convolution4d(1, 1)
    x = torch.zeros(1, 1, 7, 5, 5, 5)
    x[0, 0, 3] = 1
    touched = (layer(x) != 0).flatten(3).any(dim=3)[0, 0]
    assert touched.tolist() == [False, False, True, True, True, False, False]


def test_it_takes_no_longer_than_three_times_the_sum_of_3d_convolutions():
    torch.manual_seed(4)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    x = torch.randn(1, 8, 6, 12, 32, 32)
    layer = Convolution4d(8, 8)

    def direct():
        return convolution4d(x, layer.weight, layer.bias)

    def as_a_sum():
        padded = functional.pad(x[0].transpose(0, 1), (0, 0) * 4 + (1, 1))
        return sum(functional.conv3d(padded[d : d + 6], layer.weight[:, :, d], padding=1) for d in range(3))

    def shortest(work):
        work().sum().backward()
        spent = []
        for _ in range(5):
            start = time.process_time()
            work().sum().backward()
            spent.append(time.process_time() - start)
        return min(spent)

    try:
        assert shortest(direct) <= 3 * shortest(as_a_sum)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("kernel", [(2, 3, 3, 3), (3, 3, 3), (3, 0, 3, 3)])
def test_a_kernel_without_a_middle_is_an_error(kernel):
    with pytest.raises(ValueError, match="odd"):
        Convolution4d(1, 1, kernel)
