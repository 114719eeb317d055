"""`samediff what-if`: a log's calls played again under other policies, with the caches that would have been.

`logged` reads the calls, the arms that could have answered them and what is believed of these; `cost` tells
what a route costs and whether the logged one meets the bill; `quality` what is known of its answers;
`reading` and `stage` set that up, `policies` are played on it, `report` says what came of it; `run` is the
list of steps. Imports run one way: command, run, report, policies, stage, reading, quality, cost, logged.
"""
