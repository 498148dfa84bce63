"""The stand-in Slicer's qt and ctk behave as PythonQt does, and refuse what Slicer does not have."""

import sys

import pytest


@pytest.fixture
def qt(slicer_host):
    import qt

    return qt


@pytest.fixture
def ctk(slicer_host):
    import ctk

    return ctk


def test_properties_are_read_and_assigned_as_attributes_and_never_called(qt):
    box = qt.QCheckBox("Smooth")
    assert (box.text, box.checked, box.enabled) == ("Smooth", False, True)
    box.checked, box.enabled, box.text = True, False, "Denoise"
    assert (box.text, box.isChecked(), box.enabled) == ("Denoise", True, False)
    with pytest.raises(TypeError):
        box.text()


def test_a_read_only_property_and_an_unknown_attribute_cannot_be_assigned(qt):
    combo = qt.QComboBox()
    combo.addItems(["a", "b"])
    assert combo.count == 2
    with pytest.raises(AttributeError):
        combo.count = 3
    with pytest.raises(AttributeError, match="creating new attributes"):
        combo.myMemory = 3


def test_a_python_subclass_of_a_widget_keeps_its_own_attributes_and_overrides(qt):
    class Curve(qt.QWidget):
        def __init__(self):
            super().__init__()
            self.points = [1, 2]

        def sizeHint(self):
            return qt.QSize(77, 33)

    curve = Curve()
    curve.show()
    qt.QApplication.processEvents()
    assert (curve.points, curve.width, curve.height) == ([1, 2], 77, 33)


def test_signals_connect_by_signature_and_by_attribute_and_drop_surplus_arguments(qt):
    button, seen = qt.QPushButton("Apply"), []
    button.checkable = True
    assert button.connect("clicked(bool)", lambda on: seen.append(("string", on)))
    assert button.clicked.connect(lambda: seen.append("no argument"))
    button.click()
    assert seen == [("string", True), "no argument"]
    button.clicked.disconnect()
    button.click()
    assert len(seen) == 2


def test_an_unknown_signal_is_false_by_signature_and_an_error_by_attribute(qt):
    button = qt.QPushButton()
    assert button.connect("rightClicked()", print) is False
    with pytest.raises(AttributeError):
        button.rightClicked.connect(print)


def test_an_exception_in_a_slot_is_printed_and_the_next_slot_still_runs(qt, slicer_host, capsys):
    button, seen = qt.QPushButton(), []
    button.clicked.connect(lambda: 1 / 0)
    button.clicked.connect(lambda a, b, c: None)  # too many parameters: not run
    button.clicked.connect(lambda: seen.append("ran"))
    button.click()
    assert seen == ["ran"] and [type(e) for e in slicer_host.slot_errors] == [ZeroDivisionError, TypeError]
    assert "ZeroDivisionError" in capsys.readouterr().err
    slicer_host.slot_errors.clear()


def test_qt_methods_are_slots_too(qt):
    check, label, dialog = qt.QCheckBox(), qt.QLabel("x"), qt.QDialog()
    check.toggled.connect(label.setVisible)
    check.clicked.connect(dialog.accept)
    check.click()
    assert label.visible and dialog.result() == qt.QDialog.Accepted


def test_setters_that_slicer_lacks_are_refused_on_ctk_and_qmrml_widgets(ctk, slicer_host):
    import slicer

    slider, button, path, combo = ctk.ctkSliderWidget(), ctk.ctkCollapsibleButton(), ctk.ctkPathLineEdit(), slicer.qMRMLNodeComboBox()
    for widget, name in (
        (slider, "setMaximum"),
        (slider, "setMinimum"),
        (slider, "setSingleStep"),
        (slider, "setSuffix"),
        (slider, "setRange"),
        (button, "setCollapsed"),
        (path, "setFilters"),
        (combo, "setNodeTypes"),
        (combo, "setNoneEnabled"),
        (combo, "addItem"),
    ):
        with pytest.raises(AttributeError, match="in Slicer"):
            getattr(widget, name)
    slider.maximum, button.collapsed, combo.nodeTypes = 5.0, True, ["vtkMRMLScalarVolumeNode"]
    slider.setValue(4.5)
    slider.setDecimals(1)
    assert (slider.maximum, slider.value, button.checked, combo.nodeTypes) == (5.0, 4.5, False, ("vtkMRMLScalarVolumeNode",))


def test_names_missing_from_whole_modules_are_refused(qt, ctk, slicer_host):
    import slicer

    for module, name in ((qt, "Signal"), (qt, "QPool"), (ctk, "ctkPlot"), (slicer, "loadVolume"), (slicer.app, "runInThread")):
        with pytest.raises(AttributeError):
            getattr(module, name)


def test_what_slicer_has_but_the_host_lacks_says_so(ctk):
    with pytest.raises(NotImplementedError, match="exists in Slicer"):
        ctk.ctkSliderWidget().reset()
    with pytest.raises(NotImplementedError, match="exists in Slicer"):
        ctk.ctkRangeWidget()


def test_slider_sends_once_and_stays_silent_on_the_same_value(ctk):
    slider, seen = ctk.ctkSliderWidget(), []
    slider.connect("valueChanged(double)", seen.append)
    slider.value = 6
    slider.value = 6
    slider.blockSignals(True)
    slider.value = 7
    slider.blockSignals(False)
    assert seen == [6.0] and slider.value == 7.0


def test_collapsing_hides_the_contents_but_not_what_the_module_had_hidden(qt, ctk):
    button = ctk.ctkCollapsibleButton()
    form, shown, hidden = qt.QFormLayout(button), qt.QLabel("shown"), qt.QLabel("hidden")
    form.addRow(shown)
    form.addRow(hidden)
    hidden.hide()
    button.show()
    button.collapsed = True
    assert not shown.visible
    button.collapsed = False
    assert shown.visible and not hidden.visible


def test_timer_restarts_debounce_to_one_call(qt, slicer_host):
    timer, calls = qt.QTimer(), []
    timer.setSingleShot(True)
    timer.interval = 20
    timer.timeout.connect(lambda: calls.append(1))
    for _ in range(20):
        timer.start()
    assert timer.active and slicer_host.wait(lambda: calls) and not slicer_host.wait(lambda: len(calls) > 1, 0.1)


def test_table_items_are_read_by_method_and_counts_by_property(qt):
    table = qt.QTableWidget(2, 1)
    table.setItem(0, 0, qt.QTableWidgetItem("1.5"))
    changed = []
    table.cellChanged.connect(lambda row, column: changed.append((row, column)))
    table.item(0, 0).setText("2.5")
    assert (table.rowCount, table.item(0, 0).text(), table.currentRow(), changed) == (2, "2.5", -1, [(0, 0)])


def test_a_child_process_gives_its_lines_and_one_exit_code(qt, slicer_host):
    process, lines, ends = qt.QProcess(), [], []

    def read():
        while process.canReadLine():
            lines.append(process.readLine().data().decode().strip())

    process.readyReadStandardOutput.connect(read)
    process.finished.connect(lambda *arguments: ends.append(arguments))
    process.connect("finished(int,QProcess::ExitStatus)", lambda code, status: ends.append((code, int(status))))
    process.start(sys.executable, ["-c", "import sys; print('one', flush=True); print('two', flush=True); sys.exit(2)"])
    assert slicer_host.wait(lambda: len(ends) == 2)
    assert lines == ["one", "two"] and sorted(ends) == [(2,), (2, 0)] and process.state() == qt.QProcess.NotRunning == 0


def test_a_missing_program_gives_an_error_and_never_finishes(qt, slicer_host):
    process, errors, ends = qt.QProcess(), [], []
    process.errorOccurred.connect(errors.append)
    process.finished.connect(ends.append)
    process.start("no-such-program-here", [])
    assert slicer_host.wait(lambda: errors) and errors == [qt.QProcess.FailedToStart] and not ends


def test_settings_live_in_a_folder_of_this_run(qt, slicer_host):
    import slicer

    slicer.app.settings().setValue("CTPerfusionSuite/ModelFolder", "models")
    assert slicer.util.settingsValue("CTPerfusionSuite/ModelFolder", "") == "models"
    assert qt.QSettings().fileName().startswith(slicer.app.temporaryPath)


def test_dialogs_do_not_block_and_are_written_down(slicer_host):
    import qt
    import slicer

    assert slicer.util.confirmOkCancelDisplay("Install?") is False  # as the real application answers with --testing
    slicer_host.application._testing = False
    assert slicer.util.confirmOkCancelDisplay("Install?") is True
    with pytest.raises(ValueError), slicer.util.tryWithErrorDisplay("Failed to read."):
        raise ValueError("no time axis")
    assert [text for _title, text in slicer_host.dialogs] == ["Install?", "Failed to read.\n\nno time axis"]
    assert qt.QFileDialog.getOpenFileName(None, "Open", "") == ""
