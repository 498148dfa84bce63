"""What is shipped is complete, described as the index of extensions expects, and light to start: checked, not believed."""

import ast
import configparser
import json
import re
import shutil
import struct
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = ("CTPerfusionSuite", "PerfusionMaps", "StrokeSegmentation")
SLICER_PARTS = {"slicer", "qt", "ctk", "vtk"}
SLICER_OF_PAPER = """
set(Slicer_USE_FILE FOLDER/use.cmake)
set(Slicer_EXTENSION_GENERATE_CONFIG FOLDER/generate.cmake)
set(Slicer_EXTENSION_CPACK FOLDER/cpack.cmake)
function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MODULE "WITH_GENERIC_TESTS" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  foreach(file ${MODULE_SCRIPTS} ${MODULE_RESOURCES})
    get_filename_component(folder ${file} DIRECTORY)
    install(FILES ${file} DESTINATION ./${folder})
  endforeach()
endfunction()
function(slicer_add_python_unittest)
  cmake_parse_arguments(TEST "" "SCRIPT" "" ${ARGN})
  message(STATUS "self-test ${TEST_SCRIPT}")
endfunction()
"""
"""What the extension's CMake files use of Slicer's, enough to configure and install."""


def listed(module: str) -> list[str]:
    """Files in the SCRIPTS and RESOURCES lists of a module's CMakeLists.txt."""
    text = (ROOT / module / "CMakeLists.txt").read_text(encoding="utf-8")
    names = []
    for block in re.findall(r"set\(MODULE_PYTHON_(?:SCRIPTS|RESOURCES)(.*?)\)", text, re.S):
        names += block.replace("${MODULE_NAME}", module).split()
    return names


def shipped(module: str) -> set[str]:
    """Run-time files of a module in the tree."""
    folder = ROOT / module
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name != "CMakeLists.txt" and ".egg-info" not in path.as_posix()
    }


def set_by_cmake(name: str) -> str:
    """The quoted value of ``set(NAME "...")`` in the extension's CMakeLists.txt, as the index reads it: literal, on one line."""
    found = re.search(rf'set\s*\({name}\s*"([^"]+)"[ ]*\)', (ROOT / "CMakeLists.txt").read_text(encoding="utf-8"))
    assert found, f"{name} is not set to a literal text"
    return found.group(1)


@pytest.mark.parametrize("module", MODULES)
def test_every_run_time_file_is_installed_by_cmake(module):
    assert shipped(module) == set(listed(module))
    assert len(listed(module)) == len(set(listed(module)))


def test_every_tracked_file_of_a_module_is_in_the_lists_and_nothing_else_is():
    shown = subprocess.run(["git", "ls-files", *MODULES], cwd=ROOT, capture_output=True, text=True)
    if shown.returncode or not shown.stdout:
        pytest.skip("no git repository here")
    tracked = {name for name in shown.stdout.splitlines() if not name.endswith("CMakeLists.txt") and (ROOT / name).is_file()}
    assert tracked <= {f"{module}/{path}" for module in MODULES for path in listed(module)}


def test_the_repository_stays_far_below_the_size_the_index_accepts():
    shown = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if shown.returncode or not shown.stdout:
        pytest.skip("no git repository here")
    sizes = {name: (ROOT / name).stat().st_size for name in shown.stdout.splitlines() if (ROOT / name).is_file()}
    assert sum(sizes.values()) < 50e6  # 100 MB, with its history
    assert max(sizes.values()) < 10e6, max(sizes, key=sizes.get)


def test_no_two_modules_install_the_same_path():
    paths = [path.lower() for module in MODULES for path in listed(module)]
    assert len(paths) == len(set(paths))


def test_every_package_with_code_is_in_the_wheel():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    packages, of_data = set(setuptools["packages"]), set(setuptools["package-data"])
    in_tree = set()
    for module in MODULES:
        for init in (ROOT / module).rglob("__init__.py"):
            in_tree.add(".".join(init.parent.relative_to(ROOT / module).parts))
            assert init.read_text(encoding="utf-8") == "", f"{init} holds code"
    assert in_tree <= packages <= in_tree | of_data


def test_the_extension_is_described_as_the_index_expects():
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    assert re.search(r"project\(CTPerfusionSuite\)", text)
    assert "## NEXT_MODULE" in text
    repository = "https://github.com/CTPerfusionSuite/SlicerCTPerfusionSuite"
    raw = "https://raw.githubusercontent.com/CTPerfusionSuite/SlicerCTPerfusionSuite/main/"
    assert set_by_cmake("EXTENSION_HOMEPAGE") == repository
    urls = [set_by_cmake("EXTENSION_ICONURL"), *set_by_cmake("EXTENSION_SCREENSHOTURLS").split()]
    for url in urls:
        assert url.startswith(raw) and "${" not in url
        assert url.rsplit(".", 1)[1] in ("png", "jpg", "gif")
        assert (ROOT / url.removeprefix(raw)).is_file(), url
    icon = (ROOT / urls[0].removeprefix(raw)).read_bytes()
    assert icon[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", icon[16:24]) == (128, 128)
    assert len(set_by_cmake("EXTENSION_DESCRIPTION")) > 50
    for module in MODULES:
        assert f"add_subdirectory({module})" in text
    for name in ("README.md", "LICENSE.txt"):
        assert f"${{CMAKE_CURRENT_SOURCE_DIR}}/{name}" in text and (ROOT / name).is_file()
    assert (ROOT / "LICENSE.txt").read_text(encoding="utf-8").strip().startswith("Apache License")


def test_the_catalog_entry_passes_the_rules_of_the_index():
    raw = (ROOT / "CTPerfusionSuite.json").read_bytes()
    assert b"\r" not in raw
    entry = json.loads(raw)
    allowed = {"$schema", "build_dependencies", "build_subdirectory", "category", "dicom_support_rule", "scm_revision", "scm_url", "tier"}
    assert {"$schema", "category", "scm_url"} <= set(entry) <= allowed
    schema = r"https://raw\.githubusercontent\.com/.+/slicer-extension-catalog-entry-schema-v\d+\.\d+\.\d+\.json#?"
    assert re.fullmatch(schema, entry["$schema"])
    assert entry["category"] == set_by_cmake("EXTENSION_CATEGORY") == "Quantification"
    assert re.fullmatch(r"https://github\.com/[^/]+/Slicer[^/]+\.git", entry["scm_url"])
    assert entry["scm_revision"] == "main" and entry["build_subdirectory"] == "." and entry["tier"] in (1, 3, 5)
    assert entry["build_dependencies"] == set_by_cmake("EXTENSION_DEPENDS").split()


@pytest.mark.parametrize("module", MODULES)
def test_slicer_runs_the_self_test_of_every_module_through_ctest(module):
    text = (ROOT / module / "CMakeLists.txt").read_text(encoding="utf-8")
    assert "slicer_add_python_unittest(SCRIPT ${MODULE_NAME}.py)" in text and "WITH_GENERIC_TESTS" in text
    tree = ast.parse((ROOT / module / f"{module}.py").read_text(encoding="utf-8"))
    tests = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == f"{module}Test")
    assert any(isinstance(node, ast.FunctionDef) and node.name.startswith("test_") for node in tests.body)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_file_imports_only_what_slicer_has_at_start_up(module):
    path = ROOT / module / f"{module}.py"
    assert top_level_imports(path) <= set(sys.stdlib_module_names) | SLICER_PARTS
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("module", MODULES)
def test_a_module_file_is_imported_in_under_50_ms_and_brings_nothing_along(module):
    code = f"""
import importlib.util, sys, time
sys.path[:0] = {[str(ROOT / 'Testing'), *(str(ROOT / name) for name in MODULES)]!r}
from SlicerHost import launch
if launch.missing():
    sys.exit(77)
launch.start([], main_window=False)
import slicer.ScriptedLoadableModule, slicer.parameterNodeWrapper, slicer.i18n
before, quickest = set(sys.modules), 9.0
for _ in range(3):
    spec = importlib.util.spec_from_file_location({module!r}, {str(ROOT / module / f'{module}.py')!r})
    began = time.perf_counter()
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    quickest = min(quickest, time.perf_counter() - began)
brought = {{name.split('.')[0] for name in set(sys.modules) - before}} - set(sys.stdlib_module_names)
print(quickest, ' '.join(sorted(brought)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip("the stand-in Slicer is not installed")
    seconds, *brought = done.stdout.splitlines()[-1].split() if done.stdout else (done.stderr,)
    assert float(seconds) < 0.05
    assert set(brought) <= SLICER_PARTS


def test_cmake_installs_exactly_the_listed_files_flat_as_slicer_does(tmp_path):
    if not shutil.which("cmake") or not (shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("no CMake and compiler here")
    slicer = tmp_path / "slicer"
    slicer.mkdir()
    (slicer / "SlicerConfig.cmake").write_text(SLICER_OF_PAPER.replace("FOLDER", slicer.as_posix()))
    for name in ("use", "generate", "cpack"):
        (slicer / f"{name}.cmake").write_text("")
    build, installed = tmp_path / "build", tmp_path / "installed"
    options = [f"-DSlicer_DIR={slicer}", f"-DCMAKE_INSTALL_PREFIX={installed}", "-DBUILD_TESTING=ON"]
    done = subprocess.run(["cmake", "-S", str(ROOT), "-B", str(build), *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("-- self-test")] == [f"-- self-test {name}.py" for name in MODULES]
    subprocess.run(["cmake", "--install", str(build)], check=True, capture_output=True)
    found = sorted(path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file())
    assert found == sorted(path for module in MODULES for path in listed(module))


def test_what_cmake_installs_into_one_folder_opens_and_runs(tmp_path):
    flat = tmp_path / "qt-scripted-modules"
    for module in MODULES:
        for name in listed(module):
            (flat / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / module / name, flat / name)
    code = f"""
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
sys.path[:] = [entry for entry in sys.path if not entry.startswith({str(ROOT)!r})] + [{str(ROOT / "Testing")!r}]
from SlicerHost import launch
if launch.missing():
    sys.exit(77)
host = launch.start([{str(flat)!r}])
for name in {MODULES!r}:
    host.open(name)
import CTPerfusionSuiteLib, PerfusionMapsLib, StrokeSegmentationLib
assert all(library.__file__.startswith({str(flat)!r}) for library in (CTPerfusionSuiteLib, PerfusionMapsLib, StrokeSegmentationLib))
sequence = host.logic("CTPerfusionSuite").loadSample()
assert sequence.GetNumberOfDataNodes() == 40 and not host.slot_errors, host.slot_errors
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=180)
    if done.returncode == 77:
        pytest.skip("the stand-in Slicer is not installed")
    assert done.returncode == 0, done.stderr[-3000:]


def test_starting_slicer_with_the_suite_loads_no_science():
    code = f"""
import sys
sys.path.insert(0, {str(ROOT / "Testing")!r})
from SlicerHost import launch
if launch.missing():
    sys.exit(77)
host = launch.start({[str(ROOT / name) for name in MODULES]!r}, main_window=False)
import slicer
assert slicer.modules.sampleDataSources
for plugin in slicer.modules.dicomPlugins.values():
    plugin()
print(*sorted(name for name in sys.modules if "Lib." in name and name.split(".")[0].endswith(("SuiteLib", "MapsLib", "SegmentationLib"))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip("the stand-in Slicer is not installed")
    light = {"dicom", "dicom.database_tags", "errors", "mrml_dicom_plugin", "panel", "panel.sample_data", "version"}
    assert set(done.stdout.splitlines()[-1].split()) == {f"CTPerfusionSuiteLib.{name}" for name in light}, done.stderr


def top_level_imports(path: Path) -> set[str]:
    """What a file imports when it is imported."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
    return names


def slicer_side(library: Path, path: Path) -> bool:
    """Whether a file of a library may import Slicer: panels, and the bridge to the scene with Slicer's plugins."""
    return path.relative_to(library).parts[0].startswith(("panel", "mrml"))


@pytest.mark.parametrize("module", MODULES)
def test_science_imports_nothing_of_slicer_not_even_inside_functions(module):
    library = ROOT / module / f"{module}Lib"
    for path in library.rglob("*.py"):
        if slicer_side(library, path):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & (SLICER_PARTS | {"DICOMLib", "SampleData"}), path


def test_the_import_contracts_name_every_module_of_science():
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter", encoding="utf-8")
    named = set(contracts["importlinter:contract:science"]["source_modules"].split())
    in_tree = set()
    for module in MODULES:
        library = ROOT / module / f"{module}Lib"
        for path in library.iterdir():
            package = path.is_dir() and (path / "__init__.py").is_file()
            if (package or path.suffix == ".py") and path.name != "__init__.py" and not slicer_side(library, path):
                in_tree.add(f"{module}Lib.{path.stem}")
    assert named == in_tree, "run python Testing/write_cmake_lists.py"


def test_the_command_starts_without_loading_science():
    code = (
        "import sys, CTPerfusionSuiteLib.cli as c; c.build_parser(['--help']); "
        "print([m for m in ('numpy', 'SimpleITK', 'torch') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"


def test_the_module_version_is_the_distributions_version():
    from CTPerfusionSuiteLib.version import VERSION

    assert tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"] == VERSION


def test_the_readme_and_the_checks_name_every_module_that_must_be_on_the_path():
    workflow, readme = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"), (ROOT / "README.md").read_text(encoding="utf-8")
    for module in MODULES:
        assert f'"$PWD/{module}"' in workflow
    assert f"--additional-module-paths {' '.join(MODULES)}" in readme
    for picture in re.findall(r"\]\((Resources/[^)]+)\)", readme):
        assert (ROOT / picture).is_file(), picture


def test_the_readme_tells_everything_once():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    headings = re.findall(r"^#+ .+$", text, re.M)
    long_lines = [line for line in text.splitlines() if len(line) > 60 and not line.startswith("![")]
    assert len(headings) == len(set(headings)) and len(long_lines) == len(set(long_lines))


def test_the_checks_run_on_every_system_and_in_a_release_of_slicer_whose_archive_is_compared():
    workflow = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    jobs = dict(re.findall(r"^  (\w+):\n((?:    .*\n|\n)+)", workflow[workflow.index("\njobs:\n") :], re.M))
    assert set(jobs) == {"unit", "pip", "slicer"}
    assert "make test" in jobs["unit"] and re.search(r"os: \[.*windows-latest.*\]", jobs["pip"])
    assert re.search(r"SLICER_ITEM: .*'[0-9a-f]{24}'", workflow) and re.search(r"SLICER_SHA512: .*'[0-9a-f]{128}'", workflow)
    assert "sha512sum --check" in jobs["slicer"] and "\n    if:" not in jobs["slicer"]
    for path in re.findall(r"(?:CTPerfusionSuite|Testing)/[\w./-]+\.(?:py|txt)", workflow):
        assert (ROOT / path).is_file(), path


def test_packages_that_may_be_installed_into_slicer_are_floors_and_never_its_own():
    lines = (ROOT / "CTPerfusionSuite/Resources/CTPerfusionSuite-requirements.txt").read_text(encoding="utf-8").splitlines()
    names = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9-]+>=[\d.]+", name) for name in names)
    assert not {"numpy", "scipy", "simpleitk", "pydicom", "torch", "requests"} & {name.split(">")[0].lower() for name in names}
