"""What single drills need beside the harness: cluster nodes, processes, traffic, an empty app."""
