"""Failed cells in words: how often which failure, row by row."""

import pandas as pd

WORDS = ("diverged", "out of memory", "crashed", "timed out", "error", "failed")  # "failed": told no word
ERRORS = 5  # of a sweep that fails in many ways, the most frequent


def by_row(frame: pd.DataFrame) -> dict[str, str]:
    """Row -> "2 diverged, 1 out of memory", in the frame's order; rows without a failure are left out."""
    failed = frame[frame["status"] == "failed"]
    counts = pd.crosstab(failed["row"], failed["failure"])
    words = [word for word in WORDS if word in counts] + sorted(set(counts) - set(WORDS))
    return {
        str(row): ", ".join(f"{counts.at[row, word]} {word}" for word in words if counts.at[row, word])
        for row in failed["row"].unique()
    }


def notes(frame: pd.DataFrame) -> list[str]:
    """How many cells failed, of each row in words, and the most frequent errors with their rows."""
    failed = frame[frame["status"] == "failed"]
    if failed.empty:
        return []
    each = "; ".join(f"{row} {words}" for row, words in by_row(frame).items())
    lines = [f"Failed cells, {len(failed)} of {len(frame)}: {each}."]
    errors = failed["error"].str.slice(0, 120)
    counts = sorted(errors.value_counts().items(), key=lambda item: (-item[1], str(item[0])))
    for error, _ in counts[:ERRORS]:
        lines.append(f"Failed with {error!r}: {', '.join(failed.loc[errors == error, 'row'].unique())}.")
    if rest := counts[ERRORS:]:
        lines.append(f"Failed with {len(rest)} other errors: {sum(count for _, count in rest)} cells.")
    return lines
