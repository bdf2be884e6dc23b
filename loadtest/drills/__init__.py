"""Drills: what does a caller notice when load, processes, nodes or the version change?

One file is one drill, and ``python -m loadtest.drills.NAME`` runs it. ``harness`` is what all of
them share: it starts the service on a stand-in runtime, sends requests, judges answers and tells
the verdict. ``nodes`` builds the cluster of the drills that need several machines.
"""
