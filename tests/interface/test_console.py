"""What a stage prints, seen from outside: each test runs a small script as a person would."""

import gc
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from src.interface import console

ROOT = Path(__file__).parents[2]
HEAD = "from src.interface import console\nimport os, signal, sys, time\n"


def script(body: str) -> list[str]:
    """The command of a stage whose main() is `body`."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return [sys.executable, "-c", f"{HEAD}def main():\n{lines}console.run(main)\n"]


def environment(**values: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **values}


def run(body: str, encoding: str = "utf-8", **values: str) -> subprocess.CompletedProcess[str]:
    values["PYTHONIOENCODING"] = encoding
    return subprocess.run(script(body), env=environment(**values), capture_output=True, encoding=encoding, timeout=60)


def on_terminal(body: str, *, columns: int = 100, term: str = "xterm") -> str:
    """What `body` writes to a terminal, control characters included."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, columns))
    process = subprocess.Popen(script(body), env=environment(TERM=term), stdout=slave, stderr=slave)
    os.close(slave)
    written = b""
    try:
        while chunk := os.read(master, 65536):
            written += chunk
    except OSError:  # how Linux reports that the other end is gone
        pass
    finally:
        os.close(master)
        process.wait(timeout=60)
    return written.decode()


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("raise ValueError('lr: -1 is not allowed; allowed: > 0')", "lr: -1 is not allowed; allowed: > 0"),
        ("raise ValueError('first\\n  second\\r\\n\\nthird\\u2028fourth\\n')", "first second third fourth"),
        ("raise ValueError('\\x1b[31mred\\x07')", "\\x1b[31mred\\x07"),
        ("raise ValueError", "ValueError"),
        ("open('no/such  file')", "no/such  file: No such file or directory"),
        ("os.rename('no/such', 'x')", "no/such -> x: No such file or directory"),
        ("raise OSError('the server sent half of it')", "the server sent half of it"),
        ("raise FloatingPointError('loss is nan: epoch 2, step 7')", "loss is nan: epoch 2, step 7"),
        ("raise MemoryError", "out of memory"),
    ],
)
def test_what_a_person_can_mend_is_one_line_and_exit_status_2(body: str, line: str) -> None:
    done = run(body)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"-c: {line}\n")


def test_the_line_begins_with_the_name_of_the_stage(tmp_path: Path) -> None:
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps/finetune.py").write_text(f"{HEAD}def main(): raise ValueError('no')\nconsole.run(main)\n")
    command = [sys.executable, "-m", "steps.finetune"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (2, "finetune: no\n")


def test_ctrl_c_is_one_line_and_exit_status_130() -> None:
    handler = "signal.signal(signal.SIGINT, signal.default_int_handler)"  # a shell's background job ignores SIGINT
    done = run(f"{handler}\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(5)")
    assert (done.returncode, done.stderr) == (130, "-c: interrupted\n")


TWICE = """\
try:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)
finally:
    os.kill(os.getpid(), signal.SIGTERM)
    print('put in order')
"""


def test_sigterm_is_one_line_and_exit_status_143_and_a_second_one_does_not_keep_it_from_ending_well() -> None:
    done = run(TWICE)
    assert (done.returncode, done.stdout, done.stderr) == (143, "put in order\n", "-c: terminated\n")


def test_sigterm_ends_the_other_processes_at_once_as_torchrun_means_it() -> None:
    done = run(TWICE, RANK="1")
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGTERM, "", "")


def test_what_is_ignored_stays_ignored() -> None:
    body = "os.kill(os.getpid(), signal.SIGTERM)\nconsole.say('goes on')"
    ignoring = [*script(body)[:2], f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{script(body)[2]}"]
    done = subprocess.run(ignoring, env=environment(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "goes on\n")


def test_traceback_1_shows_the_traceback_instead() -> None:
    done = run("raise ValueError('no')", TRACEBACK="1")
    assert done.returncode == 2
    assert done.stderr.startswith("Traceback (most recent call last):")
    assert done.stderr.endswith("ValueError: no\n")


def test_a_bug_keeps_its_traceback() -> None:
    done = run("{}['missing']")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last):")
    assert done.stderr.endswith("KeyError: 'missing'\n")


def test_a_reader_that_goes_away_causes_no_second_message() -> None:
    body = "os.close(read)\nconsole.say('unread')"
    done = run(f"read, write = os.pipe()\nos.dup2(write, 1)\nos.close(write)\n{body}")
    assert (done.returncode, done.stderr) == (2, "-c: Broken pipe\n")


def test_say_prints_one_line_even_where_the_terminal_lacks_a_character() -> None:
    done = run("console.say('a × b\\n→ c')", encoding="latin-1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "a × b \\u2192 c\n", "")


def test_a_long_sentence_is_folded_at_80_columns_and_keeps_its_words(capsys: pytest.CaptureFixture[str]) -> None:
    sentence = "reports/a_path_that_is_not_broken.html and 95 % [94.1, 95.8] " * 5
    console.say(sentence)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) <= 80
    assert " ".join(lines).split() == sentence.split()


@pytest.mark.parametrize("label", ["train_frozen", "scaling_ablation@resolution, seed 2"])
def test_a_line_of_an_epoch_fits_80_columns(label: str, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"epoch": 35, "train_loss": 12.3456, "train_accuracy": 0.98149, "val_loss": 0.5, "val_accuracy": 0.9}
    console.epoch_line(label, 35)(row)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith(": epoch 35/35: train 98.1%, loss 12.35; val 90.0%, loss 0.50")
    assert line.startswith(label.removeprefix("scaling_ablation@"))
    assert len(line) <= 80


def test_an_answer_ends_with_the_time_since_the_process_began(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "BEGAN", time.monotonic() - 12.0)
    console.answer("finetune", "98.6 % on test, epoch 6 kept")
    assert capsys.readouterr().out == "finetune: 98.6 % on test, epoch 6 kept, 12 s\n"


def test_warn_prints_one_line_on_stderr() -> None:
    done = run("console.warn('two\\nlines')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "-c: warning: two lines\n")


LOOP = """\
console.SECONDS_BETWEEN_LINES = 0.2
with console.progress(1000, "images", "extract") as bar:
    for step in range(10):
        time.sleep(0.05)
        bar.advance(100)
"""


def test_progress_in_a_pipe_is_a_plain_line_now_and_then() -> None:
    done = run(LOOP)
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (0, "")
    assert len(lines) >= 2
    assert all(re.fullmatch(r"extract: \d+% of 1000 images, \d+ images/s(, 00:0\d left)?", line) for line in lines)
    assert lines[-1].startswith("extract: 100% of 1000 images")
    assert not re.search(r"[\r\x1b]", done.stderr)


def test_progress_that_is_soon_over_prints_nothing_in_a_pipe() -> None:
    done = run(LOOP.replace("0.2", "10"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_progress_on_a_terminal_is_a_bar_with_rate_and_time_left() -> None:
    shown = on_terminal(LOOP)
    assert re.search(r"\rextract:  ?\d0%\|.+\| \d00/1000, +[\d.]+ images/s, 00:0\d left", shown)
    assert "100%" in shown
    assert shown.endswith("\r\n")


def test_a_terminal_that_does_not_tell_its_width_gets_a_bar_too() -> None:
    assert re.search(r"extract: 100%\|.+\| 1000/1000, +[\d.]+ images/s", on_terminal(LOOP, columns=0))


def test_a_line_said_beside_a_bar_stands_alone() -> None:
    body = LOOP + "    console.say('half-way')"
    shown = on_terminal(body)
    lines = [re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", part).strip() for part in re.split(r"[\r\n]+", shown)]
    assert "half-way" in lines


def test_an_error_beside_a_bar_stands_alone() -> None:
    shown = on_terminal(LOOP + "    raise ValueError('no')")
    assert re.split(r"[\r\n]+", shown)[-2] == "-c: no"


def test_a_dumb_terminal_gets_plain_lines() -> None:
    lines = on_terminal(LOOP, term="dumb").split("\r\n")
    assert lines.pop() == ""
    assert all(re.fullmatch(r"extract: \d+% of 1000 images, [^\r\x1b]+", line) for line in lines)


def test_bytes_are_scaled_and_a_resumed_start_is_no_speed() -> None:
    body = LOOP.replace('1000, "images", "extract"', '12_000_000, "B", "fetch", start=2_000_000')
    lines = run(body.replace("advance(100)", "advance(1_000_000)")).stderr.splitlines()
    rates = [float(re.fullmatch(r"fetch: \d+% of 12.0MB, ([\d.]+)MB/s(, .* left)?", line)[1]) for line in lines]  # type: ignore[index]
    assert rates
    assert all(rate <= 20 for rate in rates)  # 1 MB per 0.05 s at most: the 2 MB of before are not among them


def test_an_unknown_total_shows_what_was_done() -> None:
    body = LOOP.replace("1000", "None")
    assert re.match(r"extract: \d00 images, \d+ images/s\n", run(body).stderr)
    assert re.search(r"\d00/\?, +[\d.]+ images/s", on_terminal(body))


def test_the_expected_time_is_said_once_from_the_first_steps() -> None:
    body = "console.EXPECTATION_SECONDS = 0.2\n" + LOOP.replace("1000", "20_000").replace("range(10)", "range(15)")
    said = re.fullmatch(r"extract: about (\d+) s at (\d+) images/s, by its first steps\n", run(body).stdout)
    assert said
    assert int(said[1]) == pytest.approx(20_000 / int(said[2]), abs=0.6)
    assert int(said[2]) <= 2000  # 100 images per 0.05 s at most


def test_garbage_is_looked_for_in_a_stage_but_not_among_its_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, bool]] = []
    monkeypatch.setattr(console, "_leave", lambda status: None)
    gc.disable()  # as stages/__init__.py does
    try:
        console.run(lambda: seen.append((gc.isenabled(), gc.get_freeze_count() > 10_000)))
    finally:
        gc.enable()
        gc.unfreeze()
    assert seen == [(True, True)]
