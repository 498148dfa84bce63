"""The model folder a training run ends with: weights, how they came about, and a card that claims no more than was measured."""

from pathlib import Path

import numpy as np

from .lesion_labels import STANDARD_RULE, LabelRule
from .model_bundle import write_bundle
from .networks import MAPS, reads_curves, reads_maps
from .run_folder import studies_of_run
from .study_input import MAP_SCALES
from .training import TrainingResult
from .training_cases import about_case, load_case
from .training_config import TrainingConfig
from .training_range import measured_range

SIMULATED_SOURCE = "simulated brain CT perfusion studies (physics simulation in published head and lesion shapes, no scan of a patient)"
PATIENT_SOURCE = "labeled perfusion studies given by the user"


def bundle_of_run(
    folder: Path, config: TrainingConfig, result: TrainingResult, data: Path, recommended: str = "not compared", card: str = "",
    pictures: dict | None = None, version: str = "0.1.0", rule: LabelRule = STANDARD_RULE,
) -> Path:
    """Write the model of a training run.

    Parameters
    ----------
    folder : Path
        Its last part is the model's name; an earlier model there is replaced.
    config, result
        Of the run.
    data : Path
        Folder of prepared studies; of these only the ones the run learned from count, whatever has come since.
    recommended : {"not compared", "maps", "network"}
        What a comparison with the threshold maps on unseen studies says.
    card : str
        Appended to the facts of the run, Markdown.
    pictures : dict or None
        As in `write_bundle`.
    rule : LabelRule
        Of `rule_choice.choose_rule`.

    Raises
    ------
    RequestRefused
        A study of the run is not there any more.
    """
    facts = result.facts
    studies, _ = studies_of_run(facts, data)
    abouts = [about_case(path) for path in studies]
    patients = any(about.get("patient") for about in abouts)
    source = PATIENT_SOURCE if patients else SIMULATED_SOURCE
    text = _card(folder.name, config, result, abouts, source, patients, rule) + ("\n" + card if card else "")
    return write_bundle(
        folder, result.network, _build(config, studies[0]), text, version, pictures, replace=True,
        data_source=source,
        simulation_trained=not patients,
        training={"steps": result.steps, "minutes": round(result.minutes, 2), "device": facts.device, "torch": facts.torch,
                  "studies": len(facts.train), "validation_studies": len(facts.val), "studies_digest": facts.digest,
                  "validation_dice": None if not np.isfinite(result.score) else round(result.score, 4)},
        training_range=measured_range(studies),
        recommended=recommended,
        label_rule={"deficit": rule.deficit, "core": rule.core},
    )


def _build(config: TrainingConfig, path: Path) -> dict:
    """Arguments of `build_network` for what was trained."""
    build, case = {"kind": config.kind, "width": config.width, "slices": config.slices, "dropout": config.dropout}, load_case(path)
    if reads_curves(config.kind):
        build["frames"] = len(case.curves)
    if reads_maps(config.kind):
        build["maps"] = len(case.maps) or MAPS
    return build


def _card(
    name: str, config: TrainingConfig, result: TrainingResult, abouts: list[dict], source: str, patients: bool, rule: LabelRule
) -> str:
    noise = [about["noise_hu"] for about in abouts if about.get("noise_hu")]
    groups = {group: sum(about.get("group") == group for about in abouts) for group in ("lvo", "non-lvo", "none")}
    lines = [
        f"# {name}",
        "",
        "Penumbra and core from dynamic CT perfusion of the brain. **Research use only, not for diagnosis or treatment.**",
        "",
        "## What it was trained on",
        f"{len(abouts)} studies: {source}. Groups: {groups['lvo']} with large-vessel occlusion, {groups['non-lvo']} with smaller "
        f"occlusions, {groups['none']} without stroke." + (f" Noise {min(noise):.0f} to {max(noise):.0f} HU." if noise else ""),
        "Labels are the thresholded truth maps of the simulation (Tmax above 6 s, relative CBF under 30 %), never a drawn mask."
        if not patients else "Labels are the masks that came with the studies.",
        "",
        "## How",
        f"Network {config.kind}, width {config.width}, {result.parameters:,} parameters; {result.steps} steps in {result.minutes:.0f} "
        f"minutes on {result.facts.device}; loss {config.loss}; {_choice(len(result.facts.val))}",
        "" if not np.isfinite(result.score) else f"Mean Dice of penumbra and core on these: {result.score:.3f}.",
        *([_READS_MAPS + _WITHOUT_MAPS[reads_curves(config.kind)]] if reads_maps(config.kind) else []),
        f"A voxel is hypoperfused from a probability of {rule.deficit:.2f} on, and core where core makes up {rule.core:.2f} of that"
        + ("." if rule == STANDARD_RULE else ", which did best on the validation studies."),
        "",
        "## What must not be claimed",
        "No claim about patients can be made: neither accuracy nor benefit was measured on any. "
        "A simulation knows no tissue fate, no scanner's artifacts and no rare anatomy."
        if not patients else "No claim can be made about studies unlike those it was trained on.",
        "",
    ]
    return "\n".join(lines)


_READS_MAPS = (
    f"It is given the maps of CT Perfusion Maps ({', '.join(MAP_SCALES)}) and how far Tmax and rCBF lie beyond their thresholds; where no "
    "artery is found, and so no maps can be made, "
)
_WITHOUT_MAPS = {True: "it works on the curves alone.", False: "it gives no result."}


def _choice(validations: int) -> str:
    """Which of the weights these are."""
    if not validations:
        return "there were no validation studies, so the weights are the average at the end of the run, not chosen by any score."
    return f"the weights are the average that had the lowest loss on {validations} validation {'study' if validations == 1 else 'studies'}."
