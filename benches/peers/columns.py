"""The engine's formulas over the same columns in numexpr, DuckDB, polars, numpy and numba.

usage: columns.py FOLDER ROWS THREADS; prints one JSON object: {"formula/peer": rows a second}
"""
import json
import os
import sys
import time

folder, rows, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for name in ("POLARS_MAX_THREADS", "NUMEXPR_MAX_THREADS", "NUMEXPR_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[name] = str(threads)

import numpy as np

columns = {name: np.fromfile(f"{folder}/{name}", dtype="f8", count=rows) for name in "abcxy"}
columns |= {name: np.fromfile(f"{folder}/{name}", dtype="i8", count=rows) for name in ("i", "j", "k", "n")}
a, b, c, x, y, i, j, k, n = columns.values()
result = {}


def best(run):
    times = []
    for _ in range(5):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return rows / min(times)


def peer(name):
    def decorate(measure):
        try:
            for formula, rate in measure():
                result[f"{formula}/{name}"] = rate
        except ImportError:
            print(f"{name} is not here, not compared", file=sys.stderr)
        return measure
    return decorate


@peer("numexpr")
def _():
    import numexpr as ne
    ne.set_num_threads(threads)
    formulas = {
        "polynomial": "a*x*x+b*x+c",
        "wave": "sqrt(x*x+y*y)*sin(x)",
        "branches": "where((x>0.5)&(y<0.25), a*x+b*y, where((x*y>=0.1)|(a<b), (x-y)*(x+y)/(c+1.0), b*x*x-c*y+2.0*a))",
        "integers": "i*n*n+j*n+k",
    }
    for name, formula in formulas.items():
        out = np.empty(rows, dtype="i8" if name == "integers" else "f8")
        yield name, best(lambda: ne.evaluate(formula, out=out))


@peer("numpy")
def _():
    if threads > 1:
        return
    yield "polynomial", best(lambda: a * x * x + b * x + c)
    yield "wave", best(lambda: np.sqrt(x * x + y * y) * np.sin(x))
    yield "branches", best(lambda: np.where((x > 0.5) & (y < 0.25), a * x + b * y, np.where((x * y >= 0.1) | (a < b), (x - y) * (x + y) / (c + 1.0), b * x * x - c * y + 2.0 * a)))
    yield "integers", best(lambda: i * n * n + j * n + k)


@peer("polars")
def _():
    import polars as pl
    frame = pl.DataFrame(columns)
    A, B, C, X, Y, I, J, K, N = (pl.col(name) for name in columns)
    formulas = {
        "polynomial": A * X * X + B * X + C,
        "wave": (X * X + Y * Y).sqrt() * X.sin(),
        "branches": pl.when((X > 0.5) & (Y < 0.25)).then(A * X + B * Y).when((X * Y >= 0.1) | (A < B)).then((X - Y) * (X + Y) / (C + 1.0)).otherwise(B * X * X - C * Y + 2.0 * A),
        "integers": I * N * N + J * N + K,
    }
    for name, formula in formulas.items():
        yield name, best(lambda: frame.select(formula))


@peer("duckdb")
def _():
    import duckdb
    import pyarrow as pa
    connection = duckdb.connect()
    connection.execute(f"SET threads={threads}")
    connection.register("arrow", pa.table(columns))
    connection.execute("CREATE TABLE t AS SELECT * FROM arrow")
    formulas = {
        "polynomial": "a*x*x+b*x+c",
        "wave": "sqrt(x*x+y*y)*sin(x)",
        "branches": "CASE WHEN x>0.5 AND y<0.25 THEN a*x+b*y WHEN x*y>=0.1 OR a<b THEN (x-y)*(x+y)/(c+1.0::DOUBLE) ELSE b*x*x-c*y+2.0::DOUBLE*a END",
        "integers": "i*n*n+j*n+k",
    }
    for name, formula in formulas.items():
        # A sum, since a materialised result would measure the copy out of DuckDB.
        yield name, best(lambda: connection.execute(f"SELECT sum({formula}) FROM t").fetchone())
    sweep = "SELECT sum(1.1::DOUBLE*x*x+2.2::DOUBLE*x+3.3::DOUBLE) FROM (SELECT i*1e-7::DOUBLE AS x FROM range(20000000) r(i))"
    yield "sweep", best(lambda: connection.execute(sweep).fetchone()) * 20_000_000 / rows


@peer("numba")
def _():
    if threads > 1:
        return
    import numba

    @numba.njit(error_model="numpy")
    def polynomial(a, b, c, x, out):
        for row in range(x.size):
            out[row] = a[row] * x[row] * x[row] + b[row] * x[row] + c[row]

    @numba.njit(error_model="numpy")
    def wave(x, y, out):
        for row in range(x.size):
            out[row] = np.sqrt(x[row] * x[row] + y[row] * y[row]) * np.sin(x[row])

    out = np.empty(rows)
    polynomial(a, b, c, x, out)
    wave(x, y, out)
    yield "polynomial", best(lambda: polynomial(a, b, c, x, out))
    yield "wave", best(lambda: wave(x, y, out))


print(json.dumps(result))
