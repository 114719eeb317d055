"""`samediff diff`: what reads files and shows verdicts; the judging is pure, in features.diffs."""
