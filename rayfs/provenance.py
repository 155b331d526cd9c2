"""Where a result comes from: versions of what computed it, and the commit of the code."""

import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import rayfs

PACKAGES = ("torch", "torchvision", "timm", "ray", "numpy", "scikit-learn")


def versions() -> dict[str, str]:
    """Return the versions of this package, of Python and of those of `PACKAGES` that are installed."""
    found = {"rayfs": rayfs.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            # The module says more than the installed files: torch's own version names its CUDA.
            found[package] = getattr(sys.modules.get(package), "__version__", None) or version(package)
        except PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """Return the commit of the checkout the package runs from, None where it is none."""
    folder = Path(rayfs.__file__).parents[1]
    if not (folder / ".git").exists():
        return None
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
