"""The first second of a stage, before torch is imported: what it says, checks and explains, and how it is interrupted.

Here, torch is a package that ends the stage, or sleeps, when it is imported.
"""

import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stages import starting
from tests.builders.repository import IDENTITY, ROOT

IMPORTED = 77  # the exit status of a stage that has come to import torch
ENDS = f"raise SystemExit({IMPORTED})\n"
SLEEPS = "import sys, time\nsys.stdout.write('importing\\n')\nsys.stdout.flush()\ntime.sleep(60)\n"
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
FAMILIES = {"compare_backbones": "compared_backbones", "scaling_ablation": "scaling_arms"}
MEMBERS = {"compare_backbones": "{name: efficientnet_pico, weights: random, resolution: 32}", "scaling_ablation": "{}"}
SHIPPED = subprocess.run(  # whatever an experiment left in the workspace
    ["git", "show", "HEAD:params.yaml"], cwd=ROOT, capture_output=True, text=True, check=True
).stdout


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the study's values and pipeline, and all inputs of its stages, empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    Path("params.yaml").write_text(SHIPPED)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    for path, _ in starting.made(starting.params.load()):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()
    return tmp_path


@pytest.fixture
def committed(study: Path) -> Path:
    subprocess.run(["git", "init", "-q"], check=True)
    commit()
    return study


def commit() -> None:
    subprocess.run(["git", "add", "params.yaml"], check=True)
    subprocess.run(["git", "commit", "-qm", "state"], check=True, env=os.environ | IDENTITY)


def command(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"stages.{name}", *arguments]


def environment(folder: Path, torch: str = ENDS, **values: str) -> dict[str, str]:
    (folder / "fake/torch").mkdir(parents=True, exist_ok=True)
    (folder / "fake/torch/__init__.py").write_text(torch)
    kept = {key: value for key, value in os.environ.items() if key not in ("DVC_ROOT", "RANK")}
    return kept | {"PYTHONPATH": f"{folder / 'fake'}{os.pathsep}{ROOT}"} | values


def run(folder: Path, name: str, *arguments: str, **values: str) -> subprocess.CompletedProcess[str]:
    settings = environment(folder, **values)
    return subprocess.run(command(name, *arguments), env=settings, capture_output=True, text=True, timeout=60)


def refusal(name: str, *arguments: str) -> str:
    """What a stage ends with before it imports anything else."""
    with pytest.raises(ValueError, match=r"\w") as raised:
        starting.check(name, *arguments)
    return str(raised.value)


def put(old: str, new: str) -> None:
    text = Path("params.yaml").read_text()
    assert old in text
    Path("params.yaml").write_text(text.replace(old, new, 1))


def put_members(section: str, members: str) -> None:
    values = yaml.safe_load(Path("params.yaml").read_text())
    values[section] = yaml.safe_load(members)
    Path("params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


def test_a_stage_says_what_begins_within_a_second_and_before_it_imports_torch(study: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run(study, "finetune")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = "finetune: train the whole network on images, from backbone and trained head\n"
    assert (done.returncode, done.stdout, done.stderr) == (IMPORTED, said, "")
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


@pytest.mark.parametrize("name", PIPELINE)
def test_what_a_stage_says_first_fits_80_columns(study: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    family = "foreach" in PIPELINE[name]
    if family:
        put_members(FAMILIES[name], f"{{densenet201: {MEMBERS[name]}}}")
    starting.begin(name, *["densenet201"] * family)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{name}@densenet201: " if family else f"{name}: ")
    assert len(line) <= 80


RESTORE = "`git restore params.yaml` goes back to the committed values"
NO_KEY = "not allowed as a key; allowed: letters a-z, digits and _ (a stage is called so)"
WRONG = {
    "a value": (
        ("lr: 5.0e-4", "lr: abc"),
        "lr: 'abc' is not allowed; allowed: a number > 0 and <= 100; "
        f"params.yaml holds it until `dvc exp run -S lr=...` sets another, or {RESTORE}",
    ),
    "an item of a list": (
        ("optimizer: [adamw, sgd]", "optimizer: [adamw, sgdd]"),
        "tune_head.optimizer[1]: 'sgdd' is not allowed; allowed: adam, adamw, sgd, rmsprop; did you mean sgd? "
        f"params.yaml holds it until `dvc exp run -S tune_head.optimizer=...` sets another, or {RESTORE}",
    ),
    "a key that DVC advised to add": (
        ("finetune:\n", "finetune:\n  epoch: 3\n"),
        "finetune.epoch: unknown key; did you mean finetune.epochs? "
        f"params.yaml holds it until `dvc exp run -S '~finetune.epoch'` removes it, or {RESTORE}",
    ),
    "an arm's key that DVC can remove": (
        ("  width: {}\n", "  Width: {}\n"),
        f"scaling_arms.Width: {NO_KEY}; "
        f"params.yaml holds it until `dvc exp run -S '~scaling_arms.Width'` removes it, or {RESTORE}",
    ),
    "an arm's key that it cannot": (
        ("  width: {}\n", "  a/b: {}\n"),
        f"scaling_arms.a/b: {NO_KEY}; {RESTORE}",
    ),
    "an arm's key that is no text": (
        ("  width: {}\n", "  null: {}\n"),
        f"scaling_arms.null: {NO_KEY}; {RESTORE}",
    ),
    "a key less": (
        ("lr: 5.0e-4", "# lr"),
        f"lr: missing; allowed: a number > 0 and <= 100; {RESTORE}",
    ),
    "no YAML": (
        ("lr: 5.0e-4", "lr: [1"),
        f"params.yaml, line 5: not YAML: expected ',' or ']', but got '<scalar>'; {RESTORE}",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_value_is_named_with_who_holds_it_and_the_way_back(committed: Path, case: str) -> None:
    change, line = WRONG[case]
    put(*change)
    assert refusal("finetune") == line


@pytest.mark.parametrize("name", ["check", "finetune"])
def test_a_wrong_value_is_one_line_before_torch_is_imported_and_the_way_back_leads_back(
    committed: Path, name: str
) -> None:
    put("lr: 5.0e-4", "lr: abc")
    done = run(committed, name)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{name}: {refusal(name)}\n")
    advised = done.stderr.rpartition(" or `")[2].partition("`")[0]
    subprocess.run(advised.split(), check=True)
    assert run(committed, name).returncode == {"check": 0, "finetune": IMPORTED}[name]


def test_no_way_back_is_named_where_there_is_none(committed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an experiment's copy, which goes with it, and where the wrong value is committed."""
    put("lr: 5.0e-4", "lr: abc")
    line = "lr: 'abc' is not allowed; allowed: a number > 0 and <= 100"
    monkeypatch.setenv("DVC_ROOT", str(committed.parent))
    assert refusal("finetune") == line
    monkeypatch.delenv("DVC_ROOT")
    commit()
    assert refusal("finetune") == line


MISSING = {
    "one": (
        ["models/best_head.json"],
        ["finetune"],
        "models/best_head.json does not exist: stage tune_head makes it; `dvc repro finetune` runs what is needed",
    ),
    "some": (
        ["data/features/train.pt", "models/best_head.json"],
        ["train_frozen"],
        "data/features/train.pt and 1 more do not exist: stages extract_features, tune_head make them; "
        "`dvc repro train_frozen` runs what is needed",
    ),
    "of an arm": (
        ["data/images/val.pt"],
        ["scaling_ablation", "width"],
        "data/images/val.pt does not exist: stage download makes it; "
        "`dvc repro scaling_ablation@width` runs what is needed",
    ),
    "in a folder, of a member of a family": (
        ["data/runs/scaling_ablation/width.json"],
        ["report"],
        "data/runs/scaling_ablation/width.json does not exist: stage scaling_ablation@width makes it; "
        "`dvc repro report` runs what is needed",
    ),
}


@pytest.mark.parametrize("case", MISSING)
def test_an_input_that_is_not_there_is_named_with_the_stage_that_makes_it(study: Path, case: str) -> None:
    paths, (name, *arguments), line = MISSING[case]
    for path in paths:
        Path(path).unlink()
    assert refusal(name, *arguments) == line


ARMS = "one of scaling_arms in params.yaml (baseline, depth, width, resolution, compound)"
ARGUMENTS = {
    "a misspelled arm": (["scaling_ablation", "widht"], f"widht: allowed: {ARMS}"),
    "no arm": (["scaling_ablation"], f"no entry: allowed: {ARMS}"),
    "two arms": (["scaling_ablation", "depth", "width"], f"depth width: allowed: {ARMS}"),
    "a backbone": (
        ["compare_backbones", "foo"],
        "foo: allowed: one of compared_backbones in params.yaml (pico)",
    ),
    "an argument": (["finetune", "foo"], "foo: not allowed; allowed: nothing behind the name of this stage"),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_a_wrong_argument_is_named_before_the_inputs_are_looked_for(study: Path, case: str) -> None:
    put_members("compared_backbones", f"{{pico: {MEMBERS['compare_backbones']}}}")
    shutil.rmtree("data")
    arguments, line = ARGUMENTS[case]
    assert refusal(*arguments) == line


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("arguments", [[], ["width"]])
def test_a_family_without_members_is_no_stage_of_dvcs(study: Path, name: str, arguments: list[str]) -> None:
    """Which, asked for it, would run all others."""
    put_members(FAMILIES[name], "{}")
    shutil.rmtree("data")
    line = f"{FAMILIES[name]} is empty: nothing to run"
    assert refusal(name, *arguments) == line
    assert starting.explanation(name).endswith(f"\n\n{line}.\n")


@pytest.mark.parametrize("name", FAMILIES)
def test_help_of_a_family_names_one_of_its_members(study: Path, name: str) -> None:
    line = f"`dvc repro {name}@KEY` runs one entry, and first what it needs.\n"
    put_members(FAMILIES[name], f"{{resnet18: {MEMBERS[name]}}}")
    assert starting.explanation(name).endswith(f"\n\n{line}")
    Path("params.yaml").unlink()
    assert starting.explanation(name).endswith(f"\n\n{line}"), "help needs no values"


def test_what_a_dropped_arm_would_have_left_is_not_missed(study: Path) -> None:
    put("  width: {}\n", "")
    Path("data/runs/scaling_ablation/width.json").unlink()
    starting.check("report")


@pytest.mark.parametrize("name", [*PIPELINE, "find_lr", "check"])
def test_help_says_what_a_stage_is_reads_and_writes(name: str) -> None:
    text = starting.explanation(name)
    stage = PIPELINE.get(name, {})
    stage = stage.get("do", stage)
    entries = [entry for kind in ("params", "deps", "outs", "metrics", "plots") for entry in stage.get(kind, [])]
    named = [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]
    expected = {entry.replace("${key}", "KEY") for entry in named if not entry.endswith(".py")}
    assert expected <= {word.strip(",") for word in text.split()}
    assert ".py" not in text
    assert len(text.splitlines()[2]) > 30, "what it is"
    assert max(map(len, text.splitlines())) <= 80


def test_help_comes_without_torch_values_and_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    done = run(tmp_path, "finetune", "--help")
    assert (done.returncode, done.stdout, done.stderr) == (0, starting.explanation("finetune"), "")


@pytest.mark.parametrize(
    ("number", "status", "said"),
    [
        (signal.SIGINT, 130, "finetune: interrupted while it was starting\n"),
        (signal.SIGTERM, 143, "finetune: terminated while it was starting\n"),
    ],
)
@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_signal_during_imports_is_one_line_of_the_first_process(
    study: Path, number: signal.Signals, status: int, said: str, rank: str
) -> None:
    started = subprocess.Popen(
        command("finetune"),
        env=environment(study, SLEEPS, RANK=rank),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )
    assert started.stdout
    while started.stdout.readline() != "importing\n":
        assert started.poll() is None
    started.send_signal(number)
    errors = started.communicate(timeout=60)[1]
    assert (started.returncode, errors) == (status, said if rank == "0" else "")


def test_what_needs_no_networks_starts_without_torchs_compiler(study: Path) -> None:
    """Whose import takes as long as torch's: of these, no module and no setting of the device needs it."""
    script = (
        "import sys; from src.base import devices; devices.choose(); import stages.download, stages.baseline; "
        "print({'torch._dynamo', 'torchvision', 'pandas', 'sklearn', 'mlflow'} & set(sys.modules))"
    )
    settings = os.environ | {"PYTHONPATH": str(ROOT), "DEVICE": "cpu"}
    done = subprocess.run([sys.executable, "-c", script], env=settings, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
