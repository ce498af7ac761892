"""Fine-tune a ViT on mixed-resolution tokens: `python finetune.py DATA --tokens 100`; see README.md."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from loop import train
from plots import plot_loss, plot_scores
from quadtok.errors import QuadtokError
from ranks import joined
from settings import parse


def main(words: Sequence[str] | None = None) -> None:
    """One run, and its pictures."""
    try:
        settings = parse(words)
        with joined(settings.device) as ranks:
            run = train(settings, ranks)
            if ranks.is_first and run.step == settings.steps:
                plot_loss(settings.out, settings.out / "loss.png")
                plot_scores(
                    {settings.out.resolve().name: [settings.out]}, run.goal.names[0], settings.out / "scores.png"
                )
    except QuadtokError as problem:
        sys.exit(f"error: {problem}")
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
