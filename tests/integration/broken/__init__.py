"""Applications whose actors cannot start, for the tests of fail-open."""
