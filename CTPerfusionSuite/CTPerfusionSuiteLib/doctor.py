"""What is installed, what is missing, and what each missing part would add."""

import importlib
import os
import platform
import sys
from importlib import metadata

PARTS = (
    ("numpy", "numpy", "needed by everything"),
    ("scipy", "scipy", "needed by everything"),
    ("SimpleITK", "SimpleITK", "images on disk, motion correction"),
    ("pydicom", "pydicom", "DICOM"),
    ("matplotlib", "matplotlib", "pictures of the report"),
    ("jinja2", "jinja2", "pages of the report"),
    ("highdicom", "highdicom", "maps and lesions as DICOM objects: pip install ctperfusionsuite[dicom]"),
    ("openjpeg", "pylibjpeg-openjpeg", "JPEG 2000 compressed DICOM: pip install ctperfusionsuite[dicom]"),
    ("libjpeg", "pylibjpeg-libjpeg", "JPEG compressed DICOM: pip install ctperfusionsuite[dicom]"),
    ("pyjpegls", "pyjpegls", "JPEG-LS compressed DICOM: pip install ctperfusionsuite[dicom]"),
    ("torch", "torch", "segmentation by networks: pip install ctperfusionsuite[learn]"),
    ("monai", "monai", "training of the network on maps: pip install ctperfusionsuite[learn]"),
    ("distributed", "distributed", "cohorts on a cluster: pip install ctperfusionsuite[cluster]"),
)
"""(import name, distribution, what it is for)."""

CORE = 6

_NEEDED = (
    ("numpy", "arrays", True),
    ("scipy", "numerics", True),
    ("SimpleITK", "images, motion correction", True),
    ("pydicom", "DICOM", True),
)
_IMAGES = (
    ("pylibjpeg-openjpeg", "JPEG 2000 compressed DICOM", False),
    ("pylibjpeg-libjpeg", "JPEG compressed DICOM", False),
    ("pyjpegls", "JPEG-LS compressed DICOM", False),
)
MODULE_PARTS = {
    "CTPerfusionSuite": _NEEDED + _IMAGES,
    "PerfusionMaps": (
        *_NEEDED,
        ("matplotlib", "pictures of the report", False),
        ("jinja2", "page of the report", False),
        ("highdicom", "maps and lesions as DICOM objects", False),
        *_IMAGES,
    ),
    "StrokeSegmentation": (
        *_NEEDED,
        ("torch", "segmentation by networks", True),
        ("monai", "training of the network on maps (ctperfusion stroke train)", False),
        ("matplotlib", "pictures of the report", False),
        ("jinja2", "page of the report", False),
        *_IMAGES,
    ),
}
"""Module of Slicer -> (distribution, what it is for, whether the module needs it)."""


def installed_version(distribution: str) -> str | None:
    """Version of an installed distribution, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def examine() -> list[tuple[str, str | None, str]]:
    """(distribution, version or None, purpose) of every part the suite can use."""
    return [(distribution, installed_version(distribution), purpose) for _, distribution, purpose in PARTS]


def report_versions(options) -> int:
    """Print the table; 3 when a part that everything needs is missing or does not import."""
    from CTPerfusionSuiteLib.cli import version

    print(
        f"ctperfusion {version()}, Python {platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    )
    broken = 0
    for index, (distribution, found, purpose) in enumerate(examine()):
        state = found or "missing"
        if found and index < CORE:
            try:
                importlib.import_module(PARTS[index][0])
            except ImportError as problem:
                state = f"{found}, does not import ({problem})"
                found = None
        if index < CORE and not found:
            broken += 1
        print(f"  {distribution:20s} {state:22s} {purpose}")
    if broken:
        print(f"ctperfusion: {broken} needed part(s) missing; run pip install ctperfusionsuite.", file=sys.stderr)
    return 3 if broken else 0


def register(subparsers) -> None:
    """Add `ctperfusion doctor`."""
    parser = subparsers.add_parser("doctor", help="what is installed, what is missing, versions")
    parser.set_defaults(run=report_versions)
