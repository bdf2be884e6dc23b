"""Which requests share a runtime call, and when the call starts.

``item_router.ItemRouter`` answers one item in a Runner replica: cache, breaker, runtime, queue.
``dispatcher.Dispatcher`` holds the queues and starts calls. The decisions are in ``queue``,
``batch_policy`` (which items are sent, which may wait, whether a free slot waits for more) and
``latency_model`` (how long a call takes).
``batch_call.BatchCall`` is one call, from requests to bands.
"""
