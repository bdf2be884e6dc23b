"""Which requests share a runtime call, and when it leaves.

``item_router.ItemRouter`` answers one item in a Runner replica: its cache, the breaker, a runtime,
the queue. ``dispatcher.Dispatcher`` holds the queues and starts calls; the decisions are in
``batch_policy`` (which items travel, which may wait) and ``latency_model`` (how long a call takes).
``batch_call.BatchCall`` is one call, from requests to bands.
"""
