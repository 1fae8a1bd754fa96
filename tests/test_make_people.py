"""The demo's data: the same bytes every time, and hard enough to be worth reading."""

from __future__ import annotations

import csv
import hashlib
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "data" / "make_people.py"


def make(output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *options, str(output)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("people") / "people.csv"
    assert make(path, "--rows", "50000").returncode == 0
    return path


def test_same_rows_and_seed_give_the_same_bytes_on_every_python(tmp_path: Path) -> None:
    make(tmp_path / "few.csv", "--rows", "5000", "--seed", "7")

    digest = hashlib.sha256((tmp_path / "few.csv").read_bytes()).hexdigest()
    assert digest == "f8ce751ef608e988a0961f5efc5dbc38e2d372dc2858392dbf9d9f69b804ad85"


def test_fewer_rows_are_the_first_of_more(people: Path, tmp_path: Path) -> None:
    make(tmp_path / "few.csv", "--rows", "12345")

    assert people.read_bytes().startswith((tmp_path / "few.csv").read_bytes())


def test_another_seed_gives_other_people_of_the_same_companies(people: Path, tmp_path: Path) -> None:
    make(tmp_path / "other.csv", "--rows", "50000", "--seed", "2")

    other = rows(tmp_path / "other.csv")
    assert other != rows(people)
    assert {row[3] for row in other} == {row[3] for row in rows(people)}


def test_every_row_has_the_four_columns(people: Path) -> None:
    header, *records = rows(people)

    assert header == ["first_name", "last_name", "gender", "company"]
    assert len(records) == 50_000
    assert {len(record) for record in records} == {4}


def test_there_are_378_companies_some_much_larger(people: Path) -> None:
    sizes = Counter(row[3] for row in rows(people)[1:])

    assert len(sizes) == 378
    assert max(sizes.values()) > 20 * min(sizes.values())


def test_company_names_are_hard_to_read(people: Path) -> None:
    companies = {row[3] for row in rows(people)}

    assert {"Weber, Klein & Söhne", 'The "Blue" Door', "Smith, Jones\nand Daughters"} <= companies
    assert {"Lighthouse\r\nInsurance", "Line\u2028Separator", "株式会社みらい"} <= companies
    assert b'"The ""Blue"" Door"' in people.read_bytes()


def test_first_names_are_not_only_ascii(people: Path) -> None:
    assert {"Łukasz", "Zoë", "美咲", "Þóra"} <= {row[0] for row in rows(people)}


def test_most_genders_are_female_or_male_and_a_few_neither_or_empty(people: Path) -> None:
    genders = Counter(row[2] for row in rows(people)[1:])

    assert genders.keys() == {"female", "male", "nonbinary", ""}
    assert 0 < genders["nonbinary"] + genders[""] < 0.05 * genders.total()


def test_a_line_says_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "few.csv"

    assert make(path, "--rows", "1000").stdout == (
        f"{path}: 1,000 people in 378 companies, {path.stat().st_size:,} bytes\n"
    )


def test_only_the_whole_file_is_left_behind(tmp_path: Path) -> None:
    (tmp_path / "few.csv").write_text("old")
    make(tmp_path / "few.csv", "--rows", "10")

    assert [path.name for path in tmp_path.iterdir()] == ["few.csv"]
    assert len(rows(tmp_path / "few.csv")) == 11


def test_no_rows_give_the_header_only(tmp_path: Path) -> None:
    make(tmp_path / "none.csv", "--rows", "0")

    assert rows(tmp_path / "none.csv") == [["first_name", "last_name", "gender", "company"]]


def test_a_folder_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "absent" / "people.csv"
    done = make(path, "--rows", "10")

    assert done.returncode == 1
    assert done.stderr == f"make_people.py: cannot write '{path}': No such file or directory\n"


def test_fewer_than_no_rows_are_refused(tmp_path: Path) -> None:
    done = make(tmp_path / "few.csv", "--rows=-1")

    assert done.returncode == 2
    assert "-1 is less than 0" in done.stderr
    assert not list(tmp_path.iterdir())
