"""Training: optimizers, the loop around them, and evaluation."""

from fastconv.training.optim import SGD, Adam, Optimizer
from fastconv.training.penalty import add_l2_penalty
from fastconv.training.trainer import Step, accuracy, evaluate, fit, predict

__all__ = [
    "SGD",
    "Adam",
    "Optimizer",
    "Step",
    "accuracy",
    "add_l2_penalty",
    "evaluate",
    "fit",
    "predict",
]
