"""A trained network as a folder in MONAI bundle form: weights in half precision, a description, the card, and checksums of all.

What is read is first compared with its checksums (`CTPerfusionSuiteLib.models`), then opened as tensors only.
"""

import json
import re
import shutil
import tempfile
from dataclasses import dataclass
from importlib import metadata as distributions
from pathlib import Path

import torch

from CTPerfusionSuiteLib.errors import DataRefused, RequestRefused
from CTPerfusionSuiteLib.models import CARD, METADATA, read_model, sha256

from .checkpoints import load_weights, save_state
from .curve_summaries import CURVE_LIMIT
from .lesion_labels import LabelRule, rule_of
from .maps_unet import require_monai
from .networks import FRAMES, KINDS, MAPS, build_network, parameter_count, reads_curves, reads_maps
from .study_input import LARGEST_MAP_VALUE, MAP_SCALES

WEIGHTS, INFERENCE, LICENSE, DATA_LICENSE = "models/model.pt", "configs/inference.json", "LICENSE", "docs/data_license.txt"
TASK = "Ischemic penumbra and core from CT perfusion"
SIMULATION_ONLY, OWN_STUDIES = "simulation-trained, research only", "trained on labeled studies of its user, research only"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_BUILD = ("kind", "width", "slices", "frames", "maps", "dropout")
_NUMBERS = {"width": (2, 256), "slices": (1, 63), "frames": (2, 240), "maps": (1, 32)}
"""Whole numbers of a description, from ... to; nothing beyond is built, whatever a file says."""
_APACHE = """Copyright CTPerfusionSuite contributors

Licensed under the Apache License, Version 2.0 (the "License"); you may not use these files except in compliance with the License.
You may obtain a copy of the License at

    http://www.apache.org/licenses/LICENSE-2.0

Unless required by applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language governing permissions
and limitations under the License.
"""
_OWN = """Whoever trained this model decides on what conditions it may be used and passed on.
CTPerfusionSuite, which builds and runs the network, is under the Apache License, Version 2.0.
"""
_SIMULATED_DATA = """The studies were simulated with CTPerfusionSuite (Apache License, Version 2.0); no scan of a patient was used.
Label maps of heads and lesion masks that were given to the simulation keep the conditions of those who published them.
"""
_OWN_DATA = """The studies were given by whoever trained this model; the conditions on which they were obtained apply.
"""


@dataclass(frozen=True, eq=False)
class StrokeModel:
    """A model ready to predict.

    Attributes
    ----------
    network : Module
        On the CPU, in evaluation mode.
    kind : str
    name, version : str
    card : str
        Markdown; untrusted text.
    description : dict
        The metadata as written: intended use, data source, evaluation ...
    """

    network: torch.nn.Module
    kind: str
    name: str
    version: str
    card: str
    description: dict

    @property
    def rule(self) -> LabelRule:
        """How its probabilities become penumbra and core."""
        return rule_of(self.description)

    @property
    def reads_maps(self) -> bool:
        """Whether studies are prepared with maps where that can be done."""
        return reads_maps(self.kind)

    @property
    def needs_maps(self) -> bool:
        """Whether there is no result without maps: nothing else is read."""
        return reads_maps(self.kind) and not reads_curves(self.kind)


def write_bundle(
    folder, network: torch.nn.Module, build: dict, card: str, version: str = "0.1.0", pictures: dict | None = None,
    replace: bool = False, **description,
) -> Path:
    """Write a model folder; it appears whole or not at all.

    Parameters
    ----------
    folder : Path
        Its last part is the model's name.
    network : Module
    build : dict
        Arguments of `networks.build_network`: "kind", and of width, slices, frames, maps, dropout those that are not the default.
    card : str
        The model card, Markdown: data, what was measured, what must not be claimed.
    version : str
    pictures : dict or None
        Path inside the folder, as "docs/failure1.png" or "docs/comparison.csv" -> bytes.  ``docs/data_license.txt`` replaces the one
        that is written otherwise.
    replace : bool
        Replace an earlier model of that name; otherwise it is refused.
    **description
        More metadata, plain values: simulation_trained (default True), data_source, eval_metrics, authors, training ...

    Raises
    ------
    RequestRefused
        A name that is no plain name, an empty card, a folder that exists.
    """
    folder = Path(folder)
    refuse_place(folder, replace)
    if not card.strip():
        raise RequestRefused(f"the model '{folder.name}' has no card; write what it was trained and measured on")
    build = {name: build[name] for name in _BUILD if name in build}
    if set(network.state_dict()) != set(build_network(**build).state_dict()):
        raise ValueError("the network is not the one that `build` describes")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=folder.parent) as temporary:
        place = Path(temporary) / folder.name
        for part in ("configs", "models", "docs"):
            (place / part).mkdir(parents=True)
        save_state(place / WEIGHTS, {name: _half(value) for name, value in network.state_dict().items()})
        simulated = description.get("simulation_trained", True)
        texts = {CARD: card, LICENSE: _APACHE if simulated else _OWN, DATA_LICENSE: _SIMULATED_DATA if simulated else _OWN_DATA}
        for path, text in texts.items():
            (place / path).write_text(text, encoding="utf-8", newline="\n")
        for path, content in (pictures or {}).items():
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_bytes(content)
        _write_json(place / INFERENCE, _inference(build))
        sums = {path.relative_to(place).as_posix(): sha256(path) for path in sorted(place.rglob("*")) if path.is_file()}
        _write_json(place / METADATA, _metadata(folder.name, version, network, build, description) | {"sha256": sums})
        if folder.exists():
            shutil.rmtree(folder)
        place.rename(folder)
    return folder


def refuse_name(name: str) -> None:
    """Refuse what is no plain name.

    Raises
    ------
    RequestRefused
    """
    if not _NAME.fullmatch(name):
        raise RequestRefused(f"'{name}' is no plain name for a model (letters, digits, . _ -); choose another")


def refuse_place(folder, replace: bool = False) -> None:
    """Refuse, before any work, a folder where no model could be written.

    Raises
    ------
    RequestRefused
        A name that is no plain name, a folder that exists and is not a model that may be replaced.
    """
    folder = Path(folder)
    refuse_name(folder.name)
    if folder.exists() and not (replace and (folder / METADATA).is_file()):
        raise RequestRefused(f"'{folder.name}' exists already; give another folder, or replace a model on purpose")


def read_bundle(folder) -> StrokeModel:
    """A model folder as a network.

    Raises
    ------
    RequestRefused
        No such folder, or MONAI is needed and not installed.
    DataRefused
        A wrong checksum, weights that are none, or a description that fits no network.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RequestRefused(f"there is no model folder '{folder.name}'; choose another model")
    model = read_model(folder)
    if not model.intact:
        raise DataRefused(f"the model '{model.name}' is not what its author packed ({model.faults[0]}); get it again")
    description = json.loads((folder / METADATA).read_text(encoding="utf-8"))
    build = description.get("network")
    if not isinstance(build, dict) or build.get("kind") not in KINDS or not (folder / WEIGHTS).is_file():
        raise DataRefused(f"the model '{model.name}' is none that finds penumbra and core; choose another model")
    if not reads_curves(build["kind"]):
        require_monai()
    try:
        network = build_network(**_plausible(build))
        rule_of(description)
    except (TypeError, ValueError, RequestRefused) as problem:
        raise DataRefused(f"the model '{model.name}' describes a network that cannot be built; get it again") from problem
    load_weights(network, folder / WEIGHTS, f"the model '{model.name}'")
    return StrokeModel(network.eval(), build["kind"], model.name, model.version, model.card, description)


def _plausible(build: dict) -> dict:
    """The description of a network as it is.

    Raises
    ------
    ValueError
        A number that is none, or that no network of ours has.
    """
    for name, (low, high) in _NUMBERS.items():
        value = build.get(name, low)
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"{name} is {value!r}, not {low} to {high}")
    return build


def _half(value: torch.Tensor) -> torch.Tensor:
    value = value.detach().cpu()
    return value.half() if value.is_floating_point() else value


def _metadata(name: str, version: str, network, build: dict, description: dict) -> dict:
    """What MONAI's bundles say of themselves, and what ours add."""
    simulated = description.get("simulation_trained", True)
    return {
        "version": version,
        "monai_version": _version("monai"),
        "pytorch_version": str(torch.__version__).split("+")[0],
        "numpy_version": _version("numpy"),
        "required_packages_version": {},
        "name": name,
        "task": TASK,
        "description": "Segmentation of hypoperfused tissue, penumbra and core",
        "authors": "CTPerfusionSuite contributors" if simulated else "whoever trained it, with CTPerfusionSuite",
        "copyright": "Apache-2.0" if simulated else f"see {LICENSE}",
        "intended_use": f"{SIMULATION_ONLY if simulated else OWN_STUDIES}; not for diagnosis or treatment",
        **description,
        "simulation_trained": simulated,
        "network": build,
        "parameters": parameter_count(network),
        "network_data_format": {
            "inputs": {"image": _input_format(build)},
            "outputs": {
                "pred": {
                    "type": "probabilities",
                    "format": "segmentation",
                    "num_channels": 3,
                    "spatial_shape": ["*", "*", "*"],
                    "dtype": "float32",
                    "value_range": [0, 1],
                    "is_patch_data": False,
                    "channel_def": {"0": "background", "1": "penumbra", "2": "core"},
                }
            },
        },
    }


def _input_format(build: dict) -> dict:
    """The tensor a network takes: after batch and channels come slices, then frames where curves are read, rows and columns."""
    kind, maps = build["kind"], build.get("maps", MAPS)
    curves = reads_curves(kind)
    if curves:
        frames = build.get("frames", FRAMES)
        behind = f", then {maps} maps: {', '.join(MAP_SCALES)}" if reads_maps(kind) else ""
        channels = [
            f"{frames} frames of enhancement over the study's scale{behind}", "1 where a voxel is tissue and the scan covers the frame",
        ]
        shape = ["*", frames + (maps if reads_maps(kind) else 0), "*", "*"]
    else:
        channels, shape = list(MAP_SCALES)[:maps], ["*", "*", "*"]
        channels += [f"map {number + 1}" for number in range(len(channels), maps)]
    return {
        "type": "perfusion curves" if curves else "perfusion maps",
        "format": "hounsfield",
        "modality": "CT",
        "num_channels": len(channels),
        "spatial_shape": shape,
        "dtype": "float32",
        "value_range": [-CURVE_LIMIT, CURVE_LIMIT] if curves else [-LARGEST_MAP_VALUE, LARGEST_MAP_VALUE],
        "is_patch_data": False,
        "channel_def": {str(number): channel for number, channel in enumerate(channels)},
    }


def _inference(build: dict) -> dict:
    """A bundle configuration that builds the network."""
    return {"network_def": {"_target_": "StrokeSegmentationLib.networks.build_network", **build}, "weights": WEIGHTS}


def _version(distribution: str) -> str:
    try:
        return distributions.version(distribution)
    except distributions.PackageNotFoundError:
        return ""


def _write_json(path: Path, document: dict) -> None:
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8", newline="\n")
