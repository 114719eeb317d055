"""How good a policy's answers would have been: the log's evidence, estimates on it, and their intervals."""
