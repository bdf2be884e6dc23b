"""Parsing of long bodies without blocking the event loop.

``forecast.parse_forecast`` reads one request, ``batch.read_batch`` a batch item by item; both yield
to the event loop between slices of work.
"""
