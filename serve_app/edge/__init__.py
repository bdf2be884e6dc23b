"""HAProxy rules and middleware in front of Serve.

Serve starts the program ``tsfm-haproxy`` instead of HAProxy: it adds our rules to Serve's
configuration.
``before_serve.middlewares`` drops headers that Serve would obey.
"""
