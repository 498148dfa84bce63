"""Noise of reconstructed CT slices: white, or shaped by the transfer function of a reconstruction kernel.

References
----------
Riederer SJ, Pelc NJ, Chesler DA, Phys Med Biol 1978;23:446 (noise power of filtered back projection rises with |f|).
"""

import numpy as np
from scipy.fft import irfft2, rfft2

KERNELS = ("white", "soft", "sharp")
_ROLL_OFF_CYCLES_PER_MM = {"soft": 0.22, "sharp": 0.45}


def kernel_spectrum(shape: tuple[int, int], spacing: tuple[float, float], kernel: str) -> np.ndarray:
    """Amplitude spectrum (J, I // 2 + 1) of the noise of a slice, mean square 1 over the full plane.

    `shape` is (J, I) and `spacing` the pixel (x, y) in mm.  Filtered back projection gives a ramp; the kernel rolls it off: soft at
    0.22, sharp at 0.45 cycles/mm.
    """
    fy = np.fft.fftfreq(shape[0], spacing[1])[:, None]
    fx = np.fft.rfftfreq(shape[1], spacing[0])[None, :]
    frequency = np.hypot(fx, fy)
    if kernel == "white":
        return np.ones_like(frequency)
    if kernel not in _ROLL_OFF_CYCLES_PER_MM:
        raise ValueError(f"unknown noise kernel {kernel!r}; one of {', '.join(KERNELS)}")
    # Interpolation in the back projection leaves some power at zero frequency, hence the floor under the ramp.
    power = (frequency + 0.02) * np.exp(-((frequency / _ROLL_OFF_CYCLES_PER_MM[kernel]) ** 2))
    amplitude = np.sqrt(power)
    fold = np.full(shape[1] // 2 + 1, 2.0)
    fold[0] = 1.0
    if shape[1] % 2 == 0:
        fold[-1] = 1.0
    return amplitude / np.sqrt((amplitude**2 * fold).sum() / (shape[0] * shape[1]))


def ct_noise(
    rng: np.random.Generator, shape: tuple[int, ...], sd_hu: float, kernel: str = "white", spacing: tuple[float, float] = (1.0, 1.0)
) -> np.ndarray:
    """Noise (..., J, I) float32 of `sd_hu` HU in every pixel, independent from slice to slice and frame to frame.

    `spacing` is the pixel (x, y) in mm, which sets how far a shaped kernel correlates.
    """
    noise = rng.standard_normal(shape, dtype=np.float32)
    if kernel != "white":
        noise = irfft2(rfft2(noise) * kernel_spectrum(shape[-2:], spacing, kernel).astype(np.float32), s=shape[-2:])
    return (np.float32(sd_hu) * noise).astype(np.float32, copy=False)
