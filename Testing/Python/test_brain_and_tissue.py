"""Brain, midline and tissue are told from skull, fluid, vessels and each other, in simulated and in real heads."""

from functools import cache

import numpy as np
import pydicom
import pytest
from plain_head import PlainHead, plain_study
from scipy import ndimage

from CTPerfusionSuiteLib.errors import DataRefused
from CTPerfusionSuiteLib.phantoms.brain import BrainOptions, simulate_brain
from CTPerfusionSuiteLib.volumes import Geometry, Volume
from PerfusionMapsLib.bolus_arrival import baseline_mean, find_bolus, frame_mean
from PerfusionMapsLib.brain_mask import brain_mask, intracranial_space
from PerfusionMapsLib.midsagittal_plane import MidsagittalPlane, estimate_midsagittal
from PerfusionMapsLib.tissue_classes import classify_tissue, summarize_enhancement


def dice(a, b):
    return 2.0 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def images(series):
    """Bolus, baseline and mean of a series."""
    bolus = find_bolus(series)
    return bolus, Volume(baseline_mean(series, bolus), series.geometry), Volume(frame_mean(series.values), series.geometry)


def angle(a, b):
    """Degrees between unit vectors."""
    return float(np.degrees(np.arccos(np.clip(np.dot(a, b), -1, 1))))


HEADS = {
    "upright": PlainHead(seed=1, frames=24, dt_s=2.4),
    "turned and tilted": PlainHead(seed=2, frames=24, dt_s=2.4, yaw_deg=14.0, roll_deg=-7.0),
    "noisy, zero outside": PlainHead(seed=3, frames=24, dt_s=2.4, noise_hu=18.0, background_hu=0.0, yaw_deg=-9.0, roll_deg=4.0),
    "no scalp, padding outside": PlainHead(seed=4, frames=24, dt_s=2.4, background_hu=-3024.0, scalp=False, yaw_deg=-15.0),
    "two thick slices": PlainHead(seed=5, frames=24, dt_s=2.4, slices=2, slice_mm=10.0, yaw_deg=6.0),
}


@cache
def plain(name):
    drawn = plain_study(HEADS[name])
    bolus, baseline, mean = images(drawn.series)
    return drawn, bolus, baseline, mean, brain_mask(baseline, mean)


@cache
def study():
    return simulate_brain(
        BrainOptions(
            size=(104, 104), slices=6, frames=32, dt_s=1.7, seed=21, side="right", chronic_infarct=True, rotation_deg=(3.0, 4.0, -8.0)
        )
    )


@cache
def analyzed():
    bolus, baseline, mean = images(study().series)
    brain = brain_mask(baseline, mean)
    enhancement = summarize_enhancement(study().series, bolus)
    return bolus, baseline, mean, brain, enhancement, classify_tissue(baseline, mean, brain, enhancement)


@pytest.mark.parametrize("name", HEADS)
def test_the_brain_is_found_whatever_lies_outside_and_however_the_head_lies(name):
    drawn, _, _, _, brain = plain(name)
    assert dice(brain, drawn.brain) > 0.97


def test_the_brain_of_a_simulated_head_is_found():
    assert dice(analyzed()[3], study().mask("brain")) > 0.97


def test_scalp_over_an_opened_skull_is_not_brain():
    drawn = plain_study(PlainHead(seed=6, frames=16, dt_s=3.2, craniotomy=True))
    _, baseline, mean = images(drawn.series)
    brain = brain_mask(baseline, mean)
    assert dice(brain, drawn.brain) > 0.95
    outside = ndimage.distance_transform_edt(~drawn.brain[4]) * drawn.series.geometry.spacing[0]
    assert outside[brain[4]].max() < 7.0


def test_the_intracranial_space_holds_the_sinus_beside_the_inner_table():
    drawn, _, _, _, brain = plain("upright")
    space = intracranial_space(brain, drawn.series.geometry)
    assert space[drawn.vein > 0.5].all()
    assert np.all(space[brain])


@pytest.mark.parametrize("level", [-1000.0, 0.0])
def test_an_empty_scan_has_no_head(level):
    geometry = Geometry((64, 64, 4), (3.0, 3.0, 5.0))
    noise = np.random.default_rng(0).normal(0, 5, geometry.shape).astype(np.float32)
    with pytest.raises(DataRefused, match="No brain"):
        brain_mask(Volume(noise + level, geometry), Volume(noise + level, geometry))


@pytest.mark.parametrize("name", HEADS)
def test_the_midline_is_found_within_a_degree_and_two_millimeters(name):
    drawn, _, _, mean, brain = plain(name)
    plane = estimate_midsagittal(mean, brain)
    flat = np.array(plane.normal) * [1, 1, 0 if drawn.series.geometry.size[2] < 4 else 1]
    true = drawn.normal * [1, 1, 0 if drawn.series.geometry.size[2] < 4 else 1]
    assert angle(flat / np.linalg.norm(flat), true / np.linalg.norm(true)) < 1.0
    assert abs(plane.distance(drawn.point)) < 2.0
    shifted = MidsagittalPlane(tuple(np.array(plane.point) + 4.0 * np.array(plane.normal)), plane.normal)
    assert abs(shifted.distance(drawn.point)) > 2.0, "a plane four millimeters off must fail"


def test_the_midline_follows_the_middle_of_an_asymmetric_individual():
    _, _, mean, brain, _, _ = analyzed()
    side = estimate_midsagittal(mean, brain).hemisphere(mean.geometry, study().mask("brain"))
    truth = study().truth["hemisphere"].values
    inside = study().mask("brain")
    assert (side == truth)[inside].mean() > 0.98
    assert (3 - side == truth)[inside].mean() < 0.02, "left and right swapped must fail"


def test_left_is_the_patients_left_in_an_array_of_any_direction():
    drawn, _, _, mean, brain = plain("turned and tilted")
    geometry = mean.geometry
    size = geometry.size
    flipped = Geometry(size, geometry.spacing, geometry.to_lps([size[0] - 1, 0, size[2] - 1]), ((-1, 0, 0), (0, 1, 0), (0, 0, -1)))
    turned = Volume(mean.values[::-1, :, ::-1].copy(), flipped)
    plane = estimate_midsagittal(turned, brain[::-1, :, ::-1])
    side = plane.hemisphere(flipped, brain[::-1, :, ::-1])
    left = flipped.to_lps(np.argwhere(side == 1)[:, ::-1]).mean(axis=0)
    right = flipped.to_lps(np.argwhere(side == 2)[:, ::-1]).mean(axis=0)
    assert left[0] > right[0] + 20.0
    assert angle(np.array(plane.normal), drawn.normal) < 1.0


def test_mirroring_twice_gives_the_mask_back():
    drawn, _, _, mean, brain = plain("turned and tilted")
    plane = estimate_midsagittal(mean, brain)
    points = np.random.default_rng(0).normal(0, 50, (20, 3))
    assert np.allclose(plane.mirror(plane.mirror(points)), points)
    upright, _, _, image, whole = plain("upright")
    plane = estimate_midsagittal(image, whole)
    mirrored = plane.mirror_mask(upright.lesion, image.geometry)
    assert dice(plane.mirror_mask(mirrored, image.geometry), upright.lesion) > 0.97
    assert not np.any(mirrored & upright.lesion)
    assert mirrored.sum() == pytest.approx(upright.lesion.sum(), rel=0.05)


def test_tissue_is_brain_without_fluid_and_vessels():
    brain, classes = analyzed()[3], analyzed()[5]
    truth = study().mask("tissue")
    assert dice(classes.tissue, truth) > 0.96
    assert np.count_nonzero(truth & ~classes.tissue) < 0.02 * np.count_nonzero(truth)
    assert not np.any(classes.tissue & (classes.csf | classes.vessels | classes.bone))
    assert np.array_equal(classes.gray | classes.white, classes.tissue) and not np.any(classes.gray & classes.white)
    assert np.all(brain[classes.tissue])


def test_infarct_core_stays_tissue_while_an_old_cavity_does_not():
    classes = analyzed()[5]
    core = study().mask("core")
    assert np.count_nonzero(core) > 50
    assert np.count_nonzero(core & classes.tissue) > 0.97 * np.count_nonzero(core)
    cavity = study().mask("brain") & ~study().mask("tissue") & (frame_mean(study().series.values) < 14.0)
    assert np.count_nonzero(cavity & classes.tissue) < 0.03 * np.count_nonzero(cavity)


def test_large_vessels_are_taken_out_of_the_tissue():
    classes = analyzed()[5]
    blood = (study().truth["vein_fraction"].values + study().truth["artery_fraction"].values > 0.3) & analyzed()[3]
    assert np.count_nonzero(blood & classes.tissue) < 0.05 * np.count_nonzero(blood)


def test_gray_matter_is_told_from_white():
    classes = analyzed()[5]
    flow = study().truth["cbf"].values
    normal = classes.tissue & ~study().mask("hypoperfusion")
    assert np.median(flow[classes.gray & normal]) > 1.4 * np.median(flow[classes.white & normal])


@cache
def real_head(folder):
    slices = sorted((pydicom.dcmread(path) for path in folder.glob("*.dcm")), key=lambda d: float(d.ImagePositionPatient[2]))
    values = np.stack([d.pixel_array[::2, ::2].astype(np.float32) * float(d.RescaleSlope) + float(d.RescaleIntercept) for d in slices])
    # The slices above the skull base; the tilt only shears the head in the sagittal plane, which symmetry does not see.
    values = values[10:24]
    spacing = 2 * float(slices[0].PixelSpacing[0])
    return Volume(values, Geometry((values.shape[2], values.shape[1], len(values)), (spacing, spacing, 5.5)))


def test_the_brain_of_a_real_head_is_plausible(shared_data):
    head = real_head(shared_data / "head_ncct_ge_gantry_tilt")
    brain = brain_mask(head, head)
    assert 900 < np.count_nonzero(brain) * head.geometry.voxel_volume_ml < 1400
    values = head.values[brain]
    assert np.mean((values > -10) & (values < 90)) > 0.98, "bone, fat or air inside the mask"
    air = head.values < -200
    assert (ndimage.distance_transform_edt(~air[6]) * head.geometry.spacing[0])[brain[6]].min() > 3.0


@pytest.mark.parametrize("turn", [-8.0, 0.0, 12.0])
def test_the_midline_of_a_real_head_turns_with_it(shared_data, turn):
    head = real_head(shared_data / "head_ncct_ge_gantry_tilt")
    straight = estimate_midsagittal(head, brain_mask(head, head))
    turned = Volume(ndimage.rotate(head.values, turn, axes=(1, 2), reshape=False, order=1, cval=-1000.0), head.geometry)
    plane = estimate_midsagittal(turned, brain_mask(turned, turned))
    yaw = [np.degrees(np.arctan2(p.normal[1], p.normal[0])) for p in (straight, plane)]
    assert yaw[0] - yaw[1] == pytest.approx(turn, abs=1.0)
