"""Small modules of the application: slicer.i18n, slicer.packaging, slicer.testing and SampleData."""

import importlib.metadata
import os
import sys
import types
import unittest

import slicer
from packaging.requirements import Requirement

INSTALLED = []  # what pip_install was asked for; the host installs nothing


def load_requirements(path):
    """Requirement objects of a requirements file."""
    with open(path, encoding="utf-8") as file:
        lines = (line.split("#")[0].strip() for line in file)
        return [Requirement(line) for line in lines if line]


def pip_check(requirements):
    """True if every requirement is met by what is installed."""
    for requirement in requirements if isinstance(requirements, (list, tuple)) else [requirements]:
        requirement = Requirement(str(requirement))
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            return False
        if not requirement.specifier.contains(version, prereleases=True):
            return False
    return True


def pip_ensure(requirements, constraints=None, skip_packages=None, prompt_install=True, prompt_restart=True, requester=None, **options):
    """Nothing in testing mode (as in Slicer, unless skip_in_testing=False); else asks, then pip_install."""
    if (slicer.app.testingEnabled() and options.get("skip_in_testing", True)) or pip_check(requirements):
        return None
    if prompt_install and not slicer.util.confirmOkCancelDisplay("Install?", f"{requester} - Install Python Packages"):
        raise RuntimeError("User declined package installation")
    return pip_install(requirements)


def pip_install(requirements, **options):
    INSTALLED.append(requirements)


def run_unit_test(path, name):
    tests = unittest.defaultTestLoader.loadTestsFromTestCase(getattr(sys.modules[name], f"{name}Test"))
    if not unittest.TextTestRunner().run(tests).wasSuccessful():
        sys.exit(1)


class SampleDataLogic:
    """Sample data sets by category; a customDownloader runs from the panel's button only (`click_sample`)."""

    categories = {}

    @staticmethod
    def registerCustomSampleDataSource(category="Custom", sampleName=None, uris=None, fileNames=None, nodeNames=None, **options):
        if uris is None or fileNames is None:
            raise TypeError("uris and fileNames must not be None")
        if options.get("thumbnailFileName") and not os.path.isfile(options["thumbnailFileName"]):
            raise RuntimeError(f"no thumbnail at {options['thumbnailFileName']}")
        source = types.SimpleNamespace(sampleName=sampleName, uris=uris, fileNames=fileNames, nodeNames=nodeNames, **options)
        slicer.modules.sampleDataSources.setdefault(category, []).append(source)

    @classmethod
    def registerCustomSampleDataCategory(cls, category, title):
        cls.categories[category] = title

    def sourceForSampleName(self, sampleName):
        every = (source for sources in slicer.modules.sampleDataSources.values() for source in sources)
        return next((source for source in every if source.sampleName == sampleName), None)

    def downloadSample(self, sampleName):
        raise IndexError("SampleData.downloadSample ignores a customDownloader, and the host has no network")

    downloadSamples = downloadSample

    def logMessage(self, message, logLevel=10):
        slicer.util.showStatusMessage(message)


def click_sample(name):
    """Press the button of a sample data set."""
    source = SampleDataLogic().sourceForSampleName(name)
    return source.customDownloader(source)


def make_modules():
    """{module name: module}"""
    packaging = {f.__name__: f for f in (load_requirements, pip_check, pip_ensure, pip_install, Requirement)}
    contents = {
        "slicer.i18n": {"tr": lambda text: text, "translate": lambda context, text: text, "getContext": lambda sourceFile: ""},
        "slicer.packaging": packaging | {"isPipInstallInProgress": lambda: False, "pip_uninstall": lambda requirements, **options: None},
        "slicer.testing": {"runUnitTest": run_unit_test, "exitSuccess": lambda: sys.exit(0), "exitFailure": lambda message="": sys.exit(1)},
        "SampleData": {"SampleDataLogic": SampleDataLogic},
    }
    made = {name: types.ModuleType(name) for name in contents}
    for name, module in made.items():
        vars(module).update(contents[name])
    return made
