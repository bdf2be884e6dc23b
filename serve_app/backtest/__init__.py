"""Evaluates quantile bands on files of real prices, and fits calibration on them.

``market_file`` reads prices, ``windows`` selects forecast origins, ``forecasters`` and
``service_bands`` make bands, ``scores`` scores them, ``calibration`` checks calibration on held-out
windows, ``report``, ``tables`` and ``page`` show the result. ``job`` joins the first steps of both
commands; ``band_store`` keeps finished bands on disk, so that a run can be continued.

Prices are probabilities; axes are B windows, T past steps, H future steps, Q levels.
"""
