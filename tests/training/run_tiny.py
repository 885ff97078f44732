"""Run the tiny training in a process of its own, which a test may kill: python -m tests.training.run_tiny FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

from rtseg.training.loop import TrainedNetwork, train
from rtseg.training.task import EventCallback
from tests.training.scenes import example, recipe, task

EPOCHS = 4


def run(folder: Path | None, report: EventCallback = lambda event: None) -> TrainedNetwork:
    """The run that the tests compare: two training examples, one validation example."""
    training, validation = [example("a", 1), example("b", 2, 300)], [example("c", 3, 300)]
    plan = recipe(train={"epochs": EPOCHS})
    return train(task(plan, training, validation), folder, report)


def wait_in_the_second_epoch(event: dict[str, object]) -> None:
    """Stand still in the middle of epoch 1 until killed, so that the kill always comes after the first checkpoint."""
    if event["epoch"] == 1 and "step" in event:
        print("in epoch 1", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    run(Path(sys.argv[1]), wait_in_the_second_epoch)
