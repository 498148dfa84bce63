"""What a user of the StrokeSegmentation panel lives through: with and without PyTorch, models, settings, and the logic alone."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ("stroke_panels",)


@pytest.fixture
def panel(stroke_panel):
    return stroke_panel


def test_without_pytorch_the_panel_opens_says_what_to_install_and_apply_says_why_not(panel, sequence):
    panel.settings.inputNode = sequence[1]
    assert not panel.ui.torchBox.isHidden() and "Extensions Manager" in panel.ui.torchLabel.text
    assert not panel.ui.applyButton.enabled and "PyTorch is not installed" in panel.ui.applyButton.toolTip
    assert "32 frames" in panel.ui.timesSummary.text
    assert panel.ui.noticeLabel.text == "Simulation-trained network, research only."
    panel.ui.installTorchButton.click()
    assert 'Install the extension "PyTorch"' in panel.ui.torchLabel.text


def test_without_pytorch_a_result_of_another_computer_is_opened_and_compared(slicer_host, panel, stroke_folder):
    panel.ui.resultFolder.currentPath = str(stroke_folder)
    panel.ui.openResultButton.click()
    assert slicer_host.wait(lambda: "Opened" in panel.ui.openingLabel.text, 20), panel.ui.openingLabel.text
    assert panel.settings.result.GetName() == "result stroke"
    assert panel.ui.volumesTable.rowCount == 4


def test_a_model_is_chosen_and_its_card_checksums_and_recommendation_are_shown(panel, models):
    combo = panel.ui.modelCombo
    assert [combo.itemText(n) for n in range(combo.count)] == ["tiny-4d 0.1.0", "tiny-better 0.1.0"]
    assert panel.settings.model == "tiny-4d"
    assert "nothing may be claimed" in panel.ui.modelCard.plainText and panel.ui.modelCard.readOnly
    assert panel.ui.modelStateLabel.text.startswith("Intact")
    assert "recommends the threshold maps" in panel.ui.recommendationLabel.text
    combo.currentIndex = 1
    assert panel.settings.model == "tiny-better" and "was better than the threshold maps" in panel.ui.recommendationLabel.text
    assert "simulated studies only" in panel.ui.recommendationLabel.text


def test_a_chosen_model_trained_on_ones_own_patients_is_not_called_simulated(panel, models):
    from model_archives import files_of_model

    assert panel.ui.noticeLabel.text == "Simulation-trained network, research only."
    for path, content in files_of_model("tiny-own", task="Ischemic penumbra and core", simulation_trained=False).items():
        (models / "tiny-own" / path).parent.mkdir(parents=True, exist_ok=True)
        (models / "tiny-own" / path).write_bytes(content)
    panel.enter()
    panel.ui.modelCombo.currentIndex = 2
    assert panel.settings.model == "tiny-own" and "studies its user gave" in panel.ui.recommendationLabel.text
    assert panel.ui.noticeLabel.text == "Network trained on its user's studies, research only."
    assert "studies its user gave" in panel.ui.noticeLabel.toolTip and "simulated" not in panel.ui.noticeLabel.toolTip
    panel.ui.modelCombo.currentIndex = 0
    assert panel.ui.noticeLabel.text == "Simulation-trained network, research only."
    assert "simulated studies only" in panel.ui.noticeLabel.toolTip


def test_a_changed_model_is_told_and_does_not_run(ready, models, sequence):
    ready.settings.inputNode = sequence[1]
    assert ready.ui.applyButton.enabled
    (models / "tiny-4d" / "models" / "model.pt").write_bytes(b"changed")
    ready.enter()
    assert "Damaged" in ready.ui.modelStateLabel.text and "models/model.pt was changed" in ready.ui.modelStateLabel.text
    assert not ready.ui.applyButton.enabled and "not what its author packed" in ready.ui.applyButton.toolTip


def test_a_model_that_is_not_here_is_named_and_nothing_else_is_taken_in_its_place(ready, sequence):
    ready.settings.inputNode = sequence[1]
    ready.settings.model = "of-another-computer"
    assert "of-another-computer" in ready.ui.modelStateLabel.text and ready.ui.modelCombo.currentIndex == -1
    assert not ready.ui.applyButton.enabled and "not on this computer" in ready.ui.applyButton.toolTip
    assert ready.ui.modelCard.plainText == ""


def test_without_any_model_the_panel_says_where_one_comes_from(ready, monkeypatch):
    monkeypatch.setattr("StrokeSegmentationLib.panel.model_section.modelFolder", lambda: "")
    ready.enter()
    assert "ctperfusion stroke train" in ready.ui.modelStateLabel.text and "no model" in ready.ui.applyButton.toolTip


def test_every_setting_of_the_panel_reaches_the_parameter_node_and_comes_back(slicer_host, slicer, ready, sequence, tmp_path):
    from StrokeSegmentation import Device

    ui, settings = ready.ui, ready.settings
    ui.deviceCombo.currentIndex = 2
    ui.passesSpin.value = 12
    ui.motionCheck.checked = False
    ui.keepResultsCheck.checked = True
    ui.saveFolder.currentPath = str(tmp_path)
    ui.dicomFolder.currentPath = str(tmp_path)
    ui.opacitySlider.value = 35
    ui.modelCombo.currentIndex = 1
    assert (settings.device, settings.passes, settings.motionCorrection, settings.keepResults) == (Device.CUDA, 12, False, True)
    assert settings.saveFolder == tmp_path and settings.dicomFolder == tmp_path and settings.mapOpacity == 35
    assert settings.model == "tiny-better"
    again = ready.logic.getParameterNode()
    assert (again.device, again.passes, again.model, again.saveFolder) == (Device.CUDA, 12, "tiny-better", tmp_path)
    ready.exit()
    ready.enter()
    assert ui.passesSpin.value == 12 and ui.deviceCombo.currentIndex == 2 and ui.modelCombo.currentIndex == 1


def test_every_widget_of_the_panel_explains_itself(panel):
    import qt

    silent = []
    for name, widget in vars(panel.ui).items():
        kinds = (qt.QPushButton, qt.QComboBox, qt.QSpinBox, qt.QCheckBox, qt.QTableWidget)
        if isinstance(widget, kinds) and not widget.toolTip:
            silent.append(name)
    assert silent == []


def test_the_logic_refuses_in_one_sentence_without_a_panel(slicer_host, panel, sequence):
    settings = panel.logic.getParameterNode()
    settings.inputNode = sequence[0]
    with pytest.raises(ValueError, match="PyTorch is not installed") as refusal:
        panel.logic.process(settings)
    assert "\n" not in str(refusal.value)


def test_the_self_test_says_why_it_is_skipped(slicer_host, slicer, panel, monkeypatch):
    said = []
    monkeypatch.setattr(slicer.util, "delayDisplay", lambda message, *arguments, **options: said.append(message))
    slicer_host.modules["StrokeSegmentation"].runTest()
    assert len(said) == 1 and said[0].startswith("Skipped. The network cannot run here: PyTorch is not installed")


def test_the_module_tests_itself_with_the_network_where_it_can_run(slicer_host, slicer, ready, monkeypatch):
    said = []
    monkeypatch.setattr(slicer.util, "delayDisplay", lambda message, *arguments, **options: said.append(message))
    slicer_host.modules["StrokeSegmentation"].runTest()
    assert said[-1] == "Test passed"


def test_the_panel_opens_quickly_and_without_loading_what_it_does_not_need(slicer_host):
    """In a process of its own, where nothing is imported yet."""
    code = """
import sys, time
sys.path.insert(0, sys.argv[1])
from SlicerHost import launch
host = launch.start(sys.argv[2:])
known, began = set(sys.modules), time.perf_counter()
host.open("StrokeSegmentation")
print("seconds", time.perf_counter() - began)
assert not host.slot_errors, host.slot_errors
heavy = {name.partition(".")[0] for name in set(sys.modules) - known} & {"scipy", "SimpleITK", "matplotlib", "pydicom", "torch"}
assert not heavy, heavy
"""
    root = Path(__file__).resolve().parents[2]
    names = ("Testing", "CTPerfusionSuite", "PerfusionMaps", "StrokeSegmentation")
    done = subprocess.run([sys.executable, "-c", code, *(str(root / name) for name in names)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout.split("seconds")[-1]) < 0.5
