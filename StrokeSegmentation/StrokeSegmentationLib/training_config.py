"""What a training run is told: one JSON file, checked before any work."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from CTPerfusionSuiteLib.errors import RequestRefused

LOSSES = ("cross-entropy", "focal-tversky", "sum")
DEVICES = ("auto", "cpu", "cuda")
MOST = {"width": 256, "slices": 63, "threads": 1024, "batch": 4096, "steps": 10**9, "validations": 10**6, "seed": 2**32 - 1}
"""What no run needs more of, and PyTorch or the memory would not bear."""


@dataclass(frozen=True)
class TrainingConfig:
    """Options of a training run.

    Attributes
    ----------
    kind : str
        Network, one of `networks.KINDS`.
    width, slices, dropout
        As in `networks.build_network`.
    loss : {"cross-entropy", "focal-tversky", "sum"}
    class_weights : tuple of 3 float
        Of background, penumbra and core in the cross-entropy; 1, 1, 10 as published.
    batch : int
        Studies a step.
    learning_rate : float
        Highest of a one-cycle schedule.
    weight_decay : float
    ema : float
        Decay of the moving average of the weights, which is what is validated and kept.
    steps : int
        Steps in all; the schedule's length unless `minutes` is given.
    minutes : float or None
        Budget instead of steps: minutes of processor time on a CPU (all threads together), of wall time on a GPU.  Networks
        trained with the same budget can be compared.
    validations : int
        How often the validation studies are predicted, evenly over the run.
    patience : int
        Validations without a lower loss after which training stops; 0: never.
    augment : bool
    seed : int
    threads : int
        Of the CPU; 0: as many as PyTorch takes.
    device : {"auto", "cpu", "cuda"}
    memory_gb : float
        Prepared studies kept in memory; the others are read again.
    tensorboard : bool
        Write curves for TensorBoard where it is installed.
    """

    kind: str = "4d"
    width: int = 16
    slices: int = 7
    dropout: float = 0.1
    loss: str = "sum"
    class_weights: tuple[float, ...] = (1.0, 1.0, 10.0)
    batch: int = 1
    learning_rate: float = 5e-3
    weight_decay: float = 1e-4
    ema: float = 0.99
    steps: int = 4000
    minutes: float | None = None
    validations: int = 12
    patience: int = 0
    augment: bool = True
    seed: int = 0
    threads: int = 0
    device: str = "auto"
    memory_gb: float = 4.0
    tensorboard: bool = True

    def __post_init__(self):
        positive = ("width", "slices", "batch", "learning_rate", "steps", "validations", "memory_gb")
        for name in positive:
            if not getattr(self, name) > 0:
                raise RequestRefused(f"the training option '{name}' has to be above 0, not {getattr(self, name)}; correct it")
        if self.minutes is not None and not self.minutes > 0:
            raise RequestRefused(f"the training option 'minutes' has to be above 0, not {self.minutes}; correct it or leave it out")
        for name, choices in (("loss", LOSSES), ("device", DEVICES)):
            if getattr(self, name) not in choices:
                raise RequestRefused(f"the training option '{name}' is one of {', '.join(choices)}, not '{getattr(self, name)}'")
        if len(self.class_weights) != 3 or min(self.class_weights) < 0 or max(self.class_weights) <= 0:
            raise RequestRefused("the training option 'class_weights' holds three numbers: of background, penumbra and core")
        for name in ("ema", "dropout", "weight_decay", "patience", "threads", "seed"):
            if getattr(self, name) < 0:
                raise RequestRefused(f"the training option '{name}' cannot be negative, as {getattr(self, name)}; correct it")
        for name in ("ema", "dropout"):
            if getattr(self, name) >= 1:
                raise RequestRefused(f"the training option '{name}' has to be below 1, not {getattr(self, name)}; correct it")
        for name, most in MOST.items():
            if getattr(self, name) > most:
                raise RequestRefused(f"the training option '{name}' has to be at most {most}, not {getattr(self, name)}; correct it")

    def to_json(self) -> str:
        """As `read_config` takes it."""
        return json.dumps(asdict(self), indent=1) + "\n"


def config_of(options: dict) -> TrainingConfig:
    """A configuration from plain values; what is not named keeps its default.

    Raises
    ------
    RequestRefused
        Unknown names, values of another type or out of range.
    """
    if not isinstance(options, dict):
        raise RequestRefused("a training configuration is a JSON object of options; correct the file")
    known = {field.name: field.default for field in fields(TrainingConfig)}
    values = {}
    for name, value in options.items():
        if name not in known:
            raise RequestRefused(f"there is no training option '{name}'; the options are {', '.join(known)}")
        values[name] = _as_type(name, value, known[name])
    return TrainingConfig(**values)


def read_config(path) -> TrainingConfig:
    """A configuration from a JSON file.

    Raises
    ------
    RequestRefused
        No such file, no JSON, or as `config_of`.
    """
    path = Path(path)
    try:
        options = json.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise RequestRefused(f"the training configuration '{path.name}' cannot be read; check the path") from problem
    except ValueError as problem:
        raise RequestRefused(f"the training configuration '{path.name}' is no JSON; correct it") from problem
    return config_of(options)


def _as_type(name: str, value, default):
    """The value as the type of the option's default."""
    wrong = RequestRefused(f"the training option '{name}' cannot be {json.dumps(value, default=str)}; correct it")
    if name == "minutes":
        if value is None:
            return None
        default = 1.0
    if isinstance(default, tuple):
        if not isinstance(value, (list, tuple)) or not all(_is_number(item) for item in value):
            raise wrong
        return tuple(float(item) for item in value)
    if isinstance(default, bool) or isinstance(default, str):
        if not isinstance(value, type(default)):
            raise wrong
        return value
    if not _is_number(value) or (isinstance(default, int) and value != int(value)):
        raise wrong
    return type(default)(value)


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value and abs(value) < 1e12
