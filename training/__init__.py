"""Offline work on top of everything: reading logs, labels, fitting, evaluation."""
