"""How processes call each other: Serve handles, and the two actors with their clients.

``clients`` holds the ways from an Ingress to Runner and Baseline; items that leave together share a
call (``call_coalescer``, ``item_batch``). ``breaker_client`` and ``learning_client`` keep a replica
in step with their actors.
"""
