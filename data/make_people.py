#!/usr/bin/env python3
"""Write people.csv, the demo's data: first name, last name, gender and company of made-up people.

The same rows and seed give the same bytes, on every Python from 3.11: of `random` only `Random.random` is used, whose
sequence for an integer seed is promised to stay. The companies are the same for every seed and every number of rows.

What makes CSV hard is in it on purpose: commas, line ends and quotes inside quoted fields, and names outside ASCII.

The file appears whole or not at all.

    python data/make_people.py [--rows N] [--seed S] OUTPUT
"""

from __future__ import annotations

import argparse
import os
import random
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

HEADER = "first_name,last_name,gender,company\n"

#: Rows put together before they are written.
BATCH_ROWS = 10_000

#: Slots a weighted choice is spread over, roughly: a choice is then one look into a list.
SLOTS = 20_000

FIRST_NAMES = {
    "female": """
        Zoë Łucja Þóra Åsa Chloé Renée Siân Noémie İpek Ştefania 美咲 さくら Анна Ольга Ελένη ליאת فاطمة प्रिया Mary
        Anna Emma Olivia Sophia Isabella Mia Charlotte Amelia Harper Evelyn Abigail Emily Elizabeth Sofia Avery
        Ella Scarlett Grace Victoria Riley Aria Lily Aubrey Zoey Penelope Layla Nora Camila Hannah Lillian
        Addison Eleanor Natalie Luna Savannah Brooklyn Leah Stella Hazel Ellie Paisley Audrey Skylar Violet
        Claire Bella Lucy Aaliyah Caroline Genesis Kennedy Kinsley Allison Maya Sarah Madelyn Adeline Alexa
        Ariana Elena Gabriella Naomi Alice
    """,
    "male": """
        Łukasz Þorsteinn Björn Søren José René Müslüm Ömer Žiga Čeněk 大翔 蓮 Иван Дмитрий Γιώργος משה محمد अर्जुन
        James John Robert Michael William David Richard Joseph Thomas Charles Christopher Daniel Matthew Anthony
        Mark Donald Steven Paul Andrew Joshua Kenneth Kevin Brian George Timothy Ronald Edward Jason Jeffrey
        Ryan Jacob Gary Nicholas Eric Jonathan Stephen Larry Justin Scott Brandon Benjamin Samuel Gregory
        Alexander Frank Patrick Raymond Jack Dennis Jerry Tyler Aaron Jose Adam Nathan Henry Douglas Zachary
        Peter Kyle Noah Ethan Jeremy Walter Liam
    """,
    "nonbinary": "Robin Alex Sam Charlie Jules Kim Noa René Yuki Ariel",
    "": "Chris Pat Taylor Jordan Morgan Casey Jamie Lee",
}

#: How many people in a thousand have each gender; some, as in real data, left it empty.
GENDERS_PER_MILLE = {"female": 489, "male": 487, "nonbinary": 16, "": 8}

LAST_NAMES = """
    Ångström Łukasiewicz Þórsdóttir Núñez Müller Šimić Çelik Øvergård D'Angelo O'Brien Saint-Exupéry 田中 佐藤 Иванова
    Παπαδόπουλος כהן حداد शर्मा Smith Johnson Williams Brown Jones Garcia Miller Davis Rodriguez Martinez Hernandez
    Lopez Gonzalez Wilson Anderson Thomas Taylor Moore Jackson Martin Lee Perez Thompson White Harris Sanchez Clark
    Ramirez Lewis Robinson Walker Young Allen King Wright Scott Torres Nguyen Hill Flores Green Adams Nelson Baker
    Hall Rivera Campbell Mitchell Carter Roberts Gomez Phillips Evans Turner Diaz Parker Cruz Edwards Collins Reyes
    Stewart Morris Morales Murphy Cook Rogers Gutierrez Ortiz Morgan Cooper Peterson Bailey Reed Kelly Howard Ramos
    Kim Cox Ward Richardson Watson Brooks Chavez Wood James Bennett Gray Mendoza Ruiz Hughes Price Alvarez Castillo
    Sanders Patel Myers Long Ross Foster Jimenez Weber Schneider Fischer Becker Hoffmann Koch Richter Klein Wolf
    Neumann Schwarz Zimmermann Braun Krüger Hartmann Lange Werner Krause Lehmann Köhler Maier Rossi Russo Ferrari
    Esposito Bianchi
"""

#: Companies whose names are hard for a CSV reader, or for whoever takes text for ASCII.
HARD_COMPANIES = [
    "Weber, Klein & Söhne",
    'The "Blue" Door',
    "Smith, Jones\nand Daughters",
    "Lighthouse\r\nInsurance",
    '"Quoted"',
    '"Comma, Quote" and\nLine',
    "Ångström Optik",
    "Žlutý kůň",
    "株式会社みらい",
    "Þórshöfn Fisk",
    "Ромашка, Лтд.",
    "Ελιά, Ελλάς",
    "L'Été",
    "Crème, Brûlée & Cie",
    "Tab\tand Space",
    '5" Nails',
    "Line\u2028Separator",
    "🦊 Fox",
]

COMPANY_STARTS = """
    Acme Blue Nord Terra Sun Iron Quick Green Star Deep Alto Luna Ever Bright Silver Vela Prima Zeta Omni Hexa
"""
COMPANY_ENDS = """
    soft works bank line gate mart tech field media cargo craft dyne foods loop motors pharma vision wood
"""


def rows(count: int, seed: int) -> Iterator[str]:
    """Make up people, each as one record of CSV.

    Args:
        count: how many.
        seed: another one gives other people; the companies stay.
    """
    genders = spread(GENDERS_PER_MILLE, GENDERS_PER_MILLE.values())
    first_names = {gender: [quoted(name) for name in FIRST_NAMES[gender].split()] for gender in FIRST_NAMES}
    last_names = [quoted(name) for name in LAST_NAMES.split()]
    # The n-th company is about as large as 1 / (n + 10): the largest has forty times as many people as the smallest.
    names = companies()
    companies_by_size = spread(map(quoted, names), [1 / (n + 10) for n in range(len(names))])
    rnd = random.Random(seed).random
    for _ in range(count):
        gender = genders[int(rnd() * len(genders))]
        candidates = first_names[gender]
        first_name = candidates[int(rnd() * len(candidates))]
        last_name = last_names[int(rnd() * len(last_names))]
        company = companies_by_size[int(rnd() * len(companies_by_size))]
        yield f"{first_name},{last_name},{gender},{company}\n"


def companies() -> list[str]:
    """Return all companies, always the same, the largest first; hard names stand among large and small ones."""
    starts, ends = COMPANY_STARTS.split(), COMPANY_ENDS.split()
    # Each start meets each end once, and neighbours in the list share neither.
    plain = [
        start + ends[(place * 7 + turn) % len(ends)] for turn in range(len(ends)) for place, start in enumerate(starts)
    ]
    return [name for n, hard in enumerate(HARD_COMPANIES) for name in (*plain[n * 20 : n * 20 + 20], hard)]


def spread(values: Iterable[str], weights: Iterable[float]) -> list[str]:
    """Repeat each value by its weight, over about `SLOTS` slots; each gets at least one."""
    weights = list(weights)
    share = SLOTS / sum(weights)
    return [v for value, weight in zip(values, weights, strict=True) for v in [value] * max(1, round(weight * share))]


def quoted(field: str) -> str:
    """Return a field as it stands in CSV (RFC 4180)."""
    return '"' + field.replace('"', '""') + '"' if any(mark in field for mark in ',"\r\n') else field


def write(path: Path, count: int, seed: int) -> int:
    """Write the file, under another name until it is whole.

    Returns:
        Its size in bytes.
    """
    part = path.parent / f".{path.name}.{os.getpid()}.part"
    lines = rows(count, seed)
    try:
        with part.open("wb") as file:
            file.write(HEADER.encode())
            while batch := "".join(islice(lines, BATCH_ROWS)):
                file.write(batch.encode())
            size = file.tell()
            # fsync before rename: the name must never point at missing bytes.
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return size


def main() -> None:
    """Read the arguments, write, and say what was written."""
    parser = argparse.ArgumentParser(description="Write people.csv, the demo's data: the same bytes every time.")
    parser.add_argument("output", metavar="OUTPUT", type=Path, help="the file to write; replaced if it is there")
    parser.add_argument("--rows", type=count_of_rows, default=1_000_000, help="people (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="another one gives other people (default: %(default)s)")
    arguments = parser.parse_args()
    try:
        size = write(arguments.output, arguments.rows, arguments.seed)
    except OSError as error:
        parser.exit(1, f"{parser.prog}: cannot write '{arguments.output}': {error.strerror}\n")
    print(f"{arguments.output}: {arguments.rows:,} people in {len(companies())} companies, {size:,} bytes")


def count_of_rows(text: str) -> int:
    """Read the value of --rows."""
    count = int(text)
    if count < 0:
        raise argparse.ArgumentTypeError(f"{count} is less than 0")
    return count


if __name__ == "__main__":
    main()
