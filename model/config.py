"""The fixed core's settings: every default of `model.*` and `losses.*` lives here, and the defaults build.

Plain pydantic, so that a plan can be checked without importing torch.
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Attribute = Literal["z", "mu", "sigma", "t", "l"]
Quantizer = Literal["standard", "ema", "none", "cosine", "rotation", "simvq", "fsq"]
DISTRIBUTES = ("standard", "ema", "cosine", "rotation", "simvq")  # have a distribution over codes
LEARNS = ("standard", "rotation", "simvq")  # codes that gradient moves, so that text can
# A factor below 3 is no level of FSQ; 240 and 1000 are its paper's.
FSQ_LEVELS: dict[int, tuple[int, ...]] = {
    8: (8,),
    16: (4, 4),
    32: (8, 4),
    64: (8, 8),
    128: (8, 4, 4),
    240: (8, 6, 5),
    256: (8, 8, 4),
    512: (8, 8, 8),
    1000: (8, 5, 5, 5),
    1024: (8, 8, 4, 4),
}
ATTRIBUTES: tuple[Attribute, ...] = tuple(sorted(get_args(Attribute)))


def inert(default: Any, **kwargs: Any) -> Any:
    """A field that cannot change a result: it never enters the signature (experiments.identity)."""
    return Field(default, json_schema_extra={"inert": True}, **kwargs)


def added(default: Any, leaves_at: Any, **kwargs: Any) -> Any:
    """A field added after the first results: at the literal `leaves_at` it is not in the signature."""
    return Field(default, json_schema_extra={"leaves_at": leaves_at}, **kwargs)


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


def _near(choices: list[int], value: int) -> list[int]:
    """The three choices nearest to the value, in order."""
    return sorted(sorted(choices, key=lambda choice: abs(choice - value))[:3])


class GuidanceConfig(Frozen):
    """How text meets the shape tokens, or the patches before them (DESIGN section 2)."""

    attention: Literal["none", "one_way", "two_way"] = "none"
    merge: Literal["contrast", "mean"] = "mean"
    at: Literal["tokens", "patches"] = added("tokens", leaves_at="tokens")
    into: Annotated[tuple[Attribute, ...], BeforeValidator(_attributes), Field(min_length=1)] = ATTRIBUTES
    layers: int = added(1, leaves_at=1, ge=1, description="attention layers each way")
    heads: int | None = added(None, leaves_at=None, ge=1, description="None: as many as model.heads")
    text_dropout: float = Field(0.5, ge=0, lt=1)

    @model_validator(mode="after")
    def _check(self) -> "GuidanceConfig":
        if self.attention != "none" and self.at == "patches" and self.into != ATTRIBUTES:
            raise ValueError(
                "model.guidance.at patches reaches every attribute: set model.guidance.into to all"
            )
        return self


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
    shape_length: int = Field(32, ge=16, description="a multiple of 16")
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
    channels: Literal["independent", "joint", "flatten"] = "independent"
    keep_scale: bool = added(False, leaves_at=False, description="channel means and log stds join the probe")
    quantizer: Quantizer = added("standard", leaves_at="standard")
    text_codes: bool = added(False, leaves_at=False, description="text gets K codes of its own")
    sub_actions: Literal["none", "head", "decoder"] = added("none", leaves_at="none")
    guidance: GuidanceConfig = GuidanceConfig()

    @model_validator(mode="before")
    @classmethod
    def _heads(cls, values: Any) -> Any:
        """As many heads for guidance as for the model is None, so that one model has one name."""
        if isinstance(values, dict) and isinstance(guidance := values.get("guidance"), dict):
            heads = values.get("heads", cls.model_fields["heads"].default)
            if guidance.get("heads") == heads:
                return values | {"guidance": guidance | {"heads": None}}
        return values

    @model_validator(mode="after")
    def _check(self) -> "ModelConfig":
        for name, heads in (("heads", self.heads), ("guidance.heads", self.guidance.heads or self.heads)):
            if self.width % heads:
                fit = [h for h in range(1, self.width + 1) if self.width % h == 0]
                near = _near(fit, heads)
                raise ValueError(f"model.{name} {heads} do not divide model.width {self.width}; try {near}")
        if self.smoothing % 2 == 0:
            raise ValueError(f"model.smoothing {self.smoothing} is even; try {self.smoothing - 1}")
        if self.quantizer in ("cosine", "rotation") and self.code_width == 1:
            raise ValueError(
                f"model.code_width 1 leaves quantizer {self.quantizer} no angle to read; try [2]"
            )
        if self.quantizer == "fsq" and self.codes not in FSQ_LEVELS:
            near = _near(list(FSQ_LEVELS), self.codes)
            raise ValueError(f"model.quantizer fsq can't have {self.codes} codes; try {near}")
        if self.shape_length % 16:
            below = self.shape_length // 16 * 16
            near = [length for length in (below, below + 16) if length]
            raise ValueError(f"model.shape_length {self.shape_length} is no multiple of 16; try {near}")
        return self

    def streams(self, channels: int) -> int:
        """How many series a window of that many channels makes."""
        return channels if self.channels == "independent" else 1

    def axes(self, channels: int) -> int:
        """How many axes a series has: a window's channels where they share their tokens."""
        return channels if self.channels == "joint" else 1

    def steps(self, channels: int, length: int) -> int:
        """Steps of one series, from windows of `length` samples."""
        return channels * length if self.channels == "flatten" else length

    def check_length(self, length: int) -> None:
        """Raise ValueError with numbers that would work, if a series of `length` steps can't be built."""
        for name in ("patches", "tokens"):
            value = getattr(self, name)
            if length < value or length % value:
                near = _near([d for d in range(2, length + 1) if length % d == 0], value)
                raise ValueError(
                    f"model.{name} {value} does not divide a series of {length} samples; try {near}"
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
    text_recon_level: Literal["codes", "guided"] = added("codes", leaves_at="codes")
    text_vq: float = added(0.0, leaves_at=0.0, ge=0, description="vq of the text codes")
    series_from_text: float = added(0.0, leaves_at=0.0, ge=0)
    supcon: float = added(0.0, leaves_at=0.0, ge=0)
    ce_series: float = Field(0.0, ge=0)
    ce_guided_series: float = added(0.0, leaves_at=0.0, ge=0)
    ce_guided_text: float = added(0.0, leaves_at=0.0, ge=0)
    sub_action: float = added(0.0, leaves_at=0.0, ge=0)
    sub_action_target: Literal["attention", "nearest"] = added("nearest", leaves_at="nearest")

    @property
    def contrasts(self) -> bool:
        """Whether pooled series and text meet in a loss; with merge contrast, s and u do too."""
        return bool(self.info_nce or self.supcon)

    def reads_text(self, config: ModelConfig) -> bool:
        """Whether training reads the windows' texts (sub-action concepts are not among them)."""
        on = (self.info_nce, self.supcon, self.consistency, self.text_recon, config.text_codes)
        return config.guidance.attention != "none" or any(on)

    def check(self, config: ModelConfig) -> None:
        """Raise ValueError for losses and modules that can't go together."""
        guidance, guided = config.guidance, config.guidance.attention != "none"
        two_way = guidance.attention == "two_way"
        on = "model.guidance.attention to one_way or two_way"
        for name in ("consistency", "ce_guided_series", "ce_guided_text"):
            if getattr(self, name) and not guided:
                raise ValueError(f"losses.{name} needs the guided path: set {on}")
        if self.text_recon and self.text_recon_level == "guided" and not guided:
            raise ValueError(f"losses.text_recon_level guided reads fused tokens: set {on}")
        if self.ce_guided_text and not two_way:
            raise ValueError(
                "losses.ce_guided_text reads text that attended to the series: set "
                "model.guidance.attention to two_way"
            )
        if two_way and guidance.merge == "contrast" and not (self.contrasts or self.ce_guided_text):
            raise ValueError(
                "model.guidance.merge contrast trains through losses.info_nce, supcon or "
                "ce_guided_text alone: set one above 0"
            )
        if self.consistency and "z" in guidance.into and config.quantizer not in DISTRIBUTES:
            at_patches = guidance.at == "patches"
            leave = "set it to 0" if at_patches else "leave z out of model.guidance.into"
            raise ValueError(
                f"losses.consistency on z needs a distribution over codes, and quantizer "
                f"{config.quantizer} has none: {leave}"
            )
        if config.text_codes and config.quantizer not in LEARNS:
            raise ValueError(
                f"text can't move the codes of quantizer {config.quantizer}: with "
                f"model.text_codes it is one of {', '.join(LEARNS)}"
            )
        if config.text_codes and not (self.text_vq or self.series_from_text):
            raise ValueError(
                "model.text_codes trains through losses.text_vq and series_from_text: set one above 0"
            )
        for name in ("text_vq", "series_from_text"):
            if getattr(self, name) and not config.text_codes:
                raise ValueError(f"losses.{name} needs model.text_codes: true")
        if bool(self.sub_action) != (config.sub_actions != "none"):
            raise ValueError(
                "losses.sub_action and model.sub_actions go together: set model.sub_actions to "
                "head or decoder and losses.sub_action above 0, or to none and 0"
            )
        if config.sub_actions == "decoder" and config.quantizer == "none":
            raise ValueError("model.sub_actions decoder names codes, and quantizer none has none: try head")
        attends = guided and guidance.at == "tokens"
        if self.sub_action and self.sub_action_target == "attention" and not attends:
            raise ValueError(
                f"losses.sub_action_target attention reads the tokens' attention: set {on}, "
                "and model.guidance.at to tokens"
            )
