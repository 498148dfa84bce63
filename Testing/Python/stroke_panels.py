"""The panel of StrokeSegmentation as tests meet it: without PyTorch, or with it and a stand-in for the child process."""

import functools
from pathlib import Path

import pytest

TORCH = "StrokeSegmentationLib.mrml_stroke_readiness.torchIsInstalled"


@pytest.fixture(scope="session")
def stroke_folder(tmp_path_factory):
    """A result folder with threshold maps and uncertainty."""
    from made_up_stroke import write_made_up_stroke

    folder = tmp_path_factory.mktemp("stroke") / "result"
    write_made_up_stroke(folder)
    return folder


@pytest.fixture
def models(slicer_host, tmp_path, monkeypatch):
    """A models folder with two models for this module and one for another; none is shipped."""
    from model_archives import files_of_model

    from StrokeSegmentationLib import shipped_models
    from StrokeSegmentationLib.panel import model_section

    folder, task = tmp_path / "models", "Ischemic penumbra and core from CT perfusion"
    for name, changes in (("heart", {}), ("tiny-4d", {"task": task}), ("tiny-better", {"task": task, "recommended": "network"})):
        for path, content in files_of_model(name, **changes).items():
            (folder / name / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / name / path).write_bytes(content)
    monkeypatch.setattr(shipped_models, "SHIPPED", tmp_path / "none")
    monkeypatch.setattr(model_section, "modelFolder", lambda: str(folder))
    return folder


@pytest.fixture
def stroke_panel(slicer_host, models, monkeypatch):
    """The panel as it is without PyTorch; tests call it `panel` themselves, since fixtures of a plugin are everybody's."""
    monkeypatch.setattr(TORCH, lambda: False)
    monkeypatch.setattr("StrokeSegmentationLib.panel.torch_section.torchIsInstalled", lambda: False)
    yield from opened_panel(slicer_host)


@pytest.fixture
def ready(slicer_host, models, monkeypatch, tmp_path, stroke_folder):
    """The panel as it is with PyTorch; the child process is a stand-in that gives the prepared result."""
    import made_up_stroke

    from CTPerfusionSuiteLib.panel import background_work
    from CTPerfusionSuiteLib.panel.child_process import ChildProcess

    monkeypatch.setattr(TORCH, lambda: True)
    monkeypatch.setattr("StrokeSegmentationLib.panel.torch_section.torchIsInstalled", lambda: True)
    monkeypatch.setattr(background_work, "ChildProcess", functools.partial(ChildProcess, module="made_up_stroke"))
    monkeypatch.setenv("PYTHONPATH", str(Path(made_up_stroke.__file__).parent))
    monkeypatch.setenv(made_up_stroke.PREPARED, str(stroke_folder))
    monkeypatch.setenv(made_up_stroke.WORDS, str(tmp_path / "words.json"))
    yield from opened_panel(slicer_host)


def opened_panel(host):
    panel = host.open("StrokeSegmentation").panel
    panel.enter()
    panel.settings.model = ""  # the application may have chosen the shipped one when it started
    yield panel
    panel.stopRun()
    host.wait(lambda: panel.run is None, 5)
    assert [repr(error) for error in host.slot_errors] == []
