"""Imaging criteria of the late-window reperfusion trials, as facts about volumes: met, not met or not assessable.  Never advice.

References
----------
DEFUSE-3: Albers GW et al., N Engl J Med 2018;378:708-718.  EXTEND: Ma H et al., N Engl J Med 2019;380:1795-1803.
DAWN: Nogueira RG et al., N Engl J Med 2018;378:11-21.
"""

MET, NOT_MET, NOT_ASSESSABLE = "met", "not met", "not assessable"


def trial_profiles(
    hypoperfusion_ml: float | None,
    core_ml: float | None,
    age_years: float | None = None,
    nihss: float | None = None,
) -> dict[str, dict]:
    """The imaging criteria of the three trials.

    Parameters
    ----------
    hypoperfusion_ml, core_ml : float or None
        Volumes in mL; None where they cannot be told.
    age_years, nihss : float or None
        Needed by DAWN alone.

    Returns
    -------
    dict
        ``{"defuse3": {"status", "criteria"}, "extend": ..., "dawn": ...}``; a criterion is true, false or null (not assessable).
        A profile is "not met" as soon as one criterion is false.  Without core the mismatch ratio counts as infinite.
    """
    known = hypoperfusion_ml is not None and core_ml is not None
    mismatch_ml = hypoperfusion_ml - core_ml if known else None

    def ratio_satisfies(limit: float, strictly: bool) -> bool | None:
        if not known:
            return None
        if core_ml == 0.0:
            return hypoperfusion_ml > 0.0
        ratio = hypoperfusion_ml / core_ml
        return ratio > limit if strictly else ratio >= limit

    def core_below(limit_ml: float) -> bool | None:
        return None if core_ml is None else core_ml < limit_ml

    defuse3 = {
        "core_below_70_ml": core_below(70.0),
        "ratio_at_least_1_8": ratio_satisfies(1.8, strictly=False),
        "mismatch_at_least_15_ml": None if mismatch_ml is None else mismatch_ml >= 15.0,
    }
    extend = {
        "core_below_70_ml": core_below(70.0),
        "ratio_above_1_2": ratio_satisfies(1.2, strictly=True),
        "difference_above_10_ml": None if mismatch_ml is None else mismatch_ml > 10.0,
    }
    return {"defuse3": _profile(defuse3), "extend": _profile(extend), "dawn": dawn_profile(core_ml, age_years, nihss)}


def dawn_profile(core_ml: float | None, age_years: float | None, nihss: float | None) -> dict:
    """Clinical-core mismatch of DAWN.

    Group A: 80 years or older, NIHSS at least 10, core under 21 mL.  Group B: younger, NIHSS at least 10, core under 31 mL.
    Group C: younger, NIHSS at least 20, core 31 mL to under 51 mL.

    Returns
    -------
    dict
        ``status, criteria, group`` ("A", "B", "C" or null), and ``age_years, nihss`` as given.
    """
    group, criteria = None, {"adult": None, "nihss_high_enough": None, "core_small_enough": None}
    if age_years is not None:
        criteria["adult"] = age_years >= 18.0
    if nihss is not None:
        criteria["nihss_high_enough"] = nihss >= 10.0
    if None not in (core_ml, age_years, nihss):
        limit_ml = 21.0 if age_years >= 80.0 else (51.0 if nihss >= 20.0 else 31.0)
        criteria["core_small_enough"] = core_ml < limit_ml
        if all(criteria.values()):
            group = "A" if age_years >= 80.0 else ("B" if core_ml < 31.0 else "C")
    return {**_profile(criteria, complete=True), "group": group, "age_years": age_years, "nihss": nihss}


def _profile(criteria: dict[str, bool | None], complete: bool = False) -> dict:
    """Status from criteria; with `complete` every criterion must be known before "not met" is said."""
    values = list(criteria.values())
    if None in values and (complete or False not in values):
        status = NOT_ASSESSABLE
    else:
        status = MET if all(values) else NOT_MET
    return {"status": status, "criteria": criteria}
