"""A step in the load: how soon do Runners come and go, and what do callers notice?"""
