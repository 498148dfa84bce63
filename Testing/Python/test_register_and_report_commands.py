"""`ctperfusion register` and `ctperfusion report`: what a panel asks of a result without the series."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from CTPerfusionSuiteLib.cli import main
from CTPerfusionSuiteLib.nifti import read_volume, write_volume
from CTPerfusionSuiteLib.volume_nrrd import writing_volume


@pytest.fixture(scope="module")
def result(small_study, tmp_path_factory):
    """A result folder of the small study, computed quickly."""
    from PerfusionMapsLib.analysis_request import AnalysisRequest
    from PerfusionMapsLib.perfusion_options import EngineOptions, Method
    from PerfusionMapsLib.pipeline import analyze
    from PerfusionMapsLib.result_folder import write_result

    folder = tmp_path_factory.mktemp("result") / "maps"
    write_result(folder, analyze(small_study.series, AnalysisRequest(engine=EngineOptions(method=Method.BCSVD), motion_correction=False)))
    return folder


def test_an_anatomical_image_of_another_table_position_comes_onto_the_grid_of_the_result(result, tmp_path):
    mean = read_volume(result / "mean_ct.nii.gz")
    moved = replace(mean.geometry, origin=tuple(np.add(mean.geometry.origin, (6.0, -4.0, 0.0))))
    write_volume(tmp_path / "anatomy.nii.gz", replace(mean, geometry=moved))
    out = tmp_path / "registered.nii.gz"
    words = ["register", "--fixed", str(result / "mean_ct.nii.gz"), "--moving", str(tmp_path / "anatomy.nii.gz"), "--out_file", str(out)]
    assert main([*words, "--progress", "none"]) == 0
    found = read_volume(out)
    assert found.geometry.close_to(mean.geometry)
    head = mean.values > -200
    assert np.corrcoef(found.values[head], mean.values[head])[0, 1] > 0.97
    assert main([*words, "--progress", "none"]) == 2  # there already
    assert sorted(path.name for path in tmp_path.iterdir()) == ["anatomy.nii.gz", "registered.nii.gz"]


def test_an_empty_anatomical_image_is_refused(result, tmp_path, capsys):
    mean = read_volume(result / "mean_ct.nii.gz")
    write_volume(tmp_path / "empty.nii.gz", replace(mean, values=np.zeros_like(mean.values)))
    words = ["register", "--fixed", str(result / "mean_ct.nii.gz"), "--moving", str(tmp_path / "empty.nii.gz")]
    assert main([*words, "--out_file", str(tmp_path / "out.nii.gz"), "--progress", "none"]) == 2
    assert "'empty.nii.gz' is empty" in capsys.readouterr().err and not (tmp_path / "out.nii.gz").exists()


def test_a_result_is_written_anew_at_another_threshold_from_its_folder_alone(result, tmp_path):
    out = tmp_path / "out"
    assert main(["report", "--result", str(result), "--out_dir", str(out), "--tmax", "8", "--no-report", "--progress", "none"]) == 0
    before, after = (json.loads((folder / "metrics.json").read_text()) for folder in (result, out))
    assert after["thresholds"] == {"tmax_s": 8.0, "rcbf": 0.3}
    assert after["volumes_ml"]["hypoperfusion"] == pytest.approx(before["volumes_ml"]["tmax_gt"]["8"], rel=0.02)
    assert (out / "hypoperf_mask_tmax8.nii.gz").is_file() and not (out / "hypoperf_mask_tmax6.nii.gz").exists()
    assert main(["report", "--result", str(tmp_path), "--out_dir", str(tmp_path / "none"), "--progress", "none"]) == 2


def test_arrays_that_a_panel_hands_over_raw_give_the_same_result(result, tmp_path):
    given = tmp_path / "given"
    shutil.copytree(result, given)
    for path in given.glob("*.nii.gz"):
        volume = read_volume(path)
        for _fraction in writing_volume(path.with_name(path.name.replace(".nii.gz", ".nrrd")), volume.values, volume.geometry):
            pass
        path.unlink()
    out = tmp_path / "out"
    assert main(["report", "--result", str(given), "--out_dir", str(out), "--no-report", "--progress", "none"]) == 0
    for name in ("tmax", "cbf", "tissue_mask", "core_mask_rcbf30", "mean_ct"):
        first, second = (read_volume(folder / f"{name}.nii.gz") for folder in (result, out))
        assert (first.values == second.values).all() and first.geometry.close_to(second.geometry)
