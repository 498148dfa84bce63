"""A segment chosen in a selector, kept in the parameter node: the wrapper has no connector for segment selectors."""

import slicer


class SegmentChoice:
    """Binds a qMRMLSegmentSelectorWidget to two parameters, both ways.

    Parameters
    ----------
    panel : has `settings`, the parameter node or None
    selector : qMRMLSegmentSelectorWidget
    nodeName, segmentName : str
        The parameters for the segmentation node and the segment's identifier.
    """

    def __init__(self, panel, selector, nodeName, segmentName):
        self._panel, self._selector = panel, selector
        self._nodeName, self._segmentName = nodeName, segmentName
        self._updating = False
        selector.currentNodeChanged.connect(self._onChanged)
        selector.currentSegmentChanged.connect(self._onChanged)

    def update(self):
        """Show what the parameter node says."""
        settings = self._panel.settings
        node, segment = getattr(settings, self._nodeName), getattr(settings, self._segmentName)
        self._updating = True
        if self._selector.currentNode() is not node:
            self._selector.setCurrentNode(node)
        if node is not None and self._selector.currentSegmentID() != segment:
            self._selector.setCurrentSegmentID(segment)
        self._updating = False

    def _onChanged(self, *arguments):
        settings = self._panel.settings
        if self._updating or settings is None:
            return
        node, segment = self._selector.currentNode(), str(self._selector.currentSegmentID() or "")
        # Together: between the two, the new segmentation with the old segment would be shown, and the selector would answer.
        with slicer.util.NodeModify(settings.parameterNode):
            setattr(settings, self._nodeName, node)
            setattr(settings, self._segmentName, segment)
