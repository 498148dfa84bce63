"""Grid-Bayesian estimation of flow, transit time and delay: the posterior over the whole dictionary, for every curve.

For an atom u of unit length and a curve c in component space with white noise of variance s2 the amplitude has its maximum at
q = u.c, and the atom's weight, with the amplitude integrated out and held nonnegative, is exp(max(q, 0)^2 / (2 s2)) up to a
factor all atoms share.  Means, standard deviations and percentiles are sums over the grid.

References
----------
Boutelier T et al., IEEE Trans Med Imaging 2012;31:1381-1395 (Bayesian perfusion estimation with delay).
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields

import numpy as np

from .calling_thread_product import LARGEST, weighted_sum
from .residue_dictionary import ResidueDictionary

RELATIVE_MODEL_ERROR = 0.01
"""Standard deviation of what the dictionary cannot describe, as a fraction of the curve's norm."""

MISFIT_FREEDOM = 4
"""Parameters a curve's best atom uses up: amplitude, transit time, delay, shape."""

BLOCK = 128
"""Curves worked on at once: enough to hide the cost of a call, few enough that their weights stay in cache."""

CHUNK = 16 * BLOCK
"""Curves summarized at once."""


@dataclass(frozen=True)
class Posterior:
    """What is known about N curves.

    Attributes
    ----------
    flow, volume : float32 ndarray (N,)
        Posterior means, mL/mL/s and mL/mL (no hematocrit, no density).
    delay : float32 ndarray (N,)
        Posterior mean, s.
    mtt : float32 ndarray (N,)
        `volume` / `flow`, s.
    flow_sd, mtt_sd, delay_sd, flow_p025, flow_p975, mtt_p025, mtt_p975, delay_p025, delay_p975 : float32 ndarray (N,)
    curve : float32 ndarray (R, N)
        Posterior-mean curve in the dictionary's `curve_basis`, HU.
    noise : float32 ndarray (N,)
        Standard deviation used, misfit included, HU.
    """

    flow: np.ndarray
    volume: np.ndarray
    delay: np.ndarray
    mtt: np.ndarray
    flow_sd: np.ndarray
    mtt_sd: np.ndarray
    delay_sd: np.ndarray
    flow_p025: np.ndarray
    flow_p975: np.ndarray
    mtt_p025: np.ndarray
    mtt_p975: np.ndarray
    delay_p025: np.ndarray
    delay_p975: np.ndarray
    curve: np.ndarray
    noise: np.ndarray


def posterior(dictionary: ResidueDictionary, components, noise_variance, threads: int = 1, height_variance=None) -> Posterior:
    """Posterior of every curve.

    Parameters
    ----------
    dictionary : ResidueDictionary
    components : float32 ndarray (P, N)
        Curves in the dictionary's basis, HU.
    noise_variance : float32 ndarray (N,)
        Variance of the noise in each component, HU^2.
    threads : int
    height_variance : float32 ndarray (N,), optional
        Variance of the noise in the curve's height where it differs from that in its shape, HU^2; it widens the flow.
    """
    components = np.ascontiguousarray(components, dtype=np.float32)
    count = components.shape[1]
    rank = dictionary.curve_atoms.shape[1]
    out = Posterior(**{f.name: np.empty((rank, count) if f.name == "curve" else count, np.float32) for f in fields(Posterior)})
    grid = _Grid(dictionary)
    starts = np.arange(0, count, CHUNK)

    def work(start):
        stop = min(start + CHUNK, count)
        sums = _Sums(grid, stop - start)
        workspace = grid.workspace()
        for at in range(start, stop, BLOCK):
            end = min(at + BLOCK, stop)
            _weigh(grid, workspace, components[:, at:end], noise_variance[at:end], sums, slice(at - start, end - start))
        excess = 0.0 if height_variance is None else np.maximum(height_variance[start:stop] - noise_variance[start:stop], 0.0)
        _summarize(grid, sums, excess, out, slice(start, stop))
        _refine(grid, components, sums, out, start)

    if threads > 1 and starts.size > 1:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, starts))
    else:
        for start in starts:
            work(start)
    return out


class _Grid:
    """The dictionary in the layout the inner loop wants: atoms in groups whose products stay on the calling thread."""

    def __init__(self, d: ResidueDictionary):
        self.curves_of_mtt, self.delays = d.mtt.size, d.delay.size
        self.count = self.curves_of_mtt * self.delays
        self.components = d.components
        of_one = self.delays * max(d.components, d.curve_atoms.shape[1]) * BLOCK
        group = max(n for n in range(1, self.curves_of_mtt + 1) if n == 1 or self.curves_of_mtt % n == 0 and n * of_one <= LARGEST)
        self.groups = self.curves_of_mtt // group
        self.atoms = d.atoms.reshape(self.groups, -1, d.components)
        self.curve_atoms = np.ascontiguousarray(d.curve_atoms.reshape(self.groups, -1, d.curve_atoms.shape[1]).transpose(0, 2, 1))
        # Two rows at once: the mass of a group of delays, and its flow.
        inverse = d.inverse_norm.reshape(self.curves_of_mtt, self.delays)
        self.ones = np.ones((self.curves_of_mtt, 1, self.delays), np.float32)
        self.inverse_norm = np.ascontiguousarray(inverse[:, None, :])
        seen = np.maximum((inverse > 0).sum(axis=1, keepdims=True), 1)
        self.inverse_norm_squared = ((inverse**2).sum(axis=1, keepdims=True) / seen).astype(np.float32)
        self.mtt = d.mtt.astype(np.float32)
        self.mtt_grid = d.mtt_grid.astype(np.float32)
        self.delay = d.delay.astype(np.float32)
        self.dictionary = d

    def workspace(self):
        """Buffers of one worker: projections, weights, and a factor for each curve repeated over delays."""
        return tuple(np.empty(rows * BLOCK, np.float32) for rows in (self.count, self.count, self.delays))


class _Sums:
    """Posterior mass and flow of n curves, summed over parts of the grid."""

    def __init__(self, grid: _Grid, n: int):
        self.of_delay = np.empty((grid.delays, n), np.float32)
        self.of_group = np.empty((grid.curves_of_mtt, n), np.float32)
        self.flow_of_group = np.empty((grid.curves_of_mtt, n), np.float32)
        self.curve = np.empty((grid.curve_atoms.shape[1], n), np.float32)
        self.s2 = np.empty(n, np.float32)
        self.best_mass = np.empty(n, np.float32)
        self.best_atom = np.zeros(n, np.int64)


def _largest(rows: np.ndarray, spare: np.ndarray) -> np.ndarray:
    """Maximum over axis 0, by halving: far faster than a reduction along the slow axis."""
    count = rows.shape[0]
    source = rows
    while count > 16:
        half = (count + 1) // 2
        np.maximum(source[: count - half], source[half:count], out=spare[: count - half])
        if 2 * half > count:
            spare[half - 1] = source[half - 1]
        source, count = spare, half
    return source[:count].max(axis=0)


def _weigh(grid: _Grid, workspace, c, noise_variance, sums: _Sums, where: slice) -> None:
    """Weights of all atoms for one block of curves, summed up."""
    n = c.shape[1]
    q, w, line = (buffer[: buffer.size // BLOCK * n].reshape(-1, n) for buffer in workspace)
    np.matmul(grid.atoms, c, out=q.reshape(grid.groups, -1, n))
    best = np.maximum(_largest(q, w), 0.0)

    energy = np.einsum("pn,pn->n", c, c)
    s2 = noise_variance + (RELATIVE_MODEL_ERROR**2 * energy + 1e-6)
    s2 = np.maximum(s2, (energy - best * best) / max(grid.components - MISFIT_FREEDOM, 1))

    # A row of factors, one a curve, is repeated so that numpy runs along long lines.  Exponents under 2^-86 are cut off: such weights
    # are all nothing, and smaller ones would be denormal and slow.
    factor = np.sqrt((0.5 * np.log2(np.e)) / s2)
    top = best * factor
    top *= top
    q_lines, w_lines, line_flat = q.reshape(-1, line.size), w.reshape(-1, line.size), line.reshape(-1)
    line[:] = np.sqrt(np.maximum(top - 86.0, 0.0)) / factor
    np.maximum(q_lines, line_flat, out=q_lines)
    line[:] = factor
    np.multiply(q_lines, line_flat, out=w_lines)
    np.square(w, out=w)
    line[:] = top
    np.subtract(w_lines, line_flat, out=w_lines)
    np.exp2(w, out=w)

    shaped = w.reshape(grid.curves_of_mtt, grid.delays, n)
    of_delay = np.add.reduce(shaped, axis=0)
    scale = 1.0 / np.add.reduce(of_delay, axis=0)
    np.multiply(of_delay, scale, out=sums.of_delay[:, where])
    np.multiply(np.matmul(grid.ones, shaped)[:, 0, :], scale, out=sums.of_group[:, where])
    if scale.max() > 0.5:
        sharp = np.flatnonzero(scale > 0.5)
        sums.best_atom[where.start + sharp] = np.argmax(w[:, sharp], axis=0)
    sums.best_mass[where] = scale
    np.multiply(q, w, out=w)
    np.multiply(np.matmul(grid.inverse_norm, shaped)[:, 0, :], scale, out=sums.flow_of_group[:, where])
    curve = np.add.reduce(np.matmul(grid.curve_atoms, w.reshape(grid.groups, -1, n)), axis=0)
    np.multiply(curve, scale, out=sums.curve[:, where])
    sums.s2[where] = s2


def _summarize(grid: _Grid, sums: _Sums, height_excess, out: Posterior, where: slice) -> None:
    """Means, standard deviations and percentiles from the sums."""
    out.curve[:, where] = sums.curve
    out.noise[where] = np.sqrt(sums.s2)
    flow = sums.flow_of_group.sum(axis=0)
    out.flow[where] = flow
    out.volume[where] = weighted_sum(grid.mtt, sums.flow_of_group)
    by_shape = (-1, grid.mtt_grid.size, flow.size)
    of_mtt = sums.of_group.reshape(by_shape).sum(axis=0)
    cell = np.float32(np.log(grid.mtt_grid[1] / grid.mtt_grid[0]))
    mtt = weighted_sum(grid.mtt_grid, of_mtt)
    out.mtt_sd[where] = np.sqrt(np.maximum(weighted_sum(grid.mtt_grid**2, of_mtt) - mtt * mtt, 0) + (mtt * cell) ** 2 / 12)
    low, high = _percentiles(of_mtt)
    out.mtt_p025[where] = grid.mtt_grid[0] * np.exp(low * cell)
    out.mtt_p975[where] = grid.mtt_grid[0] * np.exp(high * cell)

    delay = weighted_sum(grid.delay, sums.of_delay)
    step = grid.delay[1] - grid.delay[0]
    out.delay[where] = delay
    out.delay_sd[where] = np.sqrt(np.maximum(weighted_sum(grid.delay**2, sums.of_delay) - delay * delay, 0) + step * step / 12)
    low, high = _percentiles(sums.of_delay)
    out.delay_p025[where] = grid.delay[0] + low * step
    out.delay_p975[where] = grid.delay[0] + high * step

    # Flow at one transit time is nearly normal; its spread between shapes and the width of a cell are added to the noise.
    mean_of_group = sums.flow_of_group / np.maximum(sums.of_group, 1e-12)
    square = sums.of_group * (mean_of_group**2 * (1 + cell**2 / 12) + (sums.s2 + height_excess) * grid.inverse_norm_squared)
    out.flow_sd[where] = np.sqrt(np.maximum(square.sum(axis=0) - flow * flow, 0))
    safe = np.maximum(of_mtt, 1e-12)
    mean = sums.flow_of_group.reshape(by_shape).sum(axis=0) / safe
    spread = np.sqrt(np.maximum(square.reshape(by_shape).sum(axis=0) / safe - mean**2, 1e-18))
    out.flow_p025[where], out.flow_p975[where] = _mixture_percentiles(of_mtt, mean, spread, flow, out.flow_sd[where])
    # Transit time is written as volume over flow, and so is its mean here.
    out.mtt[where] = out.volume[where] / np.maximum(flow, 1e-12)


def _refine(grid: _Grid, components, sums: _Sums, out: Posterior, start: int) -> None:
    """Move estimates within their cell where one atom holds most of the mass.

    With little noise the posterior is narrower than the grid, and its mean would jump from one node to the next.  The curve is then
    fitted by the best atom and its differences along delay and transit time (one Gauss-Newton step), and the estimate moves
    there in proportion to how far the best atom's mass exceeds one half.
    """
    chosen = np.flatnonzero((sums.best_mass > 0.5) & (sums.flow_of_group.sum(axis=0) > 0))
    if chosen.size == 0:
        return
    d = grid.dictionary
    atom = sums.best_atom[chosen]
    group, delay = np.divmod(atom, grid.delays)
    mtt = group % grid.mtt_grid.size
    chosen, atom, delay, mtt = (v[d.inverse_norm[atom] > 0] for v in (chosen, atom, delay, mtt))
    x = components[:, start + chosen].T.astype(np.float64)

    def neighbor(position, size, stride):
        up, down = np.minimum(position + 1, size - 1) - position, position - np.maximum(position - 1, 0)
        return atom + up * stride, atom - down * stride, (up + down)[:, None]

    def whole(table, atoms):
        inverse = d.inverse_norm[atoms].astype(np.float64)
        return table[atoms] / np.where(inverse > 0, inverse, np.inf)[:, None]

    later, earlier, delay_span = neighbor(delay, grid.delays, 1)
    longer, shorter, mtt_span = neighbor(mtt, grid.mtt_grid.size, grid.delays)

    def tangents(table):
        return np.stack(
            [
                whole(table, atom),
                (whole(table, later) - whole(table, earlier)) / delay_span,
                (whole(table, longer) - whole(table, shorter)) / mtt_span,
            ],
            axis=1,
        )

    axes = tangents(d.atoms)
    normal = axes @ axes.transpose(0, 2, 1)
    normal += 1e-9 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(3)
    fitted = np.linalg.solve(normal, (axes @ x[:, :, None]))[:, :, 0]
    move = np.clip(fitted[:, 1:] / np.maximum(fitted[:, :1], 1e-12), -0.5, 0.5)
    along = np.concatenate([np.ones((move.shape[0], 1)), move], axis=1)
    model = np.einsum("nk,nkp->np", along, axes)
    flow = np.maximum(np.einsum("np,np->n", model, x) / np.maximum(np.einsum("np,np->n", model, model), 1e-12), 0.0)
    share = 2.0 * sums.best_mass[chosen] - 1.0
    at = start + chosen

    def blend(values, refined):
        values[at] = (1.0 - share) * values[at] + share * refined

    transit = grid.mtt_grid[mtt] * (grid.mtt_grid[1] / grid.mtt_grid[0]) ** move[:, 1]
    blend(out.volume, flow * transit)
    blend(out.flow, flow)
    blend(out.delay, grid.delay[delay] + move[:, 0] * (grid.delay[1] - grid.delay[0]))
    out.mtt[at] = out.volume[at] / np.maximum(out.flow[at], 1e-12)
    curve = np.einsum("nk,nkr->rn", along, tangents(d.curve_atoms)) * flow
    out.curve[:, at] = (1.0 - share) * out.curve[:, at] + share * curve


def _percentiles(mass: np.ndarray):
    """2.5 and 97.5 % points of grid marginals (G, n) whose mass is spread evenly over its cell, in units of the grid step."""
    cumulated = np.empty_like(mass)
    total = np.zeros(mass.shape[1], mass.dtype)
    for before, row in zip(cumulated, mass, strict=True):
        before[:] = total
        total += row
    # Each cell adds the part of it that lies under the level: all, none, or the fraction where it is crossed.
    steep = 1.0 / np.maximum(mass, 1e-12)
    return [np.clip((level - cumulated) * steep, 0.0, 1.0).sum(axis=0) - 0.5 for level in (0.025, 0.975)]


def _mixture_percentiles(mass, mean, spread, center, width):
    """2.5 and 97.5 % points of mixtures of normals (G, n) around `center` with standard deviation `width` (n,), by bisection.

    The distribution function of a normal is replaced by a cubic step, 3 t^2 - 2 t^3, whose 2.5 and 97.5 % points are the same.
    """
    slope = (0.5 / 2.4155) / spread
    offset = 0.5 - mean * slope
    points = []
    for level, low, high in ((0.025, np.zeros_like(center), center), (0.975, center, center + 10.0 * width)):
        for _ in range(11):
            at = 0.5 * (low + high)
            t = slope * at
            t += offset
            np.clip(t, 0.0, 1.0, out=t)
            step = t * t
            t *= -2.0
            t += 3.0
            step *= t
            under = np.einsum("gn,gn->n", mass, step) < level
            low = np.where(under, at, low)
            high = np.where(under, high, at)
        points.append(0.5 * (low + high))
    return points
