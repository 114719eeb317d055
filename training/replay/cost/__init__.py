"""What the log was billed, and what a route would have cost along its own caches, at rates in force."""
