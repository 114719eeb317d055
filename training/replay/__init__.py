"""`samediff what-if`: a log's calls played again under another policy, with the caches that would have been.

book -> arms -> bill (the logged policy must reproduce the bill) -> walk -> money and quality -> advice.
"""
