"""The demo: one photograph, enlarged twofold with the shipped model, offline. `make demo` runs it.

The photographs and who made them: docs/demo/README.md.
"""

import json
import sys
import time
from pathlib import Path

from tileup.cli.main import main

PICTURES = Path(__file__).parent.parent / "docs" / "demo"
MIN, MAX = "0.2", "0.8"


def demo(out: Path) -> int:
    """Enlarge the photograph into `out`, and say what came of it."""
    before = PICTURES / "seeding.jpg"
    after, heatmap = out / f"{before.stem}_2x.png", out / f"{before.stem}_2x_heatmap.png"
    plan = out / f"{before.stem}_2x_plan.json"
    print(f"Enlarging {before}, strengths from {MIN} to {MAX}: less than a minute ...", flush=True)
    start = time.perf_counter()
    strengths = ["--min-denoise", MIN, "--max-denoise", MAX]
    companions = ["--heatmap", str(heatmap), "--plan-json", str(plan), "--overwrite"]
    code = main(["upscale", str(before), "-o", str(after), "-s", "2", *strengths, *companions])
    if code:
        return code
    seconds = time.perf_counter() - start
    cost = json.loads(plan.read_text())["cost"]
    spent, uniform = cost["megapixel_steps"], cost["uniform_megapixel_steps"]
    print(
        f"\n  picture   {after}"
        f"\n  heatmap   {heatmap}"
        f"\n  time      {seconds:.0f} s, loading included"
        f"\n  work      {spent:.0f} megapixel-steps; {uniform:.0f} with {MAX} everywhere:"
        f" {1 - spent / uniform:.0%} saved\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(demo(Path(sys.argv[1] if len(sys.argv) > 1 else "demo-out")))
