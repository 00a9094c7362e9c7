"""Files that are read beside another, by its name."""

from __future__ import annotations

ADAPTER = "adapter_model"
"""How PEFT calls the file of a LoRA, without its extension."""
ADAPTER_CONFIG = "adapter_config.json"
"""What it writes beside it."""
BESIDE = {ADAPTER: ADAPTER_CONFIG}
"""By a name without its extension, what is read beside it, where it is there."""
