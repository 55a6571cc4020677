"""Memory, copies and streams of a GPU, for engines that leave that to their caller. No PyTorch."""

from __future__ import annotations

from mlic.runtime.device.array import DeviceArray as DeviceArray
from mlic.runtime.device.device import Device as Device
from mlic.runtime.device.lanes import Lane as Lane
from mlic.runtime.device.lanes import Lanes as Lanes
