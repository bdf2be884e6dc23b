"""Rolling-origin evaluation of bands on files of real prices, and calibration fitted on them.

    extras       libraries that not everybody has installed
    market_file  CSV or Parquet to markets; everything that is wrong with a file is found here
    windows      where forecasts start, what they see, what came; which are held out
    references   forecasts that everything has to beat, vectorised
    forecasters  every source of bands by name: baseline, references, statsforecast
    service      bands of a running service, over HTTP
    store, run   results kept on disk, so that a run can be taken up where it ended; processes
    scores       per window and step, from scoringrules
    summary      scores by step and segment, as plain values for JSON
    held_out     calibration fitted on one part, judged on the other
    table, plots, page   the same summary for the terminal and as HTML

Prices are probabilities; axes are B windows, T past steps, H future steps, Q levels.
"""
