"""``python -m loadtest.faults``: is there a valid answer in time, whatever the runtime does?"""
