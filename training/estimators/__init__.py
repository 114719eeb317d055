"""What a policy would have earned, from what another one logged: estimates, intervals, and when to refuse.

bandit -> scores (a number a decision, whose mean is the estimate) -> intervals -> estimate, the answer.
"""
