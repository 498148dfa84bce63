"""Rewrite the file lists of each module's CMakeLists.txt from the tree."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
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
        if p.suffix in {".html", ".ui", ".png", ".svg", ".json", ".csv"}
    )
    text = TEMPLATE.format(module=module, scripts="\n".join(f"  {s}" for s in scripts), resources="\n".join(f"  {r}" for r in resources))
    (folder / "CMakeLists.txt").write_text(text)


if __name__ == "__main__":
    for name in ("CTPerfusionSuite", "PerfusionMaps"):
        rewrite(name)
