"""Heads for testing made of published templates: FreeSurfer label maps of the tissue maps of MNI152 and of Rorden's CT template.

Both are averages over people, of young adults and of the elderly, so that their sulci are shallower than anyone's; no label map of a
person is alike. The tissue maps do not tell cerebellum and brainstem apart, which count as gray and white matter of the hemispheres.
"""

import argparse
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from CTPerfusionSuiteLib.geometry import from_sitk, sitk_image
from CTPerfusionSuiteLib.volumes import Volume

TEMPLATES = {
    "template_ct_older_adults.nii.gz": ("scgrey.nii", "scwhite.nii"),
    "template_mni152.nii.gz": ("mni_icbm152_gm_sym_09a.nii.gz", "mni_icbm152_wm_sym_09a.nii.gz"),
}
"""Head -> its maps of gray and white matter."""
LEFT_GRAY, RIGHT_GRAY, LEFT_WHITE, RIGHT_WHITE, FLUID = 3, 42, 2, 41, 24
LEAST_TISSUE = 0.35
"""Gray and white matter together, as a share of a voxel of the brain."""
CLOSING_MM = 6.0


def label_map(gray: Volume, white: Volume) -> Volume:
    """FreeSurfer numbers of hemispheres and fluid from maps of gray and white matter; the largest value is a voxel full of it."""
    gray_share, white_share = (maps.values / maps.values.max() for maps in (gray, white))
    shown = gray_share + white_share > LEAST_TISSUE
    width = round(CLOSING_MM / min(gray.geometry.spacing))
    closed = ndimage.binary_closing(np.pad(shown, width), iterations=width)[(slice(width, -width),) * 3]
    brain = ndimage.binary_fill_holes(closed)
    k, j, i = np.nonzero(shown)
    left = gray.geometry.to_lps(np.stack([i, j, k], axis=-1))[:, 0] > 0
    more_gray = gray_share[shown] >= white_share[shown]
    labels = np.where(brain, FLUID, 0).astype(np.int16)
    labels[shown] = np.where(more_gray, np.where(left, LEFT_GRAY, RIGHT_GRAY), np.where(left, LEFT_WHITE, RIGHT_WHITE))
    return Volume(labels, gray.geometry)


def write_template_heads(data: Path, out: Path) -> list[Path]:
    """All heads as NIfTI files, from a folder that holds the maps, perhaps in folders of their own.

    Raises
    ------
    FileNotFoundError
        Before anything is written: a map is not there.
    """
    places = {name: _place(data, name) for names in TEMPLATES.values() for name in names}
    out.mkdir(parents=True, exist_ok=True)
    for head, names in TEMPLATES.items():
        maps = (from_sitk(sitk.ReadImage(str(places[name]), sitk.sitkFloat32)) for name in names)
        sitk.WriteImage(sitk_image(label_map(*maps)), str(out / head))
    return [out / head for head in TEMPLATES]


def _place(data: Path, name: str) -> Path:
    found = next(data.rglob(name), None)
    if found is None:
        raise FileNotFoundError(f"the tissue map '{name}' is not in '{data}'; give the folder that holds it")
    return found


def main() -> None:
    """Write the heads and name them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of the tissue maps")
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    try:
        print(*write_template_heads(options.data, options.out), sep="\n")
    except FileNotFoundError as missing:
        parser.error(str(missing))


if __name__ == "__main__":
    main()
