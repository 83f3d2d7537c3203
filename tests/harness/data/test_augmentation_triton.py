"""The kernel's views equal `training_view`'s: by Triton's interpreter on any machine, compiled on a GPU."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import views_by_kernel
from views_by_kernel import CASES, RECIPES, differences

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs triton")


@needs_triton
@pytest.mark.slow
def test_the_kernels_views_are_training_views_in_every_batch() -> None:
    done = subprocess.run(
        [sys.executable, Path(views_by_kernel.__file__)],
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.keys() == CASES.keys()
    assert {name: row for name, row in found.items() if row["from training_view"] > 2e-6} == {}
    assert {name: row for name, row in found.items() if row["in another batch"] > 0} == {}
    assert {name: row for name, row in found.items() if row["in bfloat16"] > 2**-7} == {}  # the interpreter cuts off


@needs_triton
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.filterwarnings("default")  # libraries of another machine warn of other things
@pytest.mark.parametrize("name", [*CASES, "SimCLR, 224", "BYOL, 256 to 224"])
def test_a_gpus_kernel_gives_training_views_in_every_batch(name: str) -> None:
    large = {"SimCLR, 224": ("SimCLR", 6, 224, 224, 224, None), "BYOL, 256 to 224": ("BYOL", 6, 256, 256, 224, None)}
    recipe, *rest = (CASES | large)[name]
    found = differences(RECIPES[recipe], *rest, device="cuda")
    assert found["from training_view"] < 2e-5 and found["in another batch"] == 0 and found["in bfloat16"] <= 2**-8


@needs_triton
def test_a_blur_wider_than_the_view_is_refused() -> None:
    from twinbench.harness.data.augmentation_triton import view_by_kernel  # as it is: nothing is launched

    with pytest.raises(ValueError, match="a blur of 7 pixels needs a view of more than 3 pixels, not 3"):
        images = torch.zeros((1, 3, 3, 3), dtype=torch.uint8)
        view_by_kernel(images, None, RECIPES["blur"], 3, views_by_kernel.RULE, torch.float32)  # type: ignore[arg-type]
