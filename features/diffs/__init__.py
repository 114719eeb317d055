"""Diff equivalence, graded: edits of any origin to post-images, to normal forms, to a verdict. Pure."""
