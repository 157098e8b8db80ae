"""Trials that wait for a device."""

from collections import deque
from collections.abc import Callable, Collection


class Queue:
    """In the plan's order; beside them those that need a device for themselves, which come last. stage_of:
    the training of a trial, see `experiments.stage`: two that share it don't run at once."""

    def __init__(self, stage_of: Callable[[str], str | None]) -> None:
        self.stage_of = stage_of
        self.ready, self.alone = deque[str](), deque[str]()

    def __bool__(self) -> bool:
        return bool(self.ready or self.alone)

    def push(self, signature: str, first: bool = False, alone: bool = False) -> None:
        if alone:
            self.alone.append(signature)
        elif first:
            self.ready.appendleft(signature)
        else:
            self.ready.append(signature)

    def pop(self, running: Collection[str], device_busy: bool) -> str | None:
        """The next that may start beside the trials that run, on a device where others run or not."""
        stages = {self.stage_of(signature) for signature in running} - {None}
        for signature in self.ready:
            if self.stage_of(signature) not in stages:
                self.ready.remove(signature)
                return signature
        if self.alone and not self.ready and not device_busy:
            return self.alone.popleft()
        return None
