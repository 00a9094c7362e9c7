"""How ControlNets are told, and what they say of their hints: names of tensors. No torch needed."""

from __future__ import annotations

UNET_PREFIX = "control_model."
"""What names begin with in most files for UNets."""
UNET_UNION = "task_embedding"
"""A tensor of ControlNets that are several in one, with a row for each kind of hint."""
UNET_TILE = 6
"""The kind that is shown the picture itself; only their later version (promax) has it."""
FLUX_HINT = "controlnet_x_embedder.weight"
"""A tensor that files for FLUX.1 have: it reads the hint."""
FLUX_MODES = "controlnet_mode_embedder.weight"
"""A tensor of those that are several in one, with a row for each kind of hint."""
FLUX_TILE = 1
"""The kind that is shown the picture itself: InstantX/FLUX.1-dev-Controlnet-Union."""
SD3_HINT = "pos_embed_input.proj.weight"
"""A tensor that files for SD 3 have: it reads the hint."""
SD3_TEXT = "context_embedder.weight"
"""A tensor of those that read text."""
SD3_KIND = "control_type"
"""A tensor of SD 3.5 large's: which hint it was trained for."""
SD3_KINDS = {1: "edges (canny)", 2: "depth"}
"""Hints that are not the picture itself; 0 is blur."""
Z_IMAGE_LAYERS = "control_layers."
"""What names begin with in files for Z-Image."""
QWEN_BLOCKS = "controlnet_blocks."
"""What they begin with in files for Qwen-Image, as for FLUX.1 and SD 3, ..."""
QWEN_STREAM = "transformer_blocks.0.img_mod.1.weight"
"""... and a tensor that these have besides."""
