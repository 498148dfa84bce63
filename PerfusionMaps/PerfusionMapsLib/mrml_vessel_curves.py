"""Curves of the series in the scene as the plot shows them: at a point, in a segment, from a file, or of the shown result.

They follow the mouse, so they are read from the frames as they lie; the analysis reads its own from the motion-corrected series.
"""

import numpy as np

from CTPerfusionSuiteLib.errors import SuiteError
from CTPerfusionSuiteLib.mrml import geometryOf, localPosition, segmentMask
from CTPerfusionSuiteLib.mrml_sequences import frameCount, frameViews, timesOf, voxelCurve

from .mrml_readiness import placedPoint

BASELINE_S = 4.0
"""Before a first run tells when the contrast arrives, this much of the scan's beginning is the baseline, seconds."""


class VesselCurves:
    """Curves for a parameter node of the module: (times in s, HU above baseline), or None where there is none yet.

    Parameters
    ----------
    settings : parameter node of the module
    """

    def __init__(self, settings):
        self._settings = settings
        self._times, self._given = (None, None), {}

    def ofVessel(self, vessel: str, result):
        """The curve that the source of "aif" or "vof" gives now; `result` is the shown one or None.

        Raises
        ------
        SuiteError
            Once for a segment or file that cannot be used.
        """
        settings = self._settings
        source = getattr(settings, f"{vessel}Source").value
        if source == "point":
            return self.atPosition(placedPoint(getattr(settings, f"{vessel}Point")), result)
        if source == "file":
            path = getattr(settings, f"{vessel}File")
            return self._once(vessel, (str(path), path.stat().st_mtime if path.is_file() else None), lambda: _fromFile(path))
        if source == "segment":
            node, segment = getattr(settings, f"{vessel}Segmentation"), getattr(settings, f"{vessel}Segment")
            key = (node, segment, node.GetSegmentation().GetMTime() if node is not None else None, settings.inputNode)
            return self._once(vessel, key, lambda: self._inSegment(node, segment, result))
        if result is None:
            return None
        used = getattr(result, vessel)
        if source == "candidate":
            candidates, rank = getattr(result, f"{vessel}_candidates"), getattr(settings, f"{vessel}Candidate")
            used = candidates[rank - 1] if 1 <= rank <= len(candidates) else None
        return None if used is None else (used.times, used.hu)

    def atPosition(self, position, result):
        """The curve of the voxel at a world position (RAS mm)."""
        from .mrml_study import referenceVolume

        node = self._settings.inputNode
        if position is None or node is None:
            return None
        reference, times = referenceVolume(self._settings), self.frameTimes()
        if reference is None or times is None:
            return None
        hu = voxelCurve(node, geometryOf(reference).to_index(localPosition(reference, position)))
        return None if hu is None or len(hu) != len(times) else (times, _aboveBaseline(hu, times, result))

    def frameTimes(self):
        """Seconds of the frames (T,), read once a series; None without a time axis."""
        settings = self._settings
        key = (settings.inputNode.GetID(), settings.inputNode.GetMTime(), tuple(settings.times))
        if self._times[0] != key:
            times = np.array(list(settings.times), float)
            if len(times) != frameCount(settings.inputNode):
                try:
                    found, _source = timesOf(settings.inputNode)
                    times = found if found.ndim == 1 else found.mean(axis=1)
                except SuiteError:
                    times = None
            self._times = (key, times)
        return self._times[1]

    def _inSegment(self, node, segment, result):
        from .mrml_study import referenceVolume

        series = self._settings.inputNode
        times = self.frameTimes() if series is not None else None
        if node is None or not segment or times is None:
            return None
        inside = np.nonzero(segmentMask(node, segment, referenceVolume(self._settings)))  # a few voxels: no frame is walked through
        hu = np.array([float(view[inside].mean()) for view in frameViews(series)])
        return times, _aboveBaseline(hu, times, result)

    def _once(self, vessel, key, read):
        """What `read` gives, read again only when `key` changes; what cannot be used is refused once."""
        if self._given.get(vessel, (None, None))[0] != key:
            self._given[vessel] = (key, None)
            self._given[vessel] = (key, read())
        return self._given[vessel][1]


def peakWords(curve) -> str:
    """Height and time of a curve's peak, for people."""
    times, hu = curve
    peak = int(np.argmax(hu))
    return f"peak {hu[peak]:.0f} HU at {times[peak]:.1f} s"


def _fromFile(path):
    from .given_curves import read_curve

    if not path.is_file():
        return None
    curve = read_curve(path)
    return curve.times, curve.hu


def _aboveBaseline(hu, times, result):
    """HU (T,) above the mean of the frames before the contrast arrives."""
    frames = result.provenance.get("bolus", {}).get("baseline_frames") if result is not None else None
    if not frames or max(frames) >= len(hu):
        frames = [n for n, time in enumerate(times) if time - times[0] < BASELINE_S] or [0]
    return hu - hu[frames].mean()
