"""A trial is its resolved config: `RunConfig` holds every setting that names one trial.

Three marks steer the identity (see `identity.py`): `inert(default)` for what can't change a result,
`added(default, leaves_at)` for a field that came later and leaves the hash at that literal value (both in
`model/config.py`), and `RunConfig.unused()` for subtrees that the other settings switch off.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from model.config import DISTRIBUTES, LEARNS, Frozen, LossConfig, ModelConfig, added, inert

Representation = Literal["tokens", "tokens_ze", "pooled", "histogram", "statistics"]


Known = Literal[
    "basic_motions",
    "spar",
    "pickup_gesture",
    "japanese_vowels",
    "gun_point",
    "uci_har",
    "pamap2",
    "wisdm",
    "usc_had",
    "motion_sense",
    "planted",
]
NAME = "[A-Za-z0-9][A-Za-z0-9_-]*"  # what becomes a file's name
Family = Annotated[str, Field(pattern=f"^(uea|npz|csv):{NAME}$")]


class AugmentConfig(Frozen):
    """What happens to training windows, each time that they are seen; 0 is off (`experiments.augment`)."""

    jitter: float = added(0.0, leaves_at=0.0, ge=0, description="sd of the noise, in each channel's own sd")
    scaling: float = added(0.0, leaves_at=0.0, ge=0, description="sd of the factor around 1, one a channel")
    rotation_deg: float = added(
        0.0, leaves_at=0.0, ge=0, le=180, description="largest turn of a placement's x, y, z"
    )
    time_warp: float = added(
        0.0, leaves_at=0.0, ge=0, lt=1, description="sd of the speed around 1, at four knots"
    )
    channel_drop: float = added(
        0.0, leaves_at=0.0, ge=0, lt=1, description="probability that a channel is at its mean"
    )


class DataConfig(Frozen):
    """Which windows, and who is tested. What a data set allows is checked by `data.check`."""

    name: Known | Family = "basic_motions"
    window_s: float | None = Field(None, gt=0, description="None where the data set comes pre-cut")
    overlap_frac: float | None = Field(None, ge=0, lt=1)
    length: int | None = added(None, leaves_at=None, ge=2, description="steps that series are brought to")
    resize: Literal["resample", "pad"] = added("resample", leaves_at="resample")
    split: Literal["official", "subject_kfold", "leave_one_subject_out", "leaky_random"] = "official"
    folds: int = Field(5, ge=3, description="k of k-fold; validation is the next fold")
    fold: int = Field(0, ge=0)
    validation_frac: float = Field(0.25, gt=0, lt=1, description="part of training, where no fold gives it")
    augment: AugmentConfig = added(AugmentConfig(), leaves_at={})


Control = Literal["none", "shuffled_classes", "shuffled_samples", "random", "constant", "one_hot"]


class TextConfig(Frozen):
    """Which text a training window may see; validation and test never see any.

    bank: None is the data set's own; another is <SHAPELEX_DATA>/banks/<bank>.yaml."""

    source: Literal["none", "label", "series", "both"] = "label"
    form: Literal["keyword", "sentence", "affirmative", "negative", "sub_actions", "all"] = "sentence"
    control: Control = "none"
    encoder: Literal["minilm"] | Annotated[str, Field(pattern=r"^hf:.+")] = "minilm"
    tokens: Literal["native"] | Annotated[int, Field(ge=1)] = "native"
    bank: str | None = added(None, leaves_at=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    subject_info: bool = added(False, leaves_at=False, description="who wears what joins a label's texts")


class TrainConfig(Frozen):
    """AdamW with linear warm-up, then cosine to `lr_min`; clip by norm."""

    epochs: int = Field(20, ge=1)
    batch_size: int = Field(32, ge=2, description="windows per step")
    lr: float = Field(1e-3, gt=0)
    lr_min: float = Field(1e-5, ge=0)
    warmup_frac: float = Field(0.1, ge=0, lt=1)
    weight_decay: float = Field(0.01, ge=0)
    clip: float = Field(1.0, gt=0)
    precision: Literal["float32", "bfloat16"] = added(
        "float32", leaves_at="float32", description="of the matrix products; weights are float32"
    )
    select: Literal["last", "validation"] = "last"
    validate_every: int = Field(1, ge=1, description="epochs between looks at validation")

    @model_validator(mode="after")
    def _check(self) -> "TrainConfig":
        if self.lr_min > self.lr:
            raise ValueError(f"lr_min {self.lr_min} is above lr {self.lr}: the rate would rise to it")
        return self


class ProbeConfig(Frozen):
    """Ridge on frozen series-only representations, its penalty tuned on validation."""

    representation: Representation = "tokens"
    penalties: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0), min_length=1
    )


_NO_CORE = {"model", "losses", "text", "probe.representation"}
NOT_READ: dict[str, set[str]] = {  # by baseline
    "none": set(),
    "statistics": _NO_CORE | {"train", "seed", "data.augment"},
    "fcn": _NO_CORE | {"probe", "train.precision"},
    "minirocket": _NO_CORE | {"train", "data.augment"},
}


class RunConfig(Frozen):
    """Everything that names one trial."""

    data: DataConfig = DataConfig()
    text: TextConfig = TextConfig()
    model: ModelConfig = ModelConfig()
    losses: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()
    probe: ProbeConfig = ProbeConfig()
    baseline: Literal["none", "statistics", "fcn", "minirocket"] = "none"
    seed: int = Field(0, ge=0)
    threads: int = Field(1, ge=1)
    figures: bool = inert(True)
    evaluate: Literal["test", "validation"] = added(
        "test", leaves_at="test", description="validation: a search's trial, which never reads the test side"
    )

    @property
    def epochs(self) -> int:
        """That a trial shows as it gets on: one where it trains nothing."""
        return 1 if "train" in self.unused() else self.train.epochs

    @property
    def reads_text(self) -> bool:
        """Whether any part of training may look at the windows' texts."""
        return self.baseline == "none" and self.losses.reads_text(self.model)

    @property
    def reads_concepts(self) -> bool:
        """Whether training looks at the sub-actions of the windows' labels."""
        return self.baseline == "none" and self.losses.sub_action > 0

    @property
    def reads_encoder(self) -> bool:
        """Whether training looks at embeddings of texts or of sub-actions."""
        return (self.reads_text or self.reads_concepts) and "text.encoder" not in self.unused()

    @property
    def tells_wearers(self) -> bool:
        """Whether a class's text goes on with who wears what."""
        return self.text.subject_info and "text.subject_info" not in self.unused()

    @model_validator(mode="after")
    def _check(self) -> "RunConfig":
        if self.baseline != "none":
            return self
        if self.probe.representation == "statistics":
            raise ValueError("probe.representation statistics belongs to baseline: statistics alone")
        self.check_primary(self.probe.representation)
        self._check_text()
        self.losses.check(self.model)
        if self.text.control == "constant":
            empty = ("info_nce", "supcon", "text_recon", "ce_guided_series", "ce_guided_text", "sub_action")
            if on := [f"losses.{name}" for name in empty if getattr(self.losses, name)]:
                also = " and model.sub_actions to none" if self.losses.sub_action else ""
                raise ValueError(
                    f"text.control constant leaves {', '.join(on)} nothing to learn: set to 0{also}"
                )
        attends = self.losses.sub_action and self.losses.sub_action_target == "attention"
        if attends and self.text.tokens != "native":
            raise ValueError(
                "losses.sub_action_target attention reads phrases where guidance reads text: "
                "set text.tokens to native"
            )
        return self

    def _check_text(self) -> None:
        text = self.text
        if (self.reads_text or self.reads_concepts) and text.source == "none":
            raise ValueError(
                "guidance or a text loss is on, but text.source is none: set it to label, series or both"
            )
        if text.control in ("one_hot", "constant") and text.source in ("series", "both") and self.reads_text:
            raise ValueError(
                f"text.control {text.control} is the same whatever the source: set text.source to label"
            )
        if text.control in ("one_hot", "random") and self.reads_concepts:
            raise ValueError(
                f"text.control {text.control} takes the words away, and losses.sub_action reads them: "
                "set it to 0 and model.sub_actions to none"
            )
        if text.source == "both" and self.reads_concepts and not self.reads_text:
            raise ValueError("sub-actions alone read no caption: set text.source to label")
        if text.source == "series":
            if self.reads_text and text.control == "shuffled_classes":
                raise ValueError(
                    "text.control shuffled_classes shuffles classes, and captions of text.source series "
                    "know none: try shuffled_samples or random"
                )
            by_class = ("ce_guided_series", "ce_guided_text", "sub_action")
            if on := [f"losses.{name}" for name in by_class if getattr(self.losses, name)]:
                raise ValueError(
                    f"{', '.join(on)} read the class that a text was made for, and captions of text.source "
                    "series were made for none: set text.source to label or both"
                )

    def check_primary(self, representation: str) -> None:
        """Raise ValueError if the model has no such representation."""
        if self.baseline == "none" and representation == "histogram" and self.model.quantizer == "none":
            raise ValueError("quantizer none has no histogram of codes: make tokens or pooled primary")

    def cell(self, seed: int, fold: int, representation: Representation) -> "RunConfig":
        """This config at one seed and one fold, with that primary representation."""
        data = self.data.model_copy(update={"fold": fold})
        probe = self.probe.model_copy(update={"representation": representation})
        return self.model_copy(update={"seed": seed, "data": data, "probe": probe})

    def unused(self) -> set[str]:
        """Dotted names of the settings that this config never reads; they leave the signature."""
        model, losses, guidance = self.model, self.losses, self.model.guidance
        out: set[str] = set()
        out |= NOT_READ[self.baseline]
        if not self.reads_text:
            out |= {"text.form", "text.tokens", "text.subject_info"} if self.reads_concepts else {"text"}
        if guidance.attention == "none":
            out |= {f"model.guidance.{name}" for name in type(guidance).model_fields if name != "attention"}
        if guidance.attention == "one_way":
            out.add("model.guidance.merge")
        if not losses.text_recon:
            out.add("losses.text_recon_level")
        if not losses.sub_action:
            out.add("losses.sub_action_target")
        if model.quantizer not in LEARNS:
            out.add("model.codebook_weight")
        if model.quantizer not in DISTRIBUTES:
            out |= {"model.entropy_weight", "model.entropy_gamma", "losses.vq"}
        if model.quantizer == "none":
            out.add("model.codes")
        if not losses.consistency or "z" not in guidance.into:
            out.add("losses.consistency_temperature")
        if self.text.control in ("constant", "one_hot"):
            out |= {"text.form", "text.subject_info"}
            if not self.reads_concepts:
                out.add("text.bank")
        if self.text.control == "one_hot" and not self.reads_concepts:
            out.add("text.encoder")
        if self.text.source == "series":
            out |= {"text.form", "text.bank", "text.subject_info"}
        if guidance.attention == "none" and not losses.contrasts and not model.text_codes:
            out.add("text.tokens")
        if not model.entropy_weight:
            out.add("model.entropy_gamma")
        kfold = self.data.split in ("subject_kfold", "leaky_random")
        out.add("data.validation_frac" if kfold else "data.folds")
        if self.data.length is None:
            out.add("data.resize")
        if self.train.select == "last":
            out.add("train.validate_every")
        return out
