"""``python -m loadtest.bench``: does the service keep its promises on this machine?"""
