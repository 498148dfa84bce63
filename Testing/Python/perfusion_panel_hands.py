"""What tests of the PerfusionMaps panel do and read again and again."""

RUN_S = 120


def run(host, panel):
    panel.ui.applyButton.click()
    work = panel.run
    assert work is not None, panel.ui.applyButton.toolTip
    assert host.wait(lambda: not work.running, RUN_S), "the analysis did not end"
    assert panel.run is None


def volumes(panel):
    """Hypoperfusion, core, penumbra in mL and the ratio as they are shown, without error and unit."""
    table = panel.ui.volumesTable
    return [table.item(row, 1).text().removesuffix(" mL").partition(" \u00b1 ")[0] for row in range(table.rowCount)]


def settle(host, panel):
    """What follows the sliders has followed."""
    host.wait(lambda: False, 0.05)
    panel.results.flush()
    host.wait(lambda: False, 0.05)
