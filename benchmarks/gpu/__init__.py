"""FastSR on a GPU, checked and timed beside others, in one call and one table: `python -m benchmarks.gpu --help`.

cases.py     what is run, and the bars
entrants.py  who runs it: FastSR's back ends, PyTorch eager and compiled, TensorRT
timing.py    how it is timed, and memory measured; memory.py as the driver sees it
eight_bits.py whether int8 and fp8 pay
checks.py    whether results are right
report.py    the table, written after each step
"""
