"""Rewrite, from the tree, the file lists of each module's CMakeLists.txt and the list of science modules in .importlinter."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODULES = ("CTPerfusionSuite", "PerfusionMaps", "StrokeSegmentation")
SLICER_SIDE = ("panel", "mrml")
"""How files and packages of a library begin that may import Slicer; everything else is science."""
TEMPLATE = """#-----------------------------------------------------------------------------
set(MODULE_NAME {module})

#-----------------------------------------------------------------------------
set(MODULE_PYTHON_SCRIPTS
  ${{MODULE_NAME}}.py
{scripts}
  )

set(MODULE_PYTHON_RESOURCES
{resources}
  )

#-----------------------------------------------------------------------------
slicerMacroBuildScriptedModule(
  NAME ${{MODULE_NAME}}
  SCRIPTS ${{MODULE_PYTHON_SCRIPTS}}
  RESOURCES ${{MODULE_PYTHON_RESOURCES}}
  WITH_GENERIC_TESTS
  )

#-----------------------------------------------------------------------------
if(BUILD_TESTING)
  slicer_add_python_unittest(SCRIPT ${{MODULE_NAME}}.py)
endif()
"""


def rewrite(module: str) -> None:
    """Write CMakeLists.txt of one module."""
    folder = ROOT / module
    scripts = sorted(p.relative_to(folder).as_posix() for p in (folder / f"{module}Lib").rglob("*.py") if "__pycache__" not in p.parts)
    resources = sorted(
        p.relative_to(folder).as_posix()
        for p in [*(folder / "Resources").rglob("*"), *(folder / f"{module}Lib").rglob("*")]
        if p.suffix in {".html", ".ui", ".png", ".svg", ".json", ".csv", ".txt", ".md", ".pt"} or p.name == "LICENSE"
    )
    text = TEMPLATE.format(module=module, scripts="\n".join(f"  {s}" for s in scripts), resources="\n".join(f"  {r}" for r in resources))
    (folder / "CMakeLists.txt").write_text(text, encoding="utf-8", newline="\n")


def library_parts(module: str) -> tuple[list[str], list[str]]:
    """(science, bridge to the scene) of a module's library: dotted names of its files and packages."""
    library = ROOT / module / f"{module}Lib"
    names = [path.stem for path in library.glob("*.py") if path.stem != "__init__"]
    names += [path.parent.name for path in library.glob("*/__init__.py")]
    science = [f"{library.name}.{name}" for name in sorted(names) if not name.startswith(SLICER_SIDE)]
    return science, [f"{library.name}.{name}" for name in sorted(names) if name.startswith("mrml")]


def rewrite_import_contracts() -> None:
    """Name every module of science, and of the bridge, in the contracts of .importlinter."""
    parts = [library_parts(module) for module in MODULES]
    science, bridge = ([name for part in parts for name in part[n]] for n in (0, 1))
    panels = [f"{name}Lib.panel" for name in MODULES if (ROOT / name / f"{name}Lib" / "panel").is_dir()]
    plugins = {"mrml_dicom_plugin": "DICOMLib", "panel.sample_data": "SampleData"}
    allowed = [f"{name}.* -> {part}" for name in panels for part in ("slicer", "qt", "ctk", "vtk")]
    allowed += [f"{name} -> {part}" for name in bridge for part in ("slicer", "vtk")]
    allowed += [f"CTPerfusionSuiteLib.{name} -> {registry}" for name, registry in plugins.items()]
    path = ROOT / ".importlinter"
    text = path.read_text(encoding="utf-8")
    for contract, field, lines in (
        ("no-slicer", "ignore_imports", allowed),
        ("bridge", "source_modules", bridge),
        ("science", "source_modules", science),
        ("science", "forbidden_modules", [*panels, *bridge]),
    ):
        block = rf"(\[importlinter:contract:{contract}\][^\[]*?\n{field} =\n)(?:    [^\n]*\n)*"
        text, changed = re.subn(block, lambda found, lines=lines: found[1] + "".join(f"    {line}\n" for line in lines), text)
        if changed != 1:
            raise SystemExit(f".importlinter has no {field} in the contract {contract}")
    path.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    for name in MODULES:
        rewrite(name)
    rewrite_import_contracts()
