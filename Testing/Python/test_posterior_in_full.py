"""The fast posterior sorts curves and leaves out atoms without weight; here it is compared with sums over every atom of the grid."""

import numpy as np
import pytest

from CTPerfusionSuiteLib.phantoms.bolus import ArterialBolus
from CTPerfusionSuiteLib.phantoms.forward_model import CurveTable
from CTPerfusionSuiteLib.tracer_kinetics import flow_scale
from PerfusionMapsLib import bayesian
from PerfusionMapsLib.bayesian import Posterior, posterior
from PerfusionMapsLib.perfusion_model import PerfusionModel

TIMES = 1.5 * np.arange(40)
BOLUS = ArterialBolus()
MODEL = PerfusionModel(TIMES, TIMES, BOLUS(TIMES))


def curves(noise_hu: float, count: int = 3000) -> np.ndarray:
    """Components (P, N) of curves of all sorts, some of them nothing but noise."""
    rng = np.random.default_rng(5)
    mtt, delay, cbv = rng.uniform(2.5, 20.0, count), rng.uniform(0.0, 8.0, count), rng.uniform(1.0, 5.0, count)
    cbv[::7] = 0.0
    table = CurveTable.build(BOLUS, float(TIMES[-1]), "linear")
    clean = table.project(60.0 * cbv / mtt / flow_scale(), mtt, delay) @ table.at(TIMES)
    noisy = clean.T + rng.normal(0.0, noise_hu, (TIMES.size, count))
    return MODEL.project(noisy.astype(np.float32))[: MODEL.dictionary.components]


def in_full(components: np.ndarray, variance: np.ndarray) -> dict[str, np.ndarray]:
    """Posterior of curves (P, N) in double precision, every atom weighed; `variance` (N,) misfit included."""
    d = MODEL.dictionary
    q = np.maximum(d.atoms.astype(float) @ components.astype(float), 0.0)
    weight = np.exp((q**2 - q.max(axis=0) ** 2) / (2.0 * variance))
    weight /= weight.sum(axis=0)
    grid = (-1, d.mtt_grid.size, d.delay.size, components.shape[1])
    flow = (q * weight * d.inverse_norm[:, None]).reshape(grid)
    found = {"flow": flow.sum(axis=(0, 1, 2)), "delay": np.einsum("l,smln->n", d.delay, weight.reshape(grid))}
    found["mtt"] = np.einsum("m,smln->n", d.mtt_grid, flow) / np.maximum(found["flow"], 1e-12)
    weight = weight.reshape(grid)
    shape = weight.sum(axis=(1, 2), keepdims=True)
    trusted = shape**bayesian.SHAPE_TRUST
    weight = weight * trusted / trusted.sum(axis=0) / np.maximum(shape, 1e-300)
    for name, nodes, mass in (("delay", d.delay, weight.sum(axis=(0, 1))), ("mtt", np.log(d.mtt_grid), weight.sum(axis=(0, 2)))):
        step = nodes[1] - nodes[0]
        edges = np.append(nodes, nodes[-1] + step) - 0.5 * step
        total = np.concatenate([np.zeros((1, mass.shape[1])), np.cumsum(mass, axis=0)])
        for level in (0.025, 0.975):
            points = np.array([np.interp(level, column, edges) for column in total.T])
            found[f"{name}_p{1000 * level:03.0f}"] = np.exp(points) if name == "mtt" else points
        if name == "delay":
            found["delay_sd"] = np.sqrt((nodes**2) @ mass - (nodes @ mass) ** 2 + step**2 / 12)
    return found


@pytest.mark.parametrize("noise_hu", [0.3, 2.0, 6.0])
def test_leaving_out_atoms_without_weight_changes_nothing(noise_hu):
    components = curves(noise_hu)
    fast = posterior(MODEL.dictionary, components, np.full(components.shape[1], noise_hu**2, np.float32))
    full = in_full(components, fast.noise.astype(float) ** 2)
    # Where one atom holds most of the mass the estimate moves within its cell, which sums over the grid cannot do.
    d = MODEL.dictionary
    q = np.maximum(d.atoms @ components, 0.0)
    spread = np.exp2((q**2 - q.max(axis=0) ** 2) * (0.7213 / fast.noise**2)).sum(axis=0) > 2.01
    assert spread.mean() > 0.3
    for name in ("flow", "mtt", "delay"):
        np.testing.assert_allclose(getattr(fast, name)[spread], full[name][spread], rtol=1e-3, atol=1e-3 if name == "delay" else 1e-7)
    np.testing.assert_allclose(fast.delay_sd, full["delay_sd"], rtol=2e-3)
    for name in ("mtt_p025", "mtt_p975", "delay_p025", "delay_p975"):
        np.testing.assert_allclose(getattr(fast, name), full[name], rtol=1e-3, atol=5e-3, err_msg=name)


def test_the_comparison_notices_atoms_that_had_weight(monkeypatch):
    monkeypatch.setattr(bayesian, "NOTHING", 1.0)
    with pytest.raises(AssertionError):
        test_leaving_out_atoms_without_weight_changes_nothing(0.3)


def test_the_order_of_the_curves_does_not_matter():
    components = curves(0.3)
    turned = np.random.default_rng(1).permutation(components.shape[1])
    variance = np.full(components.shape[1], 0.09, np.float32)
    one, other = posterior(MODEL.dictionary, components, variance), posterior(MODEL.dictionary, components[:, turned], variance, threads=2)
    for name in Posterior.__dataclass_fields__:
        np.testing.assert_allclose(getattr(one, name)[..., turned], getattr(other, name), rtol=2e-3, atol=2e-3, err_msg=name)


def test_a_curve_that_points_away_from_every_atom_gives_finite_numbers_as_if_it_were_noise():
    noise = np.random.default_rng(0).normal(size=(MODEL.dictionary.components, 20000)).astype(np.float32)
    away = noise[:, (MODEL.dictionary.atoms @ noise < 0).all(axis=0)][:, :5]
    assert away.shape[1] == 5
    for count in (1, 5):
        found = posterior(MODEL.dictionary, away[:, :count], np.ones(count, np.float32))
        assert np.isfinite([found.flow, found.delay, found.mtt, found.delay_p025, found.flow_p975]).all()
        # Nothing is known of the delay: it spreads over the whole grid.
        assert found.delay == pytest.approx(MODEL.dictionary.delay.mean(), abs=1.0)


def test_a_faint_curve_alone_is_weighed_like_one_among_many():
    components = curves(6.0, 300)
    together = posterior(MODEL.dictionary, components, np.full(300, 36.0, np.float32))
    for n in range(0, 300, 23):
        alone = posterior(MODEL.dictionary, components[:, n : n + 1], np.full(1, 36.0, np.float32))
        assert alone.delay[0] == pytest.approx(together.delay[n], abs=2e-3)
        assert alone.flow[0] == pytest.approx(together.flow[n], rel=2e-3, abs=1e-7)
