"""What a stage was given: what counts as a difference, when it is said, and what cannot slip in between."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from stages import given

PIPELINE = """
stages:
  train:
    params: [lr, model]
    deps: [src/code.py, data/input.pt, weights]
  arm:
    foreach: ${arms}
    do:
      params: ["arms.${key}"]
      deps: [src/code.py]
"""
PARAMS = "lr: 0.0021\nmodel: {name: pico, width: 2}\nother: 1\narms:\n  a: {}\n  b: {epochs: 3}\n"
FILES = {
    "dvc.yaml": PIPELINE,
    "params.yaml": PARAMS,
    ".dvcignore": "# names\n.DS_Store\n__pycache__\n/elsewhere\n",
    "src/code.py": "a = 1\n",
    "data/input.pt": "input",
    "weights/a.pt": "weights",
    "weights/more/b.pt": "more weights",
}


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, content in FILES.items():
        write(name, content)
    return tmp_path


def write(path: str, content: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(content)


def replace(path: str, old: str, new: str) -> Callable[[], None]:
    return lambda: write(path, FILES[path].replace(old, new))


def settled(name: str = "train") -> given.Given:
    noted = given.of(name)
    noted.settle()
    return noted


def refusal(noted: given.Given) -> str:
    with pytest.raises(ValueError, match="so nothing was written: put it back") as raised:
        noted.confirm()
    return str(raised.value).partition(", so nothing")[0]


EDITS: dict[str, tuple[Callable[[], object], str]] = {
    "a value": (replace("params.yaml", "0.0021", "0.0022"), "lr was 0.0021 when this stage began and is 0.0022 now"),
    "a key of a section": (
        replace("params.yaml", "width: 2", "width: null"),
        "model.width was 2 when this stage began and is null now",
    ),
    "a key less": (
        replace("params.yaml", ", width: 2", ""),
        "model.width was 2 when this stage began and is missing now",
    ),
    "code": (
        replace("src/code.py", "1", "2"),
        "src/code.py was SHA-256 8b3532ff when this stage began and is SHA-256 a5f0e7a5 now",
    ),
    "an input": (
        replace("data/input.pt", "input", "other"),
        "data/input.pt was SHA-256 c96c6d5b when this stage began and is SHA-256 d9298a10 now",
    ),
    "an input gone": (
        lambda: Path("data/input.pt").unlink(),
        "data/input.pt was SHA-256 c96c6d5b when this stage began and is missing now",
    ),
    "a file in a folder": (
        replace("weights/more/b.pt", "more", "less"),
        "weights/more/b.pt was SHA-256 b1f6e0ac when this stage began and is SHA-256 6bd0b0a4 now",
    ),
    "a new file in a folder": (
        lambda: write("weights/new.pt", "new"),
        "weights/new.pt was missing when this stage began and is SHA-256 11507a0e now",
    ),
    "no YAML any more": (lambda: write("params.yaml", "lr: ["), "params.yaml, line 1: not YAML: "),
}


@pytest.mark.parametrize("edit", EDITS)
def test_what_was_edited_ends_the_stage_in_a_line_that_says_from_what_to_what(edit: str) -> None:
    change, line = EDITS[edit]
    noted = settled()
    change()
    said = refusal(noted)
    assert said.startswith(line.partition("SHA")[0])
    assert "\n" not in said


@pytest.mark.parametrize("edit", EDITS)
def test_what_is_put_back_counts(edit: str) -> None:
    noted = settled()
    EDITS[edit][0]()
    refusal(noted)
    for name, content in FILES.items():
        write(name, content)
    Path("weights/new.pt").unlink(missing_ok=True)
    noted.confirm()


NOTHING: dict[str, Callable[[], object]] = {
    "nothing": lambda: None,
    "a section that the stage does not declare": replace("params.yaml", "other: 1", "other: 2"),
    "another spelling of a value": replace("params.yaml", "0.0021", "2.1e-3  # the same"),
    "an arm, to a stage that is none": replace("params.yaml", "epochs: 3", "epochs: 4"),
    "a file that DVC ignores": lambda: write("weights/.DS_Store", "seen"),
    "a file beside": lambda: write("README.md", "words"),
    "a new time": lambda: os.utime("data/input.pt"),
}


@pytest.mark.parametrize("edit", NOTHING)
def test_what_dvc_does_not_look_at_is_no_difference(edit: str, capsys: pytest.CaptureFixture[str]) -> None:
    noted = settled()
    NOTHING[edit]()
    noted.watch()
    noted.confirm()
    assert capsys.readouterr() == ("", "")


def test_a_member_of_a_family_has_its_own_entry_alone() -> None:
    first, second = settled("arm@a"), settled("arm@b")
    assert (first.sections, second.sections) == ({"arms.a": {}}, {"arms.b": {"epochs": 3}})
    replace("params.yaml", "epochs: 3", "epochs: 4")()
    first.confirm()
    assert refusal(second) == "arms.b.epochs was 3 when this stage began and is 4 now"


def test_an_arm_that_is_dropped_while_it_trains_is_a_difference() -> None:
    noted = settled("arm@a")
    replace("params.yaml", "  a: {}\n", "")()
    assert refusal(noted) == "arms.a was {} when this stage began and is missing now"


def test_a_small_file_is_compared_by_its_bytes_also_where_its_stamp_is_the_same() -> None:
    noted, path = settled(), Path("src/code.py")
    stamp = path.stat().st_mtime_ns
    path.write_text("a = 2\n")
    os.utime(path, ns=(stamp, stamp))
    assert refusal(noted).startswith("src/code.py was ")


@pytest.mark.parametrize("path", ["src/code.py", "data/input.pt", "weights/a.pt"])
def test_what_was_touched_while_the_stage_was_starting_is_refused_even_if_put_back(path: str) -> None:
    """Nobody knows which state of it was read."""
    noted = given.of("train")
    write(path, "something else")
    write(path, FILES[path])
    with pytest.raises(ValueError, match=f"^{path} changed while this stage was starting: run it again$"):
        noted.settle()


def test_a_warning_comes_at_once_and_once_and_so_does_the_word_that_all_is_well(
    capsys: pytest.CaptureFixture[str],
) -> None:
    noted, seen = settled(), list[int]()
    on_epoch = noted.watching(seen.append)
    on_epoch(1)
    replace("params.yaml", "0.0021", "0.0022")()
    on_epoch(2)
    on_epoch(3)
    [line] = capsys.readouterr().err.splitlines()
    assert "warning: lr was 0.0021 when this stage began and is 0.0022 now: put it back before the stage ends" in line
    write("params.yaml", PARAMS)
    on_epoch(4)
    on_epoch(5)
    assert capsys.readouterr() == (
        "train: all is again as it was at the start; its result counts\n",
        "",
    )
    assert seen == [1, 2, 3, 4, 5]


def test_between_two_looks_pass_the_seconds_that_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    noted, looks = settled(), list[object]()
    monkeypatch.setattr(noted, "watch", lambda: looks.append(None))
    now = [0.0]
    monkeypatch.setattr("stages.given.time.monotonic", lambda: now[0])
    advance = noted.watching(lambda count: None, seconds=5.0)
    for now[0] in (1.0, 4.0, 5.0, 6.0, 9.9, 11.0):
        advance(1)
    assert len(looks) == 2


def test_the_identity_holds_values_and_the_bytes_of_every_file_and_of_others(tmp_path: Path) -> None:
    write("elsewhere.pt", "elsewhere")
    found = given.of("train").identity(Path("elsewhere.pt"), None)
    assert found["params"] == {"lr": 0.0021, "model": {"name": "pico", "width": 2}}
    assert list(found["files"]) == ["src/code.py", "data/input.pt", "weights/a.pt", "weights/more/b.pt", "elsewhere.pt"]
    write("elsewhere.pt", "changed")
    again = given.of("train").identity(Path("elsewhere.pt"))
    assert {path for path in found["files"] if found["files"][path] != again["files"][path]} == {"elsewhere.pt"}


def test_a_linked_file_is_read_by_its_content_and_a_linked_folder_is_not_entered(tmp_path: Path) -> None:
    write("behind/file.pt", "a")
    Path("weights/link.pt").symlink_to(tmp_path / "behind/file.pt")
    Path("weights/folder").symlink_to(tmp_path / "behind")
    noted = settled()
    assert "weights/folder/file.pt" not in noted.identity()["files"]
    write("behind/file.pt", "b")
    assert refusal(noted).startswith("weights/link.pt was ")


def test_a_process_that_was_given_other_things_than_the_first_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    first = given.of("train").identity()
    replace("params.yaml", "0.0021", "0.0022")()
    noted = given.of("train", lambda value: first)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"not given what the first process was: lr was 0\.0021 .* the same"):
        noted.settle()


def test_many_differences_are_named_in_part() -> None:
    noted = settled()
    for number in range(5):
        write(f"weights/{number}.pt", "new")
    assert refusal(noted).endswith(" and 2 more")


def test_a_pipeline_that_is_no_yaml_is_one_line(tmp_path: Path) -> None:
    write("dvc.yaml", "stages: [")
    with pytest.raises(ValueError, match=r"^dvc\.yaml cannot be read: [^\n]+$"):
        given.of("train")
