"""What is shipped is complete: every run-time file is in a CMake list, and nothing science should not import is imported."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = ("CTPerfusionSuite", "PerfusionMaps")


def listed(module: str) -> set[str]:
    """Files in the SCRIPTS and RESOURCES lists of a module's CMakeLists.txt."""
    text = (ROOT / module / "CMakeLists.txt").read_text()
    names = set()
    for block in re.findall(r"set\(MODULE_PYTHON_(?:SCRIPTS|RESOURCES)(.*?)\)", text, re.S):
        names |= set(block.replace("${MODULE_NAME}", module).split())
    return names


def shipped(module: str) -> set[str]:
    """Run-time files of a module in the tree."""
    folder = ROOT / module
    kinds = {".py", ".html", ".ui", ".png", ".svg", ".json", ".csv"}
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix in kinds and "__pycache__" not in path.parts and "Testing" not in path.relative_to(folder).parts
    }


@pytest.mark.parametrize("module", MODULES)
def test_every_run_time_file_is_installed_by_cmake(module):
    assert shipped(module) == listed(module)


def test_no_two_modules_install_the_same_path():
    paths = [path for module in MODULES for path in listed(module)]
    assert len(paths) == len(set(paths))


def test_every_package_with_code_is_in_the_wheel():
    packages = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    in_tree = set()
    for module in MODULES:
        for init in (ROOT / module).rglob("__init__.py"):
            in_tree.add(".".join(init.parent.relative_to(ROOT / module).parts))
    assert packages == in_tree


def test_the_extension_is_described_as_the_index_expects():
    text = (ROOT / "CMakeLists.txt").read_text()
    entry = json.loads((ROOT / "CTPerfusionSuite.json").read_text())
    assert re.search(r"project\(CTPerfusionSuite\)", text)
    assert re.search(r'set\s*\(EXTENSION_ICONURL\s*"([^"]+\.png)"[ ]*\)', text)
    urls = re.search(r'set\s*\(EXTENSION_SCREENSHOTURLS\s*"([^"]+)"[ ]*\)', text).group(1).split()
    for url in urls:
        assert (ROOT / url.split("/main/")[1]).is_file(), url
    assert entry["category"] == re.search(r'EXTENSION_CATEGORY "([^"]+)"', text).group(1)
    assert (ROOT / "LICENSE.txt").read_text().strip().startswith("Apache License")


@pytest.mark.parametrize("module", MODULES)
def test_a_module_file_imports_only_what_slicer_has_at_start_up(module):
    tree = ast.parse((ROOT / module / f"{module}.py").read_text())
    names = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
    assert names <= set(sys.stdlib_module_names) | {"slicer", "qt", "ctk", "vtk"}


def test_the_command_starts_without_loading_science():
    code = (
        "import sys, CTPerfusionSuiteLib.cli as c; c.build_parser(['--help']); "
        "print([m for m in ('numpy', 'SimpleITK', 'torch') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"
