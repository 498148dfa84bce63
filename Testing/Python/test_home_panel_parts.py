"""A user sees what is installed for each module, installs what is missing only after being asked, and keeps learned models."""

from model_archives import files_of_model, write_archive

pytest_plugins = ("home_panels",)


def test_missing_parts_are_named_and_installed_only_after_asking(slicer_host, home, monkeypatch):
    import slicer.packaging

    from CTPerfusionSuiteLib.panel import parts_section

    real = parts_section.installed_version
    monkeypatch.setattr(parts_section, "installed_version", lambda name: None if name == "highdicom" else real(name) or "1.0")
    home.parts.update()
    assert "without maps and lesions as DICOM objects" in home.ui.partsLabel.text
    asked, there = [], iter([False, True])
    monkeypatch.setattr(slicer.packaging, "pip_check", lambda requirements: next(there))
    monkeypatch.setattr(slicer.packaging, "pip_ensure", lambda requirements, **options: asked.append((requirements, options)))
    home.ui.installButton.click()
    assert asked == [(["highdicom>=0.27"], {"requester": "CT Perfusion Suite"})]  # asks, and shows progress: Slicer's own defaults
    assert "Not everything" not in home.ui.partsLabel.text


def test_declining_an_installation_is_no_error(slicer_host, home, monkeypatch):
    import slicer.packaging

    def decline(requirements, **options):
        raise RuntimeError("User declined package installation")

    monkeypatch.setattr(slicer.packaging, "pip_check", lambda requirements: False)
    monkeypatch.setattr(slicer.packaging, "pip_ensure", decline)
    monkeypatch.setattr(home.parts, "missing", lambda: ["highdicom>=0.27"])
    home.parts.onInstall()
    assert "Not everything was installed" in home.ui.partsLabel.text
    assert slicer_host.dialogs == []


def test_the_user_answers_slicers_own_question_about_packages(slicer_host, home, monkeypatch):
    import qt
    import slicer.packaging

    installed = []
    monkeypatch.setattr(slicer.packaging, "pip_install", lambda requirements, **options: installed.append(requirements))
    monkeypatch.setattr(home.parts, "missing", lambda: ["no-such-package>=1.0"])
    home.ui.installButton.enabled, slicer_host.application._testing = True, False
    slicer_host.answers.append(qt.QMessageBox.Cancel)
    home.ui.installButton.click()
    assert installed == [] and slicer_host.dialogs[-1][0] == "CT Perfusion Suite - Install Python Packages"
    assert "Not everything was installed" in home.ui.partsLabel.text
    slicer_host.answers.append(qt.QMessageBox.Ok)
    home.parts.onInstall()
    assert installed == [["no-such-package>=1.0"]] and len(slicer_host.dialogs) == 2


def test_what_was_installed_elsewhere_is_seen_when_the_user_comes_back(slicer_host, home, monkeypatch):
    from CTPerfusionSuiteLib.panel import parts_section

    monkeypatch.setattr(parts_section, "installed_version", lambda name: None)
    home.parts.update()
    assert "not ready" in home.ui.partsLabel.text
    slicer_host.open("PerfusionMaps")
    monkeypatch.setattr(parts_section, "installed_version", lambda name: "9.9")
    slicer_host.open("CTPerfusionSuite")
    assert "not ready" not in home.ui.partsLabel.text and home.ui.partsLabel.text.count("nothing is missing") == 3


def test_pytorch_and_what_depends_on_it_are_never_installed_with_the_packages(home, monkeypatch):
    from CTPerfusionSuiteLib.panel import parts_section

    monkeypatch.setattr(parts_section, "installed_version", lambda name: None)
    home.parts.update()
    listed = {home.ui.partsTable.item(row, 0).text(): row for row in range(home.ui.partsTable.rowCount)}
    assert {"torch", "monai", "highdicom", "matplotlib"} <= set(listed)
    assert "CT Stroke Segmentation" in home.ui.partsTable.item(listed["torch"], 0).toolTip()
    offered = {requirement.partition(">")[0] for requirement in home.parts.missing()}
    assert "highdicom" in offered and not offered & {"torch", "monai", "numpy", "scipy", "SimpleITK", "pydicom"}
    assert "CT Stroke Segmentation: not ready" in home.ui.partsLabel.text
    assert home.ui.torchButton.enabled and "PyTorch extension" in home.ui.torchButton.toolTip
    monkeypatch.setattr(parts_section, "installed_version", lambda name: "2.13")
    home.parts.update()
    assert not home.ui.torchButton.enabled and "is installed" in home.ui.torchButton.toolTip and not home.ui.installButton.enabled


def test_a_failing_installation_is_explained_without_a_trace(home, monkeypatch):
    import slicer.packaging

    def fail(requirements, **options):
        raise OSError("no route to host")

    said = []
    monkeypatch.setattr(slicer.util, "errorDisplay", lambda text, **options: said.append((text, options)))
    monkeypatch.setattr(slicer.packaging, "pip_check", lambda requirements: False)
    monkeypatch.setattr(slicer.packaging, "pip_ensure", fail)
    monkeypatch.setattr(home.parts, "missing", lambda: ["highdicom>=0.27"])
    home.parts.onInstall()
    assert "Check the network" in said[0][0] and "no route" in said[0][1]["detailedText"]


def test_without_its_extension_pytorch_is_explained_not_installed(home):
    home.parts.onInstallTorch()
    assert "Extensions Manager" in home.ui.partsLabel.text


def choose_folder(home, folder):
    """Take a folder of models; how many others come with the modules."""
    home.ui.modelFolder.currentPath = str(folder)
    return home.ui.modelsTable.rowCount


def test_the_model_that_comes_with_a_module_is_listed_with_its_card_and_cannot_be_removed(home, tmp_path):
    assert choose_folder(home, tmp_path / "none") >= 1
    home.ui.modelsTable.selectRow(0)
    name, size, state, origin = (home.ui.modelsTable.item(0, column).text() for column in range(4))
    assert name == f"{home.models.models[0].folder.name} {home.models.models[0].version}"
    assert float(size.removesuffix(" MB")) > 0.5 and state == "not checked"
    assert origin == "CT Stroke Segmentation"
    assert "simulat" in home.ui.modelCard.plainText and "must not be claimed" in home.ui.modelCard.plainText
    home.ui.checkModelButton.click()
    assert home.ui.modelsTable.item(0, 2).text() == "intact"
    assert not home.ui.removeModelButton.enabled and "part of CT Stroke Segmentation" in home.ui.removeModelButton.toolTip


def test_a_model_is_imported_checked_shown_with_its_card_and_removed(slicer_host, home, tmp_path, monkeypatch):
    import slicer

    brought = choose_folder(home, tmp_path / "models")
    home.models.importFile(write_archive(tmp_path / "tiny.zip", files_of_model()))
    table = home.ui.modelsTable
    row = table.currentRow()
    assert row == brought and [table.item(row, column).text() for column in range(4)] == ["tiny 0.1.0", "0.0 MB", "not checked", "imported"]
    assert "nothing may be claimed" in home.ui.modelCard.plainText
    home.ui.checkModelButton.click()
    assert table.item(row, 2).text() == "intact"
    weights = tmp_path / "models" / "tiny" / "models" / "model.pt"
    weights.write_bytes(b"changed")
    home.ui.checkModelButton.click()
    assert table.item(row, 2).text() == "damaged" and "was changed" in home.ui.modelCard.plainText
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *arguments, **options: False)
    home.ui.removeModelButton.click()
    assert weights.is_file()
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *arguments, **options: True)
    home.ui.removeModelButton.click()
    assert not weights.exists() and table.rowCount == brought and not home.ui.removeModelButton.enabled


def test_a_refused_model_is_explained_and_nothing_is_kept(home, tmp_path, monkeypatch):
    import slicer

    said = []
    monkeypatch.setattr(slicer.util, "errorDisplay", lambda text, *arguments, **options: said.append(text))
    brought = choose_folder(home, tmp_path / "models")
    home.models.importFile(write_archive(tmp_path / "tiny.zip", {**files_of_model(), "models/model.pt": b"other"}))
    assert "was changed" in said[0]
    assert home.ui.modelsTable.rowCount == brought
