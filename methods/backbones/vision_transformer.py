"""The vision transformer (Dosovitskiy et al., arXiv 2010.11929); its features are those of the class token."""

import functools
import math
from dataclasses import dataclass
from typing import Annotated, cast

import torch
from annotated_types import Ge
from torch import Tensor, nn

LONGEST_WAVE = 10_000.0  # longest wavelength of the positions, in patches. Source: arXiv 1706.03762, 3.5


@dataclass(frozen=True)
class ViTOptions:
    """Vision transformers with square patches."""

    patch_size: Annotated[int, Ge(1)] = 16
    """Side of a patch in pixels; the images' sides must be multiples of it. Source: arXiv 2010.11929, 4.1; 4 is common
    for images of 32 pixels."""


class VisionTransformer(nn.Module):
    """Pre-norm blocks over patches and a class token, whose normalised final state is the feature.

    Positions are fixed sines and cosines of row and column, so that one model takes images of any size. Source of
    positions and initialisation: arXiv 2111.06377 (MAE), appendix A.1. Fixed positions are also used in arXiv
    2104.02057 (MoCo v3), section 5. `width` is that of a token, `heads` is the number per block.
    """

    def __init__(self, options: ViTOptions, *, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.patch_size, self.feature_dim = options.patch_size, width
        self.patches = nn.Conv2d(3, width, kernel_size=options.patch_size, stride=options.patch_size)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        block = functools.partial(nn.TransformerEncoderLayer, dropout=0.0, activation="gelu", layer_norm_eps=1e-6)
        self.blocks = nn.ModuleList(
            block(width, heads, 4 * width, batch_first=True, norm_first=True) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self._initialise()

    def forward(self, images: Tensor) -> Tensor:
        """Return features [N, D]. ValueError if the images cannot be divided into whole patches."""
        height, width = images.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(f"images of {height} x {width} pixels cannot be divided into patches of {self.patch_size}")
        patches = self.patches(images)
        rows, columns = patches.shape[-2:]
        positions = sine_positions(rows, columns, self.feature_dim, patches.device).to(patches.dtype)
        tokens = patches.flatten(2).transpose(1, 2) + positions
        tokens = torch.cat([self.class_token.to(tokens.dtype).expand(len(tokens), -1, -1), tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return cast(Tensor, self.norm(tokens[:, 0]))

    def _initialise(self) -> None:
        for name, weight in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(weight)
            elif "norm" not in name and name != "class_token":
                nn.init.xavier_uniform_(weight.view(len(weight), -1))  # patches too, as a linear layer on pixels
        nn.init.normal_(self.class_token, std=0.02)


def sine_positions(rows: int, columns: int, width: int, device: torch.device) -> Tensor:
    """Return float32 [rows * columns, width]: sines and cosines of the row, then those of the column."""
    waves = torch.exp(torch.arange(width // 4, device=device) * (-4 * math.log(LONGEST_WAVE) / width))
    row, column = (torch.arange(count, device=device)[:, None] * waves for count in (rows, columns))
    by_row = torch.cat([row.sin(), row.cos()], dim=1)[:, None].expand(-1, columns, -1)
    by_column = torch.cat([column.sin(), column.cos()], dim=1)[None].expand(rows, -1, -1)
    return torch.cat([by_row, by_column], dim=2).flatten(0, 1)
