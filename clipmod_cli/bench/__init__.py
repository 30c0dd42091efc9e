"""Measuring this machine's speed, stage by stage and from files to records.

`measuring.measure` does all of it and returns a `report.Report`. Nothing here judges for anybody: what
models say is thrown away, and no store is written to.
"""
