"""What the names in a config stand for: raw data, texts and an encoder, as files and as digests."""

from pathlib import Path

from experiments import data, encoder, words
from experiments.config import RunConfig, TextConfig
from experiments.identity import FileDigests
from experiments.ledger import Store


class Named:
    """Looks everything up once."""

    def __init__(self, store: Store) -> None:
        self.files = FileDigests(store.cache)
        self.encoders: dict[str, list[Path]] = {}
        self.known: dict[tuple[str, tuple[TextConfig, bool, bool] | None], dict[str, str | None]] = {}

    def encoder(self, name: str) -> list[Path]:
        """The encoder's files; raises ValueError where they are not there."""
        if name not in self.encoders:
            try:
                self.encoders[name] = encoder.files(name)
            except OSError as error:
                raise ValueError(str(error)) from None
        return self.encoders[name]

    def digests(self, config: RunConfig) -> dict[str, str | None]:
        """What the config's names stand for: the raw data, the texts and the encoder's files."""
        entry, reads = data.entry(config.data.name), config.reads_text or config.reads_concepts
        text = (config.text, config.reads_text, config.reads_concepts) if reads else None
        if (entry.name, text) not in self.known:
            found: dict[str, str | None] = {"text": None, "encoder": None}
            found["data"] = data.data_digest(self.files.of(entry.files(data.root())))
            if text:
                if config.reads_encoder:
                    found["encoder"] = self.files.of(self.encoder(config.text.encoder))
                found["text"] = words.read_words(config).digest
            self.known[entry.name, text] = found
        return self.known[entry.name, text]
