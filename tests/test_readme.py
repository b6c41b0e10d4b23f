"""The sessions in the README and the docs are what the commands print."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from scipy.stats import binomtest

from nearshot.commands.index import COMPILING
from tests.postgres import Server
from tests.service.test_serve import Served

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = (README, *sorted(DOCS.glob("*.md")))
BIN = Path(sys.executable).parent


def session(name: str) -> str:
    """A session's text as the README or a page of docs has it, without its indentation."""
    written = "".join(page.read_text() for page in PAGES)
    [block] = re.findall(rf"<!-- session: {name} -->\n\n(.*?)\n\n<!-- end -->", written, flags=re.DOTALL)
    return re.sub(r"^    ", "", block, flags=re.MULTILINE)


def tidy(printed: str) -> str:
    return re.sub(r" +$", "", printed.strip(), flags=re.MULTILINE)


def without_digests(printed: str) -> str:
    """Digests hang on the last bit of every vector, which another processor may round otherwise."""
    return re.sub(r"\b[0-9a-f]{16}\b", "(digest)", tidy(printed))


def words_of(plot: str) -> list[str]:
    """What stands in a plot: its titles, legend and numbers."""
    return re.findall(r"<text[^>]*>([^<]+)<", plot)


@pytest.fixture
def environment(tmp_path: Path, compiled: None) -> dict[str, str]:
    return {
        **os.environ,
        "BIN": str(BIN),
        "DEMO": "demo-data",
        "STORE": "demo-store",
        "HF_HUB_CACHE": str(tmp_path / "empty"),
        "TORCH_HOME": str(tmp_path / "empty"),
    }


def printed_in_postgresql(name: str, where: Path, environment: dict[str, str], address: str, **told: str) -> str:
    """What the commands of a session print whose store is in PostgreSQL; words of theirs are replaced by what is `told`."""
    subprocess.run([sys.executable, str(ROOT / "examples/make_demo.py"), "demo-data"], cwd=where, check=True)
    [shown] = set(re.findall(r"postgresql://\S+", session(name)))
    printed, env = [], dict(environment)
    for line in session(name).splitlines():
        if line.startswith("$ export "):
            printed.append(line)
            env["NEARSHOT_STORE"] = address
        elif line.startswith("$ nearshot "):
            command = [str(BIN / "nearshot"), *line.removeprefix("$ nearshot ").replace(shown, address).split()]
            command = [told.get(word, word) for word in command]
            done = subprocess.run(command, cwd=where, env=env, capture_output=True, text=True, check=True)
            printed += [line, *done.stdout.replace(shlex.quote(address), shown).replace(address, shown).splitlines()]
    return tidy("\n".join(printed))


@pytest.mark.parametrize("name", ["postgres", "copy"])
def test_a_store_in_postgresql_is_made_and_asked_as_the_docs_show(
    tmp_path: Path, environment: dict[str, str], postgres_server: Server, name: str
) -> None:
    assert printed_in_postgresql(name, tmp_path, environment, postgres_server.new_database()) == session(name)


def test_the_demo_prints_the_session_in_the_readme(tmp_path: Path, environment: dict[str, str]) -> None:
    for name in ("examples", "cli.py"):
        (tmp_path / name).symlink_to(ROOT / name)
    done = subprocess.run(
        ["sh", "examples/demo.sh"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    printed, _, rest = done.stdout.partition("\n$ nearshot search")
    compiling = COMPILING.format("lite0") + "\n"  # which the tests leave
    assert compiling in session("demo")
    assert tidy(printed) == session("demo").replace(compiling, "")
    for part in session("first").split("\n\n"):
        assert part in session("demo"), "the README shows some of it, as it is"
    assert tidy("$ nearshot search" + rest.partition("$ nearshot status")[0]) == session("search")
    assert {"match", "ambiguous", "unknown"} <= set(printed.split())
    assert "    data/<category>/2.support-set/<label>/shot1.jpg" in done.stdout
    truth = re.findall(r"^(match|ambiguous|unknown) +(\S+) .*6\.preprocessed/([^/\n]+)/", printed, flags=re.MULTILINE)
    assert len(truth) == 38
    cut = re.findall(r"^(match|unknown) +(\S+) .*objects/6\.preprocessed/(scene-\d)", printed, flags=re.MULTILINE)
    assert [(scene, label) for verdict, label, scene in cut if verdict == "match"] == [
        *(("scene-1", label) for label in ("coffee", "cat")),
        *(("scene-2", label) for label in ("astronaut", "rocket", "motorcycle")),
    ]
    assert len(cut) == 6
    for verdict, label, directory in truth:
        expected = {"Unknown": "unknown", "both": "ambiguous"}.get(directory, "match")
        assert verdict == expected
        assert label.removeprefix("objects/") == directory or verdict != "match"


def test_calibrating_and_evaluating_digits_prints_the_session_in_the_docs(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    done = subprocess.run(
        ["sh", "examples/trust.sh"],
        cwd=tmp_path,
        env=environment | {"DATA": "digits-data", "STORE": "digits-store", "REPORT": "digits-report"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert without_digests(done.stdout) == without_digests(session("trust"))
    assert words_of((ROOT / "docs/digits-scores.svg").read_text()) in [
        words_of(plot)
        for plot in re.findall(r"<svg.*?</svg>", (tmp_path / "digits-report/report.html").read_text(), re.DOTALL)
    ]
    lint = [str(BIN / "nearshot"), "lint", "digits-data", "--store", "digits-store"]
    printed = subprocess.run(lint, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert re.sub(r"^", " " * 8, printed.strip(), flags=re.MULTILINE) in (DOCS / "calibration.md").read_text()
    [judged] = [
        line.split() for line in done.stdout.splitlines() if line.startswith(" digits     hog        lda       ")
    ][:1]
    correct, wrong, _, correctly_unknown, refused, accepted = map(int, judged[4:10])
    said = f"answers {correct} of {correct + wrong + refused} known digits rightly, {wrong} wrongly"
    strangers = accepted + correctly_unknown
    written = " ".join((DOCS / "calibration.md").read_text().split())
    assert said in written
    assert f"accepts {accepted} of {strangers} strangers" in written
    told = " ".join(README.read_text().split())
    assert f"{correct} of {correct + wrong + refused} known ones rightly and accepts {accepted} of {strangers}" in told
    assert binomtest(accepted, strangers, 0.05, alternative="greater").pvalue > 0.05, "the promise that it speaks of"


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_curl_gets_what_the_readme_shows(tmp_path: Path, environment: dict[str, str]) -> None:
    for name in ("examples", "cli.py", "README.md"):
        (tmp_path / name).symlink_to(ROOT / name)
    subprocess.run([sys.executable, "examples/make_demo.py", "demo-data"], cwd=tmp_path, env=environment, check=True)
    index = [str(BIN / "nearshot"), "index", "demo-data", "--store", "demo-store", "--backbone", "lite0"]
    subprocess.run(index, cwd=tmp_path, env=environment, check=True, capture_output=True)
    shown = session("serve")
    commands = re.findall(r"^\$ (curl .*)$", shown, flags=re.MULTILINE)
    service = Served(tmp_path / "demo-store")
    asked = [command.replace("http://127.0.0.1:8077", service.url) for command in commands]
    done = [subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True) for command in asked]
    assert service.end()[0] == 0
    answers = [f"$ {command}\n{completed.stdout.strip()}" for command, completed in zip(commands, done, strict=True)]
    assert "\n\n".join(answers) == shown


def without_what_training_decides(printed: str) -> list[str]:
    """Weights trained on another processor differ in their last digits, and so cosines, ranks by image and close places."""
    masked = re.sub(r"cosine -?0\.\d+|image \d+|^ +\d+ ", "(figure)", tidy(printed), flags=re.MULTILINE)
    return sorted(masked.splitlines())


def test_a_toy_clip_finds_images_by_words_as_the_readme_shows(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    names = {"DATA": "words-data", "WEIGHTS": "words-weights", "STORE": "words-store", "NEARSHOT_RUNTIME": "torch"}
    command = ["sh", "examples/words.sh"]
    done = subprocess.run(command, cwd=tmp_path, env=environment | names, capture_output=True, text=True, check=True)
    assert without_what_training_decides(done.stdout) == without_what_training_decides(session("words"))


def test_the_list_of_backbones_is_the_one_in_the_readme(tmp_path: Path, environment: dict[str, str]) -> None:
    environment["NEARSHOT_CACHE"] = str(tmp_path / "empty")
    command = [sys.executable, str(ROOT / "cli.py"), "backbones"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    printed = f"$ nearshot backbones\n{done.stdout.strip()}"
    assert tidy(printed) == session("backbones")


def test_the_readme_is_read_in_one_go() -> None:
    assert len(README.read_text().splitlines()) <= 150
