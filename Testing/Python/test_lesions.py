"""Stories about hypoperfusion, core and penumbra."""

import time

import numpy as np
import pytest

from CTPerfusionSuiteLib.volumes import Geometry
from PerfusionMapsLib.hemisphere_mirror import mirrored, plane_between
from PerfusionMapsLib.lesions import large_clusters, lesions, mask_names, relative_to
from PerfusionMapsLib.perfusion_metrics import metrics_document
from PerfusionMapsLib.perfusion_options import Thresholds

GRID = Geometry((60, 70, 12), (3.0, 3.0, 5.0), (-90.0, -105.0, 0.0))


def positions(grid):
    k, j, i = np.indices(grid.shape)
    return np.moveaxis(grid.to_lps(np.stack([i, j, k], axis=-1)), -1, 0)


def head(grid=GRID, lesion_x=40.0, flow=40.0):
    """A brain whose Tmax rises and whose flow falls toward a lesion at `lesion_x` mm (left is positive)."""
    x, y, z = positions(grid)
    middle = 0.5 * (z.min() + z.max())
    brain = (x / 75.0) ** 2 + (y / 90.0) ** 2 <= 1.0
    distance = np.sqrt((x - lesion_x) ** 2 + y**2 + (z - middle) ** 2)
    tmax = np.where(brain, np.clip(13.0 - distance / 4.0, 2.0, 13.0), 0.0).astype(np.float32)
    cbf = np.where(brain, flow * np.clip(distance / 30.0, 0.1, 1.0), 0.0).astype(np.float32)
    maps = {"tmax": tmax, "operator_cbf": cbf, "cbf": 1.3 * cbf, "cbv": np.where(brain, 3.0, 0.0).astype(np.float32)}
    masks = {"brain_mask": brain, "tissue_mask": brain, "hemisphere": np.where(brain, np.where(x > 0, 1, 2), 0).astype(np.uint8)}
    return maps, masks


def test_a_lesion_on_the_patients_left_is_reported_left_whatever_way_the_image_is_stored():
    for direction in (np.eye(3), np.diag([-1.0, -1.0, 1.0]), np.diag([-1.0, 1.0, 1.0])):
        origin = np.array([90.0 if direction[0, 0] < 0 else -90.0, 105.0 if direction[1, 1] < 0 else -105.0, 0.0])
        grid = Geometry(GRID.size, GRID.spacing, origin, direction)
        for x, side in ((40.0, "left"), (-40.0, "right")):
            maps, masks = head(grid, x)
            assert lesions(maps, masks, Thresholds(), grid).lesion_side == side


def test_swapping_left_and_right_of_the_hemisphere_map_swaps_the_side():
    maps, masks = head()
    swapped = {**masks, "hemisphere": np.array([0, 2, 1], np.uint8)[masks["hemisphere"]]}
    assert lesions(maps, masks, Thresholds(), GRID).lesion_side == "left"
    assert lesions(maps, swapped, Thresholds(), GRID).lesion_side == "right"


def test_equal_lesions_on_both_sides_are_reported_as_both_and_a_small_second_one_is_not():
    maps, masks = head()
    x = positions(GRID)[0]
    both = {**maps, "tmax": np.maximum(maps["tmax"], maps["tmax"][:, :, ::-1])}
    assert lesions(both, masks, Thresholds(), GRID).lesion_side == "both"
    small = {**maps, "tmax": np.where((x < -60) & (x > -66) & masks["tissue_mask"], 7.0, maps["tmax"])}
    assert lesions(small, masks, Thresholds(), GRID).lesion_side == "left"


def test_volumes_are_what_the_geometry_of_the_lesion_says():
    maps, masks = head()
    found = lesions(maps, masks, Thresholds(), GRID)
    # Tmax > 6 s within 28 mm, flow under 30 % within 9 mm of the center; the middle of 12 slices lies between two of them.
    x, y, z = positions(GRID)
    distance = np.sqrt((x - 40.0) ** 2 + y**2 + (z - 27.5) ** 2)
    assert np.array_equal(found.hypoperfusion, (distance < 28.0) & masks["tissue_mask"])
    assert np.array_equal(found.core, (maps["operator_cbf"] < 0.3 * 40.0) & found.hypoperfusion)
    assert found.volume_ml(found.core) == pytest.approx(4 / 3 * np.pi * 0.9**3, rel=0.25)
    assert np.array_equal(found.penumbra, found.hypoperfusion & ~found.core)


def test_the_reference_comes_from_the_healthy_side_so_a_low_flow_lesion_side_cannot_hide_the_core(monkeypatch):
    maps, masks = head()
    left = masks["hemisphere"] == 1
    # The whole lesion side is poorly perfused, though in time: taking the reference there would shrink the core.
    maps["operator_cbf"] = np.where(left, 0.4 * maps["operator_cbf"], maps["operator_cbf"]).astype(np.float32)
    right_reference = lesions(maps, masks, Thresholds(), GRID)
    assert right_reference.reference.side == "right"
    assert right_reference.reference.flow == pytest.approx(40.0)
    monkeypatch.setattr("PerfusionMapsLib.lesions._less_affected", lambda severe, delayed, hemisphere: 1)
    wrong = lesions(maps, masks, Thresholds(), GRID)
    wrong_ml = wrong.volume_ml(wrong.core)
    assert wrong.reference.side == "left" and wrong.reference.flow < 20.0
    assert right_reference.volume_ml(right_reference.core) > 3.0 * wrong_ml


def test_clusters_under_one_milliliter_are_dropped_from_hypoperfusion_and_go_back_to_penumbra_from_core():
    maps, masks = head()
    quiet = {**maps, "tmax": np.where(masks["tissue_mask"], 2.0, 0.0).astype(np.float32)}
    voxels = int(np.ceil(1.0 / GRID.voxel_volume_ml))  # 23 voxels of 45 mm3 are just over 1 mL

    def chain(length):
        tmax = quiet["tmax"].copy()
        for step in range(length):  # touches at corners only: 26-connected
            tmax[4 + step % 2, 20 + step, 30 + step % 2] = 9.0
        return lesions({**quiet, "tmax": tmax}, masks, Thresholds(), GRID)

    assert chain(voxels).hypoperfusion.sum() == voxels
    assert chain(voxels - 1).hypoperfusion.sum() == 0
    flow = np.where(masks["tissue_mask"], 40.0, 0.0).astype(np.float32)
    flow[6, 34:38, 42:47] = 2.0  # 20 voxels of severe ischemia: 0.9 mL
    few = lesions({**maps, "operator_cbf": flow}, masks, Thresholds(), GRID)
    assert few.volume_ml(few.core) == 0.0 and few.penumbra.sum() == few.hypoperfusion.sum()
    flow[6, 38, 42:45] = 2.0
    enough = lesions({**maps, "operator_cbf": flow}, masks, Thresholds(), GRID)
    assert enough.core.sum() == 23 and enough.penumbra.sum() == enough.hypoperfusion.sum() - 23


def test_one_milliliter_is_meant_in_space_not_in_voxels():
    for spacing in ((1.0, 1.0, 1.0), (2.0, 2.0, 8.0)):
        grid = Geometry((40, 40, 10), spacing)
        minimum = int(np.ceil(1.0 / grid.voxel_volume_ml - 1e-6))
        mask = np.zeros(grid.shape, bool)
        mask.reshape(-1)[: minimum - 1] = True
        tissue = np.ones(grid.shape, bool)
        maps = {"tmax": np.where(mask, 9.0, 2.0), "operator_cbf": np.full(grid.shape, 30.0)}
        assert not lesions(maps, {"tissue_mask": tissue}, Thresholds(), grid).hypoperfusion.any()
        maps["tmax"].reshape(-1)[minimum - 1] = 9.0
        assert lesions(maps, {"tissue_mask": tissue}, Thresholds(), grid).hypoperfusion.sum() == minimum


def test_tmax_and_rcbf_levels_are_nested():
    maps, masks = head()
    rng = np.random.default_rng(1)
    maps["tmax"] = maps["tmax"] + rng.normal(0, 2.0, GRID.shape).astype(np.float32)
    maps["operator_cbf"] = maps["operator_cbf"] * rng.uniform(0.5, 1.5, GRID.shape).astype(np.float32)
    found = lesions(maps, masks, Thresholds(), GRID)
    for inner, outer in (("10", "8"), ("8", "6"), ("6", "4")):
        assert not (found.tmax_gt[inner] & ~found.tmax_gt[outer]).any() and found.tmax_gt[inner].any()
    for inner, outer in (("0.20", "0.30"), ("0.30", "0.34"), ("0.34", "0.38")):
        assert not (found.rcbf_lt[inner] & ~found.rcbf_lt[outer]).any()
    assert np.array_equal(found.tmax_gt["6"], found.hypoperfusion) and np.array_equal(found.rcbf_lt["0.30"], found.core)
    assert not (found.rcbf_lt["0.38"] & ~found.hypoperfusion).any()


def test_with_little_healthy_tissue_on_one_side_both_serve_and_with_hardly_any_there_is_no_core():
    maps, masks = head()
    right = masks["hemisphere"] == 2
    keep = np.zeros(GRID.shape, bool)
    keep[5, 30:40, 10:27] = True
    little = {**masks, "tissue_mask": masks["tissue_mask"] & (~right | keep)}
    found = lesions(maps, little, Thresholds(), GRID)
    assert found.reference.side == "both" and found.reference.flow == pytest.approx(40.0) and found.core is not None
    drowned = {**maps, "tmax": np.where(keep, 3.0, 9.0).astype(np.float32)}
    lost = lesions(drowned, masks, Thresholds(), GRID)
    assert lost.reference.flow is None and lost.reference.side is None and lost.reference.volume_ml < 10.0
    assert lost.core is None and lost.penumbra is None and lost.core_physical is None and lost.hypoperfusion.any()
    assert set(lost.rcbf_lt.values()) == {None} and lost.volume_ml(lost.core) is None
    assert set(lost.masks()) == {"hypoperf_mask_tmax6"}


def test_voxels_without_a_number_are_not_tissue_and_spoil_nothing():
    maps, masks = head()
    clean = lesions(maps, masks, Thresholds(), GRID)
    holes = np.zeros(GRID.shape, bool)
    holes[::3, ::4, ::5] = True
    broken = {name: np.where(holes, np.nan, values).astype(np.float32) for name, values in maps.items()}
    with np.errstate(all="raise"):
        found = lesions(broken, masks, Thresholds(), GRID)
    assert np.array_equal(found.hypoperfusion, clean.hypoperfusion & ~holes)
    assert found.reference.flow == pytest.approx(clean.reference.flow) and not (found.tissue & holes).any()


def test_a_stored_relative_map_gives_the_same_masks_at_every_threshold_voxel_for_voxel():
    maps, masks = head(flow=37.123)
    rng = np.random.default_rng(5)
    maps["operator_cbf"] = (maps["operator_cbf"] * rng.uniform(0.6, 1.4, GRID.shape)).astype(np.float32)
    first = lesions(maps, masks, Thresholds(), GRID)
    stored = {"tmax": maps["tmax"], "rcbf": relative_to(maps["operator_cbf"], first.reference.flow), "cbf": maps["cbf"]}
    for thresholds in (Thresholds(), Thresholds(8.0, 0.2), Thresholds(4.5, 0.5), Thresholds(12.0, 0.3)):
        live, again = lesions(maps, masks, thresholds, GRID), lesions(stored, masks, thresholds, GRID)
        assert again.reference.flow == 1.0
        for name in ("hypoperfusion", "core", "penumbra", "core_physical"):
            assert np.array_equal(getattr(live, name), getattr(again, name)), (thresholds, name)


def test_a_moved_threshold_changes_the_lesion_but_not_the_standard_levels():
    maps, masks = head()
    six, eight = lesions(maps, masks, Thresholds(), GRID), lesions(maps, masks, Thresholds(tmax_s=8.0), GRID)
    assert eight.hypoperfusion.sum() < six.hypoperfusion.sum()
    assert all(np.array_equal(six.tmax_gt[level], eight.tmax_gt[level]) for level in ("4", "6", "8", "10"))


def test_mask_files_are_named_after_their_thresholds():
    assert mask_names(Thresholds()) == ("hypoperf_mask_tmax6", "core_mask_rcbf30")
    assert mask_names(Thresholds(6.5, 0.25)) == ("hypoperf_mask_tmax6.5", "core_mask_rcbf25")
    assert mask_names(Thresholds(10.0, 0.29)) == ("hypoperf_mask_tmax10", "core_mask_rcbf29")


def test_a_brain_without_any_delay_has_no_lesion_and_no_side():
    maps, masks = head()
    maps["tmax"] = np.where(masks["tissue_mask"], 2.0, 0.0).astype(np.float32)
    found = lesions(maps, masks, Thresholds(), GRID)
    assert not found.hypoperfusion.any() and found.volume_ml(found.core) == 0.0 and found.lesion_side is None
    assert found.reference.side in ("left", "right") and found.reference.volume_ml > 50.0


def test_cluster_search_agrees_with_a_flood_fill():
    rng = np.random.default_rng(3)
    mask = rng.random((6, 14, 14)) < 0.12
    kept, seen = np.zeros_like(mask), np.zeros_like(mask)
    for start in np.argwhere(mask):
        if seen[tuple(start)]:
            continue
        cluster, queue = [], [tuple(start)]
        seen[tuple(start)] = True
        while queue:
            k, j, i = queue.pop()
            cluster.append((k, j, i))
            for n in np.ndindex(3, 3, 3):
                near = (k + n[0] - 1, j + n[1] - 1, i + n[2] - 1)
                if all(0 <= v < s for v, s in zip(near, mask.shape, strict=True)) and mask[near] and not seen[near]:
                    seen[near] = True
                    queue.append(near)
        if len(cluster) >= 4:
            kept[tuple(np.transpose(cluster))] = True
    assert np.array_equal(large_clusters(mask, 4), kept) and 0 < kept.sum() < mask.sum()


def test_a_tilted_and_shifted_head_is_mirrored_at_its_own_midline():
    angle = np.radians(12.0)
    for size, spacing in (((60, 70, 12), (3.0, 3.0, 5.0)), ((70, 60, 1), (2.5, 2.5, 5.0))):
        grid = Geometry(size, spacing, (-80.0, -100.0, 10.0), np.diag([1.0, 1.0, 1.0]))
        x, y, _ = positions(grid)
        across = (x - 7.0) * np.cos(angle) + y * np.sin(angle)
        along = -(x - 7.0) * np.sin(angle) + y * np.cos(angle)
        brain = (across / 55.0) ** 2 + (along / 65.0) ** 2 <= 1.0
        hemisphere = np.where(brain, np.where(across > 0, 1, 2), 0)
        normal, offset = plane_between(hemisphere, grid)
        assert np.allclose(normal, [np.cos(angle), np.sin(angle), 0.0], atol=0.02)
        assert offset == pytest.approx(7.0 * np.cos(angle), abs=0.6)
        spot = brain & ((across - 30.0) ** 2 + (along - 15.0) ** 2 < 15.0**2)
        expected = brain & ((across + 30.0) ** 2 + (along - 15.0) ** 2 < 15.0**2)
        image = mirrored(spot, hemisphere, grid)
        assert 2 * (image & expected).sum() / (image.sum() + expected.sum()) > 0.9
        flipped = spot[:, :, ::-1]  # the middle of the image is not the middle of the head
        assert 2 * (flipped & expected).sum() / (flipped.sum() + expected.sum()) < 0.7


def test_the_nested_search_finds_what_a_search_at_each_level_alone_finds():
    maps, masks = head()
    rng = np.random.default_rng(8)
    maps["tmax"] = maps["tmax"] + rng.normal(0, 2.5, GRID.shape).astype(np.float32)
    maps["operator_cbf"] = maps["operator_cbf"] * rng.uniform(0.3, 1.7, GRID.shape).astype(np.float32)
    minimum = int(np.ceil(1.0 / GRID.voxel_volume_ml))
    for thresholds in (Thresholds(), Thresholds(3.0, 0.5), Thresholds(5.0, 0.25), Thresholds(9.0, 0.15)):
        found = lesions(maps, masks, thresholds, GRID)
        relative = relative_to(maps["operator_cbf"], found.reference.flow)
        assert np.array_equal(found.hypoperfusion, large_clusters(found.tissue & (maps["tmax"] > thresholds.tmax_s), minimum))
        assert np.array_equal(found.tmax_gt["4"], large_clusters(found.tissue & (maps["tmax"] > 4), minimum))
        assert np.array_equal(found.core, large_clusters(found.hypoperfusion & (relative < thresholds.rcbf), minimum))
        for level, mask in found.rcbf_lt.items():
            assert np.array_equal(mask, large_clusters(found.hypoperfusion & (relative < float(level)), minimum))


def test_moving_a_threshold_on_a_large_study_takes_less_than_a_tenth_of_a_second():
    grid = Geometry((256, 256, 16), (0.7, 0.8, 5.0), (-90.0, -105.0, 0.0))
    maps, masks = head(grid)
    maps["rcbf"] = maps.pop("operator_cbf") / np.float32(40.0)
    maps["tmax"] = maps["tmax"] + np.random.default_rng(2).normal(0, 1.0, grid.shape).astype(np.float32)
    best = np.inf
    for tmax_s in (5.0, 6.5, 7.0, 8.0, 6.5):
        began = time.process_time()
        found = lesions(maps, masks, Thresholds(tmax_s, 0.25), grid)
        metrics_document(found, maps, masks, grid, method="bayes")
        best = min(best, time.process_time() - began)
    assert best < 0.1
