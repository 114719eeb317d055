"""A router against every control on a full-outcome matrix: `samediff evaluate`."""

from training.evaluate.options import Options
from training.evaluate.run import run
from training.evaluate.table import render

__all__ = ["Options", "render", "run"]
