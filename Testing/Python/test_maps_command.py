"""A researcher runs `ctperfusion maps` on a folder and works with what it writes."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from lesion_overlap import volumes_agree

from CTPerfusionSuiteLib.cli import main
from CTPerfusionSuiteLib.nifti import write_series
from PerfusionMapsLib.perfusion_options import Thresholds
from PerfusionMapsLib.result_folder import open_result, recompute, write_result

MAPS = ("cbf", "cbv", "mtt", "delay", "tmax", "ttp", "rcbf", "rcbv")
MASKS = ("hypoperf_mask_tmax6", "core_mask_rcbf30", "penumbra_mask", "brain_mask", "tissue_mask", "hemisphere")


@pytest.fixture(scope="module")
def result(small_dicom, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("maps") / "result"
    assert main(["maps", "--dicom_dir", str(small_dicom), "--out_dir", str(out), "--progress", "none", "--dicom-output"]) == 0
    return out


@pytest.fixture(scope="module")
def nifti(small_study, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("nifti") / "ctp.nii.gz"
    write_series(path, small_study.series)
    return path


def maps(nifti, out, *words):
    """Run on the NIfTI series without report; the metrics."""
    assert main(["maps", "--input", str(nifti), "--out_dir", str(out), "--no-report", "--progress", "none", *map(str, words)]) == 0
    return json.loads((out / "metrics.json").read_text())


def test_every_promised_file_is_there_with_units_and_one_grid(result):
    intervals = [f"{name}_{part}" for name in ("cbf", "mtt", "delay") for part in ("sd", "p025", "p975")]
    images = {name: nibabel.load(result / f"{name}.nii.gz") for name in (*MAPS, *MASKS, *intervals, "mean_ct", "baseline")}
    reference = images["cbf"]
    outside = np.asarray(images["brain_mask"].dataobj) == 0
    for name, image in images.items():
        assert image.shape == reference.shape
        np.testing.assert_allclose(image.get_sform(), image.get_qform(), atol=1e-4)
        np.testing.assert_allclose(image.affine, reference.affine, atol=1e-5)
        assert image.header["sform_code"] > 0 and image.header["qform_code"] > 0
        assert image.get_data_dtype() == (np.uint8 if name in MASKS else np.float32)
        if name in (*MAPS, *intervals):
            values = np.asarray(image.dataobj)
            assert np.isfinite(values).all() and (values[outside] == 0).all()
    assert "mL" in str(images["cbf"].header["descrip"]) and "s" in str(images["tmax"].header["descrip"])
    for name in (
        "aif.csv",
        "vof.csv",
        "metrics.csv",
        "report.html",
        "provenance.json",
        "qa_aif_vof.png",
        "qa_tmax_mip.png",
        "qa_core_penumbra.png",
        "qa_motion.png",
    ):
        assert (result / name).stat().st_size > 100
    assert (result / "aif.csv").read_text().startswith("time_s,hu")


def test_the_metrics_hold_every_key_of_the_contract(result):
    metrics = json.loads((result / "metrics.json").read_text())
    wanted = set(
        "schema status reasons method thresholds volumes_ml mismatch_ratio hir prr_percent cbv_index pvt reference lesion_side profiles "
        "absolute_calibrated qc".split()
    )
    assert set(metrics) == wanted and metrics["status"] == "ok"
    assert set(metrics["volumes_ml"]) == {"hypoperfusion", "core", "core_physical", "penumbra", "mismatch", "tmax_gt", "rcbf_lt"}
    assert set(metrics["volumes_ml"]["tmax_gt"]) == {"4", "6", "8", "10"}
    assert set(metrics["volumes_ml"]["rcbf_lt"]) == {"0.20", "0.30", "0.34", "0.38"}
    assert set(metrics["cbv_index"]) == {"corrected", "conventional", "roi"}
    assert set(metrics["pvt"]) == {"positive", "sss_tmax_s", "torcula_tmax_s", "aif_vof_peak_s"}
    assert set(metrics["reference"]) == {"cbf", "volume_ml", "side"}
    assert all(set(flag) == {"code", "severity", "message"} for flag in metrics["qc"])
    rows = list(csv.reader((result / "metrics.csv").open()))
    assert len(rows) == 2 and "volumes_ml.core" in rows[0]


def test_volumes_and_side_are_those_of_the_simulated_stroke(result, small_study):
    metrics = json.loads((result / "metrics.json").read_text())
    truth = small_study.numbers["volumes_ml"]
    assert metrics["lesion_side"] == small_study.numbers["lesion_side"]
    for name in ("hypoperfusion", "core"):
        assert volumes_agree(metrics["volumes_ml"][name], truth[name]), (name, metrics["volumes_ml"][name], truth[name])


def test_the_left_hemisphere_lies_on_the_patients_left(result):
    image = nibabel.load(result / "hemisphere.nii.gz")
    label = np.asarray(image.dataobj)
    for number, sign in ((1, -1), (2, 1)):  # NIfTI is RAS: the patient's left has negative x
        where = np.argwhere(label == number)
        assert sign * nibabel.affines.apply_affine(image.affine, where)[:, 0].mean() > 10


def test_masks_and_volumes_are_recomputed_from_the_folder_alone(result):
    opened = open_result(result)
    again = recompute(opened, opened.thresholds)
    for name in MASKS[:3]:
        np.testing.assert_array_equal(again.masks[name], opened.masks[name])
    assert again.metrics["volumes_ml"] == opened.metrics["volumes_ml"]
    wider = recompute(opened, Thresholds(tmax_s=4.0))
    assert wider.metrics["volumes_ml"]["hypoperfusion"] > opened.metrics["volumes_ml"]["hypoperfusion"]
    assert "hypoperf_mask_tmax4" in wider.masks


def test_uncertain_volumes_are_judged_anew_when_a_threshold_moves(result):
    opened = open_result(result)
    vessels = {**opened.provenance["vessels"], "input_error": {"tmax_s": 2.0, "flow": 0.1}}
    doubtful = replace(opened, provenance={**opened.provenance, "vessels": vessels})
    told = {}
    for tmax_s in (5.0, 7.0):
        moved = recompute(doubtful, Thresholds(tmax_s))
        messages = [flag["message"] for flag in moved.metrics["qc"] if flag["code"] == "uncertain_volume"]
        told[tmax_s] = messages[0]
        assert len(messages) == 1 and f"hypoperfusion {moved.metrics['volumes_ml']['hypoperfusion']:.0f} +-" in messages[0]
    assert told[5.0] != told[7.0]
    assert "uncertain_volume" not in [flag["code"] for flag in recompute(opened, Thresholds(5.0)).metrics["qc"]]


def test_dicom_objects_come_when_asked_for(result):
    names = {path.name for path in (result / "dicom").iterdir()}
    assert {"cbf.dcm", "tmax.dcm", "lesions_seg.dcm"} <= names


def test_options_may_be_spelled_with_dashes_or_underscores(nifti, tmp_path):
    first = maps(nifti, tmp_path / "a", "--no-motion-correction", "--full_resolution")
    second = maps(nifti, tmp_path / "b", "--no_motion_correction", "--full-resolution")
    assert first["volumes_ml"] == second["volumes_ml"]


def test_the_same_study_gives_the_same_numbers_from_dicom_and_from_nifti(result, nifti, tmp_path):
    dicom = json.loads((result / "metrics.json").read_text())["volumes_ml"]
    again = maps(nifti, tmp_path / "out")["volumes_ml"]
    assert abs(again["hypoperfusion"] - dicom["hypoperfusion"]) < 0.5 and abs(again["core"] - dicom["core"]) < 0.5


def test_the_written_curves_given_back_are_used_as_they_are(result, nifti, tmp_path):
    metrics = maps(nifti, tmp_path / "out", "--aif", result / "aif.csv")
    written = json.loads((result / "metrics.json").read_text())
    assert (tmp_path / "out" / "aif.csv").read_text() == (result / "aif.csv").read_text()
    assert metrics["volumes_ml"]["hypoperfusion"] == pytest.approx(written["volumes_ml"]["hypoperfusion"], rel=0.02)


def test_an_artery_may_be_a_voxel_a_position_or_a_mask(small_study, nifti, tmp_path):
    truth = small_study.truth["arterial_voxels"].values > 0
    enhancement = small_study.series.values.max(axis=0) - small_study.series.values[0].astype(float)
    k, j, i = np.unravel_index(np.argmax(np.where(truth, enhancement, 0)), truth.shape)
    x, y, z = small_study.geometry.to_lps((i, j, k))
    maps(nifti, tmp_path / "voxel", f"--aif={i},{j},{k}")
    maps(nifti, tmp_path / "lps", "--aif_lps", f"{x:.3f},{y:.3f},{z:.3f}")
    image = nibabel.load(tmp_path / "voxel" / "cbf.nii.gz")
    mask = np.zeros(image.shape, np.uint8)
    mask[i, j, k] = 1
    nibabel.save(nibabel.Nifti1Image(mask, image.affine), tmp_path / "mask.nii.gz")
    maps(nifti, tmp_path / "mask", "--aif", tmp_path / "mask.nii.gz")
    curves = {kind: (tmp_path / kind / "aif.csv").read_text() for kind in ("voxel", "lps", "mask")}
    assert curves["voxel"] == curves["lps"] == curves["mask"]


def test_times_may_come_from_a_csv_or_a_constant_step(small_study, nifti, tmp_path):
    (tmp_path / "times.csv").write_text("time_s\n" + "\n".join(f"{t:.4f}" for t in small_study.series.times))
    first = maps(nifti, tmp_path / "csv", "--times", tmp_path / "times.csv")
    second = maps(nifti, tmp_path / "dt", "--dt", "1.6")
    assert first["volumes_ml"] == second["volumes_ml"]


def test_a_time_step_that_contradicts_the_images_is_used_with_a_warning(small_study, nifti, tmp_path):
    from CTPerfusionSuiteLib.sequence_nrrd import write_sequence

    write_sequence(tmp_path / "ctp.seq.nrrd", small_study.series)
    own = float(np.median(np.diff(small_study.series.times)))
    flags = {}
    for name, dt in (("other", 1.5 * own), ("same", own)):
        words = ["--input", str(tmp_path / "ctp.seq.nrrd"), "--out_dir", str(tmp_path / name), "--dt", f"{dt}"]
        assert main(["maps", *words, "--no-report", "--progress", "none"]) == 0
        found = json.loads((tmp_path / name / "metrics.json").read_text())["qc"]
        flags[name] = {flag["code"]: flag for flag in found}
    assert flags["other"]["times_contradicted"]["severity"] == "warning"
    assert f"{1.5 * own:.2f} s" in flags["other"]["times_contradicted"]["message"]
    assert "times_contradicted" not in flags["same"]


def test_a_constant_curve_is_no_artery(nifti, tmp_path, capsys):
    (tmp_path / "aif.csv").write_text("time_s,hu\n" + "".join(f"{1.6 * n:.1f},100\n" for n in range(32)))
    words = ["maps", "--input", str(nifti), "--out_dir", str(tmp_path / "out"), "--aif", str(tmp_path / "aif.csv"), "--progress", "none"]
    assert main(words) == 2
    assert "does not begin at its baseline" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_without_calibration_maps_carry_no_absolute_unit(result, tmp_path):
    opened = open_result(result)
    relative = replace(opened, metrics={**opened.metrics, "absolute_calibrated": False})
    write_result(tmp_path / "out", relative)
    for name, absolute in (("cbf", False), ("cbv_sd", False), ("cbf_p025", False), ("mtt", True), ("tmax", True)):
        if name in opened.maps:
            assert (b"relative scale" in nibabel.load(tmp_path / "out" / f"{name}.nii.gz").header["descrip"].item()) != absolute, name
    assert b"mL" in nibabel.load(result / "cbf.nii.gz").header["descrip"].item()


def test_an_artery_placed_in_tissue_is_told_and_no_criterion_is_judged(small_study, nifti, tmp_path):
    tissue = small_study.mask("tissue") & ~small_study.mask("hypoperfusion") & (small_study.truth["artery_fraction"].values == 0)
    k, j, i = np.argwhere(tissue & (small_study.truth["vein_fraction"].values == 0))[7]
    metrics = maps(nifti, tmp_path / "out", f"--aif={i},{j},{k}")
    assert any(flag["severity"] == "critical" for flag in metrics["qc"])
    assert {profile["status"] for profile in metrics["profiles"].values()} == {"not assessable"}


def test_a_brain_mask_of_part_of_the_brain_measures_there_with_the_artery_of_the_whole_head(result, nifti, small_study, tmp_path):
    from CTPerfusionSuiteLib.nifti import read_volume, write_volume

    whole = read_volume(result / "brain_mask.nii.gz")
    part = whole.values.copy()
    part[:, : part.shape[1] // 2 + 8] = 0  # the front, where the arteries of the base lie, is left out
    write_volume(tmp_path / "mask.nii.gz", replace(whole, values=part))
    maps(nifti, tmp_path / "out", "--mask", tmp_path / "mask.nii.gz")
    np.testing.assert_allclose(read_curve(tmp_path / "out"), read_curve(result), atol=0.05 * read_curve(result).max())
    assert not read_volume(tmp_path / "out" / "cbf.nii.gz").values[part == 0].any()


def read_curve(folder):
    """HU of the AIF of a result folder."""
    return np.loadtxt(folder / "aif.csv", delimiter=",", skiprows=1)[:, 1]


def test_a_series_stored_in_coronal_slices_gives_the_same_numbers_and_takes_masks_of_either_storage(nifti, small_study, tmp_path):
    from CTPerfusionSuiteLib.nifti import write_volume

    image = nibabel.load(nifti)
    coronal = np.array([[0, -1], [2, 1], [1, -1]])
    affine = image.affine @ nibabel.orientations.inv_ornt_aff(coronal, image.shape[:3])
    other = nibabel.Nifti1Image(nibabel.orientations.apply_orientation(np.asarray(image.dataobj), coronal), affine)
    other.header["pixdim"][4] = image.header["pixdim"][4]
    other.header.set_xyzt_units("mm", "sec")
    assert nibabel.aff2axcodes(affine)[2] in "AP"
    nibabel.save(other, tmp_path / "coronal.nii.gz")
    brain = small_study.truth["brain"]
    write_volume(tmp_path / "axial_mask.nii.gz", replace(brain, values=(brain.values > 0).astype(np.uint8)))
    mask = nibabel.load(tmp_path / "axial_mask.nii.gz")
    turned = nibabel.orientations.apply_orientation(np.asarray(mask.dataobj), coronal)
    nibabel.save(nibabel.Nifti1Image(turned, affine), tmp_path / "coronal_mask.nii.gz")
    plain = maps(nifti, tmp_path / "plain", "--mask", tmp_path / "axial_mask.nii.gz")
    for name in ("axial_mask", "coronal_mask"):
        metrics = maps(tmp_path / "coronal.nii.gz", tmp_path / name, "--mask", tmp_path / f"{name}.nii.gz")
        assert metrics["lesion_side"] == plain["lesion_side"] == "left"
        for volume in ("hypoperfusion", "core"):
            assert metrics["volumes_ml"][volume] == pytest.approx(plain["volumes_ml"][volume], rel=0.02, abs=0.5)
        assert "axes_reordered" in [flag["code"] for flag in metrics["qc"]]


def test_volumes_follow_the_sform_when_pixdim_is_wrong(nifti, result, tmp_path):
    image = nibabel.load(nifti)
    raw = bytearray(image.to_bytes())
    header = nibabel.Nifti1Header(bytes(raw[:348]), check=False)
    header["pixdim"][1:4] = 1.0
    raw[:348] = header.binaryblock
    (tmp_path / "wrong.nii").write_bytes(bytes(raw))
    metrics = maps(tmp_path / "wrong.nii", tmp_path / "out")
    expected = json.loads((result / "metrics.json").read_text())["volumes_ml"]
    assert abs(metrics["volumes_ml"]["hypoperfusion"] - expected["hypoperfusion"]) < 0.5
    assert "voxel_size_contradicted" in [flag["code"] for flag in metrics["qc"]]


@pytest.mark.parametrize("option", ["--mask", "--tissue_mask", "--exclude", "--anatomy", "--aif", "--vof"])
def test_a_file_that_can_never_be_used_is_refused_before_the_series_is_read(option, nifti, tmp_path, capfd, monkeypatch):
    from PerfusionMapsLib import commands

    def read(*arguments, **named):
        raise AssertionError("the series was read first")

    monkeypatch.setattr(commands, "read_series", read)
    (tmp_path / "text.csv").write_text("no curve")
    (tmp_path / "text.mha").write_text("no image")
    for bad in (nifti, tmp_path / "text.mha", *([tmp_path / "text.csv"] if option in ("--aif", "--vof") else [])):
        words = ["--input", nifti, "--out_dir", tmp_path / "out", "--progress", "none", option, bad]
        assert main(["maps", *map(str, words)]) == 2
        text = capfd.readouterr().err
        assert text.count("\n") == 1 and Path(bad).name in text
    assert not (tmp_path / "out").exists()


def test_the_width_of_a_filter_that_is_switched_off_is_refused(nifti, tmp_path, capsys):
    words = ["maps", "--input", str(nifti), "--out_dir", str(tmp_path / "out"), "--denoise", "none", "--progress", "none"]
    assert main([*words, "--smoothing", "4"]) == 2
    assert "--smoothing" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--mask", "--tissue_mask"])
def test_a_mask_too_small_to_measure_anything_is_refused(option, result, nifti, tmp_path, capsys):
    from CTPerfusionSuiteLib.nifti import read_volume, write_volume

    tissue = read_volume(result / "tissue_mask.nii.gz")
    few = np.zeros_like(tissue.values)
    few[tuple(np.argwhere(tissue.values > 0)[1000])] = 1
    write_volume(tmp_path / "mask.nii.gz", replace(tissue, values=few))
    words = ["--input", nifti, "--out_dir", tmp_path / "out", "--progress", "none", option, tmp_path / "mask.nii.gz"]
    assert main(["maps", *map(str, words)]) == 2
    assert "at least 10 mL" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("frames", ["1-99999999999", "10001", "1-" + 4000 * "9", "0", "3-2"])
def test_frames_no_series_has_are_refused_before_they_are_counted_up(frames, nifti, tmp_path, capsys):
    words = ["--input", str(nifti), "--out_dir", str(tmp_path / "out"), "--exclude_frames", frames]
    assert main(["maps", *words]) == 2
    assert "--exclude_frames" in capsys.readouterr().err


def test_age_and_nihss_make_the_dawn_criteria_assessable(nifti, tmp_path):
    metrics = maps(nifti, tmp_path / "out", "--age", 72, "--nihss", 15)
    assert metrics["profiles"]["dawn"]["status"] in ("met", "not met")


@pytest.mark.parametrize("method", ["bcsvd", "osvd"])
def test_the_other_engines_write_the_same_files_without_intervals(method, nifti, tmp_path):
    metrics = maps(nifti, tmp_path / "out", "--method", method, "--tmax", "5", "--rcbf", "0.35")
    assert metrics["method"] == method and metrics["thresholds"] == {"tmax_s": 5.0, "rcbf": 0.35}
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"hypoperf_mask_tmax5.nii.gz", "core_mask_rcbf35.nii.gz", "cbf.nii.gz"} <= names and "cbf_sd.nii.gz" not in names


def test_a_panel_gets_json_lines_and_the_numbers_at_the_end(nifti, tmp_path):
    words = [
        sys.executable,
        "-m",
        "CTPerfusionSuiteLib.cli",
        "maps",
        "--input",
        str(nifti),
        "--out_dir",
        str(tmp_path / "out"),
        "--progress",
        "json",
        "--no-report",
    ]
    shown = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout
    lines = [json.loads(line) for line in shown.splitlines()]
    assert lines[-1]["event"] == "done" and lines[-1]["metrics"]["status"] == "ok"
    steps = [line["step"] for line in lines if line["event"] == "progress"]
    assert steps.index("motion") < steps.index("vessels") < steps.index("maps") < steps.index("write")
    for step in set(steps):
        fractions = [line["fraction"] for line in lines if line.get("step") == step]
        assert fractions == sorted(fractions) and fractions[-1] == 1.0


def test_the_command_runs_as_a_script_without_being_installed(tmp_path):
    script = Path(__file__).resolve().parents[2] / "CTPerfusionSuite" / "CTPerfusionSuiteLib" / "cli.py"
    shown = subprocess.run([sys.executable, str(script), "maps", "--help"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "--dicom_dir" in shown and "Research use only" in shown


def test_doctor_lists_what_is_installed(capsys):
    assert main(["doctor"]) == 0
    assert "SimpleITK" in capsys.readouterr().out
