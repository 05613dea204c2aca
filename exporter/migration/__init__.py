"""The way of a cluster to dual-stack: phases in their order, what is missing of each, and what to do about it. Pure.

plan.py has the table of phases and steps and makes a Migration of an inventory; infrastructure.py and workloads.py
judge the steps, mostly by asking the rules of diagnosis/; advice.py has the commands by distribution and CNI.
"""
