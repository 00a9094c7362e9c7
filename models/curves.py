"""Draws `training.png` from `log.csv`, and `texture.png` from `texture.csv`: `make curves`."""

from __future__ import annotations

import csv
from pathlib import Path

from matplotlib.figure import Figure

HERE = Path(__file__).parent
NAMES = {
    "one": "one step from 0.3",
    "d03": "8 steps from 0.3",
    "d08": "8 steps from 0.8",
    "f08": "4 steps from 0.8",
}
CONTRASTS = {"e02": "4 steps from 0.2", "e08": "4 steps from 0.8"}


STRENGTHS = {"02": "3 steps from 0.2", "05": "from 0.5", "08": "from 0.8"}
"""Suffixes of the figures of the training with texture."""


def main() -> None:
    fidelity()
    if (HERE / "texture.csv").exists():
        texture()


def texture() -> None:
    """Gain, contrast and distance of features of the network that draws texture, by strength."""
    with (HERE / "texture.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    crops = [float(row["crops"]) / 1000 for row in rows]
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    heads = {
        "p": "dB over bicubic, held-out crops, scale 2",
        "e": "contrast against the truth's",
        "f": "distance of features trained against",
    }
    for axes, (kind, head) in zip(figure.subplots(1, 3), heads.items(), strict=True):
        for name, label in STRENGTHS.items():
            axes.plot(
                crops, [float(row[kind + name]) for row in rows], marker="o", ms=3, label=label
            )
        axes.set_ylabel(head)
        axes.set_xlabel("thousand crops seen")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(HERE / "texture.png", dpi=90)


def fidelity() -> None:
    """Gains, contrast and loss of the network that keeps to the source."""
    with (HERE / "log.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    crops = [float(row["crops"]) / 1000 for row in rows]
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    gains, contrast, loss = figure.subplots(1, 3)
    for name, label in NAMES.items():
        gains.plot(crops, [float(row[name]) for row in rows], marker="o", ms=3, label=label)
    gains.axhline(0, color="grey", lw=0.8)
    gains.set_ylabel("dB over bicubic, held-out crops, scale 2")
    gains.legend()
    measured = [row for row in rows if row["e08"]]
    for name, label in CONTRASTS.items():
        contrast.plot(
            [float(row["crops"]) / 1000 for row in measured],
            [float(row[name]) for row in measured],
            marker="o",
            ms=3,
            label=label,
        )
    contrast.set_ylabel("contrast against the truth's")
    contrast.legend()
    loss.plot(crops, [float(row["loss"]) for row in rows], marker="o", ms=3, color="black")
    loss.set_ylabel("training loss")
    for axes in (gains, contrast, loss):
        axes.set_xlabel("thousand crops seen")
        axes.grid(alpha=0.3)
    figure.savefig(HERE / "training.png", dpi=90)


if __name__ == "__main__":
    main()
