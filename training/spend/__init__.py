"""`samediff cost`: what was paid, what caching saved and lost, where log and price table disagree."""
