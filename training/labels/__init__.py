"""Outcomes to labels: all evidence about one answer, combined into a probability with provenance."""

from training.labels.resolve import resolve, shadowed

__all__ = ["resolve", "shadowed"]
