"""Training windows as an epoch shows them: their order, and their augmentation (Um et al. 2017, arXiv
1706.00527), drawn anew each time.

W windows, B of a step, M channels, T steps.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from experiments.config import AugmentConfig, RunConfig
from experiments.data.side import Side
from model.streams import generator

KNOTS = 4


def shown(
    config: RunConfig, side: Side, epoch: int, augment: "Augment | None"
) -> tuple[Tensor, Iterator[Tensor]]:
    """The epoch's order of the side's windows (W,), on the CPU, and the windows in that order (B, M, T), step
    by step, augmented. Both hang on (seed, epoch) alone."""
    order = torch.randperm(len(side), generator=generator(config.seed, epoch, "order"))
    parts = side.parts(order.numpy(), config.train.batch_size)
    if augment is None:
        return order, parts
    change = generator(config.seed, epoch, "augment")
    return order, (augment(x_BMT, change) for x_BMT in parts)


class Augment:
    """`config` on raw windows whose channels have mean and deviation mean_M, std_M in training. triads: for
    each placement, the places of x, y and z of each of its sensors, which turn together."""

    def __init__(
        self, config: AugmentConfig, mean_M: Tensor, std_M: Tensor, triads: list[list[list[int]]]
    ) -> None:
        self.config, self.triads = config, triads
        self.mean, self.std = mean_M[:, None], std_M[:, None]

    def __call__(self, x_BMT: Tensor, generator: torch.Generator) -> Tensor:
        """Everything random comes from `generator`, a CPU one; the same draws whatever the device."""
        config, (windows, channels, _) = self.config, x_BMT.shape

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator).to(x_BMT)

        if config.rotation_deg:
            x_BMT = self.rotated(x_BMT, generator)
        if config.scaling:
            x_BMT = x_BMT * (1 + config.scaling * normal(windows, channels, 1))
        if config.time_warp:
            x_BMT = warped(x_BMT, config.time_warp * normal(windows, KNOTS))
        if config.jitter:
            x_BMT = x_BMT + config.jitter * self.std * normal(*x_BMT.shape)
        if config.channel_drop:
            draw = torch.rand(windows, channels, 1, generator=generator).to(x_BMT)
            x_BMT = torch.where(draw < config.channel_drop, self.mean, x_BMT)
        return x_BMT

    def rotated(self, x_BMT: Tensor, generator: torch.Generator) -> Tensor:
        """Each placement about an axis of its own, evenly drawn, by an angle of up to `rotation_deg`."""
        x_BMT = x_BMT.clone()
        for sensors in self.triads:
            axis_B3 = torch.randn(len(x_BMT), 3, generator=generator)
            largest = math.radians(self.config.rotation_deg)
            angle_B = largest * (2 * torch.rand(len(x_BMT), generator=generator) - 1)
            turn_B33 = rotation(axis_B3, angle_B).to(x_BMT)
            for places in sensors:
                x_BMT[:, places] = turn_B33 @ x_BMT[:, places]
        return x_BMT


def rotation(axis_B3: Tensor, angle_B: Tensor) -> Tensor:
    """Rodrigues' formula: I + sin(a) K + (1 - cos(a)) K^2 (B, 3, 3), for axes of any length above 0."""
    x, y, z = (axis_B3 / axis_B3.norm(dim=1, keepdim=True)).unbind(1)
    zero = torch.zeros_like(x)
    k_B33 = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).view(-1, 3, 3)
    sin, cos = angle_B.sin()[:, None, None], angle_B.cos()[:, None, None]
    return torch.eye(3) + sin * k_B33 + (1 - cos) * k_B33 @ k_B33


def warped(x_BMT: Tensor, change_BJ: Tensor) -> Tensor:
    """Time runs at 1 + change at J evenly spaced knots, linearly between them, never slower than a tenth,
    and ends where it ended."""
    _, channels, steps = x_BMT.shape
    change_BT = interpolate(change_BJ[:, None], steps, mode="linear", align_corners=True)[:, 0]
    speed_BT = (1 + change_BT).clamp(min=0.1)
    at_BT = speed_BT.cumsum(1) - speed_BT[:, :1]
    at_BT = at_BT / at_BT[:, -1:] * (steps - 1)
    left_BT = at_BT.long().clamp(max=steps - 2)
    part_B1T = (at_BT - left_BT)[:, None]
    left_BMT = left_BT[:, None].expand(-1, channels, -1)
    return x_BMT.gather(2, left_BMT) * (1 - part_B1T) + x_BMT.gather(2, left_BMT + 1) * part_B1T
