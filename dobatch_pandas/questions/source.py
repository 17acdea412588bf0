"""Parquet and CSV files as one stream of rows, with the same columns throughout."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from os import PathLike, fspath
from os.path import abspath
from typing import Any
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from dobatch_pandas.errors import InputError, Problem

__all__ = ["ROWS_AT_ONCE", "Source", "located", "names_in"]

ROWS_AT_ONCE = 16_384
CSV_BLOCK = 16 << 20  # a row of CSV may be as long as that
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_ENDINGS = {"parquet": (".parquet", ".pq"), "csv": (".csv", ".csv.gz")}


class Source:
    """
    Files that are asked row by row.

    Parameters
    ----------
    paths : sequence of str
        Local paths or what pyarrow takes as a URI (``s3://`` ...), in the order of the rows.
    format : str
        ``"parquet"`` or ``"csv"``.
    keys : sequence of dict
        For each file the values that its folders' names give to further columns (``year=2026/...``).
    folders : sequence of str
        Folders all of whose files these are.
    """

    def __init__(
        self, paths: Sequence[str], format: str, keys: Sequence[dict[str, Any]], folders: Sequence[str] = ()
    ) -> None:
        self.paths, self.format, self.folders = list(paths), format, list(folders)
        self._keys = list(keys)

    @classmethod
    def find(cls, source: Any) -> Source:
        """
        Find the files that a path, a glob, several of them or a pyarrow Dataset stand for.

        Raises
        ------
        InputError
            There is no such file, or it is neither Parquet nor CSV.
        """
        if isinstance(source, ds.Dataset):
            return _of_dataset(source)
        if hasattr(source, "iterrows"):
            raise InputError(
                "source is a frame, and takes files: df.dobatch.submit(...) asks the rows of a frame."
            )
        try:
            given = [fspath(one) for one in ([source] if isinstance(source, (str, PathLike)) else source)]
        except TypeError:
            raise InputError(
                f"source is {source!r:.80}; it takes a path, several, or a pyarrow Dataset."
            ) from None
        found = []
        for one in given:
            with _explained(one):
                found += _expand(one)
        if not found:
            raise InputError(f"No file matches {source!r}.")
        formats = {_format(path) for path, _ in found}
        if len(formats) > 1 or None in formats:
            other = next((path for path, _ in found if _format(path) is None), None)
            said = "there are both" if other is None else f"{other} does not"
            raise InputError(f"The files' names must all end in .parquet or all in .csv; {said}.")
        folders = [name if "://" in name else abspath(name) for name in given]
        return cls(
            [path for path, _ in found], str(formats.pop()), _typed([keys for _, keys in found]), folders
        )

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return {"paths": self.paths, "format": self.format, "keys": self._keys}

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Source:
        """Make a source from what `to_json` returned."""
        return cls(kept["paths"], kept["format"], kept["keys"])

    def versions(self) -> list[list[int | None]]:
        """Size and time of change of each file, which tell whether it is still the same."""
        infos = []
        for path in self.paths:
            filesystem, inner = located(path)
            info = filesystem.get_file_info(inner)
            infos.append([info.size, info.mtime_ns])
        return infos

    # -- columns

    @cached_property
    def schemas(self) -> list[pa.Schema]:
        """
        Columns and their types in each file.

        Raises
        ------
        InputError
            With every file that cannot be read.
        """
        schemas: list[pa.Schema] = []
        problems: list[Problem] = []
        for path, keys in zip(self.paths, self._keys, strict=True):
            try:
                schemas.append(self._schema_of(path, keys))
            except InputError as error:
                problems += error.problems
        if problems:
            raise InputError(problems)
        return schemas

    @cached_property
    def schema(self) -> pa.Schema:
        """
        Columns and their types, those of all files taken together.

        Raises
        ------
        InputError
            With every column whose types do not go together.
        """
        fields: list[pa.Field] = []
        problems: list[str] = []
        for name in dict.fromkeys(name for schema in self.schemas for name in schema.names):
            try:
                fields.append(pa.field(name, self._type_of(name)))
            except (pa.ArrowInvalid, pa.ArrowTypeError):
                said = ", ".join(f"{kind} in {path}" for kind, path in self._types(name).items())
                problems.append(f"Column {name!r} is {said}: give it one type in all files.")
        if problems:
            raise InputError(problems)
        return pa.schema(fields)

    def lacking(self, column: str) -> list[str]:
        """Files that do not have this column."""
        pairs = zip(self.paths, self.schemas, strict=True)
        return [path for path, schema in pairs if column not in schema.names]

    @property
    def uniform(self) -> bool:
        """Whether every value is known to be of its column's type without being looked at."""
        return self.format == "parquet" and all(schema.equals(self.schema) for schema in self.schemas)

    def _types(self, name: str) -> dict[Any, str]:
        """The types that a column has, and for each the first file in which it has that."""
        types: dict[Any, str] = {}
        for path, schema in zip(self.paths, self.schemas, strict=True):
            if name in schema.names:
                types.setdefault(schema.field(name).type, path)
        return types

    def _type_of(self, name: str) -> Any:
        types = list(self._types(name))
        if len(types) > 1:
            types = [kind.value_type if pa.types.is_dictionary(kind) else kind for kind in types]
            every = [pa.schema([(name, kind)]) for kind in types]
            try:
                types = [pa.unify_schemas(every, promote_options="permissive").field(0).type]
            except (pa.ArrowInvalid, pa.ArrowTypeError):
                if self.format != "csv":
                    raise
                types = [pa.string()]  # which is what a CSV file holds
        [kind] = types
        return kind

    def _schema_of(self, path: str, keys: dict[str, Any]) -> Any:
        with _explained(path):
            filesystem, inner = located(path)
            if self.format == "parquet":
                with pq.ParquetFile(filesystem.open_input_file(inner)) as file:
                    schema = file.schema_arrow.remove_metadata()
            else:
                schema = _schema_of_csv(filesystem, inner)
        repeated = [name for name, count in Counter(schema.names).items() if count > 1]
        if repeated:
            raise InputError(f"{path} has several columns {repeated[0]!r}: give each a name of its own.")
        for name, value in keys.items():
            if name not in schema.names:
                schema = schema.append(pa.field(name, pa.scalar(value).type))
        return schema

    # -- rows

    def batches(self, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, some thousands at a time, and no more than that in memory."""
        schema = self.schema if columns is None else pa.schema([self.schema.field(name) for name in columns])
        for number, path in enumerate(self.paths):
            with _explained(path):
                for batch in self._read(number, schema):
                    for start in range(0, batch.num_rows, ROWS_AT_ONCE):
                        yield self._fitted(batch.slice(start, ROWS_AT_ONCE), number, schema)

    def texts(self) -> pa.Table:
        """Return CSV files as they stand: every value as text, and none missing."""
        types = dict.fromkeys(self.schema.names, pa.string())
        tables = []
        for path in self.paths:
            with _explained(path), _open_csv(*located(path), types, missing=False) as file:
                tables.append(file.read_all())
        return pa.concat_tables(tables)

    def _read(self, number: int, schema: Any) -> Iterator[pa.RecordBatch]:
        filesystem, inner = located(self.paths[number])
        if self.format == "parquet":
            there = set(self.schemas[number].names) - set(self._keys[number])
            names = [name for name in schema.names if name in there]
            with pq.ParquetFile(filesystem.open_input_file(inner), pre_buffer=False) as file:
                yield from file.iter_batches(ROWS_AT_ONCE, columns=names)
        else:
            with _open_csv(filesystem, inner, {field.name: field.type for field in self.schema}) as file:
                yield from file

    def _fitted(self, batch: pa.RecordBatch, number: int, schema: Any) -> pa.RecordBatch:
        if not schema.names:
            return batch.select([])  # the number of rows is all there is to know
        if batch.schema.equals(schema):
            # What pandas noted there would have it make an index of a column.
            return batch.replace_schema_metadata(None)
        columns = []
        for field in schema:
            if field.name in batch.schema.names:
                columns.append(batch.column(field.name).cast(field.type))
            else:
                value = pa.scalar(self._keys[number].get(field.name))
                columns.append(pa.repeat(value, len(batch)).cast(field.type))
        return pa.RecordBatch.from_arrays(columns, schema=schema)


def _of_dataset(dataset: ds.Dataset) -> Source:
    if not isinstance(dataset, ds.FileSystemDataset):
        raise InputError(
            "This dataset lives in memory only: use df.dobatch.submit, or write it to files first."
        )
    if not isinstance(dataset.filesystem, pafs.LocalFileSystem):
        raise InputError("Give a dataset on remote storage as its URI, so that the job can be resumed.")
    extension = dataset.format.default_extname
    if extension not in _ENDINGS:
        raise InputError(f"The dataset's files are {extension}; Parquet and CSV can be read.")
    try:
        fragments = list(dataset.get_fragments())
    except ValueError as error:  # a filter or a projection
        raise InputError(
            "The dataset has a filter: write the rows that it leaves to files, and give those."
        ) from error
    keys = [ds.get_partition_keys(fragment.partition_expression) for fragment in fragments]
    plain = [{name: _plain_value(value) for name, value in one.items()} for one in keys]
    return Source([fragment.path for fragment in fragments], extension, plain)


def _schema_of_csv(filesystem: Any, inner: str) -> pa.Schema:
    """Numbers where they say all that the file says, else text: 007, 12345678901234567890, true and dates are."""
    with _open_csv(filesystem, inner) as file:
        schema = file.schema
    try:
        names = schema.names
    except UnicodeDecodeError as error:  # only here does Arrow look at the names
        raise InputError(
            f"{inner} cannot be read: the names of its columns are not UTF-8 ({error.reason}). Save it as UTF-8."
        ) from None
    with _open_csv(filesystem, inner, dict.fromkeys(names, pa.string())) as file:
        first = next(iter(file), None)
    for place, field in enumerate(schema):
        if pa.types.is_integer(field.type) or pa.types.is_floating(field.type):
            pattern = r"^[+-]?0\d|\d{16}" if pa.types.is_floating(field.type) else r"^[+-]?0\d"
            if first is None or not pc.any(pc.match_substring_regex(first.column(place), pattern)).as_py():
                continue
        schema = schema.set(place, field.with_type(pa.string()))
    return schema


def _open_csv(
    filesystem: Any, inner: str, types: dict[str, Any] | None = None, *, missing: bool = True
) -> Any:
    # Missing is what pandas takes for missing, in quotes or not.
    return csv.open_csv(
        filesystem.open_input_stream(inner),
        read_options=csv.ReadOptions(block_size=CSV_BLOCK),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types=types,
            strings_can_be_null=missing,
            null_values=[*csv.ConvertOptions().null_values, "None", "<NA>"],
        ),
    )


@contextmanager
def _explained(path: str) -> Iterator[None]:
    """Have what a library finds wrong with a file name the file."""
    try:
        yield
    except InputError:
        raise
    except (pa.ArrowException, OSError) as error:
        if "invalid UTF8" in str(error):
            raise InputError(f"{path} is not UTF-8 text: save it as UTF-8.") from error
        hint = ""
        if "conversion error" in str(error):
            hint = f" A column's type follows from the first {CSV_BLOCK >> 20} MB; in Parquet you choose it."
        raise InputError(f"{path} cannot be read: {str(error).rstrip('.')}.{hint}") from error


def located(path: str) -> tuple[pafs.FileSystem, str]:
    """Find the file system of a path, and the path within it."""
    if "://" in path:
        filesystem, inner = pafs.FileSystem.from_uri(path)
        return filesystem, inner
    return pafs.LocalFileSystem(), abspath(path)


def names_in(path: str) -> list[str]:
    """Return the names of what lies in a folder, sorted; none where there is no such folder."""
    filesystem, inner = located(path)
    if filesystem.get_file_info(inner).type != pafs.FileType.Directory:
        return []
    return sorted(info.base_name for info in filesystem.get_file_info(pafs.FileSelector(inner)))


def _expand(path: str) -> list[tuple[str, dict[str, str | None]]]:
    """The files of a path, a glob or a folder; with each, what the folders below say (``year=2026``)."""
    filesystem, inner = located(path)
    info = filesystem.get_file_info(inner)
    if info.type != pafs.FileType.Directory:
        if "://" in path or info.is_file:  # a name may hold brackets
            return [(path if "://" in path else inner, {})] if info.is_file else []
        return [(abspath(name), {}) for name in sorted(glob.glob(path))]
    scheme = f"{path.split('://', 1)[0]}://" if "://" in path else ""
    found = []
    for info in filesystem.get_file_info(pafs.FileSelector(inner, recursive=True)):
        below = info.path[len(inner) :].strip("/")
        if info.is_file and _format(info.path) and not below.startswith("."):
            found.append((f"{scheme}{quote(info.path)}" if scheme else info.path, _keys_in(below)))
    return sorted(found, key=lambda pair: pair[0])


def _plain_value(value: Any) -> Any:
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def _keys_in(path: str) -> dict[str, str | None]:
    pairs = [part.partition("=") for part in path.split("/")[:-1] if "=" in part]
    return {unquote(name): None if value == NO_VALUE else unquote(value) for name, _, value in pairs}


def _typed(keys: list[dict[str, str | None]]) -> list[dict[str, Any]]:
    """Numbers as numbers, where a key has nothing else."""
    names = {name for one in keys for name in one}
    texts = {name for name in names if not all(_whole_number(one.get(name)) for one in keys)}
    return [
        {name: value if value is None or name in texts else int(value) for name, value in one.items()}
        for one in keys
    ]


def _whole_number(value: str | None) -> bool:
    return value is None or (value.isdecimal() and (value == "0" or not value.startswith("0")))


def _format(path: str) -> str | None:
    return next((name for name, endings in _ENDINGS.items() if path.lower().endswith(endings)), None)
