"""From a snapshot to the causes that hold in it: pure rules over plain values, and explanation. No I/O, no clock.

engine/ has what all rules share (input, verdict, explanation), rules/ the rules by scope: one function for each Cause
of the model, with its name. Beside them stand the questions that several rules, the catalogue or the digest ask:
expectation.py and families.py (which family is meant to work, and does), census.py (progress of the migration),
endpoints.py, felix.py, ranges.py and vxlan_peers.py.
"""
