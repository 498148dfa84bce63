"""Motion of the head during a scan is found and undone; contrast, noise and thin slabs are not mistaken for it."""

import tracemalloc
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from moving_analytic_head import Scan, expose, head_points, pose, series
from scipy import ndimage
from scipy.spatial.transform import Rotation

from CTPerfusionSuiteLib.anatomy_registration import register_rigid, resample_rigid
from CTPerfusionSuiteLib.errors import Canceled
from CTPerfusionSuiteLib.phantoms.brain import BrainOptions, simulate_brain
from CTPerfusionSuiteLib.registration import correct_motion, estimate_motion
from CTPerfusionSuiteLib.rigid_motion import RigidPose, rotation_matrix, rotation_vector
from CTPerfusionSuiteLib.volumes import Geometry, TimeSeries, Volume

SCAN = Scan()
REAL_HEAD = Path(__file__).parents[2].parent / "shared" / "data" / "head_ncct_ge_gantry_tilt"


def random_pose(rng, scan, most_mm, most_deg, least=0.3):
    shift, turn = rng.standard_normal((2, 3))
    shift *= most_mm * rng.uniform(least, 1) / np.linalg.norm(shift)
    turn *= most_deg * rng.uniform(least, 1) / np.linalg.norm(turn)
    return pose(shift, turn, scan)


def errors_mm(motion, poses, points, slab=0):
    """Distance between where each head point is and where the estimate says it is, a row a frame."""
    return np.array([np.linalg.norm(motion.pose(t, slab)(points) - p(points), axis=1) for t, p in enumerate(poses)])


@cache
def jolting():
    """16 frames, a bolus of 400 HU, 8 HU noise: rest, jolts there and back, a new resting place."""
    rng = np.random.default_rng(11)
    rest, places = pose(scan=SCAN), [random_pose(rng, SCAN, 8.0, 5.0) for _ in range(6)]
    poses = [rest] * 6 + places[:2] + [rest] + places[2:5] + [places[5]] * 4
    return poses, series(SCAN, poses, artery_peak_hu=400.0, noise_hu=8.0, step_s=2.5)


@cache
def jolting_estimate():
    return estimate_motion(jolting()[1])


@cache
def still_truth():
    """The jolting scan as it would be at rest and without noise."""
    poses, _ = jolting()
    return series(SCAN, [pose(scan=SCAN)] * len(poses), artery_peak_hu=400.0, noise_hu=0.0, step_s=2.5)


def brain_of(still):
    """Voxels of brain away from bone."""
    mean = still.values[:3].mean(axis=0)
    return ndimage.binary_erosion((mean > 0) & (mean < 100), np.ones((1, 5, 5), bool))


@pytest.mark.parametrize("slices", [8, 4])
def test_a_still_head_with_a_bright_bolus_is_left_untouched(slices):
    scan = Scan(slices=slices, level_mm=5.0)
    scanned = series(scan, [pose(scan=scan)] * 20, artery_peak_hu=400.0, noise_hu=10.0, step_s=2.0, seed=3)
    motion = estimate_motion(scanned)
    assert motion.max_displacement_mm.max() < 0.15 and np.abs(motion.translations_mm).max() < 0.1
    assert np.abs(motion.rotations_deg).max() < 0.1
    assert not motion.bad.any()
    assert correct_motion(scanned, motion) is scanned


def test_jolts_of_8_mm_and_5_degrees_are_found_within_half_a_millimeter():
    poses, _ = jolting()
    motion, points = jolting_estimate(), head_points(SCAN)
    errors = errors_mm(motion, poses, points)[6:]
    assert np.median(errors) < 0.5 and np.percentile(errors, 95) < 1.0
    assert not motion.bad.any()
    # the same figures condemn an estimate that is late by one frame, turned the wrong way, or absent
    backward = [RigidPose(-p.translation_mm, -p.rotation_deg, p.center) for p in poses]
    for wrong in (poses[1:] + poses[:1], backward, [pose(scan=SCAN)] * len(poses)):
        assert np.median(errors_mm(motion, wrong, points)[6:]) > 1.0
    true_reach = max(np.linalg.norm(p(points) - points, axis=1).max() for p in poses)
    assert motion.moved.max_mm == pytest.approx(true_reach, abs=1.5) and motion.moved.frames_dropped == 0


def test_corrected_curves_are_those_of_a_head_at_rest():
    _, scanned = jolting()
    before = scanned.values.copy()
    corrected, still = correct_motion(scanned, jolting_estimate()), still_truth()
    assert corrected.values.dtype == np.int16 and np.array_equal(scanned.values, before)
    brain = brain_of(still)
    brain[[0, -1]] = False
    truth = still.values[:, brain].astype(float)
    noise = 8.0
    moved = slice(6, None)
    wrong = np.sqrt(np.mean((scanned.values[moved, brain] - truth[moved]) ** 2))
    left = np.sqrt(np.mean((corrected.values[moved, brain] - truth[moved]) ** 2))
    assert left < 1.1 * noise < 0.75 * wrong
    # frames that did not move keep every voxel
    assert np.array_equal(corrected.values[:6], before[:6]) and np.array_equal(corrected.values[8], before[8])
    # the brightest arteries still peak as high
    artery = still.values.max(axis=0) - still.values[0] > 150.0
    artery[[0, -1]] = False
    assert artery.sum() > 20
    lost = (corrected.values[:, artery].max(axis=0) - still.values[:, artery].max(axis=0)).astype(float)
    assert abs(lost.mean()) < 0.12 * (still.values[:, artery].max(axis=0) - 42.0).mean()


def test_places_a_moved_frame_does_not_show_keep_anatomy_and_contrast():
    rest, away = pose(scan=SCAN), pose((0.0, 1.0, 8.0), (0.0, 0.0, 0.0), SCAN)
    poses = [rest] * 5 + [away] * 5
    scanned = series(SCAN, poses, noise_hu=0.0, step_s=4.0)
    still = series(SCAN, [rest] * len(poses), noise_hu=0.0, step_s=4.0)
    corrected = correct_motion(scanned, estimate_motion(scanned))
    head = ndimage.binary_erosion(still.values[0] > -200, np.ones((1, 7, 7), bool))
    for edge in (0, -1):
        where = head[edge]
        assert corrected.values[5:, edge][:, where].min() > -300.0
        brain = brain_of(still)[edge]
        difference = corrected.values[5:, edge][:, brain] - still.values[5:, edge][:, brain].astype(float)
        assert np.median(np.abs(difference)) < 4.0


def test_a_frame_that_moved_during_its_exposure_is_dropped_and_filled_at_each_slice_own_time():
    rest = pose(scan=SCAN)
    poses = [rest] * 7 + [(rest, pose((5.0, 2.0, 1.0), (0.0, 1.0, 4.0), SCAN))] + [rest] * 5
    scanned = series(SCAN, poses, noise_hu=6.0, step_s=3.0)
    uneven = np.add.outer(3.0 * np.arange(len(poses)), np.linspace(0.0, 1.0, SCAN.slices))
    uneven[7] += np.linspace(-1.0, 1.0, SCAN.slices)
    scanned = replace(scanned, times=uneven)
    motion = estimate_motion(scanned)
    assert np.flatnonzero(motion.bad[:, 0]).tolist() == [7] and motion.moved.frames_dropped == 1
    corrected = correct_motion(scanned, motion)
    for k in range(SCAN.slices):
        share = (uneven[7, k] - uneven[6, k]) / (uneven[8, k] - uneven[6, k])
        expected = (1 - share) * scanned.values[6, k] + share * scanned.values[8, k].astype(float)
        assert np.abs(corrected.values[7, k] - expected).max() <= 0.51


def test_slices_scanned_one_after_the_other_keep_the_times_their_pixels_come_from():
    rest, shift = pose(scan=SCAN), pose((0.0, 0.0, SCAN.slice_mm), scan=SCAN)
    scanned = series(SCAN, [rest] * 6 + [shift] + [rest] * 3, noise_hu=2.0)
    at = scanned.times[:, None] + 0.15 * np.arange(SCAN.slices)
    moving = replace(scanned, times=at)
    corrected = correct_motion(moving, estimate_motion(moving))
    # The head went up by one slice: what belongs to a slice was scanned with the next one; the last one shows nothing new.
    assert corrected.slice_times[6, :-1] == pytest.approx(at[6, 1:], abs=0.03)
    assert np.array_equal(np.delete(corrected.slice_times, 6, axis=0), np.delete(at, 6, axis=0))
    together = correct_motion(scanned, estimate_motion(scanned))
    assert together.times.ndim == 1
    assert np.array_equal(together.values, corrected.values)


def test_full_contrast_in_carotids_and_sinuses_never_drops_a_frame():
    scan = Scan(level_mm=-15.0)
    motion = estimate_motion(series(scan, [pose(scan=scan)] * 14, artery_peak_hu=600.0, noise_hu=8.0, step_s=3.0))
    assert not motion.bad.any() and motion.max_displacement_mm.max() < 0.15


def test_each_slab_of_a_shuttle_moves_by_itself_and_never_mixes_with_the_other():
    scan, slabs = Scan(slices=8, level_mm=10.0), np.repeat([0, 1], 4)
    rest, away = pose(scan=scan), pose((5.0, -3.0, 1.0), (0.0, 0.0, 4.0), scan)
    poses = [rest] * 4 + [away] * 3
    moved, still = series(scan, poses, noise_hu=5.0, step_s=3.0), series(scan, [rest] * 7, noise_hu=5.0, step_s=3.0, seed=1)
    values = still.values.copy()
    values[:, 4:] = moved.values[:, 4:]
    times = np.where(slabs == 0, 0.0, 1.5) + 3.0 * np.arange(7)[:, None]
    scanned = TimeSeries(values, scan.geometry, times, slabs=slabs)
    motion = estimate_motion(scanned)
    assert motion.translations_mm.shape == (7, 2, 3) and motion.max_displacement_mm[:, 0].max() < 0.15
    points = head_points(scan)
    upper = points[points[:, 2] > 10.0]
    assert np.percentile(errors_mm(motion, poses, upper, slab=1)[4:], 95) < 1.0
    corrected = correct_motion(scanned, motion)
    assert np.array_equal(corrected.values[:, :4], values[:, :4])
    assert not np.array_equal(corrected.values[4:, 4:], values[4:, 4:])
    # what the lower slab shows has no influence on the upper one
    other = values.copy()
    other[4:, :4] = 3000
    again = correct_motion(replace(scanned, values=other), motion)
    assert np.array_equal(again.values[:, 4:], corrected.values[:, 4:])


def test_a_slab_of_four_slices_is_corrected_in_all_directions_and_two_slices_in_plane_only():
    rng = np.random.default_rng(4)
    scan = Scan(slices=4, level_mm=20.0)
    poses = [pose(scan=scan)] * 4 + [random_pose(rng, scan, 6.0, 4.0) for _ in range(5)]
    motion = estimate_motion(series(scan, poses, noise_hu=6.0, step_s=3.0))
    errors = errors_mm(motion, poses, head_points(scan))[4:]
    assert np.median(errors) < 0.5 and np.percentile(errors, 95) < 1.5
    two = Scan(slices=2, level_mm=20.0)
    poses = [pose(scan=two)] * 4 + [pose((4.0, -3.0, 0.0), (0.0, 0.0, 4.0), two), pose((-2.0, 6.0, 0.0), (0.0, 0.0, -3.0), two)]
    motion = estimate_motion(series(two, poses, noise_hu=6.0, step_s=3.0))
    assert np.percentile(errors_mm(motion, poses, head_points(two))[4:], 95) < 0.5
    assert np.all(motion.translations_mm[..., 2] == 0.0) and np.all(motion.rotations_deg[..., :2] == 0.0)


def test_the_patient_moving_before_the_bolus_does_not_blur_the_reference():
    rest, early = pose(scan=SCAN), pose((4.0, 2.0, -2.0), (2.0, 0.0, -3.0), SCAN)
    poses = [early] * 2 + [rest] * 5
    motion = estimate_motion(series(SCAN, poses, noise_hu=6.0, step_s=2.5), baseline_frames=range(6))
    assert set(motion.reference_frames[0]) == {2, 3, 4, 5}
    assert np.percentile(errors_mm(motion, poses, head_points(SCAN)), 95) < 1.0


def test_motion_is_reported_in_patient_axes_whatever_the_order_of_slices():
    rest, away = pose(scan=SCAN), pose((3.0, -2.0, 4.0), (3.0, -1.0, 2.0), SCAN)
    scanned = series(SCAN, [rest] * 3 + [away] * 2, noise_hu=4.0, step_s=4.0)
    geometry = scanned.geometry
    top = geometry.to_lps((0, 0, geometry.size[2] - 1))
    downward = Geometry(geometry.size, geometry.spacing, tuple(top), ((1, 0, 0), (0, 1, 0), (0, 0, -1)))
    flipped = TimeSeries(np.ascontiguousarray(scanned.values[:, ::-1]), downward, scanned.times)
    one, other = estimate_motion(scanned), estimate_motion(flipped)
    points = head_points(SCAN)
    assert np.percentile(errors_mm(other, [rest] * 3 + [away] * 2, points)[3:], 95) < 1.0
    assert np.abs(one.translations_mm - other.translations_mm).max() < 0.3
    corrected = correct_motion(scanned, one).values[:, ::-1].astype(float) - correct_motion(flipped, other).values
    assert np.median(np.abs(corrected[3:, 2:-2])) < 3.0


def test_a_series_without_bone_and_a_series_of_one_frame_are_left_alone():
    soft = series(SCAN, [pose(scan=SCAN)] * 3, noise_hu=5.0)
    soft = soft.with_values(np.minimum(soft.values, 90).astype(np.int16))
    motion = estimate_motion(soft)
    assert not motion.estimated.any() and "too little bone" in motion.reference
    assert correct_motion(soft, motion) is soft
    single = soft.with_values(soft.values)
    single = TimeSeries(single.values[:1], single.geometry, single.times[:1])
    assert estimate_motion(single).moved == (0.0, 0.0, 0)


def test_float_series_stay_float_and_only_one_copy_is_made():
    poses, scanned = jolting()
    motion = jolting_estimate()
    assert correct_motion(scanned.with_values(scanned.values.astype(np.float32)), motion).values.dtype == np.float32
    many = TimeSeries(np.concatenate([scanned.values] * 4), scanned.geometry, np.arange(4 * len(poses)) * 1.0)
    repeated = replace(motion, times=many.times, **{name: np.concatenate([getattr(motion, name)] * 4) for name in (
        "translations_mm", "rotations_deg", "max_displacement_mm", "bad", "mismatch")})
    tracemalloc.start()
    correct_motion(many, repeated, threads=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.0 * many.values.nbytes


@pytest.mark.parametrize("step", [estimate_motion, lambda scanned, **more: correct_motion(scanned, jolting_estimate(), **more)])
def test_progress_is_told_and_cancel_ends_the_work(step):
    _, scanned = jolting()
    told = []
    step(scanned, progress=told.append)
    assert told == sorted(told) and told[-1] == pytest.approx(1.0) and len(told) > 5

    def stop(fraction):
        raise Canceled("stopped")

    with pytest.raises(Canceled):
        step(scanned, progress=stop)


def test_rotation_vectors_and_matrices_are_inverse():
    for vector in np.random.default_rng(0).standard_normal((20, 3)):
        assert rotation_vector(rotation_matrix(vector * 0.9)) == pytest.approx(vector * 0.9, abs=1e-9)
    assert rotation_matrix((0.0, 0.0, np.pi / 2)) @ (1, 0, 0) == pytest.approx((0, 1, 0), abs=1e-12)


def real_head():
    """The real non-contrast head as a function of millimeters: tilt undone, cubic between its slices."""
    pydicom = pytest.importorskip("pydicom")
    headers = sorted((pydicom.dcmread(path) for path in REAL_HEAD.glob("*.dcm")), key=lambda d: float(d.ImagePositionPatient[2]))
    down = np.array(headers[0].ImageOrientationPatient[3:], float)
    positions = np.array([np.array(d.ImagePositionPatient, float) for d in headers])
    heights = positions @ np.cross([1.0, 0.0, 0.0], down)
    pixel = 2 * float(headers[0].PixelSpacing[0])
    slips = (positions - positions[0]) @ down / pixel
    slices = np.stack([ndimage.shift(np.maximum(d.pixel_array[::2, ::2].astype(np.float32), -1000.0), (s, 0.0), order=1, cval=-1000.0)
                       for d, s in zip(headers, slips, strict=True)])
    regular = np.arange(heights[0], heights[-1], 2.0)
    row = np.interp(regular, heights, np.arange(len(heights)))
    low = np.minimum(row.astype(int), len(heights) - 2)
    share = (row - low)[:, None, None].astype(np.float32)
    return (1 - share) * slices[low] + share * slices[low + 1], 2.0, pixel


@pytest.mark.skipif(not REAL_HEAD.is_dir(), reason="the shared real head is not here")
def test_a_real_head_moved_by_known_poses_is_found_again():
    volume, step, pixel = real_head()
    middle = (np.array(volume.shape) - 1) / 2
    scan = Scan(level_mm=5.0)
    geometry, rng = scan.geometry, np.random.default_rng(2)
    poses = [pose(scan=scan)] * 3 + [random_pose(rng, scan, 8.0, 5.0) for _ in range(5)]
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij"), axis=-1)[..., ::-1]
    shown = {}
    for p in poses:
        if id(p) in shown:
            continue
        back, frame = np.linalg.inv(p.matrix), 0.0
        for part in (-0.375, -0.125, 0.125, 0.375):  # across the slice
            place = geometry.to_lps(grid + np.array([0.0, 0.0, part])) @ back[:3, :3].T + back[:3, 3]
            index = np.moveaxis(place[..., ::-1], -1, 0) / np.array([step, pixel, pixel])[:, None, None, None] + middle[:, None, None, None]
            frame = frame + ndimage.map_coordinates(volume, index, order=1, cval=-1000.0) / 4
        shown[id(p)] = frame
    noisy = [np.round(shown[id(p)] + rng.normal(0.0, 6.0, geometry.shape)).astype(np.int16) for p in poses]
    motion = estimate_motion(TimeSeries(np.stack(noisy), geometry, 3.0 * np.arange(len(poses))))
    points = geometry.to_lps(np.argwhere(noisy[0] > -200)[::61, ::-1])
    errors = errors_mm(motion, poses, points)
    assert errors[:3].max() < 0.15 and np.median(errors[3:]) < 0.3 and np.percentile(errors[3:], 95) < 0.8
    assert not motion.bad.any()


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_an_anatomical_volume_is_brought_to_the_mean_ct(modality):
    whole = Scan(matrix=112, pixel_mm=2.0, slices=52, slice_mm=3.0, level_mm=0.0)
    placed = RigidPose(np.array([6.0, -5.0, 14.0]), np.array([5.0, -3.0, -6.0]), np.zeros(3))
    values = expose(whole, [placed], 2, 1)[0] + np.random.default_rng(0).normal(0.0, 4.0, whole.geometry.shape)
    if modality == "MR":  # dark bone and air, bright fat, fluid brighter than brain
        values = np.where((values > -25) & (values < 100), 300.0 - 2.5 * values, np.where((values > -200) & (values <= -25), 500.0, 0.0))
    scan = Scan(slices=16, level_mm=5.0, matrix=112, pixel_mm=2.0)
    fixed = Volume(expose(scan, [pose(scan=scan)], 2, 2)[0], scan.geometry)
    moving = Volume(values.astype(np.float32), whole.geometry)
    found, points = register_rigid(moving, fixed), head_points(scan)
    errors = np.linalg.norm(found(points) - placed(points), axis=1)
    assert np.median(errors) < 1.0 and errors.max() < 2.5
    if modality == "CT":
        brain = (fixed.values > 0) & (fixed.values < 80)
        there = resample_rigid(moving, scan.geometry, found)
        assert np.median(np.abs(there.values[brain] - fixed.values[brain])) < 6.0


def test_motion_of_the_simulated_stroke_brain_is_found():
    # shifts and turns apart: the phantom turns its head about a point of its own
    shifts, turns = np.array([[4.0, -3.0, 2.0], [-2.0, 5.0, -4.0]]), np.array([[3.0, -2.0, 4.0], [-2.0, 1.0, -3.0]])
    moved = np.zeros((8, 6))
    moved[4:6, :3], moved[6:8, 3:] = shifts, turns
    motion = estimate_motion(simulate_brain(BrainOptions(size=(96, 96), frames=8, dt_s=5.0, noise_hu=6.0, seed=4, motion=moved)).series)
    assert motion.max_displacement_mm[:4].max() < 0.15 and not motion.bad.any()
    assert np.abs(motion.translations_mm[4:6, 0] - shifts).max() < 0.4 and np.abs(motion.rotations_deg[4:6]).max() < 0.5
    expected = Rotation.from_euler("xyz", turns, degrees=True).as_rotvec(degrees=True)
    assert np.abs(motion.rotations_deg[6:, 0] - expected).max() < 0.5
