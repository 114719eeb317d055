"""Logs with known truth: what a log of a given size can prove, and test beds for every estimate.

world (who succeeds at what) -> traffic (sessions, turns, tokens) -> play (a logger answers) -> records.
"""
