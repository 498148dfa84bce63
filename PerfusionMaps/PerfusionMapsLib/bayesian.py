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
"""Standard deviation, in each component, of what the dictionary cannot describe, as a fraction of the curve's norm: other residue
functions, and neighbors of other delays and transit times in a filtered curve."""

SHAPE_TRUST = 0.75
"""Power of the evidence for one residue shape against the others in standard deviations and intervals.  No tissue has exactly one of
the dictionary's shapes, and a clear curve would let the nearest one win as if it were the truth (Grunwald P, van Ommen T, Bayesian
Anal 2017;12:1069-1103).  Means keep the full evidence."""

MISFIT_FREEDOM = 4
"""Parameters a curve's best atom uses up: amplitude, transit time, delay, shape."""

MISFIT_CHANCE = 0.33
"""How far, as a fraction of the noise variance, the misfit of about one curve in four exceeds that variance by chance: only what lies
beyond inflates the noise, so that intervals are not too wide where the noise is known."""

BLOCK = 256
"""Curves worked on at once: enough that threads seldom wait for each other between two calls, few enough for the cache."""

SUMMARY = 8 * BLOCK
"""Curves summarized at once."""

CHUNK = 4 * SUMMARY
"""Curves sorted at once, so that those of a block have much in common."""

CLEAR = 100.0
"""Energy over noise variance from which on half of a chunk's curves must be for sorting to pay."""

LEVELS = 8
"""Classes of signal-to-noise that the curves of a chunk are sorted into before they are sorted by delay and transit time."""

NOTHING = 24.0
"""Atoms whose weight is under 2 to minus this power of the best atom's, for all curves of a block, are left out of the sums: single
precision would not notice them."""

HIGHEST_EXPONENT = 90.0
"""Weights up to 2 to this power, times flows and summed, stay within single precision and need no common scale."""


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
    noise_variance = np.asarray(noise_variance, dtype=np.float32)
    starts = np.arange(0, count, CHUNK)

    workers = max(1, min(threads, starts.size))
    idle = [_Workspace(grid) for _ in range(workers)]

    def work(start):
        space = idle.pop()
        here = slice(start, start + CHUNK)
        c, variance = components[:, here], noise_variance[here]
        order = _order(grid, c, variance)
        if order is not None:
            c, variance = np.take(c, order, axis=1), variance[order]
        for first in range(0, variance.size, SUMMARY):
            part = slice(first, min(first + SUMMARY, variance.size))
            sums = space.sums(part.stop - first)
            for at in range(first, part.stop, BLOCK):
                block = slice(at, min(at + BLOCK, part.stop))
                _weigh(grid, space, c[:, block], variance[block], sums, slice(at - first, block.stop - first))
            part = start + (np.arange(part.start, part.stop) if order is None else order[part])
            excess = 0.0 if height_variance is None else np.maximum(height_variance[part] - noise_variance[part], 0.0)
            _summarize(grid, sums, excess, out, part)
            _refine(grid, components, sums, out, part)
        idle.append(space)

    if workers > 1:
        with ThreadPoolExecutor(workers) as pool:
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
        of_one = self.delays * d.components * BLOCK
        group = max(n for n in range(1, self.curves_of_mtt + 1) if n == 1 or self.curves_of_mtt % n == 0 and n * of_one <= LARGEST)
        self.groups = self.curves_of_mtt // group
        self.atoms = d.atoms.reshape(self.groups, -1, d.components)
        # The denoised curve, and the flow as one row more of it.
        inverse = d.inverse_norm.reshape(self.curves_of_mtt, 1, self.delays)
        curves = d.curve_atoms.reshape(self.curves_of_mtt, self.delays, -1).transpose(0, 2, 1)
        both = np.ascontiguousarray(np.concatenate([curves, inverse], axis=1))
        self.curve_and_flow = both.reshape(-1, d.mtt_grid.size, *both.shape[1:])
        self.shapes = self.curve_and_flow.shape[0]
        self.ones = np.ones((1, self.delays), np.float32)
        seen = np.maximum((inverse > 0).sum(axis=2), 1)
        self.inverse_norm_squared = ((inverse**2).sum(axis=2) / seen).astype(np.float32)
        self.mtt = d.mtt.astype(np.float32)
        self.mtt_grid = d.mtt_grid.astype(np.float32)
        self.delay = d.delay.astype(np.float32)
        self.dictionary = d
        # Every third transit time of the first and the last shape: enough to sort by.
        self.sorting = np.ascontiguousarray(
            d.atoms.reshape(-1, d.mtt_grid.size, self.delays, d.components)[:: max(1, self.curves_of_mtt // d.mtt_grid.size - 1), 1::3]
        )


class _Sums:
    """Posterior mass and flow of n curves, summed over parts of the grid."""

    def __init__(self, grid: _Grid, n: int):
        self.of_delay = np.empty((grid.shapes, grid.delays, n), np.float32)
        self.of_group = np.empty((grid.curves_of_mtt, n), np.float32)
        self.flow_of_group = np.empty((grid.curves_of_mtt, n), np.float32)
        self.curve = np.empty((grid.curve_and_flow.shape[2] - 1, n), np.float32)
        self.s2 = np.empty(n, np.float32)
        self.best_mass = np.empty(n, np.float32)
        self.best_atom = np.empty(n, np.int64)


class _Workspace:
    """Buffers of one worker: memory that is asked for anew in every block costs as much as the work, and threads wait for it."""

    def __init__(self, grid: _Grid):
        self.grid = grid
        self.atoms = np.empty((3, grid.count * BLOCK), np.float32)
        self.found = np.empty(grid.curves_of_mtt * grid.curve_and_flow.shape[2] * BLOCK, np.float32)
        self.line = np.empty(grid.delays * BLOCK, np.float32)
        self._sums = _Sums(grid, SUMMARY)

    def sums(self, n: int) -> _Sums:
        """Sums of n curves, all zero."""
        sums = self._sums if n == SUMMARY else _Sums(self.grid, n)
        for values in vars(sums).values():
            values.fill(0)
        return sums


def _order(grid: _Grid, c: np.ndarray, noise_variance: np.ndarray) -> np.ndarray | None:
    """Order (n,) in which curves (P, n) that follow each other have the most atoms without weight in common; None where noise lets
    most curves spread their weight so widely that an order would not pay."""
    clearness = np.einsum("pn,pn->n", c, c) / (noise_variance + 1e-6)
    if np.median(clearness) < CLEAR:
        return None
    delay, transit = (np.empty(c.shape[1], np.int16) for _ in range(2))
    for at in range(0, c.shape[1], BLOCK):
        # One product a transit time: a larger one would be handed to other threads (see `calling_thread_product`).
        q = np.matmul(grid.sorting, c[:, at : at + BLOCK])
        transit[at : at + BLOCK] = np.argmax(q.max(axis=(0, 2)), axis=0)
        delay[at : at + BLOCK] = np.argmax(q.max(axis=(0, 1)), axis=0)
    rank = np.argsort(np.argsort(clearness))
    return np.lexsort((transit, delay, rank * LEVELS // rank.size))


def _weigh(grid: _Grid, space: _Workspace, c, noise_variance, sums: _Sums, where: slice) -> None:
    """Weights of the atoms for one block of curves, summed up.

    Every atom is compared with every curve; delays and transit times without weight for any curve of the block go no further.
    """
    n = c.shape[1]
    q = space.atoms[0, : grid.count * n].reshape(grid.shapes, -1, grid.delays, n)
    np.matmul(grid.atoms, c, out=q.reshape(grid.groups, -1, n))
    # First over the transit times, along lines of many curves.
    of_delay = np.maximum.reduce(q.reshape(grid.curves_of_mtt, -1), axis=0).reshape(grid.delays, n)
    best = np.maximum(of_delay.max(axis=0), 0.0)

    energy = np.einsum("pn,pn->n", c, c)
    s2 = noise_variance + (RELATIVE_MODEL_ERROR**2 * energy + 1e-6)
    s2 = np.maximum(s2, (energy - best * best) / max(grid.components - MISFIT_FREEDOM, 1) - MISFIT_CHANCE * s2)
    factor = np.sqrt((0.5 * np.log2(np.e)) / s2)
    top = best * factor
    top *= top

    # Atoms that point away from a curve weigh as much as an amplitude of 0: nothing only beside a high peak.
    least = np.where(top > NOTHING, np.sqrt(np.maximum(top - NOTHING, 0.0)) / factor, -np.inf)
    delays = _span((of_delay >= least).any(axis=1))
    if delays.stop - delays.start < grid.delays:
        of_transit = np.maximum.reduce(np.maximum.reduce(q[:, :, delays], axis=2), axis=0)
        transits = _span((of_transit >= least).any(axis=1))
    else:
        transits = slice(0, q.shape[1])
    q = q[:, transits, delays]
    # In place where the whole grid lives, else packed.
    x, w = (buffer[: q.size].reshape(q.shape) for buffer in (space.atoms[0 if q.size == grid.count * n else 1], space.atoms[2]))
    # A row of factors, one a curve, is repeated so that numpy runs along long lines.
    line = space.line[: q[0, 0].size].reshape(q.shape[2:])
    line[:] = factor
    np.multiply(q, line, out=x)
    if top.max() <= HIGHEST_EXPONENT:
        # Quicker than a maximum with one number.
        np.clip(x, 0.0, np.inf, out=x)
        np.square(x, out=w)
    else:
        # Exponents under 2^-86 are cut off: such weights are all nothing, and smaller ones would be denormal and slow.
        line[:] = np.sqrt(np.maximum(top - 86.0, 0.0))
        np.maximum(x, line, out=x)
        np.square(x, out=w)
        line[:] = top
        np.subtract(w, line, out=w)
        top = 0.0
    np.exp2(w, out=w)

    groups = (grid.shapes, -1, n)
    of_delay = np.add.reduce(w.reshape(grid.shapes, -1, line.size), axis=1).reshape(-1, *line.shape)
    scale = 1.0 / np.add.reduce(of_delay, axis=(0, 1))
    np.multiply(of_delay, scale, out=sums.of_delay[:, delays, where])
    of_group = np.matmul(grid.ones[:, : line.shape[0]], w)[:, :, 0]
    np.multiply(of_group, scale, out=sums.of_group.reshape(groups[:2] + sums.of_group.shape[1:])[:, transits, where])
    best_mass = np.exp2(top) * scale
    if best_mass.max() > 0.5:
        sharp = np.flatnonzero(best_mass > 0.5)
        place = np.unravel_index(np.argmax(w.reshape(-1, n)[:, sharp], axis=0), w.shape[:3])
        offset = (0, transits.start, delays.start)
        sums.best_atom[where.start + sharp] = np.ravel_multi_index(
            [index + first for index, first in zip(place, offset, strict=True)], (grid.shapes, grid.mtt_grid.size, grid.delays)
        )
    sums.best_mass[where] = best_mass
    np.multiply(x, w, out=w)
    rows = grid.curve_and_flow[:, transits, :, delays]
    found = space.found[: rows.size // line.shape[0] * n].reshape(*rows.shape[:3], n)
    np.matmul(rows, w, out=found)
    scale /= factor
    np.multiply(found[:, :, -1], scale, out=sums.flow_of_group.reshape(groups[:2] + sums.flow_of_group.shape[1:])[:, transits, where])
    found = found.reshape(-1, rows.shape[2], n)
    np.multiply(np.add.reduce(found[:, :-1], axis=0), scale, out=sums.curve[:, where])
    sums.s2[where] = s2


def _span(held: np.ndarray) -> slice:
    """From the first to the last that is True."""
    places = np.flatnonzero(held)
    return slice(int(places[0]), int(places[-1]) + 1)


def _summarize(grid: _Grid, sums: _Sums, height_excess, out: Posterior, where: np.ndarray) -> None:
    """Means, standard deviations and percentiles of the curves `where` from the sums."""
    out.curve[:, where] = sums.curve
    out.noise[where] = np.sqrt(sums.s2)
    flow = sums.flow_of_group.sum(axis=0)
    out.flow[where] = flow
    out.volume[where] = weighted_sum(grid.mtt, sums.flow_of_group)
    # Transit time is written as volume over flow, and so is its mean here.
    out.mtt[where] = out.volume[where] / np.maximum(flow, 1e-12)
    delay = weighted_sum(grid.delay, sums.of_delay.sum(axis=0))
    out.delay[where] = delay

    # What follows describes how sure this is, with less trust in one shape against the others.
    by_shape = (grid.shapes, -1, flow.size)
    mass = np.maximum(sums.of_group.reshape(by_shape).sum(axis=1), 1e-30)
    trusted = mass**SHAPE_TRUST
    trusted /= trusted.sum(axis=0)
    trusted /= mass
    of_group = (sums.of_group.reshape(by_shape) * trusted[:, None]).reshape(sums.of_group.shape)
    flow_of_group = (sums.flow_of_group.reshape(by_shape) * trusted[:, None]).reshape(of_group.shape)
    of_delay = np.einsum("sdn,sn->dn", sums.of_delay, trusted)
    of_mtt = of_group.reshape(by_shape).sum(axis=0)
    cell = np.float32(np.log(grid.mtt_grid[1] / grid.mtt_grid[0]))
    mtt = weighted_sum(grid.mtt_grid, of_mtt)
    out.mtt_sd[where] = np.sqrt(np.maximum(weighted_sum(grid.mtt_grid**2, of_mtt) - mtt * mtt, 0) + (mtt * cell) ** 2 / 12)
    low, high = _percentiles(of_mtt)
    out.mtt_p025[where] = grid.mtt_grid[0] * np.exp(low * cell)
    out.mtt_p975[where] = grid.mtt_grid[0] * np.exp(high * cell)

    step = grid.delay[1] - grid.delay[0]
    late = weighted_sum(grid.delay, of_delay)
    out.delay_sd[where] = np.sqrt(np.maximum(weighted_sum(grid.delay**2, of_delay) - late * late, 0) + step * step / 12)
    low, high = _percentiles(of_delay)
    out.delay_p025[where] = grid.delay[0] + low * step
    out.delay_p975[where] = grid.delay[0] + high * step

    # Flow at one transit time is nearly normal; its spread between shapes and the width of a cell are added to the noise.
    mean_of_group = flow_of_group / np.maximum(of_group, 1e-12)
    square = of_group * (mean_of_group**2 * (1 + cell**2 / 12) + (sums.s2 + height_excess) * grid.inverse_norm_squared)
    flow = flow_of_group.sum(axis=0)
    out.flow_sd[where] = np.sqrt(np.maximum(square.sum(axis=0) - flow * flow, 0))
    safe = np.maximum(of_mtt, 1e-12)
    mean = flow_of_group.reshape(by_shape).sum(axis=0) / safe
    spread = np.sqrt(np.maximum(square.reshape(by_shape).sum(axis=0) / safe - mean**2, 1e-18))
    out.flow_p025[where], out.flow_p975[where] = _mixture_percentiles(of_mtt, mean, spread, flow, out.flow_sd[where])


def _refine(grid: _Grid, components, sums: _Sums, out: Posterior, where: np.ndarray) -> None:
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
    at = where[chosen]
    x = components[:, at].T.astype(np.float64)

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
    """2.5 and 97.5 % points of mixtures of normals (G, n) around `center` with standard deviation `width` (n,).

    The distribution function of a normal is replaced by a cubic step whose 2.5 and 97.5 % points are the same.  The points are found
    from the logarithm of the tail beyond them, which runs nearly straight: bisection, then false position with the Illinois rule.
    """
    slope = (1.0 / 2.4155) / spread
    offset = -mean * slope

    def tail(at, side):
        """Logarithm of the mass beyond `at`, below (-1) or above (1) it, over 2.5 %."""
        t = slope * at
        t += offset
        np.clip(t, -1.0, 1.0, out=t)
        step = t * t
        step -= 3.0
        step *= t
        return np.log(np.maximum(20.0 + (10.0 * side) * np.einsum("gn,gn->n", mass, step), 1e-4))

    points = []
    for side in (-1.0, 1.0):
        # By Cantelli's inequality the points lie within 6.3 standard deviations.
        outer, inner = np.maximum(center + np.float32(7.0 * side) * width, 0.0), center
        at = np.maximum(center + np.float32(1.96 * side) * width, outer) if side < 0 else center + np.float32(1.96) * width
        log_outer, log_inner = np.full_like(center, np.log(1e-4)), np.full_like(center, np.log(20.0))
        moved = np.zeros(center.shape, np.int8)
        for turn in range(6):
            value = tail(at, side)
            inward = value > 0
            # The end that stays twice running is halved, so that it moves as well.
            log_outer = np.where(inward, np.where(moved > 0, 0.5 * log_outer, log_outer), value)
            log_inner = np.where(inward, value, np.where(moved < 0, 0.5 * log_inner, log_inner))
            outer, inner = np.where(inward, outer, at), np.where(inward, at, inner)
            moved = np.where(inward, np.int8(1), np.int8(-1))
            share = 0.5 if turn == 0 else -log_outer / np.maximum(log_inner - log_outer, 1e-6)
            at = outer + share * (inner - outer)
        points.append(at)
    return points
