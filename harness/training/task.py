"""What a training is done on, and what its networks compute in."""

from dataclasses import dataclass
from pathlib import Path

import torch

from twinbench.harness.data.images import Images
from twinbench.sweeps.protocol import DatasetRule, Training
from twinbench.sweeps.recipe import ViewRecipe


@dataclass(frozen=True)
class Task:
    """What the loop trains on, and the folder of its state.

    `shares_views`: other trainings take turns with this one and use the same views. `compiles`: the networks are
    compiled, which pays off for a long training on a GPU. `keeps_its_turn`: see UpdateTimer.
    """

    images: Images
    dataset: DatasetRule
    views: tuple[ViewRecipe, ...]
    training: Training
    seed: int
    folder: Path
    device: torch.device
    shares_views: bool = False
    compiles: bool = False
    keeps_its_turn: bool = False

    @property
    def steps_per_epoch(self) -> int:
        """The number of whole batches; the last, smaller one is dropped."""
        return len(self.images) // self.training.batch_size

    @property
    def autocast(self) -> bool:
        """Whether networks run in bf16 autocast."""
        return precision_on(self.device, self.training.precision) == "bf16"

    @property
    def view_dtype(self) -> torch.dtype:
        """The data type of the network's input."""
        return torch.bfloat16 if self.autocast else torch.float32


def precision_on(device: torch.device, precision: str) -> str:
    """Return what networks compute in: bf16, fp32, or tf32 (fp32, with inputs of convolutions cut to 10 bits).

    `auto` means bf16 autocast on GPUs that do not emulate it. tf32 is torch's default for cuDNN on GPUs from Ampere on.
    """
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0):
        return "fp32"
    if precision == "auto":
        return "bf16"
    # Read the flag of convolutions: `cudnn.allow_tf32` raises if only one of the flags that it stands for was set.
    cuts = torch.backends.cudnn.conv.fp32_precision == "tf32"  # type: ignore[attr-defined]
    return "tf32" if cuts else "fp32"
