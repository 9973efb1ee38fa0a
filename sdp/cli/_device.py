"""Which device a command runs on."""

from __future__ import annotations

from enum import Enum

from sdp.cli._errors import CommandError


class Device(str, Enum):
    """What `--device` takes."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


def check_device(device: Device) -> None:
    """Stops the command, with what is missing, when it cannot run on this device.

    `auto` and `cpu` always can: the CPU engine is part of every installation.
    """
    if device is not Device.cuda:
        return
    from sdp.maxcut.placement import engine_on

    try:
        engine_on(device.value)
    except ValueError as error:
        raise CommandError(f"`--device cuda` cannot be used: {error}") from error
