"""Run every module of the suite in the real application: select it, take pictures of it, run its self-test; exit non-zero on failure.

    Slicer --no-splash --testing --additional-module-paths CTPerfusionSuite PerfusionMaps StrokeSegmentation
           --python-script Testing/Slicer/run_in_slicer.py --out_dir pictures [--modules PerfusionMaps ...]

The pictures are <module>_window.png (the whole window), <module>_panel.png (the panel 400 pixels wide) and <module>_tested.png (the window
after the self-test); results.json says what passed.  --testing is needed: without it Slicer goes on when a script fails.
"""

import argparse
import json
import sys
import time
import traceback
import unittest
from pathlib import Path

import ctk
import slicer

ROOT = Path(__file__).resolve().parents[2]
PANEL_WIDTH = 400


def modules_of_the_suite():
    """Names of the modules in the source tree, the home first."""
    names = [path.parent.name for path in ROOT.glob("*/*.py") if path.stem == path.parent.name]
    return sorted(names, key=lambda name: (name != "CTPerfusionSuite", name))


def wait(seconds):
    """Let the window draw."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        slicer.app.processEvents()
        time.sleep(0.01)


def take_picture(widget, path):
    """A widget as PNG, views included."""
    slicer.util.forceRenderAllViews()
    wait(0.3)
    if not ctk.ctkWidgetsUtils.grabWidget(widget).save(str(path)):
        raise RuntimeError(f"the picture {path.name} was not written")


def take_pictures_of_panel(name, out_dir):
    """The whole window, and the panel alone in a narrow column."""
    slicer.util.selectModule(name)
    wait(0.5)
    take_picture(slicer.util.mainWindow(), out_dir / f"{name}_window.png")
    shown = getattr(slicer.modules, f"{name}Widget")
    panel = slicer.util.getModule(name).createNewWidgetRepresentation()
    panel.setMRMLScene(slicer.mrmlScene)
    panel.resize(PANEL_WIDTH, 1100)
    panel.show()
    wait(0.3)
    take_picture(panel, out_dir / f"{name}_panel.png")
    panel.hide()
    panel.self().cleanup()
    panel.deleteLater()
    # Making the second panel has put its object here, which reloading would take for the one in the window.
    setattr(slicer.modules, f"{name}Widget", shown)


def run_self_test(name):
    """(number of tests run, what failed as text) of <name>Test: every test method, each with an empty scene."""
    test = getattr(sys.modules[name], f"{name}Test")
    names = [method for method in unittest.defaultTestLoader.getTestCaseNames(test) if method != "runTest"]
    suite = unittest.TestSuite(test(method) for method in names)
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    return result.testsRun, [text for _case, text in result.failures + result.errors]


def check_module(name, out_dir):
    """What happened with one module, as a dictionary with "tests" and "faults"."""
    began, outcome = time.monotonic(), {"tests": 0, "faults": []}
    try:
        take_pictures_of_panel(name, out_dir)
        outcome["tests"], outcome["faults"] = run_self_test(name)
        if outcome["tests"] == 0:
            outcome["faults"].append(f"{name}Test has no test method")
        slicer.util.selectModule(name)
        take_picture(slicer.util.mainWindow(), out_dir / f"{name}_tested.png")
    except Exception:
        outcome["faults"].append(traceback.format_exc())
    outcome["seconds"] = round(time.monotonic() - began, 1)
    slicer.mrmlScene.Clear()
    return outcome


def main(words):
    """Exit code: 0 when every module passed."""
    parser = argparse.ArgumentParser(description="Run the suite's modules and their self-tests in Slicer.")
    parser.add_argument("--out_dir", type=Path, default=Path("slicer-pictures"), help="folder for pictures and results.json")
    parser.add_argument("--modules", nargs="+", default=modules_of_the_suite(), help="modules to run (default: all)")
    options = parser.parse_args(words)
    options.out_dir.mkdir(parents=True, exist_ok=True)
    results = {"slicer": slicer.app.applicationVersion, "modules": {}}
    for name in options.modules:
        results["modules"][name] = check_module(name, options.out_dir)
    (options.out_dir / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    for name, outcome in results["modules"].items():
        state = "FAILED" if outcome["faults"] else "passed"
        print(f"{name}: {outcome['tests']} tests, {state}, {outcome['seconds']} s")
        print("\n".join(outcome["faults"]))
    return 1 if any(outcome["faults"] for outcome in results["modules"].values()) else 0


if __name__ == "__main__":
    code = 1
    try:
        code = main(sys.argv[1:])
    except BaseException:
        traceback.print_exc()
    finally:
        slicer.util.exit(code)
