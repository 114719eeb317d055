"""A small bundle trained on public outcomes, so that the product decides something before there are any logs."""
