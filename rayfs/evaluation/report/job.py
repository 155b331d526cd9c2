"""The report job: build the report of a run from its directory."""

from rayfs.command_line import EXIT_OK
from rayfs.durable_files import write_durably
from rayfs.errors import InputError
from rayfs.evaluation.report.build import REPORT, build_report, write_report
from rayfs.evaluation.report.config import ReportConfig
from rayfs.evaluation.run_directory import RunDirectory


def run_report(config: ReportConfig) -> int:
    """Build the report, write it where the flags say, and return the exit code.

    Raises:
        InputError: there is no run, it is damaged or another process writes it, or the file cannot be written.
    """
    from rayfs.benchmarks.tables import cache_folder  # it imports torch

    run = RunDirectory(config.run)
    if config.out is None:
        with run.reopen():
            write_report(run, cache_folder())
        print(f"{REPORT}, table.csv, table.md and table.tex: {run.location}")
        return EXIT_OK
    content = build_report(run, cache_folder())[REPORT]
    try:
        write_durably(config.out, content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise InputError(f"--out {config.out}: cannot write it ({error.strerror})") from None
    print(f"report: {config.out}")
    return EXIT_OK
