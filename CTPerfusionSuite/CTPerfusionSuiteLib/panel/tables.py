"""Filling the panel's tables: text cells with tooltips, as tall as their rows need within limits."""

import qt

ROW_PIXELS = 24


def fillTable(table, header, rows, tips=(), editable=(), tallest=260, wide=False):
    """Show rows of text in a QTableWidget.

    Parameters
    ----------
    header : sequence of str
    rows : sequence of sequence of str
    tips : sequence of str
        A tooltip a row; the header's own stay.
    editable : sequence of int
        Columns a user may change.
    tallest : int
        Pixels; longer tables scroll.
    wide : bool
        More columns than the panel has room for: a scroll bar lies below.
    """
    blocked = table.blockSignals(True)
    if table.columnCount != len(header):
        table.columnCount = len(header)
        table.verticalHeader().setVisible(False)
        table.verticalHeader().setDefaultSectionSize(ROW_PIXELS)
        table.horizontalHeader().setStretchLastSection(True)
    table.setHorizontalHeaderLabels(list(header))
    table.rowCount = len(rows)
    for r, row in enumerate(rows):
        for c, text in enumerate(row):
            item = table.item(r, c)
            if item is None:
                item = qt.QTableWidgetItem(str(text))
                if c not in editable:
                    item.setFlags(item.flags() & ~qt.Qt.ItemIsEditable)
                table.setItem(r, c, item)
            elif item.text() != str(text):
                item.setText(str(text))
            if r < len(tips):
                item.setToolTip(tips[r])
    for column in range(len(header) if wide else len(header) - 1):
        table.resizeColumnToContents(column)  # the last one takes the room that is left
    height = sum(table.rowHeight(n) for n in range(min(len(rows), 40))) + (2 if wide else 1) * ROW_PIXELS + 6
    table.setFixedHeight(int(min(tallest, height)))
    table.blockSignals(blocked)
