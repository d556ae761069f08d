"""The documentation builds strictly, loads nothing from the network, and its reference is complete."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from jobs.command_line.flags import flags_of
from motions.base.public_names import public_names

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
LAYERS = ("motions", "envs", "rollouts", "rewards", "learners", "cluster")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site: a warning (a broken link, an unknown docstring section) fails it, as in `make docs`."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Loads(HTMLParser):
    """Addresses that a browser loads by itself when it shows a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "link" and values.get("rel") not in ("canonical", "prev", "next"):
            self.addresses.append(values.get("href") or "")
        elif tag != "a":
            self.addresses.append(values.get("src") or "")


def test_pages_load_nothing_from_the_network(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        loads = Loads()
        loads.feed(page.read_text(encoding="utf-8"))
        strange = [address for address in loads.addresses if re.match(r"(https?:)?//", address)]
        assert not strange, f"{page.relative_to(site)} loads {strange}"
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", style.read_text(encoding="utf-8")), style


def test_the_reference_names_every_option_and_every_public_name(site: Path) -> None:
    sys.path.insert(0, str(ROOT / "docs" / "scripts"))
    try:
        from reference import JOBS, load  # pyright: ignore[reportMissingImports]
    finally:
        sys.path.pop(0)
    commands = {path.stem for path in (ROOT / "jobs").glob("*.py") if "__main__" in path.read_text(encoding="utf-8")}
    assert commands == set(JOBS), "each command has a page: docs/scripts/reference.py and mkdocs.yml list them"
    for job, place in JOBS.items():
        page = (site / "reference" / "options" / f"{job}.html").read_text(encoding="utf-8")
        assert "\\<" not in page and "\\_" not in page, f"jobs.{job}: a backslash is shown"
        missing = [flag.name for flag in flags_of(load(place)).values() if f'<h4 id="{flag.name}">' not in page]
        assert not missing, f"jobs.{job}: {missing}"
    for layer in LAYERS:
        page = (site / "reference" / "api" / f"{layer}.html").read_text(encoding="utf-8")
        missing = [name for name, module in public_names(layer).items() if f'id="{module}.{name}"' not in page]
        assert not missing, f"{layer}: {missing}"


@pytest.mark.browser
def test_no_page_scrolls_sideways_on_a_phone(site: Path, chromium: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 844})
        wide = []
        # Addresses of the page for missing ones are those of a server's root.
        for path in sorted(set(site.rglob("*.html")) - {site / "404.html"}):
            page.goto(path.as_uri())
            if page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
                wide.append(path.relative_to(site).as_posix())
        browser.close()
    assert not wide


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120
