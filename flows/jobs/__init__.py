"""Jobs: frozen descriptions of work in plain JSON values, each with a `run` that does it.

The command line runs a job as it is; `flows.tracked` runs the same job as a Prefect flow. Nothing
here imports Prefect.
"""
