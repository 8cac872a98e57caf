"""The benchmarks compare like with like: same images, same kind of network. Nothing is timed here."""

import importlib.util
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from scipy.stats import ttest_1samp

from benchmarks import finetuning, gpu, halving, head_search, loaders, memory, startup, study, timing, traffic
from benchmarks.timing import REPEATS, Windows
from src.interface import params, scaling_params
from src.transfer import features
from tests.builders.repository import ROOT, Repository
from tests.builders.small import load

CPU = torch.device("cpu")
STEPS, BATCH = 2, 4
RIVALS = {"torchvision": loaders.torchvision_loader}
if importlib.util.find_spec("timm"):  # requirements-bench.txt
    RIVALS["timm"] = loaders.timm_loader


def settings() -> params.Params:
    cfg = params.load(ROOT / "params.yaml")
    return replace(cfg, finetune=replace(cfg.finetune, batch_size=BATCH))


def test_windows_count_every_step_after_the_warm_up_once():
    windows = Windows(warm_up=3, window=2)
    for _ in range(windows.steps):
        windows(BATCH)
    assert windows.steps == 3 + 2 * REPEATS
    assert len(windows.seconds) == REPEATS
    assert sum(windows.seconds) == pytest.approx(windows.marks[-1] - windows.marks[0])


def test_ours_and_each_rival_train_on_the_same_number_of_images():
    seen: list[int] = []
    candidates = loaders.candidates(settings(), CPU, resolution=32, steps=STEPS, workers=0, advance=seen.append)
    assert set(candidates) == {"ours"} | {f"{rival}{layout}" for rival in RIVALS for layout in ("", ", contiguous")}
    for name, candidate in candidates.items():
        seen.clear()
        candidate()
        assert seen == [BATCH] * STEPS, name


@pytest.mark.parametrize("rival", RIVALS)
def test_a_rivals_workers_give_normalised_batches_of_the_resolution(rival):
    cfg = settings()
    _, view = finetuning.random_network("efficientnet_pico", 32, CPU)
    images = finetuning.random_images(BATCH, CPU, view=view, augment=cfg.augment)
    ((inputs, labels),) = RIVALS[rival](images, cfg.augment, 48, batch_size=BATCH, workers=1)
    assert inputs.shape == (BATCH, 3, 48, 48)
    assert inputs.dtype == torch.float32
    assert -2.2 < inputs.min() < 0 < inputs.max() < 2.7  # black and white under ImageNet's mean and deviation
    assert inputs.std() > 0.5
    assert sorted(labels.tolist()) == sorted(images.labels.tolist())


def test_timms_network_is_as_large_as_ours():
    pytest.importorskip("timm")
    network, _ = finetuning.random_network(loaders.NAME, 32, CPU)
    ours, theirs = (sum(p.numel() for p in n.parameters()) for n in (network, loaders.timm_network(CPU)))
    assert ours == theirs == 4_020_358  # of ten classes


def test_each_loop_of_the_fine_tuning_benchmark_trains_a_copy_of_the_network():
    cfg = settings()
    network, view = finetuning.random_network("efficientnet_pico", 32, CPU)
    before = [parameter.clone() for parameter in network.parameters()]
    candidates = finetuning.candidates(network, view, cfg, STEPS, CPU)
    assert len(candidates) == 4
    for candidate in candidates.values():
        candidate()
    assert all(map(torch.equal, before, network.parameters()))


def test_the_backbone_in_the_loop_gives_the_head_what_extraction_would():
    backbone = load()
    network = features.freeze(backbone.network)
    images = finetuning.random_images(2 * BATCH, CPU, view=backbone.view, augment=settings().augment)
    in_loop = head_search.InLoop(network=network, images=images)
    with torch.inference_mode():
        expected = [network(inputs) for inputs, _ in images.shuffled(1, BATCH)]
    found = [inputs for inputs, _ in in_loop.shuffled(1, BATCH)]
    assert all(map(torch.equal, found, expected))
    assert torch.equal(next(in_loop.shuffled(1, BATCH, start=1))[0], expected[1])
    search = head_search.Search(
        cfg=settings(), network=network, width=backbone.width, train=images, val=images, device=CPU
    )
    search.one_epoch_in_loop()


@pytest.mark.slow
def test_memorys_processes_train_on_images_of_the_file_that_it_wrote(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    path = tmp_path / "train.pt"
    memory.write_data(path, 256)
    for train in (memory.train_ours, memory.train_bare):
        train(path, steps=1)


def test_the_first_steps_of_an_epoch_are_as_many_batches_and_labels():
    _, view = finetuning.random_network("efficientnet_pico", 32, CPU)
    images = finetuning.random_images(10 * BATCH, CPU, view=view, augment=settings().augment)
    first = memory.FirstSteps(images=images, steps=STEPS, batch_size=BATCH)
    whole = list(images.shuffled(1, BATCH))
    few = list(first.shuffled(1, BATCH))
    assert len(few) == STEPS
    assert len(first.labels) == STEPS * BATCH
    assert all(torch.equal(mine, theirs) for (mine, _), (theirs, _) in zip(few, whole, strict=False))
    assert len(list(first.shuffled(1, BATCH, start=1))) == STEPS - 1


def test_traffic_counts_what_an_operation_reads_and_writes():
    first, second = torch.zeros(2, 1000)
    with traffic.Traffic() as counted:
        first + second
    assert counted.bytes == 3 * 4000
    with traffic.Traffic() as counted:
        first.view(10, 100).t()
    assert counted.bytes == 0


def test_the_bytes_of_a_step_count_its_backward_pass_too():
    network = torch.nn.Linear(8, 4, bias=False)
    inputs, labels = torch.zeros(2, 8), torch.zeros(2, dtype=torch.int64)
    with traffic.Traffic() as forward, torch.no_grad():
        network(inputs)
    assert traffic.bytes_per_image(network, inputs, labels, "float32") > 2 * forward.bytes / len(inputs)


@pytest.mark.slow
def test_the_gpu_benchmarks_code_runs_on_a_processor():
    bench = gpu.Bench(cfg=settings(), device=CPU, warm_up=1, window=1)
    steps = gpu.training_seconds(bench, "efficientnet_pico", 32, compiled=False)
    assert {name: len(seconds) for name, seconds in steps.items()} == {
        "one fixed batch": REPEATS,
        "end to end": REPEATS,
    }
    loader = gpu.loader_seconds(bench, "efficientnet_pico", compiled=False, workers=0)
    assert {name: len(seconds) for name, seconds in loader.items()} == {"ours": REPEATS, "DataLoader": REPEATS}
    assert len(gpu.extraction_seconds(bench, "efficientnet_pico", 32, count=BATCH)) == REPEATS


@pytest.mark.slow
def test_the_profile_names_operations_and_the_bound(capsys):
    gpu.profile(gpu.Bench(cfg=settings(), device=CPU, warm_up=1, window=1), "efficientnet_pico", 32, copied=1000)
    printed = capsys.readouterr().out
    assert "aten::convolution_backward" in printed
    assert "MB per image" in printed


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_its_benchmark_says_so_in_one_line(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    gpu.main([])
    assert capsys.readouterr().out.count("\n") == 1


@pytest.mark.slow
def test_the_stage_ends_at_its_first_step(tmp_path: Path):
    repository = Repository(tmp_path)
    startup.prepare(repository, ("finetune.batch_size=4",), {"train": 16, "val": 8, "test": 8})
    startup.first_step(repository)
    assert not (tmp_path / "metrics/finetune.json").exists()


def test_a_report_says_whether_the_median_reaches_the_target(capsys):
    timing.report("title", {"a": [1.0, 2.0, 3.0], "b": [2.0, 2.0, 2.0]}, {("a", "b"): 1.0, ("b", "a"): 1.5}, images=10)
    timing.report_rate("a", [1.0, 2.0, 5.0], 6, images=10)
    assert capsys.readouterr().out.splitlines() == [
        "title",
        "  a / b: 1.00 (0.67 to 2.00)  target 1: met",
        "  b / a: 1.00 (0.50 to 1.50)  target 1.5: MISSED",
        "  images/s (median): a 5, b 5",
        "  a, images/s: 5 (2 to 10)  target 6: MISSED",
    ]


def test_searches_that_take_turns_never_run_at_once(monkeypatch, tmp_path):
    """Each notes the time every half millisecond, which a pipe holds whole; a turn has no time of the other in it."""
    monkeypatch.setattr(halving, "TURN", 0.1)
    script = (
        "import json, time; end = time.process_time() + 0.15; marks = [time.time()]\n"
        "while time.process_time() < end:\n"
        "    now = time.time()\n"
        "    if now > marks[-1] + 0.0005: marks.append(now)\n"
        "print('words'); print(json.dumps(marks))"
    )
    found = halving.take_turns({name: [sys.executable, "-c", script] for name in "ab"})
    marks = sorted((time, name) for name in "ab" for time in found[name])
    changes = sum(one[1] != other[1] for one, other in pairwise(marks))
    assert set(found) == {"a", "b"}
    assert 1 <= changes <= 60  # at once on two cores, the hundreds of marks of both would be in each other's way
    with pytest.raises(SystemExit, match="a ended with 3"):
        halving.take_turns({"a": [sys.executable, "-c", "raise SystemExit(3)"]})


def test_the_interval_of_halvings_gain_is_students():
    differences = [0.1, -0.05, 0.2, 0.0, 0.12]
    expected = ttest_1samp(differences, 0).confidence_interval(0.95)
    assert halving.interval(differences) == pytest.approx((sum(differences) / 5, expected.low, expected.high))


def test_without_features_halving_measures_nothing(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["halving", "--features", str(tmp_path)])
    halving.main()
    assert "nothing measured" in capsys.readouterr().out


def test_the_time_of_a_study_is_its_multiply_adds_over_the_rate():
    """By hand: 45 000 images trained and 5 000 seen per epoch, a third of the work each; test is seen once."""
    cfg = params.load(ROOT / "params.yaml")
    cfg = replace(
        cfg,
        dataset=replace(cfg.dataset, name="cifar10", train_limit=None, val_fraction=0.1),
        scaling=replace(cfg.scaling, base="efficientnet_pico", base_resolution=32, stem_stride=2),
        scaling_ablation=replace(cfg.scaling_ablation, seeds=(0, 1), epochs=3),
        scaling_search=replace(cfg.scaling_search, epochs=0),
        scaling_arms={"efficientnet_pico": scaling_params.Arm(epochs=5, resolution=64)},
    )
    (job,) = [job for job in study.jobs(cfg) if job.name.startswith("scaling")]
    work = 6_069_312 * 2 * (5 * 45_000 + (5 * 5_000 + 5_000 + 10_000) / 3)
    assert study.seconds(job, cfg, CPU, rate=1e9) == pytest.approx(work / 1e9)
