"""The Ray deployments and actors: each builds objects of `runner` with the real clock.

All decisions are in `runner`; a deployment adds only the process.
"""
