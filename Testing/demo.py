"""`make demo`: a stroke study as DICOM, its analysis, and the volumes beside the truth."""

import json
import shutil
import sys
import time
from pathlib import Path

from CTPerfusionSuiteLib.cli import main


def demonstrate(folder: Path) -> int:
    """Write, analyze and compare a simulated study below `folder`; the exit code."""
    study, result = folder / "study", folder / "result"
    if folder.exists():
        shutil.rmtree(folder)
    print("Writing a simulated stroke study as DICOM ...")
    code = main(["phantom", "brain", "--out_dir", str(study), "--seed", "7", "--noise", "5"])
    if code:
        return code
    print("\nctperfusion maps --dicom_dir demo/study/dicom --out_dir demo/result")
    began = time.perf_counter()
    code = main(["maps", "--dicom_dir", str(study / "dicom"), "--out_dir", str(result)])
    if code:
        return code
    elapsed = time.perf_counter() - began
    truth = json.loads((study / "truth" / "truth.json").read_text())["volumes_ml"]
    found = json.loads((result / "metrics.json").read_text())["volumes_ml"]
    print(f"\n  analyzed in {elapsed:.1f} s\n\n  {'volume':16s} {'truth':>10s} {'found':>10s}")
    for name in ("hypoperfusion", "core", "penumbra"):
        print(f"  {name:16s} {truth[name]:7.1f} mL {found[name]:7.1f} mL")
    print(f"\n  Open the report: {(result / 'report.html').resolve()}")
    return 0


if __name__ == "__main__":
    sys.exit(demonstrate(Path(sys.argv[1] if len(sys.argv) > 1 else "demo")))
