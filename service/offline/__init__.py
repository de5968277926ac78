"""Files instead of requests: tables, arrays and folders of pictures through the same engine.

    readers (csv, npy, parquet, pictures)   bytes of a file -> chunks of rows
    pipeline                                chunks -> answers, several in flight, order kept
    writers (csv, npy, parquet, pictures)   answers -> bytes of a file

Memory does not grow with the file: a chunk is a few hundred rows, and few are in flight.
"""
