"""Who is on which side of a split. Deterministic: the same windows and settings give the same sides.

W windows.
"""

from typing import NamedTuple

import numpy as np

from experiments.config import DataConfig
from experiments.data.windows import Windows


class Split(NamedTuple):
    """Window indices; no subject and no recording is on two sides, `leaky_random` excepted."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


def split(windows: Windows, amount: dict[int, int], config: DataConfig) -> Split:
    """The sides of fold `config.fold`; raises ValueError where one is empty or two share anybody."""
    sides = _sides(windows, amount, config)
    _check(windows, sides, config)
    return sides


def _sides(windows: Windows, amount: dict[int, int], config: DataConfig) -> Split:
    """official: validation is whole subjects of the official training windows; where none are known, whole
    recordings, or a stratified part if each window is its own. subject_kfold: test is this fold's subjects,
    validation the next fold's; folds are balanced by what each subject recorded. leave_one_subject_out: test
    is one subject, validation a part of the others. leaky_random: windows at random, so that a subject, a
    recording and even parts of a window are on several sides: to show what that does, never to report.
    """
    match config.split:
        case "official":
            train = np.flatnonzero(windows.official == 0)
            test = np.flatnonzero(windows.official == 1)
            return Split(*_validation(windows, train, config.validation_frac, 0), test)
        case "subject_kfold":
            folds = _subject_folds(amount, config.folds)
            test, val = folds[config.fold], folds[(config.fold + 1) % config.folds]
            in_test, in_val = np.isin(windows.subject, test), np.isin(windows.subject, val)
            return Split(*(np.flatnonzero(side) for side in (~in_test & ~in_val, in_val, in_test)))
        case "leave_one_subject_out":
            left_out = sorted(amount)[config.fold]
            rest = np.flatnonzero(windows.subject != left_out)
            test = np.flatnonzero(windows.subject == left_out)
            return Split(*_validation(windows, rest, config.validation_frac, config.fold), test)
        case "leaky_random":
            from sklearn.model_selection import StratifiedKFold

            shuffled = StratifiedKFold(config.folds, shuffle=True, random_state=0)
            parts = [test for _, test in shuffled.split(windows.label, windows.label)]
            test, val = parts[config.fold], parts[(config.fold + 1) % config.folds]
            rest = np.setdiff1d(np.arange(len(windows.label)), np.concatenate([test, val]))
            return Split(rest, val, test)


def _subject_folds(amount: dict[int, int], folds: int) -> list[np.ndarray]:
    from sklearn.model_selection import GroupKFold

    group = np.repeat(list(amount), list(amount.values()))
    return [np.unique(group[test]) for _, test in GroupKFold(folds).split(group, groups=group)]


def _validation(windows: Windows, rows: np.ndarray, frac: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Training and validation among `rows`: whole subjects where there are several, else whole recordings
    where any has several windows, else a stratified part. Raises ValueError for a single recording."""
    from sklearn.model_selection import GroupShuffleSplit, StratifiedShuffleSplit

    subject, session, label = (part[rows] for part in (windows.subject, windows.session, windows.label))
    group = subject if subject.min(initial=0) >= 0 and len(np.unique(subject)) > 1 else session
    count = len(np.unique(group))
    if count == 1:
        raise ValueError("validation can't be taken from a single recording: choose another data.split")
    if count < len(rows):
        cut = GroupShuffleSplit(1, test_size=frac, random_state=seed)
        train, val = next(cut.split(rows, groups=group))
    else:
        train, val = next(StratifiedShuffleSplit(1, test_size=frac, random_state=seed).split(rows, label))
    return np.sort(rows[train]), np.sort(rows[val])


def _check(windows: Windows, sides: Split, config: DataConfig) -> None:
    """Raise ValueError for an empty side, and for what is on two sides."""
    for side, rows in sides._asdict().items():
        if not len(rows):
            raise ValueError(
                f"fold {config.fold} of data.split {config.split} has no {side} window: the data has no such "
                "part, or a subject no stretch that is long enough"
            )
    if config.split == "leaky_random":
        return
    for field in ("subject", "session"):
        number = getattr(windows, field)
        of = [set(number[rows][number[rows] >= 0].tolist()) for rows in sides]
        if both := (of[0] | of[1]) & of[2]:
            raise ValueError(
                f"{field} {min(both)} is in training and in test of data.split {config.split}: choose a "
                "split by subject, or leave its number out if it is none"
            )
