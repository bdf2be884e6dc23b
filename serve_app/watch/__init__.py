"""Which markets have left their normal range, and how are people told?

Each cycle reads a source (`sources`), has the newest prices checked by the service in one batch
(`cycle`), decides which alerts follow (`alerts`), and records them together with the state of
their markets (`journal`), from which they are delivered (`delivery`).
"""
