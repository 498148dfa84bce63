"""Stories about the result folder: whole or not at all, never in somebody else's place, and enough by itself."""

import csv
import errno
import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from example_result import axial_geometry, example_result

from CTPerfusionSuiteLib import output_folder
from CTPerfusionSuiteLib.errors import Canceled, RequestRefused, SuiteError
from CTPerfusionSuiteLib.nifti import read_volume
from CTPerfusionSuiteLib.output_folder import MARKER, new_result_folder, process_runs, refuse_existing, refuse_foreign
from CTPerfusionSuiteLib.rigid_motion import Motion
from PerfusionMapsLib.lesions import mask_names
from PerfusionMapsLib.perfusion_options import Thresholds
from PerfusionMapsLib.result_folder import open_result, recompute, write_result


@pytest.fixture(scope="module")
def result():
    small = axial_geometry((48, 52, 8), (4.2, 4.1, 6.3), (-1, 1, 1))
    motion = Motion(
        times=np.arange(3.0), translations_mm=np.full((3, 1, 3), 0.1), rotations_deg=np.zeros((3, 1, 3)), centers_lps=np.ones((1, 3)),
        slabs=np.array([0]), max_displacement_mm=np.ones((3, 1)), bad=np.array([[False], [True], [False]]),
        mismatch=np.array([[0.1], [np.nan], [0.2]]), estimated=np.array([True]), reference="mean baseline",
        reference_frames=((0, 1),),
    )  # fmt: skip
    return replace(example_result(small), motion=motion)


@pytest.fixture
def stored(result, tmp_path):
    write_result(tmp_path / "out", result)
    return tmp_path / "out"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_folder_holds_every_file_of_the_contract(stored, result):
    maps = ["cbf", "cbv", "mtt", "delay", "tmax", "ttp", "rcbf", "rcbv"]
    maps += [f"{name}_{part}" for name in ("cbf", "mtt", "delay") for part in ("sd", "p025", "p975")]
    masks = ["hypoperf_mask_tmax6", "core_mask_rcbf30", "penumbra_mask", "brain_mask", "tissue_mask", "hemisphere"]
    tables = ["aif.csv", "vof.csv", "metrics.json", "metrics.csv", "provenance.json", MARKER]
    assert names(stored) == sorted([f"{name}.nii.gz" for name in [*maps, *masks, "mean_ct", "baseline"]] + tables)
    brain = result.masks["brain_mask"] > 0
    for name in maps:
        volume = read_volume(stored / f"{name}.nii.gz")
        assert volume.values.dtype == np.float32 and not volume.values[~brain].any() and volume.geometry.close_to(result.geometry)
    assert read_volume(stored / "cbf_sd.nii.gz").unit == "mL/min/(100.g)" and read_volume(stored / "tmax.nii.gz").unit == "s"
    for name in masks:
        assert read_volume(stored / f"{name}.nii.gz").values.dtype == np.uint8
    rows = list(csv.reader((stored / "aif.csv").open()))
    assert rows[0] == ["time_s", "hu"] and np.allclose(np.array(rows[1:], float).T, [result.aif.times, result.aif.hu], rtol=1e-5)
    assert json.loads((stored / "metrics.json").read_text()) == result.metrics


def test_nifti_files_of_the_folder_carry_sform_and_qform_alike_and_their_unit(stored):
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.load(stored / "mtt.nii.gz")
    assert np.allclose(image.get_sform(), image.get_qform(), atol=1e-3) and image.header["sform_code"] > 0
    assert b"s" in image.header["descrip"].item()


def test_a_voxel_that_is_no_number_is_written_as_zero_and_leaves_the_tissue(result, tmp_path):
    k, j, i = np.argwhere(result.masks["tissue_mask"] > 0)[500]
    maps = {name: values.copy() for name, values in result.maps.items()}
    maps["tmax"][k, j, i] = np.nan
    write_result(tmp_path / "out", replace(result, maps=maps))
    again = open_result(tmp_path / "out")
    assert np.isfinite(again.maps["tmax"]).all() and again.masks["tissue_mask"][k, j, i] == 0
    assert again.masks["tissue_mask"].sum() == result.masks["tissue_mask"].sum() - 1


def test_a_reopened_result_is_the_result_that_was_written(stored, result):
    again = open_result(stored)
    assert again.geometry == result.geometry and again.thresholds == result.thresholds and again.metrics == result.metrics
    for group in ("maps", "masks", "images"):
        first, second = getattr(result, group), getattr(again, group)
        assert list(first) == list(second) and all(np.array_equal(first[name].astype(np.float32), second[name]) for name in first)
    for name in ("aif", "vof"):
        first, second = getattr(result, name), getattr(again, name)
        assert np.array_equal(first.hu, second.hu) and np.array_equal(first.times, second.times)
        assert np.array_equal(first.voxels, second.voxels) and np.allclose(first.lps, second.lps) and first.source == second.source
    assert len(again.aif_candidates) == len(result.aif_candidates) and again.aif_candidates[1].score == result.aif_candidates[1].score
    assert np.array_equal(again.motion.bad, result.motion.bad) and again.motion.bad.dtype == bool
    assert again.motion.reference_frames == result.motion.reference_frames
    assert np.array_equal(again.motion.mismatch, result.motion.mismatch, equal_nan=True) and again.motion.moved.frames_dropped == 1
    assert again.provenance == result.provenance


def test_no_name_of_a_patient_reaches_the_folder(stored):
    for path in stored.iterdir():
        assert b"DOE" not in path.read_bytes()


def test_masks_and_metrics_come_out_again_from_the_folder_alone(stored, result):
    again = recompute(open_result(stored), result.thresholds)
    for name, mask in result.masks.items():
        assert np.array_equal(again.masks[name], mask), name
    assert again.metrics == result.metrics


def test_a_moved_threshold_gives_new_names_and_new_numbers_and_keeps_what_does_not_depend_on_it(stored, result):
    thresholds = Thresholds(8.0, 0.4)
    moved = recompute(open_result(stored), thresholds)
    hypoperfusion, core = mask_names(thresholds)
    assert {hypoperfusion, core, "penumbra_mask"} <= set(moved.masks) and not set(mask_names(result.thresholds)) & set(moved.masks)
    assert moved.metrics["thresholds"] == {"tmax_s": 8.0, "rcbf": 0.4}
    assert moved.metrics["volumes_ml"]["hypoperfusion"] < result.metrics["volumes_ml"]["hypoperfusion"]
    assert moved.metrics["volumes_ml"]["tmax_gt"] == result.metrics["volumes_ml"]["tmax_gt"]
    for key in ("reference", "pvt", "qc", "method", "hir", "absolute_calibrated"):
        assert moved.metrics[key] == result.metrics[key]
    assert recompute(moved, result.thresholds).metrics == result.metrics


def test_a_first_result_is_never_replaced_without_being_asked(stored, result):
    with pytest.raises(RequestRefused, match="--overwrite"):
        write_result(stored, result)
    with pytest.raises(RequestRefused, match="--overwrite"):
        refuse_existing(stored, overwrite=False)
    refuse_existing(stored, overwrite=True)
    before = (stored / "metrics.json").stat().st_ino
    write_result(stored, result, overwrite=True)
    assert (stored / "metrics.json").stat().st_ino != before and names(stored.parent) == ["out"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_not_ours_is_never_touched(tmp_path, overwrite):
    foreign = tmp_path / "thesis"
    foreign.mkdir()
    (foreign / "chapter1.txt").write_text("years of work")
    for refuse in (lambda: refuse_foreign(foreign), lambda: refuse_existing(foreign, overwrite)):
        with pytest.raises(RequestRefused, match="chapter1.txt"):
            refuse()
    with pytest.raises(RequestRefused), new_result_folder(foreign, overwrite):
        pytest.fail("the block must not run")
    assert names(foreign) == ["chapter1.txt"] and names(tmp_path) == ["thesis"]


def test_a_file_that_somebody_put_into_our_result_is_not_deleted_with_it(stored, result):
    (stored / "notes.txt").write_text("looks like an M1 occlusion")
    with pytest.raises(RequestRefused, match="notes.txt"):
        write_result(stored, result, overwrite=True)
    (stored / "notes.txt").rename(stored.parent / "notes.txt")
    (stored / "Thumbs.db").write_text("")
    write_result(stored, result, overwrite=True)
    assert "Thumbs.db" not in names(stored)


def test_an_empty_folder_and_a_new_one_with_its_parents_are_both_fine(result, tmp_path):
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "empty", tmp_path / "a" / "b" / "new"):
        write_result(out, result)
        assert open_result(out).metrics == result.metrics


def test_places_that_cannot_be_written_are_refused_before_any_work(tmp_path):
    (tmp_path / "file").write_text("x")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RequestRefused, match="file"):
            refuse_foreign(out)
    if os.name == "posix":
        with pytest.raises(RequestRefused, match="mount point"):
            refuse_foreign("/")
        if os.path.isdir("/proc/self"):
            with pytest.raises(RequestRefused), new_result_folder("/proc/result"):
                pytest.fail("the block must not run")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_folder_without_permission_is_refused(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(RequestRefused, match="not writable"):
        refuse_foreign(tmp_path / "closed" / "out")


@pytest.mark.parametrize("failure", [ValueError("bug"), Canceled("canceled"), KeyboardInterrupt()])
def test_a_run_that_fails_or_is_canceled_leaves_nothing_and_keeps_the_earlier_result(stored, failure):
    earlier = {path.name: path.read_bytes() for path in stored.iterdir()}
    with pytest.raises(type(failure)), new_result_folder(stored, overwrite=True) as folder:
        (folder / "half").write_text("x")
        raise failure
    assert {path.name: path.read_bytes() for path in stored.iterdir()} == earlier and names(stored.parent) == ["out"]


def test_a_full_disk_is_one_sentence_with_exit_code_3_and_leaves_nothing(stored, monkeypatch):
    with pytest.raises(SuiteError, match="full") as told, new_result_folder(stored, overwrite=True):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert told.value.exit_code == 3 and names(stored.parent) == ["out"]
    monkeypatch.setattr(output_folder.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 0}))
    with pytest.raises(SuiteError, match="full"), new_result_folder(stored, overwrite=True):
        raise RuntimeError("could not write the image")
    monkeypatch.undo()
    with pytest.raises(RuntimeError, match="another"), new_result_folder(stored, overwrite=True):
        raise RuntimeError("another trouble")


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits exist on POSIX only")
def test_a_really_full_disk_while_maps_are_written_is_told_and_cleaned_up(tmp_path):
    script = (
        "import resource, signal, sys\n"
        "from example_result import axial_geometry, example_result\n"
        "from PerfusionMapsLib.result_folder import write_result\n"
        "from CTPerfusionSuiteLib.errors import SuiteError\n"
        "result = example_result(axial_geometry((48, 52, 8), (4.2, 4.1, 6.3)), motion=False)\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)\n"
        "try:\n    write_result(sys.argv[1], result)\n"
        "except SuiteError as problem:\n    sys.exit(problem.exit_code)\n"
    )
    for limit in (20_000, 700):
        command = [sys.executable, "-c", script, str(tmp_path / "out"), str(limit)]
        finished = subprocess.run(command, cwd=os.path.dirname(__file__), timeout=60)
        assert finished.returncode == 3 and names(tmp_path) == []


KILLED = """
import os, sys, pathlib
from CTPerfusionSuiteLib import output_folder
out, stop = sys.argv[1], sys.argv[2]
rename = os.rename
def stopping(source, target):
    if stop == "before " + ("aside" if ".replaced-" in str(target) else "in place"):
        os._exit(9)
    rename(source, target)
    if stop == "after " + ("aside" if ".replaced-" in str(target) else "in place"):
        os._exit(9)
output_folder.os.rename = stopping
if stop == "while clearing":
    output_folder._remove = lambda folder: os._exit(9)
with output_folder.new_result_folder(out, overwrite=True) as folder:
    (folder / "answer.txt").write_text("new")
    if stop == "while writing":
        os._exit(9)
"""


@pytest.mark.parametrize("stop", ["while writing", "before aside", "after aside", "before in place", "after in place", "while clearing"])
def test_killed_at_any_moment_the_old_or_the_new_result_is_there_and_a_second_run_clears_up(tmp_path, stop):
    out = tmp_path / "out"
    with new_result_folder(out) as folder:
        (folder / "answer.txt").write_text("old")
    killed = subprocess.run([sys.executable, "-c", KILLED, str(out), stop], timeout=60)
    assert killed.returncode == 9
    refuse_existing(out, overwrite=True)
    assert (out / "answer.txt").read_text() == ("new" if stop in ("after in place", "while clearing") else "old")
    with new_result_folder(out, overwrite=True) as folder:
        (folder / "answer.txt").write_text("second run")
    assert names(tmp_path) == ["out"] and names(out) == [MARKER, "answer.txt"] and (out / "answer.txt").read_text() == "second run"


def test_reopening_brings_back_a_result_whose_replacement_was_killed(stored, result):
    aside = stored.parent / ".out.replaced-0badcafe"
    stored.rename(aside)
    assert open_result(stored).metrics == result.metrics and not aside.exists()


def test_a_running_neighbor_keeps_its_unfinished_folder(tmp_path):
    out = tmp_path / "out"
    script = "import sys, time\nfrom CTPerfusionSuiteLib.output_folder import new_result_folder\n"
    script += "with new_result_folder(sys.argv[1]) as folder:\n    print('ready', flush=True)\n    sys.stdin.read()\n"
    with subprocess.Popen([sys.executable, "-c", script, str(out)], stdout=subprocess.PIPE, stdin=subprocess.PIPE) as neighbor:
        assert neighbor.stdout.readline().strip() == b"ready"
        assert process_runs(neighbor.pid)
        with new_result_folder(out) as folder:
            (folder / "a.txt").write_text("a")
        assert len([name for name in names(tmp_path) if ".partial-" in name]) == 1
        neighbor.kill()
        neighbor.wait()
    assert not process_runs(neighbor.pid)
    with new_result_folder(out, overwrite=True):
        pass
    assert names(tmp_path) == ["out"]


def test_two_threads_of_one_process_do_not_clear_each_other(tmp_path):
    with new_result_folder(tmp_path / "out") as first:
        with new_result_folder(tmp_path / "out") as second:
            (second / "b").write_text("b")
        assert first.is_dir() and first != second
        refuse_existing(tmp_path / "out", overwrite=True)
    # The inner one was first; the outer one found a result of ours and replaced it only because both are ours.
    assert names(tmp_path) == ["out"]


def test_names_with_wildcards_are_taken_literally(tmp_path):
    (tmp_path / ".case[1].partial-abc").mkdir()
    os.utime(tmp_path / ".case[1].partial-abc", (time.time() - 100, time.time() - 100))
    (tmp_path / ".case1.partial-abc").mkdir()
    with new_result_folder(tmp_path / "case[1]"):
        pass
    assert names(tmp_path) == [".case1.partial-abc", "case[1]"]


def test_what_is_not_a_result_is_refused_in_words(tmp_path, stored):
    with pytest.raises(RequestRefused, match="metrics.json"):
        open_result(tmp_path)
    (stored / "tmax.nii.gz").unlink()
    with pytest.raises(RequestRefused, match=r"tmax\.nii\.gz"):
        open_result(stored)
    document = json.loads((stored / "provenance.json").read_text())
    del document["curves"]
    (stored / "provenance.json").write_text(json.dumps(document))
    with pytest.raises(RequestRefused):
        open_result(stored)
