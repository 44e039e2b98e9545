"""The nodes that work on one stage, and processes on them: this machine alone, or those of a Slurm job.

A process on another node is a connection to the agent of that node (`agent.py`): its output comes through it, signals
go through it, and it ends with it, however either end dies. Nothing here knows of Slurm.
"""
