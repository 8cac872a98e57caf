"""dvc.yaml tells the truth: it declares each module, parameter section and path that a stage uses, and no other."""

import ast
import inspect
import re
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path

import pytest
import yaml

from src.interface import params, scaling_params
from src.scaling import matching
from tools import deps
from tools.deps import OBSERVERS, imports, reached_from

ROOT = Path(__file__).parents[2]
DECLARED = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PIPELINE = {name: stage.get("do", stage) for name, stage in DECLARED.items()}  # foreach stages keep theirs under "do"

WRITING = ("save", "write")  # how the functions of artifacts begin that leave a file
ARTEFACT_ROOTS = ("data/", "models/", "metrics", "plots", "reports", "weights")
ONLY_IN = {
    "mlflow": {
        *(f"src/use/{name}.py" for name in ("register", "registry", "serve", "served")),
        *(
            f"src/interface/{name}.py"
            for name in ("tracking", "tracking_contents", "tracking_experiments", "tracking_mirror", "tracking_store")
        ),
    },
    "matplotlib": {
        f"src/figures/{name}.py"
        for name in (
            *("backbones", "calibration", "cost", "data_efficiency", "experiments", "head_search", "labels", "rate"),
            *("scaling", "style", "thumbnails", "transfer"),
        )
    },
    "yaml": {"src/interface/checking.py", "stages/given.py"},
    "optuna": {"src/transfer/head_search.py"},
    "sklearn": {"src/data/datasets.py"},
    "cleanlab": {"src/evidence/doubtful_labels.py"},
    "tqdm": {"src/interface/console.py"},
    "jinja2": {"src/report/pages.py"},
    "thop": {"src/models/cost.py"},
    "onnx": {"src/use/eight_bits.py", "src/use/exporting.py", "src/use/quantising.py"},
    "onnxruntime": {"src/models/engines.py", "src/use/answering.py", "src/use/quantising.py"},
    "PIL": {"src/images/decoding.py", "src/report/thumbnails.py"},
    "dvc": {"src/report/revisions.py"},
}
SOURCES = [
    path.relative_to(ROOT).as_posix()
    for folder in ("src", "stages")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path.name != "__init__.py"
]
# What people run beside the stages, and what MLflow's server runs.
ENTRANCES = {f"src/use/{name}.py" for name in ("demo", "predict", "register", "serve", "served")}
# How a stage names what a function inside src reads for it.
READ_BY_LIBRARY = {
    "weights": "cfg.backbone",
    "data/source": "cfg.dataset",
    "src/report/page.html": "pages",
    "src/report/page.md": "pages",
}


def parse(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text())


def declared(stage: str, *kinds: str) -> set[str]:
    """Paths listed under `kinds` in dvc.yaml, with per-path options dropped; of a family, or of its `family@member`."""
    family, _, member = stage.partition("@")
    entries = [entry for kind in kinds for entry in PIPELINE[family].get(kind, [])]
    paths = {entry if isinstance(entry, str) else next(iter(entry)) for entry in entries}
    return {path.replace("${key}", member) for path in paths} if member else paths


def attributes_of(path: str, name: str) -> set[str]:
    """Every `x` that `path` reads as `name.x`."""
    nodes = ast.walk(parse(path))
    return {n.attr for n in nodes if isinstance(n, ast.Attribute) and getattr(n.value, "id", "") == name}


def test_the_code_of_each_stage_is_what_make_deps_would_write() -> None:
    text = (ROOT / "dvc.yaml").read_text()
    assert text == deps.written(text), "a stage imports other code than dvc.yaml says: type `make deps`, and look"


@pytest.mark.parametrize("stage", PIPELINE)
def test_make_deps_writes_all_code_of_a_stage_and_nothing_else(stage: str) -> None:
    code = {path for path in declared(stage, "deps") if path.endswith(".py")}
    assert code == reached_from(f"stages/{stage}.py")


@pytest.mark.parametrize("stage", PIPELINE)
def test_stage_tracks_exactly_the_params_sections_it_reads(stage: str) -> None:
    """Whole sections, or `section.${key}` of the section over which a foreach unrolls the stage."""
    family = str(DECLARED[stage].get("foreach", "")).strip("${}")
    tracked = {section.removesuffix(".${key}") for section in PIPELINE[stage]["params"]}
    assert attributes_of(f"stages/{stage}.py", "cfg") == tracked
    assert [f"{family}.${{key}}"] * bool(family) == [s for s in PIPELINE[stage]["params"] if s.endswith(".${key}")]


@pytest.mark.parametrize("stage", PIPELINE)
def test_stage_names_exactly_the_paths_it_declares(stage: str) -> None:
    nodes = ast.walk(ast.Module(parse(f"stages/{stage}.py").body[1:], []))
    strings = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    named = {re.sub(r"\{\w+\}", "${key}", string) for string in strings if string.startswith(ARTEFACT_ROOTS)}
    paths = {path for path in declared(stage, "deps", "outs", "metrics", "plots") if not path.endswith(".py")}
    inside = {name for name in named - paths if any(name.startswith(f"{path}/") for path in paths)}
    folders = {path for path in paths if any(name.startswith(f"{path}/") for name in inside)}
    assert named - inside | folders == paths - set(READ_BY_LIBRARY)


@pytest.mark.parametrize("stage", PIPELINE)
def test_stage_that_builds_a_pretrained_backbone_depends_on_weights(stage: str) -> None:
    assert ("weights" in declared(stage, "deps")) == (
        "load_backbone" in attributes_of(f"stages/{stage}.py", "backbones")
    )


@pytest.mark.parametrize("path", SOURCES)
def test_imports_point_from_stages_to_src(path: str) -> None:
    used = {name for name in imports(path) if name.split(".")[0] == "stages"}
    assert used <= ({"stages", "stages.given"} if path.startswith("stages/") else set())


@pytest.mark.parametrize("package", ONLY_IN)
def test_third_party_package_is_imported_in_one_place(package: str) -> None:
    users = {path for path in SOURCES if package in {name.split(".")[0] for name in imports(path)}}
    assert users <= ONLY_IN[package]


@pytest.mark.parametrize("stage", ["tune_head", "scaling_search"])
def test_a_search_never_receives_the_test_split(stage: str) -> None:
    assert not {path for path in declared(stage, "deps") if path.endswith("/test.pt")}


@pytest.mark.parametrize("stage", PIPELINE)
def test_metrics_and_plots_are_never_cached_and_outs_always(stage: str) -> None:
    """Otherwise DVC's run cache is off for the stage: going from lr A to B and back to A would train again."""
    small = [
        options
        for kind in ("metrics", "plots")
        for entry in PIPELINE[stage].get(kind, [])
        for options in entry.values()
    ]
    assert all(options["cache"] is False for options in small)
    assert all(isinstance(out, str) for out in PIPELINE[stage]["outs"])


SPEAKING = {"say", "warn", "answer", "progress", "epoch_line"}  # of console: what they are told goes no further


@pytest.mark.parametrize("path", sorted(set(SOURCES) - OBSERVERS))
def test_code_that_shapes_outputs_takes_types_from_observers_and_nothing_else(path: str) -> None:
    """An observer is no dependency: a value that came from one could change, and nothing would rerun."""
    library = path.startswith("src/") and path not in ENTRANCES
    types = {name for name, value in vars(params).items() if is_dataclass(value)}
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.ImportFrom) and node.module in ("src.interface.params", "src.interface.scaling_params"):
            assert {alias.name for alias in node.names} <= types
    used = {name: attributes_of(path, name) for name in ("params", "checking", "console", "tracking", "expectations")}
    assert used["console"] <= SPEAKING | (set() if library else {"run"})
    assert used["params"] <= (set() if library else {"parse", "load"})
    assert used["tracking"] <= (set() if library else {"stage"})
    assert used["expectations"] <= (set() if library else {"announce"})
    assert used["checking"] <= ({"parse"} if path == "stages/given.py" else set())


@pytest.mark.parametrize("stage", PIPELINE)
def test_no_stage_writes_down_what_an_observer_returns(stage: str) -> None:
    calls = [node for node in ast.walk(parse(f"stages/{stage}.py")) if isinstance(node, ast.Call)]
    written = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr.startswith(WRITING)]
    names = {node.id for call in written for part in call.args for node in ast.walk(part) if isinstance(node, ast.Name)}
    assert written
    assert not names & {"run", "bar", "console", "tracking", "expectations"}


SETTINGS_TYPES = [
    value for value in vars(params).values() if is_dataclass(value) and value.__module__.endswith("params")
]


@pytest.mark.parametrize("settings", SETTINGS_TYPES, ids=lambda kind: kind.__name__)
def test_no_value_of_params_yaml_has_a_default_in_code(settings: type) -> None:
    """None, "as the section says", is the only one that a type may hold: another would change what runs, unseen."""
    assert {field.default for field in fields(settings)} <= {MISSING, None}
    assert {field.default_factory for field in fields(settings)} == {MISSING}
    own = {name for name, value in vars(settings).items() if inspect.isfunction(value) and not name.startswith("__")}
    assert own == set()


def test_the_names_that_params_allow_for_axes_are_those_that_can_be_planned() -> None:
    assert scaling_params.OWN_ARMS == matching.OWN_ARMS


def test_every_file_of_src_is_reached_by_a_script_or_is_an_observer() -> None:
    scripts = ENTRANCES | {path for path in SOURCES if path.startswith("stages/")}
    reached = {file for script in scripts for file in reached_from(script)}
    assert {path for path in SOURCES if path.startswith("src/")} - OBSERVERS == reached & {
        path for path in SOURCES if path.startswith("src/")
    }
