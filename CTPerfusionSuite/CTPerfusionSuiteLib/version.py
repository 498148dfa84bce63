"""The version, for copies that are not installed by pip (inside Slicer)."""

VERSION = "0.1.0"
