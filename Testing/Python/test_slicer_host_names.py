"""The stand-in Slicer refuses names that sound right and that Slicer does not have, class by class."""

import json
from pathlib import Path

import pytest

PLAUSIBLE = {
    "ctk.ctkSliderWidget": (
        "setMaximum setMinimum setSingleStep setPageStep setSuffix setPrefix setRange setTracking setTickInterval setOrientation "
        "setText setMinimumValue setMaximumValue setStep valueEdited sliderMoved sliderReleased editingFinished setTickPosition "
        "getValue box"
    ),
    "ctk.ctkCollapsibleButton": (
        "setCollapsed collapse expand isCollapsed setTitle title setExpanded expanded clickedBool setContentsFrame setCollapsedHeight "
        "collapsedChanged opened fold header setButton contents addWidget setContent setHeaderText"
    ),
    "ctk.ctkCollapsibleGroupBox": (
        "setCollapsed collapse expand isCollapsed setExpanded expanded setHeader collapsedChanged setContent addWidget setContents "
        "setCollapsible isCollapsible header openGroup closeGroup setText text setButton setTitleText"
    ),
    "ctk.ctkPathLineEdit": (
        "setFilters setNameFilters setSettingKey setOptions path setPath text setText currentFile browsePath pathChanged setDirectory "
        "directory selectedFile fileSelected setShowBrowseButton setLabel currentDirectory clearPath setMode history"
    ),
    "slicer.qMRMLNodeComboBox": (
        "setNodeTypes setNoneEnabled setAddEnabled setRemoveEnabled setRenameEnabled setEditEnabled setShowHidden addItem "
        "setShowChildNodeTypes setBaseName currentData itemText setSelectNodeUponCreation setCurrentNodeId getCurrentNode nodeChanged "
        "node setNode currentText setNodeType"
    ),
    "slicer.qMRMLSegmentSelectorWidget": (
        "setNoneEnabled segment setSegment currentSegment currentSegmentName segmentChanged setSegmentID segmentID node setNode "
        "addSegment selectedSegment setNodeTypes nodeTypes setCurrentSegment idsOfSegments nodeChanged selectSegment "
        "getCurrentSegmentID combo"
    ),
    "slicer.qSlicerMarkupsPlaceWidget": (
        "setPlaceMode startPlacing placeMode setPlacing placing setNode node markupsNode setMarkupsNode setPointColor placed "
        "pointPlaced enablePlaceMode setMultiple multiple setDeleteVisible color setColor activePlaceModeChanged cancel"
    ),
    "slicer.qMRMLWidget": (
        "scene setScene getMRMLScene sceneChanged mrmlSceneModified setNode node updateFromMRML ui loadUi childWidget mrmlNode "
        "setMRMLNode currentNode widget panel addChild setMrmlScene mrml applicationLogic"
    ),
    "qt.QPushButton": (
        "setOnClick onClicked command setCommand bind setTooltip caption setCaption label setLabel setValue value setIconText "
        "buttonText setState pressedChanged unpressed setColor background doubleClicked"
    ),
    "qt.QCheckBox": (
        "setValue value isOn setOn checkedState stateToggled setTooltip caption setCaption checkedChanged setState state onToggled "
        "setTriState label setLabel isTriState check uncheck checkStateChanged"
    ),
    "qt.QComboBox": (
        "setItems items addChoice setCurrentItem currentItem selectedIndex setSelected getCurrentText setValue value selectionChanged "
        "textChosen indexOf removeAll itemCount options setOptions append setTooltip editText"
    ),
    "qt.QLabel": (
        "setValue value setColor setHtml html setPlainText plainText toPlainText appendText setTooltip setCaption label setLabel "
        "setBold setFontSize textChanged isWordWrap setImage setUrl markdown"
    ),
    "qt.QProgressBar": (
        "setProgress progress setTotal total increment setText setStep setLabel percent setPercentage finished setBusy "
        "isIndeterminate setIndeterminate maximumChanged setDone done start stop getValue"
    ),
    "qt.QTableWidget": (
        "setData setRows setColumns rows columns addRow appendRow setCell cell getItem setText textAt itemAtCell selectedRow "
        "selectedRows setHeaderLabels setHeader currentRowChanged rowSelected clearRows resizeToContents"
    ),
    "qt.QPlainTextEdit": (
        "setText text append setHtml html value setValue textEdited content setContent getText lines setLines label insertText "
        "currentText setMarkdown toHtml insertHtml caption"
    ),
    "qt.QTimer": (
        "setTimeout once every repeat cancel pause resume elapsed isRunning running setRepeats onTimeout setCallback fire begin "
        "singleshot setDelay delay trigger reset"
    ),
    "qt.QProcess": (
        "run wait poll abort communicate stdout stderr returncode pid lines readLines outputReady lineReady onFinished launch "
        "setTimeout isRunning running exit_code setEnvironmentVariable setCwd"
    ),
    "qt.QSettings": (
        "get put getValue setInt items save load read write has hasKey keys values erase update setFile store default toDict path"
    ),
    "qt.QSpinBox": (
        "setValueRange getValue setRangeValues onChange setTooltip setPrefixText setText number setNumber increment step decrement "
        "valueEdited isValid setUnit unit setLimits limits spin setDecimals"
    ),
    "qt.QDoubleSpinBox": (
        "setValueRange getValue onChange setTooltip setText number setNumber increment step decrement valueEdited isValid setUnit "
        "unit setLimits limits spin precision setPrecision digits"
    ),
}
NODES = {
    "vtkMRMLSequenceNode": (
        "GetTimes GetNthValue GetIndexValues SetIndexValues AddDataNode GetNumberOfFrames GetFrame GetDataNodes AddItem GetItem "
        "GetNumberOfItems SetTimes GetTimeUnit SetTimeUnit SetUnit GetUnit AppendDataNode GetNthTime SetNthIndexValue GetVolume"
    ),
    "vtkMRMLScalarVolumeNode": (
        "GetArray SetArray GetVoxels GetUnit SetUnits SetUnit GetUnits GetVoxelUnits GetGeometry SetGeometry GetDimensions GetSize "
        "GetDirection SetDirection GetColorNode SetWindowLevel GetShape SetColor SetLookupTable AddColorLegend"
    ),
    "vtkMRMLSegmentationNode": (
        "AddSegment GetSegment GetSegments SetSegmentMask AddEmptySegment GetSegmentIDs RemoveAllSegments GetMask SetLabelmap "
        "GetLabelmap GetVolume SetVisibility2D SetSegmentColor GetSegmentColor GetVolumeOfSegment SetReferenceVolume "
        "GetReferenceVolume ShowSegment HideSegment GetBinaryLabelmap"
    ),
    "vtkMRMLMarkupsFiducialNode": (
        "GetFiducial AddPoint GetPoint GetPosition SetPosition AddMarkup GetNumberOfPoints GetNthPoint SetNthPoint PlacePoint "
        "GetNthPosition SetPoint GetPoints SetColor GetColor RemovePoint ClearPoints GetControlPoint SetLabel GetLabel"
    ),
    "vtkMRMLTableNode": (
        "GetColumn SetColumn AddArray GetArray SetArray GetValue SetValue AddValues GetColumns GetRows AppendRow GetRow SetRow "
        "SetHeader GetHeader GetDataFrame ToDict SetTitle GetTitle GetColumnByName"
    ),
    "vtkMRMLPlotChartNode": (
        "AddSeries RemoveSeries SetXTitle SetYTitle SetAxisTitle AddPlot SetLegend ShowLegend SetXLabel SetYLabel AddCurve GetSeries "
        "GetPlot SetTable SetRange SetXRange SetYRange SetGrid GetXTitle Plot"
    ),
    "vtkMRMLColorTableNode": (
        "AddColour SetRGBColors GetColors SetTable SetRGB AddPoint SetColorRange SetRangeMinMax GetTable SetColorMap GetColorMap "
        "AddRGBPoint SetCount SetTableValue SetAlpha SetCategory GetRGB SetLookup SetColorAt Fill"
    ),
    "vtkMRMLTextNode": (
        "GetContents SetContents Append AppendText GetLines SetLines GetString SetString Read Write SetValue GetValue GetContent "
        "SetContent SetJson GetJson SetHtml GetHtml ToString Clear"
    ),
}
HOST = Path(__file__).resolve().parents[1] / "SlicerHost" / "application_names.json"
WRITTEN_DOWN = Path(__file__).resolve().parents[3] / "shared" / "reference" / "slicer_api.json"


def has(thing, name):
    """Whether code that says `thing.name` runs; `hasattr` would ask in Qt's way, not in a module's."""
    try:
        eval(f"thing.{name}")
    except AttributeError:
        return False
    return True


def made(name):
    import ctk
    import qt
    import slicer

    module, cls = name.split(".")
    return getattr({"ctk": ctk, "qt": qt, "slicer": slicer}[module], cls)()


@pytest.mark.parametrize("name", PLAUSIBLE)
def test_what_sounds_right_but_is_not_in_slicer_is_refused_on_a_widget(slicer_host, name):
    widget, wrong = made(name), PLAUSIBLE[name].split()
    assert len(wrong) >= 19
    assert [word for word in wrong if has(widget, word)] == []
    with pytest.raises(AttributeError):
        widget.setMyOwn = 1


@pytest.mark.parametrize("name", NODES)
def test_what_sounds_right_but_is_not_in_slicer_is_refused_on_a_node(slicer_host, name):
    import slicer

    node, wrong = slicer.mrmlScene.AddNewNodeByClass(name), NODES[name].split()
    assert len(wrong) >= 19
    assert [word for word in wrong if has(node, word)] == []


def test_wrong_names_are_refused_on_what_is_no_widget_too(slicer_host):
    import qt
    import slicer

    things = (
        (qt.QTableWidgetItem("1"),
         "value setValue setEditable isEditable setColor setBackgroundColor setTextColor setTooltip clear setCheckable"),
        (qt.QColor(1, 2, 3),
         "rgbList toHex getRgbList hex setHex toTuple r g b toString"),
        (qt.QProcess().readAllStandardOutput(),
         "decode toPyBytes str text toString bytes asString readline strip encode"),
        (qt.QTableWidget().horizontalHeader(),
         "setResizeMode setLabels labels setStretch setStretchLast resizeMode setWidths setVisibleSection text"),
        (slicer.app,
         "mainWindow scene mrmlScene window getLayoutManager setTesting isTesting modules openModule quitApplication"),
        (slicer.app.layoutManager(),
         "getLayout setActiveLayout redView sliceViews plotView getSliceWidget views setLayoutName showPlot addView"),
        (slicer.app.applicationLogic(),
         "GetScene GetSliceNode GetLayoutNode SetActiveVolume Fit GetViews GetSelection GetInteraction RenderAll Quit"),
        (slicer.modules.sequences,
         "getLogic widget panel show setName module run scene node process"),
    )
    for thing, words in things:
        assert [word for word in words.split() if has(thing, word)] == [], type(thing)


def test_the_names_of_the_host_are_those_written_down_from_the_application():
    if not WRITTEN_DOWN.is_file():
        pytest.skip("the list written down from the application is not here")
    application = json.loads(WRITTEN_DOWN.read_text(encoding="utf-8"))["classes"]
    host = json.loads(HOST.read_text(encoding="utf-8"))["classes"]
    by_name = {name.split(".")[-1]: entry for name, entry in application.items()}

    def offered(name):
        entry = by_name.get(name)
        above = offered(entry["base"].split(".")[-1]) if entry and entry.get("base") else set()
        return above | set(entry["attributes"] if entry else ())

    for name, entry in host.items():
        if name in by_name:
            signals = {signature.split("(")[0] for signature in entry.get("signals", ())}
            listed = {*entry.get("methods", ()), *entry.get("properties", ()), *entry.get("readonly", ()), *signals}
            assert listed <= offered(name), (name, sorted(listed - offered(name)))
    for name, words in PLAUSIBLE.items():
        assert not set(words.split()) & offered(name.split(".")[-1]), name
