"""``python -m loadtest.chaos``: is there a valid answer, whichever process dies or stops?"""
