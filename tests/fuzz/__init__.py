"""Bodies made to do harm, by the thousand: `python -m tests.fuzz --help`."""
