"""Further bad inputs, beside those of `test_bad_inputs`: names, links, repeated values, numbers out of any range.

All run in this process, and none begins a study.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.commands import refused
from tests.cli.test_bad_inputs import HEAD, place

__all__ = ["place"]

COMMANDS = [
    ("study --method heat --method heat", "method 'heat' is named twice"),
    ("study --method sgd --method sgd", "method 'sgd' is named twice"),
    ("study --method HEAT", "did you mean 'heat'?"),
    ("study --method sgd,heat", "unknown method 'sgd,heat'"),
    ("study --problem DIGITS-MLP", "did you mean 'digits-mlp'?"),
    ("study --problem lenet:", "names no data after the colon"),
    ("study --problem lenet:nowhere", "unknown data set 'nowhere'"),
    ("study --problem char-lstm:folder", "text 'folder' is a folder"),
    ("study --problem char-lstm:notes.txt", "expected at least 1,280"),
    ("study --problem allcnn-bn:folder", "holds no images"),
    ("study --problem allcnn-bn:notes.txt", "is no archive"),
    ("study --population 99999999999", "expected 1 to 100,000 trials at a time"),
    ("study --storage sqlite:///a.db?mode=zzz", "options after the ?"),
    ("study --storage \t", "names no file"),
    ("study --storage postgresql://u@h/a\udc80", "holds bytes that are not UTF-8"),
    ("show --storage a\udc80.db", "holds bytes that are not UTF-8"),
    ("study --storage file:x.db", "is not a database URL"),
    ("study --storage loop", "unable to open database file"),
    ("study --storage fifo", "is not a regular file"),
    ("study --storage no/such/x.db", "create it first"),
    ("study --storage http://x", "driver 'http' is not supported"),
    ("study ", "study file '' names no file"),
    ("study loop", "does not exist"),
    ("study there.db", "is not UTF-8"),
    ("study --report loop", "is a link that leads to no folder"),
    ("study --checkpoints loop", "is a link that leads to no folder"),
    ("study --data-dir missing", "is not a folder"),
    ("study --optuna host:８０", "expected HOST:PORT"),
    ("study --optuna a\udc80:80", "expected HOST:PORT"),
    ("study --optuna http://h:80", "expected HOST:PORT"),
    ("study --name \t", "not blanks"),
    ("study --budget 1000000000000000000000000000000", "expected at most 1,000,000,000,000"),
    ("study --trials 10000001", "expected at most 10,000,000"),
    ("study --trials １２", "--trials"),
    ("study --looks 1", "a look at 1 block comes too early"),
    ("study --looks 20,10", "10 blocks come after 20"),
    ("study --devices cpu,cpu", "named twice"),
    ("study --devices auto", "'auto' is no device"),
    ("study --device CPU", "unknown device 'CPU'"),
    ("study --device meta", "not supported"),
    ("study --engine ray", "needs a number of workers"),
    ("study --engine ray --workers 5000", "expected 1 to 4096"),
    ("study --engine ray --workers 2 --gpus-per-worker nan", "nan GPUs per worker"),
    ("plan --storage ", "must be a file"),
    ("plan --storage notes.txt", "is not a SQLite database"),
    ("plan --storage folder", "is a folder"),
    ("plan --spread 1e300", "--spread 1e+300"),
    ("plan --spread 1e-300", "--spread 1e-300"),
    ("plan --population 0", "--population 0"),
    ("list --data-dir missing", "is not a folder"),
    ("show  --storage there.db", "unknown study ''"),
    ("show --storage torn.db", "lacks the table relaxbench_studies"),
    ("study --storage torn.db", "lacks the table relaxbench_studies"),
    ("best digits sgd --problem  --storage there.db", "unknown problem in study 'digits': ''"),
    ("best digits SGD --storage there.db", "did you mean 'sgd'?"),
    ("report --watch --every inf --storage there.db", "--every inf"),
    ("report --watch --every 1e9 --storage there.db", "at most 86,400 (a day)"),
    ("report --compare digits there.db# --storage there.db", "both are the same study"),
    ("report --report loop --storage there.db", "is a link that leads to no folder"),
    ("worker digits --population 99999999999 --storage there.db", "expected 1 to 100,000"),
    ("worker missing.toml --storage there.db", "does not exist"),
    ("bench --json no/such/x.json --only ledger --no-report", "the folder 'no/such' does not exist"),
    ("bench --json loop --only ledger", "is a link that leads to no file"),
    ("bench --json fifo --only ledger", "is not a regular file"),
    ("stress --json loop --only load", "is a link that leads to no file"),
    ("stress --json no/such/x.json --only load", "does not exist: create it first"),
    ("copy digits --to new.db --name \t --storage there.db", "without blanks at its ends"),
    ("copy digits --to loop --storage there.db", "unable to open database file"),
    ("copy digits --to no/such.db --storage there.db", "create it first"),
    ("export digits folder --storage there.db", "folder"),
    ("import fifo", "fifo"),
    ("import there.db --name \t --storage new.db", "without blanks at its ends"),
    ("check SGD", "did you mean 'sgd'?"),
    ("check .py", "'.py'"),
    ("theory --landscape ROSENBROCK", "unknown landscape 'ROSENBROCK'"),
    ("reproduce CURVEBALL-TOYS", "did you mean 'curveball-toys'?"),
    ("reproduce deep-relaxation --runs 5", "leave --runs out"),
    ("log digits --to mlflow --project a\tb --storage there.db", "project 'a\\tb': expected at most 200 printable"),
    ("log digits --to tensorboard --project " + "x" * 201 + " --storage there.db", "expected at most 200 printable"),
    ("log digits --to wandb --project a/b/c --storage there.db", "ENTITY/PROJECT"),
    ("log digits --to mlflow --where ftp://x --storage there.db", "expected a folder or http"),
    ("log digits --to tensorboard --where a\tb --storage there.db", "without line breaks"),
    ("log digits --to tensorboard --where there.db --storage there.db", "expected a folder, and this is a file"),
    ("log digits --to mlflow --where http:// --storage there.db", "expected the name of a server"),
    ("ablate hj --print --budget 100", "leave --budget out"),
    ("ablate hj --print --no-flatness", "leave --no-flatness out"),
    ("ablate sgd", "'sgd' has no parts"),
    ("atlas ", "names no file"),
    ("atlas there.db#nobody", "nobody"),
    ("study --known missing.db --storage there.db", "missing.db"),
    ("check torch:torch.optim.Nope", "Nope"),
]

SGD = "[method.sgd]\n"
HEAT = "[method.heat]\n"
KEYS = [
    (HEAD.replace('"s"', '"   "'), "name = ' ': expected a name, not blanks"),
    (HEAD.replace('"s"', '" s"'), "without blanks at its ends, such as 's'"),
    (HEAD.replace('"s"', '"\u200b"'), "expected printable characters"),
    (HEAD.replace('"heat"', '"heat", "heat"'), "method 'heat' is named twice"),
    (HEAD.replace('"rosenbrock"', '"rosenbrock", "rosenbrock"'), "problem 'rosenbrock' is named twice"),
    (HEAD.replace('"heat"', '" "') + '[method." "]\nrule = "heat"\n', "expected a name, not blanks"),
    (HEAD.replace('"heat"', '""') + '[method.""]\nrule = "heat"\n', "expected a name, not blanks"),
    (HEAD.replace('"heat"', '"Heat"'), "did you mean 'heat'?"),
    (HEAD.replace('["rosenbrock"]', "[]"), "problems is empty"),
    (HEAD + 'controls = ["sgd"]\n', "'sgd' is the baseline, with which controls are compared"),
    (HEAD + 'controls = ["heat", "heat"]\n', "'heat' stands there twice"),
    (HEAD + 'controls = [" heat"]\n', "unknown method ' heat'"),
    (HEAD + 'baseline = "SGD"\n', "did you mean 'sgd'?"),
    (HEAD + 'baseline = "lookahead"\n', "not among the methods"),
    (HEAT + 'title = ""\n', "method.heat.title = '': expected a name, not blanks"),
    (HEAT + 'title = "  "\n', "method.heat.title = ' ': expected a name, not blanks"),
    (HEAT + 'title = "a\\nb"\n', "method.heat.title = 'a\\nb': expected printable"),
    (HEAT + 'rule = ""\n', "method.heat.rule = '': expected a name, not blanks"),
    (HEAT + 'rule = "sgd"\n', "'heat' is the name of another rule"),
    (HEAT + 'rule = "HEAT"\n', "did you mean 'heat'?"),
    (HEAT + 'arm = "Published"\n', "expected 'tuned' or 'published'"),
    (HEAT + 'arm = "published"\nfixed = { lr = 0.1 }\n', "leave fixed out"),
    (HEAT + 'space = "Wide"\n', 'expected "default", "wide" or a table of ranges'),
    (HEAT + "fixed = { inner_steps = 1e300 }\n", "method.heat.fixed.inner_steps = 1e+300"),
    (HEAT + "fixed = { inner_steps = 1.5 }\n", "expected an integer of at least 1"),
    (SGD + 'arm = "published"\n', "does not tune the baseline"),
    (SGD + "fixed = { lr = 1e300 }\n", "method.sgd.fixed.lr = 1e+300: expected a number from 1e-30 to 1e+30"),
    (SGD + "fixed = { lr = 1e-320 }\n", "expected a number from 1e-30 to 1e+30"),
    (SGD + "fixed = { momentum = 1.0 }\n", "below 1"),
    (SGD + "fixed = { lr = 0.1 }\nspace = { lr = [0.1, 0.2] }\n", "leave one of them out"),
    (SGD + "options = { nesterov = 3 }\n", "method.sgd.options.nesterov = 3: expected true or false"),
    (SGD + "options = { nesterov = 1 }\n", "method.sgd.options.nesterov = 1: expected true or false"),
    (SGD + "options = { nesterov = 1.0 }\n", "method.sgd.options.nesterov = 1.0"),
    (SGD + 'options = { nesterov = "x" }\n', "method.sgd.options.nesterov = 'x'"),
    (SGD + "options = { nesterov = 2024-01-01 }\n", "method.sgd.options.nesterov = 2024-01-01"),
    (SGD + "options = { Nesterov = true }\n", "its options are nesterov"),
    (SGD + "lr = 0.1\n", "table [method.sgd]: 'lr'"),
    ("[[method]]\nrule = 'x'\n", "expected a table"),
    ("[Method.sgd]\nrule = 'sgd'\n", "did you mean 'method'?"),
    ("problem = 'x'\n", "did you mean 'problems'?"),
    ("NAME = 'x'\n", "did you mean 'name'?"),
    ('margin = "１０ %"\n', "margin = '１０ %'"),
    ('margin = "1e1 %"\n', "margin = '1e1 %'"),
    ('margin = "10,5 %"\n', "margin = '10,5 %'"),
    ('margin = "150 %"\n', "margin = '150 %'"),
    ("margin = 2024-01-01\n", "margin = 2024-01-01: expected a positive number"),
    ("margin = nan\n", "margin = nan"),
    ('description = "' + "x" * 100_000 + '"\n', "at most 10,000 characters, not 100,000"),
    ('description = "a\\u0000b"\n', "description holds the character '\\x00'"),
    ("seed = 12:00:00\n", "seed = 12:00:00: expected a whole number"),
    ("seed = 9223372036854775808\n", "expected less than"),
    ("flatness = 2024-01-01T00:00:00Z\n", 'flatness = 2024-01-01T00:00:00+00:00: expected true, false or "full"'),
    ("looks = [1]\n", "a look at 1 block comes too early"),
    ("looks = [10, true]\n", "entry 2 of looks = True"),
    ("looks = [20, 10]\n", "10 blocks come after 20"),
    ("budgets = [600, 600]\n", "600 stands there twice"),
    ("budget = 600\nbudgets = [600, 700]\n", "exclude each other"),
    ("more_blocks = 1\nrepetitions = 2\n", "ends with its last look"),
    ("budget = 1" + "0" * 30 + "\n", "expected at most 1,000,000,000,000"),
    ('search = { sampler = "qmc", options = { scramble = "no" } }\n', "scramble = 'no': expected true or false"),
    ('search = { sampler = "tpe", options = { n_ei_candidates = 2.5 } }\n', "2.5: expected a whole number"),
    ("search = { spot_checks = 0.5 }\n", 'pruner "none" stops no trials: leave it out'),
    ('ablation = { methods = ["hj"], parts = [] }\n', "[ablation] parts is empty"),
    ('track = { to = "mlflow", where = "gopher://x" }\n', "where 'gopher://x': expected a folder or http"),
    ('track = { to = "mlflow", project = "a\\u0000b" }\n', "printable characters"),
    ("known = [3]\n", "known"),
    ("space = { beta1 = [0.5, 0.9] }\n", "beta1, which no method of this study has"),
    ("space = { Lr = [0.1, 0.2] }\n", "did you mean 'lr'?"),
    ("space = { lr = [1e-320, 1] }\n", "space.lr = [1e-320, 1.0]: expected numbers from 1e-30 to 1e+30"),
    ("space = { lr = [1e-3, 1e300] }\n", "expected numbers from 1e-30 to 1e+30"),
    ("space = { lr = [0.1, nan] }\n", "expected finite numbers"),
    ("space = { lr = [-1, 0.5] }\n", "not negative"),
    ("space = { lr = [0.1, 0.1] }\n", "expected low < high"),
    ("space = { inner_steps = [10, 1e300] }\n", "expected integers of at most 100,000"),
    ("space = { inner_steps = [10, 13] }\n", "in steps of 2"),
    ('space = { schedule = ["cosine", "cosine"] }\n', "'cosine' stands there twice"),
    ('space = { schedule = ["qqq"] }\n', "unknown choice of schedule 'qqq'"),
    ('space = "wide"\n', "space = 'wide': expected a table of ranges"),
]
"""Contents of study files; those without problems follow a sound head."""


@pytest.fixture
def torn(place: Path) -> None:
    """Links that lead nowhere, a pipe, and a database from which a table was removed."""
    import sqlite3

    if (place / "fifo").exists():
        return
    (place / "loop").symlink_to("loop")
    os.mkfifo(place / "fifo")
    (place / "torn.db").write_bytes((place / "there.db").read_bytes())
    with sqlite3.connect(place / "torn.db") as file:
        file.execute("DROP TABLE relaxbench_studies")
    file.close()


@pytest.mark.usefixtures("torn")
@pytest.mark.parametrize(("line", "told"), COMMANDS, ids=[line.replace("\t", "TAB") for line, _ in COMMANDS])
def test_a_bad_command_line_is_one_line_and_code_2(
    line: str, told: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    said = refused(capsys, *line.split(" "))
    assert told in said and len(said) < 1000


@pytest.mark.parametrize(("content", "told"), KEYS, ids=[content[-50:] for content, _ in KEYS])
def test_a_bad_study_file_is_one_line_and_code_2(
    content: str, told: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bad.toml").write_text(content if "problems" in content else HEAD + content)
    said = refused(capsys, "study", "bad.toml", "--device", "cpu")
    assert told in said and "bad.toml" in said and len(said) < 1000
    assert os.listdir(folder) == ["bad.toml"]
