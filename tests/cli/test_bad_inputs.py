"""A hundred bad inputs over all commands and keys of study files: each is refused in one line, with code 2.

All run in this process, and none begins a study.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from relaxbench.store.database import open_database
from tests import synthetic
from tests.cli.commands import refused

LONG = "x" * 5000
NUMBER = "9" * 5000
HEAD = 'name = "s"\nproblems = ["rosenbrock"]\nmethods = ["sgd", "heat"]\n'

COMMANDS = [
    ("study --looks -10", "--looks"),
    ("study --looks ,", "such as 10,20,40"),
    ("study --looks 10;20", "such as 10,20,40"),
    ("study --looks 10,,20", "such as 10,20,40"),
    ("study --looks ١٠", "such as 10,20,40"),
    (f"study --looks {NUMBER}", "at most 10,000,000 blocks"),
    (f"study --trials {NUMBER}", "--trials"),
    ("study --trials 1e3", "--trials"),
    ("study --budget 1", "--budget 1: smaller than one outer step of"),
    ("study --seed x", "--seed"),
    ("study --seed 99999999999999999999", "--seed"),
    (f"study --name {LONG}", "at most 200 characters"),
    ("study --name a\tb", "expected printable characters"),
    ("study --name a\udc80b", "--name"),
    (f"study --method {LONG}", "unknown method"),
    ("study --method sgd/", "unknown method 'sgd/': did you mean 'sgd'?"),
    ("study --method ", "unknown method ''"),
    ("study --method qqq", "unknown method 'qqq': known: adam-lbfgs, adamw, "),
    ("study --problem qqq", "unknown problem 'qqq': known: allcnn"),
    ("study --problem ", "--name '': expected at least 1 character"),
    (f"study --name s --problem {LONG}.py", "name too long"),
    ("study --problem ..", "unknown problem '..'"),
    ("study --name s --problem /", "unknown problem '/'"),
    ("study --problem no/such.py", "'no/such.py' does not exist"),
    ("study --problem rosenbrock:x", "unknown problem"),
    ("study --problem rosenbrock --problem rosenbrock", "named twice"),
    ("study --population x", "--population"),
    ("study --population 0", "--population 0"),
    ("study --device cuda:-1", "cuda:-1"),
    ("study --device cuda:x", "cuda:x"),
    ("study --device ", "device"),
    ("study --workers 0", "0 workers: expected 1 to 1024 (option --workers)"),
    ("study --workers 99999", "99999 workers: expected 1 to 1024 (option --workers)"),
    ("study --per-device 0", "--per-device"),
    ("study --devices cpu,gpu", "gpu"),
    ("study --devices ", "devices"),
    ("study --engine slurm", "slurm"),
    ("study --engine ray --address nowhere", "--address"),
    ("study --address auto", "--address"),
    ("study --gpus-per-worker -1 --engine ray --workers 2", "--gpus-per-worker"),
    ("study --cpus-per-worker 0 --engine ray --workers 2", "--cpus-per-worker"),
    ("study --optuna here", "--optuna 'here': expected HOST:PORT"),
    ("study --optuna host:99999", "--optuna"),
    ("study --retries -1", "--retries -1"),
    ("study --retries 1001", "--retries 1001"),
    ("study --more-blocks -5", "--more-blocks -5"),
    ("study --storage mysql://u@h/n", "mysql"),
    ("study --storage postgresql://u@h:99999/n", "postgresql"),
    ("study --storage sqlite:///", "must be a file"),
    (f"study --storage {LONG}.db", "name too long"),
    ("study --storage folder", "is a folder"),
    ("study --storage notes.txt", "is not a SQLite database"),
    ("study folder", "is a folder"),
    ("study notes.txt", "cannot be read"),
    ("study mine.py", "it is a Python file; give a problem as --problem"),
    (f"study {LONG}.toml", "name too long"),
    ("study --blocks 6", "--blocks is no option: say --looks 6, or --more-blocks 6"),
    ("study --colour red", "--colour"),
    ("study --sampler tpe", "No such option: --sampler (see python"),
    ("study --trails 3", "No such option: --trails (Possible options: --trials"),
    ("study --report notes.txt", "is not a folder"),
    ("study --checkpoints notes.txt/x", "is not a folder"),
    ("study --data-dir notes.txt", "is not a folder"),
    ("plan --spread nan", "--spread"),
    ("plan --spread x", "--spread"),
    ("plan --device tpu", "tpu"),
    ("plan missing.toml", "does not exist"),
    ("plan --budget 1 --problem digits-mlp", "--budget 1: smaller than one outer step"),
    ("list extra", "extra"),
    ("show nobody --storage there.db", "unknown study 'nobody': known: digits"),
    (f"show {LONG} --storage there.db", "unknown study"),
    ("show --storage notes.txt", "is not a SQLite database"),
    ("show a b", "b"),
    ("best digits qqq --storage there.db", "unknown method in study 'digits': 'qqq': known: hj, sgd"),
    ("best digits sgd --problem q --storage there.db", "unknown problem in study 'digits'"),
    ("best digits sgd --weights no/x.pt --storage there.db", "keeps no weights"),
    ("best", "study"),
    ("report --compare a", "--compare"),
    ("report --compare digits nobody --storage there.db", "nobody"),
    ("report --compare digits missing.db --storage there.db", "missing.db"),
    ("report --compare digits there.db#no --storage there.db", "unknown study 'no'"),
    ("report --all --watch", "exclude each other"),
    ("report digits --all", "exclude each other"),
    ("report --every 3", "--every"),
    ("report --watch --every 0 --storage there.db", "--every 0"),
    ("report --watch --every nan --storage there.db", "--every nan"),
    ("report --watch --port 99999 --storage there.db --no-browser", "port 99999: expected"),
    ("report --report notes.txt --storage there.db", "is not a folder"),
    ("dashboard --port -1 --storage there.db", "port -1: expected"),
    ("worker nobody --storage there.db", "unknown study 'nobody'"),
    ("worker digits --storage there.db --method qqq", "qqq"),
    ("worker digits --storage there.db --problem qqq", "qqq"),
    ("worker digits --storage there.db --population -2", "--population -2"),
    ("worker", "study"),
    ("status nobody --storage there.db", "unknown study 'nobody'"),
    ("reap nobody --storage there.db", "unknown study 'nobody'"),
    ("reap --worker nobody --storage there.db", "nobody"),
    ("stress --only qqq", "unknown part of stress 'qqq'"),
    ("stress --json folder", "is a folder"),
    ("copy digits --to there.db --storage there.db", "already in storage"),
    ("copy digits --to notes.txt --storage there.db", "(option --to)"),
    (f"copy digits --to new.db --name {LONG} --storage there.db", "expected 1 to 200"),
    ("copy digits --to new.db --name a\nb --storage there.db", "printable"),
    ("copy digits --to there.db --name a\udc80 --storage there.db", "printable"),
    ("import there.db --name a\nb --storage new.db", "printable"),
    ("import there.db --name  --storage new.db", "expected 1 to 200"),
    ("export digits notes.txt --storage there.db", "already exists"),
    ("export digits no/such/x.db --storage there.db", "does not exist"),
    (f"export digits {LONG} --storage there.db", "name too long"),
    ("export nobody x.db --storage there.db", "unknown study 'nobody'"),
    ("import notes.txt", "cannot be imported"),
    ("import missing.db", "does not exist"),
    (f"import {LONG}", "name too long"),
    ("import there.db nobody", "unknown study 'nobody'"),
    ("upgrade --storage missing.db", "does not exist"),
    ("doctor --qqq", "--qqq"),
    ("bench --json folder", "is a folder"),
    ("bench --device qqq", "qqq"),
    ("check qqq", "unknown method or problem 'qqq'"),
    ("check notes.py", "notes.py"),
    ("check mine.py", "mine.py"),
    ("theory --landscape qqq", "unknown landscape 'qqq'"),
    ("theory --particles 1000000000000", "--particles"),
    ("theory --particles 1", "--particles 1"),
    ("theory --seed -1", "--seed"),
    ("theory --seed 99999999999999999999", "--seed"),
    ("reproduce qqq", "unknown table 'qqq'"),
    ("reproduce curveball-toys --runs 1", "--runs 1"),
    ("reproduce curveball-toys --runs 1000000000000", "--runs"),
]

KEYS = [
    ("", "the key 'name' is missing"),
    ("\0", "cannot be read"),
    ("name = 1\n", "name = 1: expected a text in quotes"),
    (HEAD.replace('"s"', '"""a\nb"""'), "expected printable characters"),
    (HEAD.replace('["rosenbrock"]', '["a\\u0000.py"]'), "expected printable characters"),
    (HEAD.replace('["rosenbrock"]', "[[]]"), "entry 1 of problems = []"),
    (HEAD.replace('["rosenbrock"]', "1979-05-27"), "problems"),
    (HEAD.replace('"heat"', "1.5"), "entry 2 of methods = 1.5: expected a text"),
    (HEAD + "description = 1\n", "description = 1: expected a text"),
    (HEAD + "baseline = true\n", "baseline = True: expected a text"),
    (HEAD + 'controls = "heat"\n', "controls = 'heat': expected a list, such as [\"lookahead\"]"),
    (HEAD + 'controls = ["adamw"]\n', "not among the methods"),
    (HEAD + "seed = 1.5\n", "seed = 1.5: expected a whole number"),
    (HEAD + f"seed = {NUMBER}\n", "a number of thousands of digits"),
    (HEAD + 'looks = "10,20"\n', "looks = '10,20': expected a list"),
    (HEAD + "looks = [10, 20.5]\n", "entry 2 of looks = 20.5: expected a whole number"),
    (HEAD + "more_blocks = -1\n", "more_blocks = -1"),
    (HEAD + "trials = inf\n", "trials = inf"),
    (HEAD + "exploit = '16'\n", "exploit = '16': expected a whole number"),
    (HEAD + "recommend = 99999999\n", "recommend = 99999999: expected at most 10,000,000"),
    (HEAD + "repetitions = 0\n", "repetitions = 0: expected at least 1"),
    (HEAD + "budget = 0\n", "budget = 0: expected at least 1"),
    (HEAD + "budget = 1\n", "budget = 1: smaller than one outer step of heat on rosenbrock"),
    (HEAD + "budgets = []\n", "budgets = []: expected at least one budget"),
    (HEAD + "budgets = [1, 600]\n", "budgets = 1: smaller than one outer step of heat on rosenbrock@1"),
    (HEAD + "budgets = 600\n", "budgets = 600: expected a list, such as [600, 2000]"),
    (HEAD + 'margin = "10"\n', "margin = '10'"),
    (HEAD + "margin = 1e9\n", "margin = 1e+09"),
    (HEAD + 'precision = "float16"\n', "precision = 'float16': expected"),
    (HEAD + "flatness = 1\n", 'flatness = 1: expected true, false or "full"'),
    (HEAD + "space = 3\n", "space = 3: expected a table"),
    (HEAD + "[space]\nlr = 3\n", "space.lr = 3: expected [low, high], or a list of choices"),
    (HEAD + "[space]\nlr = [1, 2, 3]\n", "lr = [1.0, 2.0, 3.0]: expected [low, high]"),
    (HEAD + "[space]\nqqq = [1, 2]\n", "unknown hyperparameter in [space] 'qqq'"),
    (HEAD + "method = 3\n", "method = 3: expected a table"),
    (
        HEAD + "[method.sgd]\nqqq = 3\n",
        "table [method.sgd]: 'qqq': known: against, arm, fixed, instead, options, rule, search, space, title",
    ),
    (HEAD + "[method.heat]\nrule = 3\n", "method.heat.rule = 3: expected a text"),
    (HEAD + "[method.heat]\ntitle = []\n", "method.heat.title = []: expected a text"),
    (HEAD + "[method.heat]\narm = 1\n", "method.heat.arm = 1: expected 'tuned' or 'published'"),
    (HEAD + "[method.heat]\nfixed = 3\n", "method.heat.fixed = 3: expected a table"),
    (HEAD + "[method.heat.fixed]\nlr = false\n", "method.heat.fixed.lr = False: expected a number"),
    (HEAD + "[method.heat.options]\nqqq = 1\n", "heat has no such option; it has no options"),
    (HEAD + "[method.sgd.options]\nqqq = 1\n", "sgd has no such option; its options are nesterov"),
    (HEAD + "[method.other]\nrule = 'sgd'\n", "[method.…] names 'other', which is not among the methods"),
    (HEAD + "name = 't'\n", "\"name = 't'\" (at line 4) gives a key or table that the file has given before"),
    (HEAD + "[space]\n[space]\n", "'[space]' (at line 5) gives a key or table"),
    (HEAD + "qqq = 1\n", "unknown key in bad.toml: 'qqq'"),
    (HEAD + "blocks = 2\n", "bad.toml: `blocks` is not a key of a study: say `looks = [6]`"),
    (HEAD + "blocks = 12\n", "say `looks = [12]`"),
    (HEAD + "blocks = 'x'\n", "say `looks = [6]`"),
    (HEAD + "trails = 1\n", "did you mean 'trials'?"),
    (HEAD + "looks = " + "[" * 3000 + "\n", "nested too deeply"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database, a folder, and files that are none."""
    folder = tmp_path_factory.mktemp("place")
    engine = open_database(str(folder / "there.db"))
    asked = synthetic.spec(methods=["sgd", "hj"], controls=[], looks=[6], trials=1, exploit=1, recommend=1)
    synthetic.fill(synthetic.Writer(engine, asked))
    engine.dispose()
    (folder / "folder").mkdir()
    (folder / "notes.txt").write_text("not a database, and not TOML")
    (folder / "mine.py").write_text("nothing = 1")
    return folder


@pytest.mark.parametrize(("line", "told"), COMMANDS, ids=lambda value: value[:50].encode("ascii", "replace").decode())
def test_a_bad_command_line_is_one_line_and_code_2(
    line: str, told: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    said = refused(capsys, *line.split(" "))
    assert told in said and len(said) < 1000


@pytest.mark.parametrize(("content", "told"), KEYS, ids=[told[:50] for _, told in KEYS])
def test_a_bad_study_file_is_one_line_and_code_2(
    content: str, told: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bad.toml").write_text(content)
    said = refused(capsys, "study", "bad.toml", "--device", "cpu")
    assert told in said and "bad.toml" in said and len(said) < 1000
    assert os.listdir(folder) == ["bad.toml"]
