"""From a snapshot to the causes that hold in it: pure rules over plain values, and what explains what. No I/O, no clock.

A cause is one line of causes.py and one function of the same name, whose docstring says when it holds:

    dns, path                 dns.py (resolvers: aaaa.py, aaaa_signs.py; search lists: searchlist.py; Services:
    service_records.py), path.py node                      node.py, nat.py, tunnel.py
    pod                       pod.py
    cluster                   cluster_*.py, control_plane.py; local.py where a node reports what it sees of a pool's
    setting

rules.py puts them together, verdict.py runs and remembers them, explain.py applies the table explanations.py. Beside
them: families.py and expectation.py (which family works, which is meant to), census.py (how far the cluster is on its
way to dual-stack).
"""
