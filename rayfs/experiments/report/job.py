"""The report job: build the report of a run from its directory."""

from rayfs.durable_files import write_durably
from rayfs.errors import InputError
from rayfs.experiments.report.flags import ReportConfig
from rayfs.flags.command_line import EXIT_OK
from rayfs.reports.episodes.build import REPORT, build_report, write_report
from rayfs.runs.run_directory import RunDirectory


def run_report(config: ReportConfig) -> int:
    """Build the report, write it where the flags say, and return the exit code.

    Raises:
        InputError: there is no run, it is damaged or another process writes it, or the file cannot be written.
    """
    from rayfs.datasets.image_table import cache_folder  # it imports torch

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
