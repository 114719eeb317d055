"""A small bundle trained on public outcomes, for the time before there are any logs."""

from pathlib import Path

PRIOR = Path(__file__).parent
PRIOR_ENCODER = PRIOR / "encoder"  # also what logs are embedded with unless told otherwise
