"""What are the bands without a model? The EWMA baseline.

``ewma_bands.baseline_bands`` makes the bands of a list of requests; the estimates of scale are in
``scale_estimates``.
"""
