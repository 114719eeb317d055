"""Whom a replay plays: served policies walked turn by turn, pins and other controls, what they come to."""
