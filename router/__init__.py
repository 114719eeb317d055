"""How we choose, and the thin layer that serves the choice."""
