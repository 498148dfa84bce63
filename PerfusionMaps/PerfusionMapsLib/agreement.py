"""How well two measurements of the same studies agree: overlap, correlation, intraclass correlation, limits of agreement, kappa."""

from dataclasses import dataclass

import numpy as np
from scipy import stats


def dice(first: np.ndarray, second: np.ndarray) -> float | None:
    """2 |A and B| / (|A| + |B|) of two masks of one shape; None when both are empty."""
    first, second = np.asarray(first) > 0, np.asarray(second) > 0
    total = np.count_nonzero(first) + np.count_nonzero(second)
    return None if total == 0 else 2.0 * np.count_nonzero(first & second) / total


@dataclass(frozen=True)
class VoxelAgreement:
    """Two maps over the same voxels.

    Attributes
    ----------
    r, spearman : float or None
        Pearson and rank correlation; None when either map is constant or fewer than 3 voxels count.
    bias, sd : float or None
        Mean and standard deviation of first minus second, in the unit of the maps.
    slope : float or None
        Of the first on the second (least squares).
    voxels : int
    """

    r: float | None
    spearman: float | None
    bias: float | None
    sd: float | None
    slope: float | None
    voxels: int


def voxel_agreement(first: np.ndarray, second: np.ndarray, mask: np.ndarray) -> VoxelAgreement:
    """Agreement of two maps (K, J, I) within a mask, over voxels where both are finite."""
    inside = (np.asarray(mask) > 0) & np.isfinite(first) & np.isfinite(second)
    a, b = np.asarray(first)[inside].astype(float), np.asarray(second)[inside].astype(float)
    if a.size < 3 or a.std() == 0.0 or b.std() == 0.0:
        known = a.size > 0
        return VoxelAgreement(None, None, float((a - b).mean()) if known else None, float((a - b).std()) if known else None, None, a.size)
    return VoxelAgreement(
        r=float(np.corrcoef(a, b)[0, 1]),
        spearman=float(stats.spearmanr(a, b).statistic),
        bias=float((a - b).mean()),
        sd=float((a - b).std(ddof=1)),
        slope=float(np.cov(a, b)[0, 1] / b.var(ddof=1)),
        voxels=int(a.size),
    )


@dataclass(frozen=True)
class IntraclassCorrelation:
    """ICC(A,1) with its 95 % confidence interval; None where fewer than 3 cases or no variation allow none."""

    icc: float | None
    low: float | None
    high: float | None
    cases: int


def intraclass_correlation(first, second) -> IntraclassCorrelation:
    """Two-way random effects, absolute agreement, single measurement: ICC(2,1) of Shrout and Fleiss, ICC(A,1) of McGraw and Wong.

    Parameters
    ----------
    first, second : array_like (n,)
        The same quantity of n cases, measured twice; cases with a missing (nan) value are left out.

    References
    ----------
    Shrout PE, Fleiss JL, Psychol Bull 1979;86:420-428.  McGraw KO, Wong SP, Psychol Methods 1996;1:30-46 (interval: table 7).
    """
    table = _pairs(first, second)
    n, k = table.shape
    if n < 3:
        return IntraclassCorrelation(None, None, None, n)
    grand = table.mean()
    rows = k * ((table.mean(axis=1) - grand) ** 2).sum() / (n - 1)
    columns = n * ((table.mean(axis=0) - grand) ** 2).sum() / (k - 1)
    residual = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + grand
    error = (residual**2).sum() / ((n - 1) * (k - 1))
    spread = rows + (k - 1) * error + k * (columns - error) / n
    if spread <= 0.0 or rows == 0.0:
        return IntraclassCorrelation(None, None, None, n)
    icc = (rows - error) / spread
    if error <= 1e-12 * rows and columns <= 1e-12 * rows:
        return IntraclassCorrelation(float(icc), float(icc), float(icc), n)
    a, b = k * icc / (n * (1.0 - icc)), 1.0 + k * icc * (n - 1) / (n * (1.0 - icc))
    freedom = (a * columns + b * error) ** 2 / ((a * columns) ** 2 / (k - 1) + (b * error) ** 2 / ((n - 1) * (k - 1)))
    upper_f, lower_f = stats.f.ppf(0.975, n - 1, freedom), stats.f.ppf(0.975, freedom, n - 1)
    weight = k * columns + (k * n - k - n) * error
    low = n * (rows - upper_f * error) / (upper_f * weight + n * rows)
    high = n * (lower_f * rows - error) / (weight + n * lower_f * rows)
    return IntraclassCorrelation(float(icc), float(low), float(high), n)


@dataclass(frozen=True)
class BlandAltman:
    """First minus second: mean, standard deviation and 95 % limits of agreement, in the unit of the values."""

    bias: float | None
    sd: float | None
    low: float | None
    high: float | None
    cases: int


def bland_altman(first, second) -> BlandAltman:
    """Limits of agreement, bias +- 1.96 SD (Bland JM, Altman DG, Lancet 1986;1:307-310); cases with a missing value are left out."""
    table = _pairs(first, second)
    difference = table[:, 0] - table[:, 1]
    if difference.size == 0:
        return BlandAltman(None, None, None, None, 0)
    bias = float(difference.mean())
    if difference.size < 2:
        return BlandAltman(bias, None, None, None, 1)
    sd = float(difference.std(ddof=1))
    return BlandAltman(bias, sd, bias - 1.96 * sd, bias + 1.96 * sd, int(difference.size))


@dataclass(frozen=True)
class CategoryAgreement:
    """Share of cases in the same category and Cohen's kappa (None when chance alone explains everything)."""

    agreement: float | None
    kappa: float | None
    cases: int


def category_agreement(first: list[str], second: list[str]) -> CategoryAgreement:
    """Agreement of two lists of categories, case by case (Cohen J, Educ Psychol Meas 1960;20:37-46)."""
    n = len(first)
    if n == 0:
        return CategoryAgreement(None, None, 0)
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / n
    chance = sum(first.count(name) * second.count(name) for name in set(first) | set(second)) / n**2
    return CategoryAgreement(observed, None if chance == 1.0 else (observed - chance) / (1.0 - chance), n)


def _pairs(first, second) -> np.ndarray:
    """(n, 2) of the cases where both values are finite."""
    table = np.column_stack([np.asarray(first, float), np.asarray(second, float)])
    return table[np.isfinite(table).all(axis=1)]
