"""How bodies of any length are read without holding the event loop.

``forecast.parse_forecast`` reads one request, ``batch.read_batch`` a batch item by item; both give
other requests a turn between slices of work.
"""
