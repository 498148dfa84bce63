"""The patient's name, read only when a user asks for it to be shown."""

import pydicom


def patient_label(header: dict) -> str | None:
    """"Name, ID" from the first source file of a series read from DICOM; None when there is none.

    The text is untrusted: whoever shows it escapes it.
    """
    source = header.get("source_file")
    if not source:
        return None
    dataset = pydicom.dcmread(source, stop_before_pixels=True, specific_tags=["PatientName", "PatientID", "SpecificCharacterSet"])
    parts = [str(dataset.get(name, "")).replace("^", " ").strip() for name in ("PatientName", "PatientID")]
    return ", ".join(part for part in parts if part) or None
