"""Every example in its quick form, the list of them, the report on all, and what they say when something is missing."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import gpugrad as gg
from gpugrad import cli
from gpugrad.examples import NAMES, Run, run
from gpugrad.examples.run import perform, report, title

FOLDER = Path(run.__file__).parent


@pytest.fixture(scope="module", autouse=True)
def the_bundled_subset(tmp_path_factory):
    # No test downloads MNIST. Only the folder of downloads is another: compiled kernels are kept in the usual one.
    place = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gpugrad.data.download.cache_folder", lambda: place)
        patch.setattr("gpugrad.data.download.download", _no_network)
        yield


def _no_network(*args):
    from gpugrad.data.download import DownloadError

    raise DownloadError("no network in tests")


@pytest.mark.parametrize("name", NAMES)
def test_quick_form(name, device, tmp_path, capsys):
    done = perform(Run(name, gg.device(device), tmp_path, quick=True))
    assert done.results
    assert not [r for r in done.results if not r.reached]
    assert all((tmp_path / picture).stat().st_size for picture in done.pictures)
    said = capsys.readouterr().out
    assert said.startswith(f"{name}: {title(name)}")
    assert all(r.what in said for r in done.results)


def test_every_file_is_an_example_with_a_line_and_a_main():
    assert {path.stem for path in FOLDER.glob("*.py")} == {*NAMES, "__init__", "run"}
    for name in NAMES:
        text = (FOLDER / f"{name}.py").read_text()
        assert 20 < len(title(name)) < 120
        assert 'if __name__ == "__main__":\n    start(main)' in text
        # Only what a user has: the public API.
        assert not re.search(r"\._[a-z]|from \.|gpugrad\.(backend|engine|ops|tensor)", text), name


def test_the_same_seed_gives_the_same_figures(tmp_path):
    def values(seed):
        return [r.value for r in perform(Run("moons", gg.device("cpu"), tmp_path, seed, quick=True)).results] + [
            gg.rand(()).item()
        ]

    assert values(3) == values(3)
    assert values(3) != values(4)


def test_the_list_and_one_example_from_the_command_line(tmp_path, capsys):
    assert cli.main(["examples"]) == 0
    listed = capsys.readouterr().out
    assert all(f"{name} " in listed and title(name) in listed for name in NAMES)
    assert cli.main(["examples", "chain_rule", "--device", "cpu"]) == 0
    assert "-4, -4, 3" in capsys.readouterr().out
    assert cli.main(["examples", "no_such_thing"]) == 2
    assert "'no_such_thing'" in capsys.readouterr().err
    assert cli.main(["examples", "moons", "--all"]) == 2


def test_as_a_module():
    command = [sys.executable, "-m", "gpugrad.examples.chain_rule", "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=FOLDER.parent.parent)
    assert done.returncode == 0, done.stderr
    assert "-4, -4, 3" in done.stdout


def test_all_with_a_report(tmp_path, monkeypatch, capsys):
    def broken(this):
        raise ValueError("it broke")

    monkeypatch.setattr(run, "NAMES", ("chain_rule", "tensor_engine", "moons"))
    monkeypatch.setattr("gpugrad.examples.tensor_engine.main", broken)
    code = cli.main(["examples", "--all", "--quick", "--device", "cpu", "--out", str(tmp_path)])
    assert code == 1
    text = (tmp_path / "report.md").read_text()
    assert "| `chain_rule` | df/dx, df/dy, df/dz | -4, -4, 3 | exactly -4, -4, 3 | -4, -4, 3 | yes |" in text
    assert "tensor_engine failed: ValueError: it broke" in text
    assert "tensor_engine failed" in capsys.readouterr().out


def test_a_goal_that_is_not_reached_is_said_and_counts(tmp_path, monkeypatch, capsys):
    def main(this):
        this.result("a|b", 1, goal="2", reached=False)

    monkeypatch.setattr("gpugrad.examples.chain_rule.main", main)
    assert cli.main(["examples", "chain_rule", "--device", "cpu"]) == 1
    assert "NOT REACHED" in capsys.readouterr().out
    failed = perform(Run("chain_rule", gg.device("cpu"), tmp_path))
    assert "| a\\|b |  | 2 | 1 | **no** |" in report([failed], [])


def test_without_matplotlib_the_figures_are_still_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for name in ("moons", "circle", "image_generation", "gradient_monitoring"):
        done = perform(Run(name, gg.device("cpu"), tmp_path, quick=True))
        assert done.results
        assert not done.pictures
        assert "pip install 'gpugrad[plot]'" in capsys.readouterr().out


def test_the_gallery_is_small_and_names_real_commands():
    root = Path(__file__).parent.parent
    text = (root / "README.md").read_text()
    pictures = re.findall(r"!\[.+?\]\((.+?)\)", text)
    assert len(pictures) > 10
    assert {root / picture for picture in pictures} == set((root / ".github/gallery").iterdir())
    assert sum((root / picture).stat().st_size for picture in pictures) < 1_500_000
    assert set(re.findall(r"gpugrad examples ([a-z]\w+)", text)) <= set(NAMES)
