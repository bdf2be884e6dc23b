"""What stands between a caller and Serve.

``haproxy`` is the program that Serve starts instead of HAProxy: it adds our rules to Serve's
configuration. ``before_serve.middlewares`` drops headers that Serve would obey.
"""
