"""The FastAPI layer: parse, decide, forward, log."""
