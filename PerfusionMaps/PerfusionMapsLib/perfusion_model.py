"""From time curves to perfusion, voxel by voxel: a model made once for given scan times and input, and its fit to any curves."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields

import numpy as np

from CTPerfusionSuiteLib.errors import DataRefused
from CTPerfusionSuiteLib.tracer_kinetics import flow_scale, volume_scale

from .bayesian import posterior
from .calling_thread_product import product, product_of_columns, weighted_sum
from .perfusion_options import EngineOptions, Method
from .residue_dictionary import CURVE_STEP_S, ResidueCurves, build_dictionary, interpolate_input, residue_curves
from .svd_deconvolution import half_rise, osvd, osvd_matrices
from .threshold_scale import ThresholdOperator, read_residue, threshold_operator, vertex

CHUNK = 2048
"""Curves worked on at once, so that intermediate results stay in cache."""

MINIMUM_FRAMES = 7
"""Curves of fewer samples cannot tell flow, transit time, delay and baseline apart."""


@dataclass(frozen=True)
class PerfusionFit:
    """Perfusion of N curves.  Fields ending in ``_sd``, ``_p025``, ``_p975`` are None unless the method is Bayesian.

    Attributes
    ----------
    cbf : float32 ndarray (N,)
        Cerebral blood flow, mL/100 g/min.
    cbv : float32 ndarray (N,)
        Cerebral blood volume, mL/100 g.
    mtt : float32 ndarray (N,)
        Mean transit time, 60 CBV / CBF, s.
    delay : float32 ndarray (N,)
        Arterial delay, s.
    tmax : float32 ndarray (N,)
        Time of the maximum of the threshold-scale residue, s.
    operator_cbf : float32 ndarray (N,)
        Flow on the threshold scale, mL/100 g/min.
    ttp : float32 ndarray (N,)
        Time to peak of the denoised curve after arterial arrival, s.
    noise : float32 ndarray (N,)
        Standard deviation of the noise of one sample, HU.
    """

    cbf: np.ndarray
    cbv: np.ndarray
    mtt: np.ndarray
    delay: np.ndarray
    tmax: np.ndarray
    operator_cbf: np.ndarray
    ttp: np.ndarray
    noise: np.ndarray
    cbf_sd: np.ndarray | None = None
    cbf_p025: np.ndarray | None = None
    cbf_p975: np.ndarray | None = None
    mtt_sd: np.ndarray | None = None
    mtt_p025: np.ndarray | None = None
    mtt_p975: np.ndarray | None = None
    delay_sd: np.ndarray | None = None
    delay_p025: np.ndarray | None = None
    delay_p975: np.ndarray | None = None

    def maps(self) -> dict[str, np.ndarray]:
        """Every field that is there, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}


class PerfusionModel:
    """The tracer-kinetic model of one set of scan times.

    Parameters
    ----------
    times : array_like (T,)
        When curves are sampled, seconds, strictly increasing.
    aif_times, aif : array_like (M,)
        Arterial input, seconds on the same axis and HU above baseline; its times need not be those of the curves.
    options : EngineOptions
    curve_times : ndarray (N,), optional
        Even grid of denoised curves and of the threshold-scale operator; by default from 0 to the last scan by 0.5 s.
    curves : ResidueCurves, optional
    operator : ThresholdOperator, optional
        Both when several models share one input.

    Raises
    ------
    DataRefused
        Fewer than 7 samples, times that do not increase, or an input without a bolus.
    """

    def __init__(
        self,
        times,
        aif_times,
        aif,
        options: EngineOptions = EngineOptions(),
        curve_times=None,
        curves: ResidueCurves | None = None,
        operator: ThresholdOperator | None = None,
    ):
        self.options = options
        self.times = np.asarray(times, dtype=float)
        aif_times, aif = np.asarray(aif_times, dtype=float), np.asarray(aif, dtype=float)
        if aif_times.shape != aif.shape or aif.size < 4 or not np.all(np.diff(aif_times) > 0) or not np.all(np.diff(self.times) > 0):
            raise DataRefused("the times of the arterial input or of the scan do not increase from sample to sample; check the time axis")
        if self.times.size < MINIMUM_FRAMES:
            raise DataRefused(
                f"the scan has {self.times.size} time points and perfusion needs at least {MINIMUM_FRAMES}; use a longer acquisition"
            )
        if not (np.all(np.isfinite(aif)) and aif.max(initial=0.0) > 0):
            raise DataRefused("the arterial input function never rises above its baseline; choose another artery")
        last = max(float(self.times[-1]), float(aif_times[-1]))
        self.curve_times = np.arange(0.0, last + 1e-6, CURVE_STEP_S) if curve_times is None else np.asarray(curve_times, dtype=float)
        self.aif = interpolate_input(aif_times, aif, self.curve_times)
        self.operator = operator or threshold_operator(self.curve_times, self.aif)
        self.dictionary = build_dictionary(curves or residue_curves(aif_times, aif, self.curve_times[-1]), self.times, self.curve_times)
        self._osvd_matrices = osvd_matrices(self.dictionary, self.aif) if options.method == Method.OSVD else []

    def project(self, curves: np.ndarray) -> np.ndarray:
        """Channels (P + Q, N) of curves (T, N): principal components, then noise directions; float32, constants drop out."""
        channels = np.ascontiguousarray(self.dictionary.channels.T)
        out = np.empty((channels.shape[0], curves.shape[1]), np.float32)
        for at in range(0, curves.shape[1], CHUNK):
            block = curves[:, at : at + CHUNK].astype(np.float32)
            # Single precision: take away what the channels do not see before it costs digits.
            block -= block[0].copy()
            product(channels, block, out=out[:, at : at + CHUNK])
        return out

    def fit(self, curves: np.ndarray, noise=None, threads: int = 1) -> PerfusionFit:
        """Perfusion of curves.

        Parameters
        ----------
        curves : ndarray (T, N)
            HU with any constant baseline.
        noise : float or array_like (N,), optional
            Standard deviation of one sample, HU; by default measured on each curve, outside the dictionary's subspace.
        threads : int
        """
        channels = self.project(curves)
        count = self.dictionary.components
        if noise is None:
            variance = self._unexplained_variance(curves, channels[:count])
        else:
            variance = np.broadcast_to(np.square(np.asarray(noise, dtype=np.float32)), channels.shape[1:])
        return self.fit_components(channels[:count], variance, threads)

    def _unexplained_variance(self, curves, components) -> np.ndarray:
        """Variance (N,) in all directions that neither a constant nor the components span, HU^2."""
        energy = np.empty(components.shape[1], np.float32)
        for at in range(0, energy.size, CHUNK):
            block = curves[:, at : at + CHUNK].astype(np.float64)
            energy[at : at + CHUNK] = self.times.size * block.var(axis=0)
        rest = np.maximum(energy - np.einsum("pn,pn->n", components, components), 0.0)
        return rest / max(self.times.size - 1 - components.shape[0], 1)

    def fit_components(self, components: np.ndarray, noise_variance: np.ndarray, threads: int = 1, height_variance=None) -> PerfusionFit:
        """Perfusion of curves given as principal components (P, N) with noise of variance (N,) HU^2 in each.

        `height_variance` (N,) is that of the curve's height where it was averaged over fewer voxels than its shape.
        """
        d, method = self.dictionary, self.options.method
        count = components.shape[1]
        p = posterior(d, components, noise_variance, threads, height_variance) if method == Method.BAYES else None
        height, tmax, peak, flow, delay = (np.empty(count, np.float32) for _ in range(5))
        readers = (d.curve_predictor,) if p is None else (d.curve_basis, d.curve_predictor)
        to_residue = [self.operator.matrix @ reader for reader in readers]

        def read(at):
            here = slice(at, at + CHUNK)
            block = components[:, here]
            if p is None:
                residues, curves = (product_of_columns(block, matrix[0]) for matrix in (to_residue, readers))
            else:
                known = p.curve[:, here]
                residues, curves = (product_of_columns(known, matrix[0]) for matrix in (to_residue, readers))
                rest, some = self._significant_rest(block, known, noise_variance[here])
                if some.size:
                    residues[some] += product_of_columns(rest, to_residue[1])
                    curves[some] += product_of_columns(rest, readers[1])
            height[here], tmax[here] = read_residue(residues, self.operator.step)
            peak[here] = self._peak_time(curves)
            if method == Method.BCSVD:
                flow[here], delay[here] = height[here], half_rise(residues, self.operator.step)
            elif method == Method.OSVD:
                flow[here], _, delay[here] = osvd(self._osvd_matrices, block, self.operator.step, float(np.median(np.diff(self.times))))

        if threads > 1 and count > CHUNK:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(read, range(0, count, CHUNK)))
        else:
            for at in range(0, count, CHUNK):
                read(at)
        if p is None:
            volume = np.maximum(weighted_sum(d.area_predictor, components), 0.0)
        else:
            flow, volume, delay = p.flow, p.volume, p.delay
        scale, volume_unit = np.float32(flow_scale(self.options.hematocrit)), np.float32(volume_scale(self.options.hematocrit))
        cbf, cbv = flow * scale, volume * volume_unit
        results = {
            "cbf": cbf,
            "cbv": cbv,
            "mtt": np.where(cbf > 1e-6, 60.0 * cbv / np.maximum(cbf, 1e-6), 0.0).astype(np.float32),
            "delay": delay,
            "tmax": tmax,
            "operator_cbf": height * scale,
            "ttp": peak - np.float32(d.arrival),
            "noise": np.sqrt(noise_variance).astype(np.float32),
        }
        if p is not None:
            results |= {f"cbf_{n}": getattr(p, f"flow_{n}") * scale for n in ("sd", "p025", "p975")}
            results |= {f"{q}_{n}": getattr(p, f"{q}_{n}") for q in ("mtt", "delay") for n in ("sd", "p025", "p975")}
        return PerfusionFit(**results)

    def _significant_rest(self, components, curve, noise_variance) -> tuple[np.ndarray, np.ndarray]:
        """What curves (P, N) hold beyond their posterior means, shrunk to nothing where it is no more than noise.

        Residue functions outside the dictionary's family leave a rest; with it the threshold scale does not depend on the family.
        Positive-part James-Stein shrinkage, with twice the expected energy of the noise.

        Returns
        -------
        float32 ndarray (P, M), int ndarray (M,)
            The rests that are left, and whose they are.
        """
        rest = components - product(self.dictionary.curve_components, curve)
        energy = np.einsum("pn,pn->n", rest, rest)
        share = np.maximum(1.0 - 2.0 * components.shape[0] * noise_variance / np.maximum(energy, 1e-12), 0.0).astype(np.float32)
        some = np.flatnonzero(share)
        return rest[:, some] * share[some], some

    def _peak_time(self, curves: np.ndarray) -> np.ndarray:
        """Time of the maximum of curves (n, N) on the curve grid, s, between samples by a parabola."""
        peak = np.clip(np.argmax(curves, axis=1), 1, curves.shape[1] - 2)
        return ((peak + np.clip(vertex(curves, peak)[1], -1.0, 1.0)) * self.operator.step).astype(np.float32)
