"""Which rows do not rebuild their series: scores alone do not show that their codes describe nothing."""

import pandas as pd

R2, LEAST = "val/series_r2", 0.1


def notes(frame: pd.DataFrame) -> list[str]:
    """A sentence that names the rows whose done cells of load.frame's `frame` have a mean R2 below LEAST."""
    if R2 not in frame:
        return []
    of_row = frame[frame["status"] == "done"].groupby("row", sort=False)[R2].mean()
    low = of_row[of_row < LEAST]
    if low.empty:
        return []
    each = ", ".join(f"{row} {value:.2f}" for row, value in low.items())
    return [
        f"Not rebuilt (mean {R2} below {LEAST}): {each}. Next to nothing of what happens within a window "
        "comes back, so codes say little of a series. More epochs, or less of the other losses, may mend it."
    ]
