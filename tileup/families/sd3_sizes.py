"""What SD 3 and its ControlNets share, and no file tells."""

from __future__ import annotations

from tileup.families.family import Latents

HEAD = 64
"""Features of an attention head in SD 3, whose file does not tell."""
TRAINING_STEPS = 1000
"""The network is told the flow time in thousandths."""
LATENTS = Latents(1.5305, 0.0609)
