"""Parsing of long bodies without blocking the event loop.

In ``forecast``, ``parse_forecast`` reads one request and ``read_batch`` a batch; both yield
to the event loop between slices of work.
"""
