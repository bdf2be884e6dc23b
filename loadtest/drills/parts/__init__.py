"""Parts of single drills, beside the harness: cluster nodes, processes, traffic, an empty app."""
