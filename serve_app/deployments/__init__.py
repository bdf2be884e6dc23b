"""The Ray classes: a few lines each, that build runner's objects and hand in the real clock.

Their decisions live in `runner`; what a deployment adds is a place to run.
"""
