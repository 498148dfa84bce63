"""The header of a NIfTI-1 file: what its voxels are, where they begin, and how they lie in the patient.

The grid is worked out here by the rules of the standard (nifti1.h, "3D IMAGE (VOLUME) ORIENTATION AND LOCATION IN SPACE").  Image
libraries take voxel sizes from pixdim even where the sform, which places the voxels, says otherwise, and volumes follow them.
"""

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from CTPerfusionSuiteLib.errors import DataRefused, RequestRefused
from CTPerfusionSuiteLib.volumes import VOXEL_MM, Geometry
from CTPerfusionSuiteLib.voxel_stream import may_hold

_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
"""NIfTI type codes (nifti1.h)."""
_TIME_BITS, _SPACE_BITS = 0x38, 0x07
_MM_BY_CODE = {1: 1000.0, 3: 0.001}
"""Space codes of xyzt_units that are no millimeters, and what they are in them."""
_SCANNER, _ALIGNED = 1, 2
"""sform codes of the patient's own space; higher ones are standard spaces."""
_HEADER_BYTES = 348
_LARGEST_OFFSET = 1 << 27
_LARGEST_SCALE = 1e9
_WHOLE_SLOPE, _WHOLE_INTERCEPT = 16, 32768
_SAME_SIZE = 0.01
_RIGHT_ANGLE = 5e-3


@dataclass(frozen=True)
class NiftiHeader:
    """What voxels are, where they begin and how they lie.

    Attributes
    ----------
    shape : tuple of int
        Slowest axis first: (T, K, J, I) or (K, J, I).
    stored : dtype
    offset : int
        Bytes from the start of the (decompressed) file.
    slope, intercept : float
        1 and 0 where the header does not scale.
    time_step : float
        pixdim[4] in the unit of `time_code`.
    description : str
    compressed : bool
    space_mm : float
        Millimeters of the header's unit of length.
    pixdim : tuple of 4
        Handedness of the qform, and the sizes of a voxel along I, J and K, as stored.
    qform, sform : tuple or None
        Quaternion and offset (b, c, d, x, y, z), and the rows of the affine (12), as stored; None where the code is 0.
    sform_code : int
    """

    shape: tuple[int, ...]
    stored: np.dtype
    offset: int
    slope: float
    intercept: float
    time_step: float
    time_code: int
    description: str
    compressed: bool
    space_mm: float
    pixdim: tuple[float, ...]
    qform: tuple[float, ...] | None
    sform: tuple[float, ...] | None
    sform_code: int

    @property
    def whole(self) -> bool:
        """Whether values are whole numbers of a size that HU have, by type and scaling."""
        scaled = float(self.slope).is_integer() and float(self.intercept).is_integer()
        return self.stored.kind in "iu" and scaled and abs(self.slope) <= _WHOLE_SLOPE and abs(self.intercept) <= _WHOLE_INTERCEPT

    @property
    def placed(self) -> bool:
        """Whether the header says how the image lies in the patient."""
        return self.sform is not None or self.qform is not None

    def grid(self, name: str) -> Geometry:
        """The grid in LPS.

        An sform of the patient's own space counts before a qform, also for the size of voxels; one of a standard space (an atlas)
        only if there is no qform.  An sform that is aligned with another scan and a qform of the same voxel size are both good; the
        qform is taken then, as Slicer does, so that masks drawn there fit.  Without either the axes are taken as LPS, as Slicer does.

        Parameters
        ----------
        name : str
            The file, for messages.

        Raises
        ------
        DataRefused
            Voxel sizes that are none, axes that are not at right angles.
        """
        affine = self._affine_by_qform() if self.qform is not None else self._affine_by_sizes()
        if self.sform is not None:
            own = np.reshape(self.sform, (3, 4)) * self.space_mm
            prefers_sform = self.sform_code == _SCANNER or (self.sform_code == _ALIGNED and not _same_sizes(own, affine))
            if self.qform is None or prefers_sform:
                affine = own
        columns, origin = affine[:, :3].copy(), affine[:, 3].copy()
        if self.placed:
            columns[:2] *= -1.0
            origin[:2] *= -1.0
        with np.errstate(invalid="ignore", over="ignore"):
            spacing = np.linalg.norm(columns, axis=0)
        if not (np.isfinite(affine).all() and VOXEL_MM[0] <= spacing.min() and spacing.max() <= VOXEL_MM[1]):
            sizes = " x ".join(f"{s:.3g}" for s in spacing)
            raise DataRefused(f"the header of '{name}' gives no usable voxel size and place ({sizes} mm); export the image again")
        directions = columns / spacing
        if np.abs(directions.T @ directions - np.eye(3)).max() > _RIGHT_ANGLE:
            raise DataRefused(f"the axes of '{name}' are not at right angles; resample it to a regular grid first")
        # Rounding in the header would add up in what is computed from the axes.
        left, _, right = np.linalg.svd(directions)
        return Geometry(self.shape[-1:-4:-1], tuple(spacing), tuple(origin), tuple(map(tuple, left @ right)))

    @property
    def contradicted_sizes(self) -> str | None:
        """What pixdim says of voxels where the sform says otherwise, in words; None where they agree or pixdim is all there is."""
        if self.sform is None:
            return None
        own = np.linalg.norm(np.reshape(self.sform, (3, 4))[:, :3], axis=0)
        if _same_sizes(np.diag(own), np.diag(self.pixdim[1:])):
            return None
        return f"{' x '.join(f'{s:.3g}' for s in self.pixdim[1:])} by pixdim, {' x '.join(f'{s:.3g}' for s in own)} by the sform"

    def _affine_by_qform(self) -> np.ndarray:
        """(3, 4), RAS mm: method 2 of the standard."""
        b, c, d, *offset = self.qform
        square = b * b + c * c + d * d
        if square > 1.0:
            # A half turn; rounding made the quaternion a little longer than 1.
            b, c, d = (n / math.sqrt(square) for n in (b, c, d))
        a = math.sqrt(max(0.0, 1.0 - square)) if math.isfinite(square) else math.nan
        turn = np.array(
            [
                [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
                [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
                [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
            ]
        )
        sizes = self._affine_by_sizes()[:, :3] @ [1.0, 1.0, 1.0]
        if self.pixdim[0] < 0:
            turn[:, 2] *= -1.0
        with np.errstate(invalid="ignore"):
            turn = turn * sizes
        return np.column_stack([turn, np.array(offset) * self.space_mm])

    def _affine_by_sizes(self) -> np.ndarray:
        """(3, 4) mm: method 1 of the standard, voxel sizes only; NaN where they are none."""
        sizes = np.array([size if size > 0 else math.nan for size in self.pixdim[1:]]) * self.space_mm
        return np.column_stack([np.diag(np.where(np.isnan(sizes), 0.0, sizes)), np.zeros(3)])


def read_nifti_header(path: Path) -> NiftiHeader:
    """The header of a NIfTI-1 file in one piece.

    Raises
    ------
    RequestRefused
        No such file, not NIfTI-1, or voxels of a kind that is not read.
    DataRefused
        A header that contradicts itself or the length of the file.
    """
    if not path.is_file():
        raise RequestRefused(f"the file '{path}' does not exist; check the path")
    unreadable = RequestRefused(f"the file '{path.name}' cannot be read as NIfTI; give a complete .nii or .nii.gz file")
    try:
        with open(path, "rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            raw = (gzip.GzipFile(fileobj=file) if compressed else file).read(_HEADER_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable from error
    if raw[4:8] == b"n+2\0":
        raise RequestRefused(f"the file '{path.name}' is NIfTI-2, which neither Slicer nor this reads; save it as NIfTI-1")
    order = next((o for o in "<>" if len(raw) >= _HEADER_BYTES and struct.unpack(o + "i", raw[:4])[0] == _HEADER_BYTES), None)
    if order is None or raw[344:348] != b"n+1\0":
        raise unreadable
    size = struct.unpack(order + "8h", raw[40:56])
    kind = struct.unpack(order + "h", raw[70:72])[0]
    pixdim = struct.unpack(order + "8f", raw[76:108])
    offset, slope, intercept = struct.unpack(order + "3f", raw[108:120])
    qform_code, sform_code = struct.unpack(order + "2h", raw[252:256])
    places = struct.unpack(order + "18f", raw[256:328])
    if kind not in _TYPES or not 1 <= size[0] <= 7 or min(size[1 : size[0] + 1]) < 1:
        raise RequestRefused(
            f"the file '{path.name}' holds voxels of a type (code {kind}) or size that is not read; save it as 16-bit or float"
        )
    if not _HEADER_BYTES <= offset <= _LARGEST_OFFSET:
        raise DataRefused(f"the header of '{path.name}' puts the voxels at byte {offset:g}, where none can be; export it again")
    if not (math.isfinite(slope) and math.isfinite(intercept)) or slope == 0:
        slope, intercept = 1.0, 0.0
    if max(abs(slope), abs(intercept)) > _LARGEST_SCALE:
        raise DataRefused(f"the header of '{path.name}' scales by {slope:g} and {intercept:g}, which makes no image; export it again")
    shape = tuple(int(n) for n in size[size[0] : 0 : -1])
    stored = np.dtype(order + _TYPES[kind])
    if not may_hold(path, int(offset) + math.prod(shape) * stored.itemsize, compressed):
        raise DataRefused(f"the file '{path.name}' is truncated: its data end before its header says; copy or export it again")
    # Below three dimensions the missing ones have size 1.
    sizes = tuple(pixdim[n] if n <= size[0] or pixdim[n] > 0 else 1.0 for n in range(4))
    shape = (1,) * (3 - len(shape)) + shape
    return NiftiHeader(
        shape,
        stored,
        int(offset),
        slope,
        intercept,
        float(pixdim[4]),
        raw[123] & _TIME_BITS,
        raw[148:228].split(b"\0")[0].decode("latin-1").strip(),
        compressed,
        _MM_BY_CODE.get(raw[123] & _SPACE_BITS, 1.0),
        sizes,
        places[:6] if qform_code > 0 else None,
        places[6:] if sform_code > 0 else None,
        sform_code,
    )


def _same_sizes(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether the columns of two affines (3, 3 or more) are equally long."""
    with np.errstate(invalid="ignore", over="ignore"):
        lengths = [np.linalg.norm(affine[:, :3], axis=0) for affine in (first, second)]
    return bool(np.allclose(*lengths, rtol=_SAME_SIZE, atol=0.0))
