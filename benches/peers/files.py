"""One formula over a file in DuckDB or polars.

usage: files.py PEER THREADS INPUT OUTPUT; prints the seconds from opening the input to the closed output
"""
import os
import sys
import time

peer, threads, source, target = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
os.environ["POLARS_MAX_THREADS"] = str(threads)
csv = source.endswith(".csv")

if peer == "duckdb":
    import duckdb
    connection = duckdb.connect()
    connection.execute(f"SET threads={threads}")
    form = "FORMAT csv, HEADER" if csv else "FORMAT parquet"
    start = time.perf_counter()
    connection.execute(f"COPY (SELECT *, price * qty * (1.0 - discount) AS revenue FROM '{source}') TO '{target}' ({form})")
else:
    import polars as pl
    start = time.perf_counter()
    frame = pl.scan_csv(source) if csv else pl.scan_parquet(source)
    frame = frame.with_columns((pl.col("price") * pl.col("qty") * (1.0 - pl.col("discount"))).alias("revenue"))
    (frame.sink_csv if csv else frame.sink_parquet)(target)
print(time.perf_counter() - start)
