"""Draw the README's pictures of the panels in the stand-in Slicer: python Testing/draw_panels.py [--out_dir DIR] [--panels NAMES].

Not the real application: `Testing/Slicer/run_in_slicer.py` takes its pictures there.
"""

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODULES = ("CTPerfusionSuite", "PerfusionMaps", "StrokeSegmentation")
ARCHIVE = {"case_01": "siemens", "case_02": "ge", "case_03": "shuttle", "case_04": "canon"}
RUN_S = 600


def show(layout):
    """Lay out the views, fit them, and mark the directions of the patient as a reader needs them."""
    import slicer

    slicer.app.layoutManager().setLayout(layout)
    for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        node.SetOrientationMarkerType(node.OrientationMarkerTypeAxes)
        node.SetRulerType(node.RulerTypeThin)
    slicer.app.processEvents()
    slicer.util.resetSliceViews()


def save(host, path):
    """The whole window as PNG, after everything has come to rest."""
    import ctk
    import slicer

    host.wait(lambda: False, 0.5)
    ctk.ctkWidgetsUtils.grabWidget(slicer.util.mainWindow()).save(str(path))
    print(path)


def draw_home(host, path):
    """The worklist of an archive of four studies, the sample loaded, what is installed."""
    import slicer

    from CTPerfusionSuiteLib.cli import main

    home = host.open("CTPerfusionSuite")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for seed, (case, style) in enumerate(ARCHIVE.items()):
            words = ["phantom", "brain", "--out_dir", f"{folder}/{case}", "--size", "64", "--style", style, "--seed", str(seed)]
            main([*words, "--progress", "none"])
        home.ui.studyFolder.currentPath = folder
        home.ui.searchButton.click()
        host.wait(lambda: not home.worklist.running, RUN_S)
    home.ui.studyFolder.currentPath = "D:/CT/archive"
    home.ui.sampleButton.click()
    host.wait(lambda: not home.sample.running, RUN_S)
    home.ui.partsSection.collapsed = False
    show(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
    save(host, path)


def draw_analysis(host, path, module, layout):
    """The sample analyzed by a module, with its results shown."""
    import slicer

    slicer.mrmlScene.Clear()
    panel = host.open(module).panel
    panel.logic.getParameterNode().inputNode = host.logic("CTPerfusionSuite").loadSample()
    panel.ui.applyButton.click()
    host.wait(lambda: panel.run is None, RUN_S)
    if module == "PerfusionMaps":
        panel.ui.showCurvesButton.checked = True
    for section in slicer.util.findChildren(slicer.util.mainWindow(), className="ctkCollapsibleButton"):
        section.collapsed = section.text != "Results"
    show(layout)
    host.hover([60, 10, 2])  # tissue of the healthy side
    save(host, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out_dir", type=Path, default=ROOT / "Resources" / "Screenshots")
    parser.add_argument("--panels", nargs="+", choices=("home", "maps", "stroke"), default=("home", "maps", "stroke"))
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "Testing"))
    from SlicerHost import launch

    host = launch.start([ROOT / name for name in MODULES])
    import slicer

    layouts = slicer.vtkMRMLLayoutNode
    if "home" in options.panels:
        draw_home(host, options.out_dir / "home_panel.png")
    if "maps" in options.panels:
        draw_analysis(host, options.out_dir / "perfusion_maps_panel.png", "PerfusionMaps", layouts.SlicerLayoutFourUpPlotView)
    if "stroke" in options.panels:
        draw_analysis(host, options.out_dir / "stroke_segmentation_panel.png", "StrokeSegmentation", layouts.SlicerLayoutOneUpRedSliceView)
    assert not host.slot_errors, host.slot_errors


if __name__ == "__main__":
    main()
