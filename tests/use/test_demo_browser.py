"""The page of `make demo` in a real browser: an image is dropped, its answer read; what is none gets its reason."""

import base64
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from src.images import augmentation
from src.images.encoding import png
from src.interface.params import Backbone
from src.models.backbones import load_backbone
from src.transfer.features import freeze
from src.use import demo, nearest
from src.use.answers import answer
from src.use.demo import Server
from tests.builders import exported, registered
from tests.builders.small import PICO, SHIPPED, photo

pytestmark = pytest.mark.browser

SCREENS = {"phone": (390, 844), "desk": (1280, 900)}
SIDE, OWN = exported.SIDE, 3
CARRIED = """([name, content]) => {
  const carried = new DataTransfer(), bytes = Uint8Array.from(atob(content), c => c.charCodeAt(0))
  carried.items.add(new File([bytes], name))
  return carried
}"""
SETTLED = "() => document.querySelector('#said .answer, #said .error')"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from tests.builders.chromium import launched

    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return photo(8, SIDE)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, images: torch.Tensor) -> Iterator[Server]:
    settings = Backbone(name=PICO, weights=str(SHIPPED), resolution=32)
    backbone, folder = load_backbone(settings, seed=0), tmp_path_factory.mktemp("study")
    with torch.inference_mode():
        known = freeze(backbone.network)(augmentation.render(images, backbone.view))
    registered.leave_features(folder, settings, known, images)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        neighbours = nearest.load(exported.CLASSES, SIDE)
    with Server(0, exported.model(), neighbours) as found:
        threading.Thread(target=found.serve_forever, args=(0.02,), daemon=True).start()
        yield found
        found.shutdown()


@pytest.fixture(params=[(screen, scheme) for screen in SCREENS for scheme in ("light", "dark")], ids="-".join)
def page(request: pytest.FixtureRequest, chromium: Any, server: Server) -> Iterator[Any]:
    """The page, which asks nobody but its server and complains of nothing."""
    screen, scheme = request.param
    width, height = SCREENS[screen]
    found = chromium.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    address, said, asked = f"http://127.0.0.1:{server.server_address[1]}/", list[str](), set[str]()
    found.on("pageerror", lambda error: said.append(str(error)))
    found.on("request", lambda each: asked.add(each.url))
    found.goto(address)
    yield found
    assert found.evaluate("document.documentElement.scrollWidth") <= width
    assert {each for each in asked if not each.startswith("data:")} == {address, f"{address}answer"}
    assert said == []
    found.close()


def drop(page: Any, name: str, content: bytes) -> None:
    """Drop a file as a person would, and wait for what is said of it."""
    page.evaluate("() => said.replaceChildren()")
    carried = page.evaluate_handle(CARRIED, [name, base64.b64encode(content).decode()])
    page.dispatch_event("#zone", "drop", {"dataTransfer": carried})
    page.wait_for_function(SETTLED)


def test_a_dropped_image_is_answered_beside_the_training_images_nearest_to_it(page: Any, images: torch.Tensor) -> None:
    pixels = images[OWN].numpy()
    drop(page, "my <b>cat</b>.png", png(pixels))
    meant = answer(exported.model(), "", pixels, top=demo.TOP, threshold=exported.THRESHOLD)
    shares = [f"{100 * share:.1f} %" for _, share in meant.top]
    named = f"{meant.top[0][0]}, {shares[0]}"
    assert page.locator(".answer").inner_text() == (named if meant.sure else f"Not sure; perhaps {named}")
    rows = page.locator("#said tr").evaluate_all(
        "all => all.map(row => [...row.cells].map(cell => cell.innerText.trim()))"
    )
    assert rows == [[name, "", share] for (name, _), share in zip(meant.top, shares, strict=True)]
    assert page.locator("#said p.soft").first.inner_text() == "my <b>cat</b>.png: calibrated probabilities"
    near = page.locator("#said li").all_inner_texts()
    assert len(near) == demo.NEAR
    assert near[0].strip() == f"{exported.CLASSES[OWN]}, 1.00", "itself"
    page.wait_for_function("() => [...document.querySelectorAll('#said img')].every(image => image.complete)")
    assert page.locator("#said img").evaluate_all("all => all.map(each => each.naturalWidth)") == [SIDE] * (
        1 + demo.NEAR
    )


def test_what_is_no_image_gets_its_reason_and_the_next_one_an_answer(page: Any, images: torch.Tensor) -> None:
    for name, content, why in (("notes.txt", b"no image", "no JPEG, PNG, WEBP, BMP"), ("empty.jpg", b"", "is empty")):
        drop(page, name, content)
        assert page.locator("#said").inner_text() == f"{name}: {why}"
    drop(page, "again.png", png(images[OWN].numpy()))
    assert page.locator(".answer").count() == 1


def test_words_that_are_dropped_are_no_file_and_the_browser_does_not_open_what_is_dropped(
    page: Any, images: torch.Tensor
) -> None:
    script = """() => {
      const carried = new DataTransfer()
      carried.setData("text/plain", "a cat")
      return zone.dispatchEvent(new DragEvent("drop", {dataTransfer: carried, bubbles: true, cancelable: true}))
    }"""
    assert page.evaluate(script) is False, "its default is prevented"
    assert page.locator("#said").inner_text() == "That was no file: drop one from a folder."
    page.set_input_files("#file", {"name": "chosen.png", "mimeType": "image/png", "buffer": png(images[0].numpy())})
    page.wait_for_function(SETTLED.replace(", #said .error", ""))


def test_it_can_be_read_and_used_by_everybody(chromium: Any, server: Server, images: torch.Tensor) -> None:
    from axe_playwright_python.sync_playwright import Axe

    for scheme in ("light", "dark"):
        page = chromium.new_page(color_scheme=scheme, bypass_csp=True)  # the checker is a script, too
        page.goto(f"http://127.0.0.1:{server.server_address[1]}/")
        for content in (png(images[OWN].numpy()), b"no image"):
            drop(page, "it", content)
            found = Axe().run(page).response["violations"]
            assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []
        page.close()
