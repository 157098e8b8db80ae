"""What a launch may take."""

import re
import time
from typing import NamedTuple

from experiments.failure import RETRIES

UNITS_S = {"d": 86400, "h": 3600, "m": 60, "s": 1}


class Limits(NamedTuple):
    """retries: of a trial that crashes or hangs; trials: how many are started; time_s: of the launch;
    timeout_s: of a trial without getting on."""

    retries: int = RETRIES
    trials: int | None = None
    time_s: float | None = None
    timeout_s: float = 1800.0

    def over(self, began: float) -> bool:
        """Whether the launch that began then, by the monotonic clock, has had its time."""
        return self.time_s is not None and time.monotonic() - began > self.time_s


def seconds(text: str) -> float:
    """Of e.g. 90s, 30m, 2h30m or 1d. Raises ValueError."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([dhms])", text)
    total = sum(float(number) * UNITS_S[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or total <= 0:
        raise ValueError(f"{text}: expected a time, e.g. 90s, 30m or 2h30m")
    return total
