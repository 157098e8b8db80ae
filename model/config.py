"""The fixed core's settings: every default of `model.*` and `losses.*` lives here, and the defaults build.

Plain pydantic, so that a plan can be checked without importing torch.
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Attribute = Literal["z", "mu", "sigma", "t", "l"]
ATTRIBUTES: tuple[Attribute, ...] = tuple(sorted(get_args(Attribute)))


class Frozen(BaseModel):
    """Base of every settings model: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _attributes(value: Any) -> Any:
    """`all` equals the sorted list of every attribute; order and repeats mean nothing."""
    if value == "all":
        return ATTRIBUTES
    if isinstance(value, str):
        raise ValueError(f"expected `all` or a list of {', '.join(get_args(Attribute))}")
    if isinstance(value, (list, tuple, set)) and all(isinstance(v, str) for v in value):
        return tuple(sorted(set(value)))
    return value


class GuidanceConfig(Frozen):
    """How text meets the shape tokens (DESIGN section 2)."""

    attention: Literal["none", "one_way", "two_way"] = "none"
    merge: Literal["contrast", "mean"] = "mean"
    into: Annotated[tuple[Attribute, ...], BeforeValidator(_attributes), Field(min_length=1)] = ATTRIBUTES
    text_dropout: float = Field(0.5, ge=0, lt=1)


class ModelConfig(Frozen):
    """VQShape's architecture (Wen et al. 2024, arXiv 2411.01006), small by default.

    The paper's recipe is patches=64, tokens=64, width=256 or 512, heads=8, layers 4 + 4 + 2,
    code_width=8, codes=64 or 512, shape_length=128 on series of 512 steps.
    """

    patches: int = Field(10, ge=1)
    tokens: int = Field(10, ge=2)
    width: int = Field(64, ge=4)
    heads: int = Field(4, ge=1)
    encoder_layers: int = Field(2, ge=1)
    tokenizer_layers: int = Field(2, ge=1)
    decoder_layers: int = Field(1, ge=1)
    codes: int = Field(32, ge=2)
    code_width: int = Field(8, ge=1)
    shape_length: int = Field(32, ge=16, multiple_of=16)
    smoothing: int = Field(1, ge=1, description="odd width of the shapes' moving average, in samples")
    # mask_frac is rounded down to whole patches, as in the reference.
    mask_frac: float = Field(
        0.25,
        ge=0,
        lt=1,
        description="part of the patches hidden from a training pass",
    )
    dropout: float = Field(0.1, ge=0, lt=1)
    codebook_weight: float = Field(0.25, ge=0, description="weight of the term that moves the codes")
    entropy_weight: float = Field(0.1, ge=0)
    entropy_gamma: float = Field(1.0, ge=0)
    normalize: Literal["instance", "dataset"] = "dataset"
    channels: Literal["independent"] = "independent"
    quantizer: Literal["standard"] = "standard"
    guidance: GuidanceConfig = GuidanceConfig()

    @model_validator(mode="after")
    def _check(self) -> "ModelConfig":
        if self.width % self.heads:
            near = [h for h in range(1, self.width + 1) if self.width % h == 0]
            near = sorted(near, key=lambda h: abs(h - self.heads))[:3]
            raise ValueError(f"heads {self.heads} do not divide width {self.width}; try {sorted(near)}")
        if self.smoothing % 2 == 0:
            raise ValueError(f"smoothing {self.smoothing} is even; try {self.smoothing - 1}")
        return self

    def check_length(self, length: int) -> None:
        """Raise ValueError with numbers that would work, if a series of `length` steps can't be built."""
        for name in ("patches", "tokens"):
            value = getattr(self, name)
            if length < value or length % value:
                divisors = [d for d in range(2, length + 1) if length % d == 0]
                near = sorted(sorted(divisors, key=lambda d: abs(d - value))[:3])
                raise ValueError(
                    f"model.{name} {value} does not divide a window of {length} samples; try {near}"
                )


class LossConfig(Frozen):
    """Loss weights; 0 switches a loss off. Equations are in `model.losses`."""

    series: float = Field(1.0, ge=0)
    shape: float = Field(1.0, ge=0)
    vq: float = Field(1.0, ge=0)
    spread: float = Field(0.8, ge=0)
    info_nce: float = Field(0.0, ge=0)
    consistency: float = Field(0.0, ge=0)
    consistency_temperature: float = Field(0.1, gt=0)
    text_recon: float = Field(0.0, ge=0)
    ce_series: float = Field(0.0, ge=0)

    @property
    def reads_text(self) -> bool:
        return any((self.info_nce, self.consistency, self.text_recon))
