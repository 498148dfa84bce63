"""Stories of the time axis: what is believed, what is refused, and how a user gives one."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from CTPerfusionSuiteLib.errors import DataRefused, RequestRefused
from CTPerfusionSuiteLib.time_axis import (
    enough_frames,
    from_first_frame,
    given_times,
    order_fault,
    read_times,
    sampling_note,
    seconds_of_datetime,
    seconds_of_day,
    table_positions,
    time_fault,
    unwrap_midnight,
)

EVEN = 1.5 * np.arange(30)


@pytest.mark.parametrize(
    "text, seconds", [("000000", 0), ("235959.999999", 86399.999999), ("101530.25 ", 36930.25), ("10:15:30", 36930), ("101530,5", 36930.5)]
)
def test_dicom_times_are_read_to_the_microsecond(text, seconds):
    assert seconds_of_day(text) == pytest.approx(seconds, abs=1e-9)


@pytest.mark.parametrize("text", ["", "1015", "10", "not a time", "259999", "106060.0.0", "20250314"])
def test_times_without_seconds_are_no_times(text):
    assert math.isnan(seconds_of_day(text))


def test_dates_and_time_zones_of_date_times():
    first, second = seconds_of_datetime("20241231235959.500000+0100"), seconds_of_datetime("20250101000001.000000+0100")
    assert second - first == pytest.approx(1.5, abs=1e-4)
    for text in ("20250314", "202503141015", "20251399101530", ""):
        assert math.isnan(seconds_of_datetime(text))


@given(st.floats(0, 86399), st.lists(st.floats(0.3, 5), min_size=2, max_size=40))
def test_midnight_never_shows_in_the_steps(start, steps):
    true = start + np.concatenate([[0], np.cumsum(steps)])
    assert np.allclose(np.diff(unwrap_midnight(true % 86400)), steps, atol=1e-6)


def test_a_good_axis_has_no_fault():
    assert time_fault(EVEN) is None
    assert time_fault(EVEN[:, None] + np.linspace(0, 1, 7)) is None


@pytest.mark.parametrize(
    "times, words",
    [
        (np.where(np.arange(30) == 7, EVEN - 1.5, EVEN), "identical from frame 7 to frame 8"),
        (np.where(np.arange(30) == 7, EVEN - 2, EVEN), "backward from frame 7 to frame 8"),
        (np.where(np.arange(30) == 7, np.nan, EVEN), "missing"),
        (EVEN / 1000, "steps of 0.0015 s"),
        (EVEN * 1000, "steps of 1.5e"),
        (np.arange(10.0), "a scan of 9 s"),
        (9.0 * np.arange(30), "a scan of 261 s"),
    ],
)
def test_a_bad_axis_is_described(times, words):
    assert words in time_fault(times)


def test_one_bad_slice_spoils_an_axis_of_slices():
    times = np.repeat(EVEN[:, None], 5, axis=1)
    times[9, 3] = times[8, 3]
    assert "frame 9 to frame 10 (slice 4)" in order_fault(times)


def test_the_first_frame_is_zero_and_equal_slices_share_a_time():
    assert np.array_equal(from_first_frame(EVEN + 40000), EVEN)
    jitter = 0.004 * np.sin(np.arange(90)).reshape(30, 3)
    assert from_first_frame(EVEN[:, None] + jitter).shape == (30,)
    times = from_first_frame(EVEN[:, None] + np.array([0.7, 0.0, 0.7]) + 100)
    assert times.shape == (30, 3) and times.min() == 0 and times[0].tolist() == [0.7, 0, 0.7]


def test_two_table_positions_are_found_in_either_direction():
    slabs = np.repeat([0, 1], 4)
    forward = EVEN[:, None] + 0.6 * slabs
    to_and_fro = EVEN[:, None] + 0.6 * np.where(np.arange(30)[:, None] % 2 == 0, slabs, 1 - slabs)
    assert table_positions(forward).tolist() == table_positions(to_and_fro).tolist() == slabs.tolist()
    assert table_positions(np.repeat(EVEN[:, None], 8, axis=1), np.arange(30)[:, None] * 2 + slabs).tolist() == slabs.tolist()


def test_a_spiral_or_slice_by_slice_scan_has_no_table_positions():
    assert table_positions(EVEN) is None
    assert table_positions(EVEN[:, None] + 0.05 * np.arange(8)) is None
    assert table_positions(EVEN[:, None] + 0.5 * np.arange(8), np.arange(240).reshape(30, 8)) is None


def test_a_pause_is_noted_and_a_slower_late_phase_is_not():
    assert sampling_note(EVEN) is None and sampling_note(np.cumsum(np.r_[np.full(20, 1.5), np.full(9, 2.5)])) is None
    code, message = sampling_note(np.where(np.arange(30) > 11, EVEN + 4, EVEN))
    assert code == "irregular_sampling" and "5.50 s" in message and "after frame 12" in message


def test_few_frames_are_refused():
    enough_frames(8, "it")
    with pytest.raises(DataRefused, match="6 time points"):
        enough_frames(6, "it")
    with pytest.raises(DataRefused, match="one time point"):
        enough_frames(1, "it")


def test_given_times_are_checked():
    assert given_times(30, 4) is None
    assert np.array_equal(given_times(30, 4, dt=1.5), EVEN)
    assert np.array_equal(given_times(30, 4, times=EVEN + 7), EVEN)
    assert given_times(30, 4, times=EVEN[:, None] + np.arange(4)).shape == (30, 4)
    for wrong in ({"times": EVEN, "dt": 1.5}, {"dt": 0}, {"dt": -1}, {"times": EVEN[:-1]}, {"times": np.zeros((30, 3))}):
        with pytest.raises(RequestRefused):
            given_times(30, 4, **wrong)
    for bad in (EVEN[::-1], np.zeros(30), EVEN * 1000, np.where(EVEN > 9, np.nan, EVEN)):
        with pytest.raises(DataRefused):
            given_times(30, 4, times=bad)


@pytest.mark.parametrize(
    "text",
    ["0\n1.5\n3\n", "time_s\n0\n1.5\n3\n", "# a comment\nframe,time_s,hu\n0,0,5\n1,1.5,6\n2,3,7\n", "\ufefftime_s;x\n0,0;1\n1,5;1\n3;1\n"],
)
def test_times_come_from_a_csv_column(tmp_path, text):
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    assert read_times(tmp_path / "t.csv").tolist() == [0, 1.5, 3]


def test_times_of_slices_come_from_columns(tmp_path):
    for text in ("0,0.5\n1.5,2\n3,3.5\n", "slice_0\tslice_1\n0\t0.5\n1.5\t2\n3\t3.5\n", "0 0.5\n1.5 2\n3 3.5\n"):
        (tmp_path / "t.csv").write_text(text)
        assert read_times(tmp_path / "t.csv").tolist() == [[0, 0.5], [1.5, 2], [3, 3.5]]


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "0\nx\n", "1,2\n3\n", "time_s\n"])
def test_a_useless_csv_is_a_wrong_argument(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(RequestRefused, match="t.csv"):
        read_times(tmp_path / "t.csv")
    with pytest.raises(RequestRefused):
        read_times(tmp_path / "missing.csv")
