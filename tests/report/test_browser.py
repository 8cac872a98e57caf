"""The report's page in a real browser: no line runs out of a screen, whether of a phone or of a desk."""

import functools
import http.server
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.report import contents, pages
from tests.builders.report import HUNDRED, NAMES, scaling, study

pytestmark = pytest.mark.browser

# The page in a frame as wide as a screen, which says how wide its content is.
FRAME = """<!doctype html><iframe id="page" src="page.html" style="width: {width}px; height: 800px; border: 0"></iframe>
<script>
page.onload = () => document.title = `${{page.contentDocument.documentElement.scrollWidth}} pixels`
</script>"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture(scope="module", params=[NAMES, HUNDRED], ids=["10 classes", "100 classes"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder with the page, and its address."""
    folder = tmp_path_factory.mktemp("site")
    made = study(request.param, scaled=scaling())
    (folder / "page.html").write_text(pages.as_html(contents.report(made)), encoding="utf-8")
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def opened(address: str, profile: Path) -> str:
    """The document that a browser has at `address` once its scripts ran."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    assert browser, "no browser: install chromium (.ci/packages.txt)"
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
    command = (browser, *options, f"--user-data-dir={profile}", "--virtual-time-budget=10000", "--dump-dom", address)
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_runs_out_of_the_screen(site: tuple[Path, str], tmp_path: Path, width: int) -> None:
    folder, address = site
    (folder / "frame.html").write_text(FRAME.format(width=width))
    (found,) = re.findall(r"<title>(\d+) pixels</title>", opened(f"{address}/frame.html", tmp_path / "profile"))
    assert int(found) <= width
