"""What the pages of the repository say of its files is so: links, paths, the tree of rooms, the length of the first."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
)
PATHS = re.compile(r"(?<![\w/.:-])((?:rayfs|jobs|tests|cluster)/[\w./-]+\.(?:py|md|sh|yaml|toml|png|svg))\b")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_paths_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    absent = [link for link in links if link and not (page.parent / link).exists()]
    absent += [path for path in PATHS.findall(text) if not any((near / path).exists() for near in (ROOT, page.parent))]
    assert not absent


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_headings_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)\s#:]*)#([^)\s]+)\)", page.read_text()):
        there = (page.parent / target).read_text() if target else page.read_text()
        headings = re.findall(r"^#+ (.+)$", there, re.MULTILINE)
        assert anchor in {_anchor(heading) for heading in headings}, f"{target}#{anchor}"


def _anchor(heading: str) -> str:
    """Return the address of a heading as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_first_page_is_one_that_people_read_to_its_end() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 200 and len(text.split()) <= 2_000


def test_the_printed_tree_is_the_tree() -> None:
    """Each folder of the package, and the first words of what its `__init__` says of it."""
    printed = re.search(r"```text\n(rayfs/.*?)```", (ROOT / "rayfs" / "README.md").read_text(), re.DOTALL)
    assert printed is not None and printed[1].splitlines() == tree()


def tree() -> list[str]:
    """Return the lines of the tree."""
    lines = []
    for initial in sorted((ROOT / "rayfs").rglob("__init__.py"), key=lambda path: path.parts):
        folder = initial.parent.relative_to(ROOT)
        said = initial.read_text().split('"""')[1].split("\n")[0]
        if len(folder.parts) > 2:
            said = re.split("[:;.]", said)[0]
        name = "  " * (len(folder.parts) - 1) + folder.name + "/"
        lines.append(f"{name:<26} {said}".rstrip())
    return lines


if __name__ == "__main__":
    print("\n".join(tree()))
