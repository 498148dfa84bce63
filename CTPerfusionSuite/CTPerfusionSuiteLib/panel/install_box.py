"""Packages that are asked for when they are needed, through Slicer's own installer."""

import logging

import slicer
from slicer.i18n import tr as _


def ensurePackages(requirements, requester):
    """Whether packages are there, after the user was asked to install those that are not.

    Parameters
    ----------
    requirements : list of str
        As pip takes them, "matplotlib>=3.8".
    requester : str
        Who asks, for the dialog.
    """
    from slicer import packaging

    if packaging.pip_check(requirements):
        return True
    try:
        packaging.pip_ensure(requirements, requester=requester)
    except RuntimeError as problem:
        # The user declined, or the installation failed and was shown.
        logging.info("%s: %s", requester, problem)
    return bool(packaging.pip_check(requirements))


def installTorch() -> str:
    """Install PyTorch through Slicer's own extension for it, which asks and knows the right build for the graphics card.

    Returns what the user has to do first, or "" after the extension was called; failures are shown.
    """
    try:
        from PyTorchUtils import PyTorchUtilsLogic
    except ImportError:
        return _('Install the extension "PyTorch" from the Extensions Manager and restart Slicer, then try again.')
    try:
        PyTorchUtilsLogic().installTorch(askConfirmation=True, torchVersionRequirement=">=2.4")
    except Exception as problem:  # a half-removed PyTorch raises anything
        text = _("PyTorch could not be installed. Uninstall it in the PyTorch Util module and try again.")
        slicer.util.errorDisplay(text, detailedText=str(problem))
    return ""
