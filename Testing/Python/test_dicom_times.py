"""When each image was scanned: slabs, midnight, private elements, better and worse sources, and times that cannot be right."""

import dicom_samples as samples
import numpy as np
import pytest
from dicom_samples import TIMES, VALUES, codes, refusal

from CTPerfusionSuiteLib.dicom.perfusion_series import read_perfusion_series


def test_slices_scanned_at_two_table_positions_form_slabs(tmp_path):
    values = samples.truth(12, 6)
    upward = np.arange(12) % 2 == 0
    late = np.where(upward[:, None], np.arange(6)[None] >= 3, np.arange(6)[None] < 3)
    times = 3.0 * np.arange(12)[:, None] + 1.2 * late
    series = read_perfusion_series(samples.write_dynamic(tmp_path, values, times))
    assert series.times.shape == (12, 6) and np.allclose(series.times, times) and np.array_equal(series.values, values)
    assert series.slabs.tolist() == [0, 0, 0, 1, 1, 1]


def test_the_half_last_pass_of_a_shuttle_is_left_out(tmp_path):
    values = samples.truth(12, 6)
    times = 3.0 * np.arange(12)[:, None] + 1.5 * (np.arange(6)[None] >= 3)
    folder = samples.write_dynamic(tmp_path, values, times, lambda t, k: None if t == 11 and k >= 3 else {})
    series = read_perfusion_series(folder)
    assert np.array_equal(series.values, values[:11]) and "incomplete_last_pass" in codes(series)


def test_acquisition_times_cross_midnight(tmp_path):
    series = read_perfusion_series(samples.write_dynamic(tmp_path, VALUES, TIMES, start=86400 - 9.0))
    assert np.allclose(series.times, TIMES) and np.array_equal(series.values, VALUES)


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("scale", [1, 1000])
def test_ge_cine_keeps_its_times_in_a_private_element(tmp_path, implicit, scale):
    for n, (t, k) in enumerate(np.ndindex(12, 3)):
        ct = samples.image(
            VALUES[t, k],
            (-6, -5, 5.0 * k),
            seconds=36000.0,
            InstanceNumber=12 * k + t + 1,
            Manufacturer="GE MEDICAL SYSTEMS",
            AcquisitionNumber=1,
        )
        ct.private_block(0x0019, "GEMS_ACQU_01", create=True).add_new(0x24, "DS", f"{scale * (TIMES[t] + 31.2):.3f}")
        samples.save(ct, tmp_path / f"{n}", implicit)
    series = read_perfusion_series(tmp_path)
    assert "0019,1024" in series.time_source and np.allclose(series.times, TIMES) and np.array_equal(series.values, VALUES)


def test_better_sources_come_before_worse_ones(tmp_path):
    def change(t, k):
        return {
            "AcquisitionDateTime": f"20250314{samples.clock(36000 + 3 * t)}+0100",
            "TriggerTime": 1000.0 * 1.1 * t,
            "TemporalPositionIdentifier": t + 1,
        }

    series = read_perfusion_series(samples.write_dynamic(tmp_path, VALUES, TIMES, change))
    assert series.time_source == "DICOM AcquisitionDateTime" and np.allclose(series.times, 3.0 * np.arange(12))


def test_a_source_that_fails_gives_way_to_the_next(tmp_path):
    series = read_perfusion_series(
        samples.write_dynamic(
            tmp_path, VALUES, TIMES, lambda t, k: {"seconds": 36000.0, "TriggerTime": 2000.0 * t, "AcquisitionNumber": t + 1}
        )
    )
    assert series.time_source == "DICOM TriggerTime" and np.allclose(series.times, TIMES)


def test_numbers_of_frames_are_never_taken_for_time(tmp_path):
    folder = samples.write_dynamic(
        tmp_path,
        VALUES,
        TIMES,
        lambda t, k: {
            "AcquisitionTime": None,
            "AcquisitionDate": None,
            "TemporalPositionIdentifier": 2 * t + 1,
            "AcquisitionNumber": t + 1,
        },
    )
    assert "no acquisition times" in refusal(folder)
    given = read_perfusion_series(folder, dt=2.5)
    assert np.allclose(given.times, 2.5 * np.arange(12)) and np.array_equal(given.values, VALUES) and "given" in given.time_source


def test_content_time_only_on_request_and_flagged(tmp_path):
    folder = samples.write_dynamic(
        tmp_path, VALUES, TIMES, lambda t, k: {"AcquisitionTime": None, "ContentTime": samples.clock(36100 + 2 * t)}
    )
    assert "--accept-content-time" in refusal(folder)
    series = read_perfusion_series(folder, accept_content_time=True)
    assert np.allclose(series.times, TIMES) and "content_time_used" in codes(series)


def test_renumbered_images_do_not_spoil_good_times(tmp_path):
    numbers = np.random.default_rng(8).permutation(36) + 1
    series = read_perfusion_series(samples.write_dynamic(tmp_path, VALUES, TIMES, lambda t, k: {"InstanceNumber": int(numbers[3 * t + k])}))
    assert np.array_equal(series.values, VALUES)


@pytest.mark.parametrize("numbered_by", ["InstanceNumber", "AcquisitionNumber", "TemporalPositionIdentifier", "SeriesNumber"])
def test_two_frames_with_swapped_times_are_refused(tmp_path, numbered_by):
    swapped = TIMES.copy()
    swapped[[5, 6]] = swapped[[6, 5]]
    change = {
        "InstanceNumber": lambda t, k: {},
        "SeriesNumber": lambda t, k: {"SeriesNumber": 10 + t, "series_uid": f"1.{t + 1}", "InstanceNumber": k + 1},
    }
    folder = samples.write_dynamic(
        tmp_path, VALUES, swapped, change.get(numbered_by, lambda t, k: {numbered_by: t + 1, "InstanceNumber": 1})
    )
    assert "backward" in refusal(folder)


@pytest.mark.parametrize(
    "times, words",
    [
        (np.zeros(12), "identical"),
        (np.where(np.arange(12) > 5, TIMES - 2, TIMES), "identical"),
        (0.05 * np.arange(12), "steps of 0.05 s"),
        (15.0 * np.arange(12), "steps of 15 s"),
        (0.5 * np.arange(12), "a scan of 5.5 s"),
    ],
)
def test_implausible_times_are_refused(tmp_path, times, words):
    text = refusal(samples.write_dynamic(tmp_path, VALUES, times))
    assert words in text and "AcquisitionTime" in text
