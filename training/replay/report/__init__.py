"""What is answered: rows and comparisons, advice and caveats, on the terminal and as a page."""
