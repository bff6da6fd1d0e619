"""`fastsr bench`: speed and memory on this machine, alone or beside other engines.

Every engine runs in a worker process of its own (worker.py), so that none disturbs another's threads or memory.
The parent (measure.py) asks them in turn, round by round. peers/ has one file for each competitor, cases.py the
named cases with the bars that FastSR sets itself.
"""
