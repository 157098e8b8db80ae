"""A trial is its resolved config: `RunConfig` holds every setting that names one trial.

Three marks steer the identity (see `identity.py`): `inert(default)` for what can't change a result,
`added(default, leaves_at)` for a field that came later and leaves the hash at that literal value (both in
`model/config.py`), and `RunConfig.unused()` for subtrees that the other settings switch off.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from model.config import DISTRIBUTES, LEARNS, Frozen, LossConfig, ModelConfig, added, inert

Representation = Literal["tokens", "tokens_ze", "histogram", "statistics"]


class DataConfig(Frozen):
    """Which windows, and who is tested."""

    name: Literal["basic_motions", "spar"] = "basic_motions"
    window_s: float | None = Field(None, gt=0, description="None where the data set comes pre-cut")
    overlap_frac: float | None = Field(None, ge=0, lt=1)
    split: Literal["official", "subject_kfold"] = "official"
    folds: int = Field(5, ge=3, description="k of subject_kfold; validation is the next fold's subjects")
    fold: int = Field(0, ge=0)
    validation_frac: float = Field(0.25, gt=0, lt=1, description="stratified part of training, official only")

    @model_validator(mode="after")
    def _check(self) -> "DataConfig":
        cut = self.window_s is not None and self.overlap_frac is not None
        if self.name == "basic_motions":
            if self.window_s is not None or self.overlap_frac is not None:
                raise ValueError("basic_motions comes pre-cut: leave out window_s and overlap_frac")
            if self.split != "official":
                raise ValueError("basic_motions names no subjects: split must be official")
        if self.name == "spar":
            if not cut:
                raise ValueError("spar needs window_s and overlap_frac (4 and 0.5, say)")
            if self.split != "subject_kfold":
                raise ValueError("spar has no official split: split must be subject_kfold")
        if self.fold > self.last_fold:
            raise ValueError(f"fold {self.fold} is above {self.last_fold}, the last of split {self.split}")
        return self

    @property
    def last_fold(self) -> int:
        return 0 if self.split == "official" else self.folds - 1


class TextConfig(Frozen):
    """Which text a training window may see; validation and test never see any."""

    source: Literal["none", "label"] = "label"
    form: Literal["keyword", "sentence", "affirmative", "negative", "sub_actions"] = "sentence"
    control: Literal["none", "shuffled_samples", "constant"] = "none"
    encoder: Literal["minilm"] = "minilm"
    tokens: Literal["native"] | Annotated[int, Field(ge=1)] = "native"


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


class RunConfig(Frozen):
    """Everything that names one trial."""

    data: DataConfig = DataConfig()
    text: TextConfig = TextConfig()
    model: ModelConfig = ModelConfig()
    losses: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()
    probe: ProbeConfig = ProbeConfig()
    baseline: Literal["none", "statistics"] = "none"
    seed: int = Field(0, ge=0)
    threads: int = Field(1, ge=1)
    figures: bool = inert(True)

    @property
    def reads_text(self) -> bool:
        """Whether any part of training may look at the windows' texts."""
        return self.baseline == "none" and self.losses.reads_text(self.model)

    @property
    def reads_concepts(self) -> bool:
        """Whether training looks at the sub-actions of the windows' labels."""
        return self.baseline == "none" and self.losses.sub_action > 0

    @model_validator(mode="after")
    def _check(self) -> "RunConfig":
        if self.baseline != "none":
            return self
        if self.probe.representation == "statistics":
            raise ValueError("probe.representation statistics belongs to baseline: statistics alone")
        self.check_primary(self.probe.representation)
        if (self.reads_text or self.reads_concepts) and self.text.source == "none":
            raise ValueError("guidance or a text loss is on, but text.source is none: set it to label")
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

    def check_primary(self, representation: str) -> None:
        """Raise ValueError if the model has no such representation."""
        if self.baseline == "none" and representation == "histogram" and self.model.quantizer == "none":
            raise ValueError("quantizer none has no histogram of codes: make tokens the primary one")

    def cell(self, seed: int, fold: int, representation: Representation) -> "RunConfig":
        """This config at one seed and one fold, with that primary representation."""
        data = self.data.model_copy(update={"fold": fold})
        probe = self.probe.model_copy(update={"representation": representation})
        return self.model_copy(update={"seed": seed, "data": data, "probe": probe})

    def unused(self) -> set[str]:
        """Dotted names of the settings that this config never reads; they leave the signature."""
        model, losses, guidance = self.model, self.losses, self.model.guidance
        out: set[str] = set()
        if self.baseline == "statistics":
            out |= {"model", "losses", "text", "train", "seed", "probe.representation"}
        if not self.reads_text:
            out |= {"text.form", "text.tokens"} if self.reads_concepts else {"text"}
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
        if self.text.control == "constant":
            out.add("text.form")
        if guidance.attention == "none" and not losses.contrasts and not model.text_codes:
            out.add("text.tokens")
        if not model.entropy_weight:
            out.add("model.entropy_gamma")
        if self.data.split == "official":
            out |= {"data.folds"}
        else:
            out.add("data.validation_frac")
        if self.train.select == "last":
            out.add("train.validate_every")
        return out
