"""Train the bundled checkpoint: `make train DATA=data HOURS=2`, on a CPU or a GPU."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file

from models.held_out import read_held_out, read_trained_on, refuse_held_out, training_files
from models.training.fidelity import Trainer
from models.training.levels import ARCHITECTURE
from models.training.loop import run
from models.training.losses import TEXTURE
from models.training.optimisers import Rate
from models.training.samples import CROP, read_pictures


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--hours", type=float, default=1.0, help="how much longer to train")
    parser.add_argument("--finish", type=int, help="end at this step, whatever the time")
    parser.add_argument(
        "--tail", type=float, default=0.3, help="share of the run in which the rate falls to 0"
    )
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--crop", type=int, default=CROP, help="side of a crop, pixels")
    parser.add_argument("--rate", type=float, default=4e-4, help="learning rate")
    parser.add_argument(
        "--texture", type=float, default=TEXTURE, help="what contrast counts beside pixels"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="threads that make samples")
    parser.add_argument(
        "--workers", type=int, default=torch.get_num_threads(), help="parts of a batch, on a CPU"
    )
    parser.add_argument("--state", type=Path, default=Path("models/state/state.pt"))
    parser.add_argument("--init", type=Path, help="a checkpoint to start from, without a state")
    parser.add_argument("--log", type=Path, default=Path("models/log.csv"))
    parser.add_argument("--out", type=Path, default=Path("models/tileup-small.safetensors"))
    parser.add_argument("--every", type=int, default=500, help="steps between validations")
    return parser.parse_args()


def main() -> None:
    """Train for the given hours from where the last run stopped; export after each validation."""
    arguments = parse_arguments()
    train, validation = read_pictures(arguments.data)
    refuse_held_out(training_files(arguments.data), read_held_out(), read_trained_on())
    trainer = Trainer(
        ARCHITECTURE,
        seed=arguments.seed,
        rate=Rate(arguments.rate),
        device=arguments.device,
        workers=arguments.workers,
        texture=arguments.texture,
    )
    if arguments.state.exists():
        trainer.restore(
            torch.load(arguments.state, map_location=arguments.device, weights_only=True)
        )
    elif arguments.init is not None:
        trainer.start_from(load_file(arguments.init))
    if trainer.workers > 1:
        torch.set_num_threads(1)
    run(trainer, train, validation, arguments)


if __name__ == "__main__":
    main()
