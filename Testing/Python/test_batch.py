"""Batch in Slicer: the command line as a script of the application gives the same files and ends the application with its exit code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "CTPerfusionSuite" / "CTPerfusionSuiteLib" / "cli.py"
APPLICATION = """
import os, runpy, sys
sys.path[:] = [entry for entry in sys.path if "CTPerfusion" not in entry and "PerfusionMaps" not in entry]
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
sys.path.insert(0, {testing!r})
from SlicerHost import launch
if launch.missing():
    sys.exit(77)
launch.start([], main_window=False)
import slicer
assert slicer.util.mainWindow() is None
from PySide6 import QtCore
sys.argv = [{script!r}, *{words!r}]
# The application runs its script from its event loop, and goes on whatever becomes of it.
QtCore.QTimer.singleShot(0, lambda: runpy.run_path({script!r}, run_name="__main__"))
QtCore.QTimer.singleShot(60000, lambda: os._exit(99))
sys.exit(slicer.app.exec())
"""


def plain_python(words, **options):
    """The script in an interpreter that has the dependencies but not the installed package, as PythonSlicer."""
    hide = (
        "import runpy, sys; sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]; "
        f"sys.argv = [{str(SCRIPT)!r}, *{list(words)!r}]; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    return subprocess.run([sys.executable, "-c", hide], capture_output=True, text=True, stdin=subprocess.DEVNULL, **options)


def in_slicer(words):
    """The script inside the stand-in application without a main window; skipped where that is not installed."""
    code = APPLICATION.format(testing=str(ROOT / "Testing"), script=str(SCRIPT), words=list(words))
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, stdin=subprocess.DEVNULL, env=environment)
    if done.returncode == 77:
        pytest.skip("the stand-in Slicer is not installed")
    return done


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A small study as DICOM."""
    from CTPerfusionSuiteLib.cli import main

    folder = tmp_path_factory.mktemp("batch") / "study"
    words = ["--size", "64", "--slices", "4", "--frames", "24", "--dt", "2", "--noise", "3", "--progress", "none"]
    assert main(["phantom", "brain", "--out_dir", str(folder), *words]) == 0
    return folder / "dicom"


@pytest.fixture(scope="module")
def installed_result(study, tmp_path_factory):
    """What `ctperfusion maps` writes."""
    from CTPerfusionSuiteLib.cli import main

    folder = tmp_path_factory.mktemp("installed") / "result"
    assert main(maps(study, folder)) == 0
    return folder


def assert_same_files(folder: Path, expected: Path):
    """The same names, images bit by bit, numbers, tables, pictures and the report the same."""
    names = sorted(path.name for path in expected.iterdir() if not path.name.startswith("."))
    assert {"cbf.nii.gz", "cbf_sd.nii.gz", "tmax.nii.gz", "metrics.json", "report.html", "provenance.json"} <= set(names)
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) == names
    for name in names:
        if name.endswith(".nii.gz"):
            one, other = (sitk.ReadImage(str(place / name)) for place in (folder, expected))
            assert np.array_equal(sitk.GetArrayViewFromImage(one), sitk.GetArrayViewFromImage(other)), name
            assert one.GetMetaData("descrip") == other.GetMetaData("descrip")
        elif name.endswith((".csv", ".png", ".html")) or name == "metrics.json":
            assert (folder / name).read_bytes() == (expected / name).read_bytes(), name


def maps(study, folder):
    return ["maps", "--dicom_dir", str(study), "--out_dir", str(folder), "--progress", "none"]


def test_pythonslicer_runs_the_script_from_a_source_checkout_with_the_same_result(study, installed_result, tmp_path):
    done = plain_python(maps(study, tmp_path / "result"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_same_files(tmp_path / "result", installed_result)


def test_pythonslicer_runs_the_module_by_its_name(study, installed_result, tmp_path):
    folders = os.pathsep.join(str(ROOT / name) for name in ("CTPerfusionSuite", "PerfusionMaps"))
    words = [sys.executable, "-m", "CTPerfusionSuiteLib.cli", *maps(study, tmp_path / "result")]
    environment = {**os.environ, "PYTHONPATH": folders}
    subprocess.run(words, check=True, capture_output=True, stdin=subprocess.DEVNULL, env=environment, cwd=tmp_path)
    assert_same_files(tmp_path / "result", installed_result)


def test_slicer_without_a_window_gives_the_same_files_and_ends(study, installed_result, tmp_path):
    done = in_slicer(maps(study, tmp_path / "result"))
    assert done.returncode == 0, done.stderr[-2000:]
    assert_same_files(tmp_path / "result", installed_result)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["doctor"], 0, "numpy"),
        (["maps", "--dicom_dir", "nowhere", "--out_dir", "out"], 2, "does not exist"),
        (["nonsense"], 2, "invalid choice"),
    ],
)
def test_slicer_ends_with_the_exit_code_of_the_command_and_says_why(words, code, said):
    done = in_slicer(words)
    assert done.returncode == code, done.stderr[-2000:]
    assert said in done.stdout + done.stderr


def test_the_home_panel_and_the_sample_work_without_a_main_window():
    code = f"""
import sys
sys.path.insert(0, {str(ROOT / "Testing")!r})
from SlicerHost import launch
if launch.missing():
    sys.exit(77)
host = launch.start([{str(ROOT / "CTPerfusionSuite")!r}, {str(ROOT / "PerfusionMaps")!r}], main_window=False)
import slicer
assert slicer.util.mainWindow() is None and slicer.app.layoutManager() is None
panel = slicer.util.getModuleWidget("CTPerfusionSuite")
assert panel.logic.loadSample().GetNumberOfDataNodes() == 40
assert not host.slot_errors, host.slot_errors
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)
    if done.returncode == 77:
        pytest.skip("the stand-in Slicer is not installed")
    assert done.returncode == 0, done.stderr[-2000:]


def test_slicer_ends_even_when_the_command_fails_in_a_way_nobody_foresaw(monkeypatch, tmp_path):
    from CTPerfusionSuiteLib import cli

    class Application:
        app = object()

        class util:
            @staticmethod
            def exit(code):
                raise SystemExit(code)

    monkeypatch.setitem(sys.modules, "slicer", Application)
    monkeypatch.setattr(cli, "main", lambda: 1 / 0)
    kept = sys.stdout, sys.stderr
    try:
        with pytest.raises(SystemExit) as ended:
            cli.run_as_program()
    finally:
        sys.stdout, sys.stderr = kept
    assert ended.value.code == cli.EXIT_INTERNAL


def test_the_script_does_not_let_its_own_folder_shadow_other_packages(tmp_path):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "worklist", "--dicom_dir", str(tmp_path), "--progress", "json"],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=SCRIPT.parent,
    )
    assert done.returncode == 2 and json.loads(done.stdout.splitlines()[-1])["event"] == "refused"


def test_a_flat_install_finds_every_library(study, installed_result, tmp_path):
    import shutil

    flat = tmp_path / "qt-scripted-modules"
    for module in ("CTPerfusionSuite", "PerfusionMaps"):
        shutil.copytree(ROOT / module / f"{module}Lib", flat / f"{module}Lib", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / module / f"{module}.py", flat)
    script = flat / "CTPerfusionSuiteLib" / "cli.py"
    hide = (
        "import runpy, sys; sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]; "
        f"sys.argv = [{str(script)!r}, 'maps', '--help']; runpy.run_path({str(script)!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", hide], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and "--dicom_dir" in done.stdout, done.stderr


@pytest.fixture
def check_in_slicer(slicer_host):
    """The script that runs in the real application, as a module."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("run_in_slicer", ROOT / "Testing" / "Slicer" / "run_in_slicer.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_check_in_the_real_application_knows_every_module_and_its_tests(check_in_slicer, slicer_host):
    names = check_in_slicer.modules_of_the_suite()
    assert names == ["CTPerfusionSuite", "PerfusionMaps", "StrokeSegmentation"]
    for name in names:
        cases = check_in_slicer.unittest.defaultTestLoader.getTestCaseNames(getattr(sys.modules[name], f"{name}Test"))
        assert any(case.startswith("test_") for case in cases)


def test_the_check_in_the_real_application_takes_pictures_of_every_panel(check_in_slicer, slicer_host, tmp_path):
    for name in check_in_slicer.modules_of_the_suite():
        check_in_slicer.take_pictures_of_panel(name, tmp_path)
        for kind, width in (("window", 1000), ("panel", 400)):
            image = sitk.ReadImage(str(tmp_path / f"{name}_{kind}.png"))
            assert image.GetWidth() >= width if kind == "window" else image.GetWidth() == width
            assert np.ptp(sitk.GetArrayFromImage(image)) > 100


@pytest.mark.parametrize(
    ("body", "passes"),
    [
        ("def test_it(self): pass", True),
        ("def test_it(self): self.fail('no')", False),
        ("def test_it(self): 1 / 0", False),
        ("pass", False),
    ],
)
def test_the_check_in_the_real_application_fails_when_a_module_fails(check_in_slicer, slicer_host, tmp_path, monkeypatch, body, passes):
    import types

    module = types.ModuleType("Fake")
    exec(f"import unittest\nclass FakeTest(unittest.TestCase):\n    {body}\n", vars(module))
    monkeypatch.setitem(sys.modules, "Fake", module)
    monkeypatch.setattr(check_in_slicer, "take_pictures_of_panel", lambda name, out_dir: None)
    monkeypatch.setattr(check_in_slicer, "take_picture", lambda widget, path: None)
    monkeypatch.setattr(check_in_slicer.slicer.util, "selectModule", lambda name: None)
    assert check_in_slicer.main(["--out_dir", str(tmp_path), "--modules", "Fake"]) == (0 if passes else 1)
    results = json.loads((tmp_path / "results.json").read_text())
    assert bool(results["modules"]["Fake"]["faults"]) is not passes


def test_a_module_whose_panel_does_not_open_fails_the_check(check_in_slicer, slicer_host, tmp_path, monkeypatch):
    def broken(name, out_dir):
        raise RuntimeError("no panel")

    monkeypatch.setattr(check_in_slicer, "take_pictures_of_panel", broken)
    assert check_in_slicer.main(["--out_dir", str(tmp_path), "--modules", "CTPerfusionSuite"]) == 1
