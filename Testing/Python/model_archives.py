"""Small model folders and archives for tests: what is odd about one is said by the test."""

import hashlib
import json
import zipfile

CARD = "# Tiny model\n\nTrained on nothing, measured on nothing; nothing may be claimed.\n"


def files_of_model(name="tiny", **changes) -> dict[str, bytes]:
    """Path in the model -> content, with the right checksums; `changes` replaces metadata."""
    contents = {"docs/README.md": CARD.encode(), "models/model.pt": bytes(range(256)) * 40, "LICENSE.txt": b"Apache-2.0\n"}
    sums = {path: hashlib.sha256(content).hexdigest() for path, content in contents.items()}
    metadata = {"name": name, "version": "0.1.0", "task": "Core segmentation", "sha256": sums, **changes}
    return {**contents, "configs/metadata.json": json.dumps(metadata).encode()}


def write_archive(path, contents, root="tiny/"):
    """A .zip file of `contents` below `root`."""
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in contents.items():
            packed.writestr(root + name, content)
    return path
