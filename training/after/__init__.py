"""Success after a cheap answer: what its own edit, its run and others' agreement say that the prompt can't.

rows (aligned answers) -> heads (two probabilities) -> an escalation worth its price.
"""
