"""Lists of URLs in all their forms, and what is said of those that are none."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipmod_cli.errors import UsageError
from clipmod_cli.sources.base import Skipped
from clipmod_cli.sources.lists import check_lists, read_urls

URLS = [
    "http://example.com/a,b.jpg",
    "https://example.com/c;d|e.jpg?x=\"1\"&y='2'",
    "http://müller.de/é",
    "not a url",
]


def read(
    *lists: str | Path, column: str = "url", null: bool = False, skipped: Skipped | None = None
) -> list[str]:
    """Check lists and read them."""
    names = [str(name) for name in lists]
    check_lists(names, column)
    return [one.url for one in read_urls(names, column, null=null, skipped=skipped)]


def write(path: Path, text: str | bytes) -> Path:
    """Write a file as it stands."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def write_table(path: Path, urls: list[str]) -> Path:
    """Write URLs as DuckDB writes tables, among other columns."""
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE t (id INTEGER, url VARCHAR, caption VARCHAR)")
        if urls:
            rows = [(number, url, f"a, {url!r}\nb") for number, url in enumerate(urls)]
            connection.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
        how = {".tsv": "(FORMAT csv, DELIMITER '\t')", ".jsonl": "(FORMAT json)"}.get(path.suffix, "")
        connection.execute(f"COPY t TO '{path}' {how}")
    return path


def test_text_is_one_url_a_line(tmp_path: Path) -> None:
    text = "\ufeffhttp://a/\r\n# a comment\n\n  \n  http://b/#part \t\n#http://c/\nhttp://d/"
    assert read(write(tmp_path / "list.txt", text)) == ["http://a/", "http://b/#part", "http://d/"]
    assert read(write(tmp_path / "list", text)) == ["http://a/", "http://b/#part", "http://d/"]


def test_text_may_be_separated_by_nul(tmp_path: Path) -> None:
    path = write(tmp_path / "list.txt", b"http://a/\n\0http://b/\0")
    assert read(path, null=True) == ["http://a/", "http://b/"]


def test_text_that_is_no_utf8_stays_what_it_is(tmp_path: Path) -> None:
    assert read(write(tmp_path / "list.txt", b"http://a/\xff\n")) == ["http://a/\udcff"]


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet", ".CSV"])
def test_tables(tmp_path: Path, ending: str) -> None:
    assert read(write_table(tmp_path / f"list{ending}", URLS)) == URLS


@pytest.mark.parametrize("name", ["a'b.csv", "a[1]*?.csv", "ü ;.parquet", "-x.tsv", 'a"b.jsonl'])
def test_names_are_no_patterns_and_no_sql(tmp_path: Path, name: str) -> None:
    if sys.platform == "win32":
        pytest.skip("no such names")
    made = write_table(tmp_path / f"plain{Path(name).suffix}", URLS)
    assert read(made.rename(tmp_path / name)) == URLS


def test_several_lists_come_one_after_the_other(tmp_path: Path) -> None:
    text = write(tmp_path / "a.txt", "http://first/\n")
    assert read(text, write_table(tmp_path / "b.parquet", URLS), text) == [
        "http://first/",
        *URLS,
        "http://first/",
    ]


@pytest.mark.parametrize("column", ["image_url", "IMAGE_URL", 'a "quoted" one'])
def test_the_column_is_named(tmp_path: Path, column: str) -> None:
    name = column.lower().replace('"', '""')
    path = write(tmp_path / "a.csv", f'url,"{name}"\nhttp://wrong/,http://right/\n')
    assert read(path, column=column) == ["http://right/"]


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_a_column_that_is_not_there(tmp_path: Path, ending: str) -> None:
    path = write_table(tmp_path / f"list{ending}", URLS)
    with pytest.raises(UsageError) as caught:
        read(path, column="link")
    assert "'link'" in str(caught.value)
    assert "--url-column" in str(caught.value)
    assert "id, url, caption" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("url\nhttp://a/x,y\nhttp://b/\n", ["http://a/x,y", "http://b/"]),
        ("url\n" + "http://a/x;y\n" * 3, ["http://a/x;y"] * 3),
        ('url\n"http://a/x,""y"""\n', ['http://a/x,"y"']),
        ("id;url\n1;http://a/x,y\n", ["http://a/x,y"]),
        ("id|url\n1|http://a/x,y;z\n", ["http://a/x,y;z"]),
        ("\ufeffid,url\r\n1,http://a/\r\n", ["http://a/"]),
        ('"a, b",url\n1,http://a/\n', ["http://a/"]),
        ("id,url\n1,http://a/\n2\n3,http://b/\n", ["http://a/", "http://b/"]),
        ('id,url,c\n1,http://a/,"two\nlines"\n2,http://b/,x\n', ["http://a/", "http://b/"]),
        ("url\n", []),
        ("url\n2024-01-01\n12\n", ["2024-01-01", "12"]),
    ],
)
def test_what_people_call_csv(tmp_path: Path, text: str, urls: list[str]) -> None:
    assert read(write(tmp_path / "a.csv", text)) == urls


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-8"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "name;url\r\nä;http://a/ü\r\n\r\nb;http://b/\r\n"),
        ("a.tsv", "name\turl\r\nä\thttp://a/ü\r\nb\thttp://b/\r\n"),
        ("a.jsonl", '{"name": "ä", "url": "http://a/ü"}\r\n{"name": "b", "url": "http://b/"}\r\n'),
    ],
)
def test_tables_from_windows(tmp_path: Path, name: str, text: str, encoding: str) -> None:
    path = write(tmp_path / name, f"\ufeff{text}".encode(encoding))
    assert [url for url in read(path) if url] == ["http://a/ü", "http://b/"]
    assert [one for one in tmp_path.iterdir() if one != path] == []


def test_a_long_table_from_windows_loses_no_row(tmp_path: Path) -> None:
    urls = [f"http://a/{number}/ä" for number in range(5_000)]
    path = write(tmp_path / "a.csv", "\r\n".join(["url", *urls]).encode("utf-16"))
    assert read(path) == urls


def test_json_lines_may_differ_in_all_but_the_url(tmp_path: Path) -> None:
    rows = [
        {"url": "http://a/", "n": 1},
        {"n": {"deep": [1]}, "url": "http://b/"},
        {"url": "http://c/", "n": "x"},
    ]
    text = "\n".join(map(json.dumps, rows))
    assert read(write(tmp_path / "a.jsonl", text)) == ["http://a/", "http://b/", "http://c/"]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_rows_without_a_url_are_counted(tmp_path: Path, name: str) -> None:
    path, skipped = tmp_path / name, Skipped()
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE t AS VALUES ('http://a/'), (NULL), ('  '), (' http://b/ ')")
        connection.execute("ALTER TABLE t RENAME col0 TO url")
        connection.execute(f"COPY t TO '{path}'")
    if name == "a.csv":
        path.write_text("url,b\nhttp://a/,1\n,2\n  ,3\n http://b/ ,4\n", encoding="utf-8")
    assert read(path, skipped=skipped) == ["http://a/", "http://b/"]
    assert skipped.reasons == {"no URL": 2}


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.tsv", "a.jsonl", "a.parquet"])
def test_an_empty_list_is_fine(tmp_path: Path, name: str) -> None:
    assert read(write(tmp_path / name, b"")) == []


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b'{"url": "http://a/"}\n{broken\n', "Malformed JSON"),
        ("a.csv", b"url\nhttp://a/\xff\n", "Line: 2"),
        ("a.parquet", b"url\nhttp://a/\n", "a.parquet"),
    ],
)
def test_broken_tables_say_where(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        read(write(tmp_path / name, content))
    assert "SELECT" not in str(caught.value)


@pytest.mark.parametrize("name", ["none.txt", "none.csv", "none.parquet"])
def test_lists_that_are_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="no such file"):
        check_lists([str(tmp_path / name)], "url")


def test_a_folder_is_no_list(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder, not a list"):
        read(tmp_path)


def test_a_url_in_place_of_a_list_gets_a_hint() -> None:
    with pytest.raises(UsageError, match="is a URL, not a list"):
        check_lists(["http://example.com/a.jpg"], "url")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_read_as_it_comes(tmp_path: Path) -> None:
    """As the shell's `<(...)` gives one: what was looked at beforehand would be gone."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    second = threading.Event()

    def produce() -> None:
        with pipe.open("wb", buffering=0) as file:
            file.write(b"http://a/\n")
            second.wait(20)
            file.write(b"http://b/\n")

    threading.Thread(target=produce, daemon=True).start()
    check_lists([str(pipe)], "url")
    urls = read_urls([str(pipe)], "url", null=False)
    assert next(urls).url == "http://a/"
    second.set()
    assert [one.url for one in urls] == ["http://b/"]


def test_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    monkeypatch.setattr("clipmod_cli.sources.lists.STDIN", reader)
    os.write(writer, b"http://a/\n#\nhttp://b/")
    os.close(writer)
    assert read("-") == ["http://a/", "http://b/"]
    os.close(reader)


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=20)


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet"])
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(urls=st.lists(TEXT, max_size=10))
def test_law_a_table_gives_what_was_put_in(tmp_path: Path, ending: str, urls: list[str]) -> None:
    assert read(write_table(tmp_path / f"law{ending}", urls)) == urls


@pytest.mark.parametrize("make", [lambda p: write_table(p / "a.parquet", URLS)])
def test_a_table_may_be_left_in_the_middle(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    urls = read_urls([str(make(tmp_path))], "url", null=False)
    assert next(urls).url == URLS[0]
    urls.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl"])
def test_a_row_counts_though_it_has_no_url(tmp_path: Path, ending: str) -> None:
    texts = {
        ".csv": "id,url,Owner\n7,http://a/,ann\n8,,bob\n9,http://c/,\n",
        ".tsv": "id\turl\tOwner\n7\thttp://a/\tann\n8\t\tbob\n9\thttp://c/\t\n",
        ".jsonl": '{"id":7,"url":"http://a/","Owner":"ann"}\n{"id":8,"Owner":"bob"}\n{"id":9,"url":"http://c/"}\n',
    }
    path = tmp_path / f"list{ending}"
    path.write_text(texts[ending], encoding="utf-8")
    found = list(read_urls([str(path), str(path)], "url", null=False, keep=("owner", "id")))
    ann, nobody = {"owner": "ann", "id": "7"}, {"owner": None, "id": "9"}
    assert [(one.index, one.row, one.columns) for one in found] == [
        (0, 0, ann), (2, 2, nobody), (3, 0, ann), (5, 2, nobody),
    ]  # fmt: skip


def test_lines_are_counted_as_an_editor_counts_them(tmp_path: Path) -> None:
    path, other = tmp_path / "a.txt", tmp_path / "b.txt"
    path.write_bytes(b"# list\n\nhttp://a/\r\n  \nhttp://b/\n")
    other.write_bytes(b"http://c/")
    found = list(read_urls([str(path), str(other)], "url", null=False))
    assert [(one.index, one.row) for one in found] == [(2, 2), (4, 4), (5, 0)]


@pytest.mark.parametrize(
    ("name", "said"), [("a.csv", "no column 'size'; --keep-columns"), ("a.txt", "needs a table")]
)
def test_columns_that_cannot_be_kept_are_refused(tmp_path: Path, name: str, said: str) -> None:
    path = tmp_path / name
    path.write_text("url\nhttp://a/\n", encoding="utf-8")
    with pytest.raises(UsageError, match=said):
        check_lists([str(path)], "url", ("url", "size"))
