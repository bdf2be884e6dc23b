"""What single drills need beside the harness: nodes of a cluster, processes, traffic, an empty app."""
